/*
 * status_sock.c - `corallite status`: asks every daemon, one after the other, each with a bound.
 *
 * A daemon that does not answer is part of the answer, not an error; the exit code tells whether
 * all did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/process_file.h"
#include "cli/status.h"
#include "proto/name.h"

#define ASK_TIMEOUT_MS 1500u

static bool take_id(ProtobufCBinaryData data, bool has, struct co_id *out)
{
    if (!has || data.len != sizeof out->b)
        return false;
    memcpy(out->b, data.data, sizeof out->b);
    return true;
}

static struct status_timeline *timeline_of(struct status *s, const struct co_id *id)
{
    for (uint32_t i = 0; i < s->n_timelines; i++)
        if (co_id_eq(&s->timelines[i].id, id))
            return &s->timelines[i];
    return NULL;
}

static struct status_timeline *add_timeline(struct status *s, const char *name)
{
    struct status_timeline *more =
        realloc(s->timelines, (s->n_timelines + 1) * sizeof *s->timelines);
    if (!more)
        return NULL;
    s->timelines = more;
    struct status_timeline *t = &more[s->n_timelines++];
    *t = (struct status_timeline){0};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

/* Keeps why a daemon did not answer, without the advice to look at the status. */
static void note_trouble(struct status_node *n)
{
    snprintf(n->trouble, sizeof n->trouble, "%s", co_sentence());
    char *advice = strstr(n->trouble, "; is it running?");
    if (advice)
        *advice = 0;
}

/* -- Safekeepers ---------------------------------------------------------------------------------
 */

static void take_node_status(struct status *s, uint32_t index, const Corallite__NodeStatus *m)
{
    struct status_node *n = &s->safekeepers[index];
    n->up = true;
    n->uptime_us = m->uptime_us;
    n->disk_bytes = m->log_bytes;
    n->records = m->records;
    n->syncs = m->syncs;
    n->bytes_in = m->bytes_in;
    n->bytes_out = m->bytes_out;
    n->timelines = m->timelines;
    for (size_t i = 0; i < m->n_timeline; i++) {
        const Corallite__NodeStatus__PerTimeline *p = m->timeline[i];
        struct co_id id;
        if (!take_id(p->id, p->has_id, &id))
            continue;
        struct status_timeline *t = timeline_of(s, &id);
        if (!t)
            t = add_timeline(s, p->name ? p->name : "?");
        if (!t)
            return;
        t->id = id;
        t->copy[index] = (struct status_copy){
            .known = true,
            .term = p->term,
            .flush_lsn = p->flush_lsn,
            .commit_lsn = p->commit_lsn,
            .lease_held = p->lease_held,
            .bytes_in = p->bytes_in,
            .records = p->records,
        };
        if (p->refused)
            snprintf(t->copy[index].refused, sizeof t->copy[index].refused, "%s", p->refused);
    }
}

static void ask_safekeeper(struct status *s, uint32_t index, const char *host, uint16_t port,
                           const struct co_id *cluster)
{
    struct status_node *n = &s->safekeepers[index];
    struct client c;
    Corallite__NodeStatus *m = NULL;
    int rc = client_connect_keeper(&c, host, port, cluster, n->node, &n->disk, ASK_TIMEOUT_MS);
    if (!rc) {
        rc = client_call(&c, FRAME_NODE_STATUS, NULL, FRAME_NODE_STATUS_OK,
                         &corallite__node_status__descriptor, ASK_TIMEOUT_MS, &m);
        client_close(&c);
    }
    if (rc) {
        note_trouble(n);
        return;
    }
    take_node_status(s, index, m);
    if (m->regressed) { /* it answers, and takes no part: see safekeeper/regressed_uv.c */
        n->up = false;
        snprintf(n->trouble, sizeof n->trouble, "%s", m->regressed);
    }
    corallite__node_status__free_unpacked(m, NULL);
}

/* -- Pageserver ----------------------------------------------------------------------------------
 */

static void take_server_status(struct status *s, struct status_node *n,
                               const Corallite__ServerStatus *m)
{
    n->up = true;
    n->lag_bytes = m->lag_bytes;
    n->owner_silent_us = m->has_owner_heard_us ? m->owner_heard_us : UINT64_MAX;
    if (m->follows)
        snprintf(n->follows, sizeof n->follows, "%s", m->follows);
    n->uptime_us = m->uptime_us;
    n->disk_bytes = m->lmdb_bytes;
    n->records = m->records;
    n->pages_served = m->pages_served;
    n->bytes_in = m->bytes_in;
    n->bytes_out = m->bytes_out;
    if (m->http_address)
        snprintf(n->http, sizeof n->http, "%s", m->http_address);
    if (m->archive && !s->archive.url[0]) { /* one that follows has none to tell of */
        snprintf(s->archive.url, sizeof s->archive.url, "%s", m->archive);
        s->archive.lag_bytes = m->archive_lag_bytes;
        s->archive.behind_us = m->archive_behind_us;
        s->archive.archived_us = m->archived_us;
    }
    if (m->archive_trouble)
        snprintf(s->archive.trouble, sizeof s->archive.trouble, "%s", m->archive_trouble);
    if (co_id_is_zero(&s->cluster))
        (void)take_id(m->cluster, m->has_cluster, &s->cluster);
}

static void take_branches(struct status *s, const Corallite__BranchListed *m)
{
    for (size_t i = 0; i < m->n_branches; i++) {
        const Corallite__BranchListed__Branch *b = m->branches[i];
        const Corallite__Timeline *meta = b->timeline;
        struct co_id id;
        char name[2 * CO_NAME_MAX_BYTES + 2];
        if (!meta || !take_id(meta->id, meta->has_id, &id))
            continue;
        snprintf(name, sizeof name, "%.63s/%.63s", meta->database_name ? meta->database_name : "?",
                 meta->branch ? meta->branch : "?");
        struct status_timeline *t = timeline_of(s, &id);
        if (!t)
            t = add_timeline(s, name);
        if (!t)
            return;
        t->id = id;
        t->at_pageserver = true;
        t->last_record_lsn = b->has_reached_lsn ? b->reached_lsn : b->head_lsn;
        t->db_pages = b->db_pages;
        t->page_size = b->page_size;
        t->versions = b->versions;
        t->images = b->images;
        t->version_bytes = b->version_bytes;
        t->commits = b->commits;
        t->commit_bytes = b->commit_bytes;
    }
}

/* Of each database (of one: only), its branches; one that is dropped meanwhile is left out. */
static int ask_branches(struct status *s, struct status_node *n, struct client *c, const char *only)
{
    Corallite__DbList list = CORALLITE__DB_LIST__INIT;
    Corallite__DbListed *m = NULL;
    int rc = client_call(c, FRAME_DB_LIST, &list.base, FRAME_DB_LISTED,
                         &corallite__db_listed__descriptor, ASK_TIMEOUT_MS, &m);
    for (size_t i = 0; !rc && i < m->n_databases && c->sock.fd >= 0; i++) {
        Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
        Corallite__BranchListed *branches = NULL;
        q.database = m->databases[i]->name;
        n->timelines += (uint32_t)m->databases[i]->n_branches;
        if (!q.database || (only && strcmp(only, q.database) != 0))
            continue;
        if (client_call(c, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                        &corallite__branch_listed__descriptor, ASK_TIMEOUT_MS, &branches) == 0) {
            take_branches(s, branches);
            corallite__branch_listed__free_unpacked(branches, NULL);
        }
    }
    if (m)
        corallite__db_listed__free_unpacked(m, NULL);
    return rc;
}

/* The safekeepers that the pageserver knows, when they are not known here. */
static void take_safekeepers(struct status *s, const Corallite__ServerStatus *m,
                             uint16_t ports[CO_MEMBERS_MAX], char hosts[CO_MEMBERS_MAX][256])
{
    for (size_t i = 0; i < m->n_safekeepers && s->n_safekeepers < CO_MEMBERS_MAX; i++) {
        const Corallite__Safekeeper *k = m->safekeepers[i];
        uint32_t at = s->n_safekeepers++;
        struct status_node *n = &s->safekeepers[at];
        n->node = k->node;
        ports[at] = (uint16_t)k->port;
        snprintf(hosts[at], 256, "%.255s", k->host ? k->host : "");
        snprintf(n->name, sizeof n->name, "safekeeper-%u", (unsigned)k->node);
        client_address(hosts[at], ports[at], n->address);
    }
}

/* The data directory that each number stands for, where the pageserver knows it. */
static void name_disks(struct status *s, const Corallite__ServerStatus *m)
{
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        for (size_t k = 0; k < m->n_safekeepers; k++)
            if (m->safekeepers[k]->node == s->safekeepers[i].node)
                (void)take_id(m->safekeepers[k]->disk, m->safekeepers[k]->has_disk,
                              &s->safekeepers[i].disk);
}

/* *server is the caller's to free, NULL when none answered yet; the first that does tells of the
 * branches. */
static void ask_pageserver(struct status *s, struct status_node *n, const char *host, uint16_t port,
                           const struct co_id *cluster, const char *only,
                           Corallite__ServerStatus **server)
{
    struct client c;
    Corallite__ServerStatus *m = NULL;
    int rc = client_connect(&c, host, port, cluster, 0, CLIENT_TIMEOUT_MS);
    if (!rc && c.node) {
        rc =
            co_fail(CO_ERR_NODE,
                    "%s is safekeeper %u, and a pageserver is wanted (port %u unless it was moved)",
                    c.sock.address, (unsigned)c.node, CLUSTER_PORT_BASE);
        client_close(&c);
    } else if (!rc) {
        rc = client_call(&c, FRAME_SERVER_STATUS, NULL, FRAME_SERVER_STATUS_OK,
                         &corallite__server_status__descriptor, ASK_TIMEOUT_MS, &m);
        if (!rc)
            rc = ask_branches(s, n, &c, *server ? "" : only);
        if (!rc)
            take_server_status(s, n, m);
        client_close(&c);
    }
    if (rc)
        note_trouble(n);
    if (*server || rc) {
        if (m)
            corallite__server_status__free_unpacked(m, NULL);
    } else {
        *server = m;
    }
}

static struct status_node *add_more(struct status *s, const char *address)
{
    struct status_node *n = &s->more[s->n_more];
    if (s->n_more == STATUS_MORE_MAX || strcmp(address, s->pageserver.address) == 0)
        return NULL;
    for (uint32_t i = 0; i < s->n_more; i++)
        if (strcmp(s->more[i].address, address) == 0)
            return NULL;
    s->n_more++;
    snprintf(n->name, sizeof n->name, "pageserver-%u", (unsigned)(s->n_more + 1));
    snprintf(n->address, sizeof n->address, "%s", address);
    return n;
}

/* Those that a safekeeper knows to follow, and that nobody has named. */
static void ask_more(struct status *s, const Corallite__Pageservers *known,
                     Corallite__ServerStatus **server)
{
    for (size_t i = 0; i < known->n_pageservers; i++) {
        char host[256];
        uint16_t port;
        const char *address = known->pageservers[i]->address;
        struct status_node *n = address && *address && strlen(address) < CO_HOST_MAX_BYTES + 16
                                    ? add_more(s, address)
                                    : NULL;
        if (n && psock_split_address(address, CLUSTER_PORT_BASE, host, &port) == 0)
            ask_pageserver(s, n, host, port, &s->cluster, "", server);
        else if (n)
            note_trouble(n);
    }
}

/* Of the first safekeeper that answers. */
static void find_more(struct status *s, char hosts[CO_MEMBERS_MAX][256],
                      const uint16_t ports[CO_MEMBERS_MAX], Corallite__ServerStatus **server)
{
    Corallite__Pageservers ask = CORALLITE__PAGESERVERS__INIT, *known = NULL;
    for (uint32_t i = 0; i < s->n_safekeepers && !known; i++) {
        struct client c;
        if (!s->safekeepers[i].up ||
            client_connect(&c, hosts[i], ports[i], NULL, s->safekeepers[i].node, ASK_TIMEOUT_MS))
            continue;
        if (client_call(&c, FRAME_PAGESERVERS, &ask.base, FRAME_PAGESERVERS_OK,
                        &corallite__pageservers__descriptor, ASK_TIMEOUT_MS, &known))
            known = NULL;
        client_close(&c);
    }
    if (!known)
        return;
    ask_more(s, known, server);
    corallite__pageservers__free_unpacked(known, NULL);
}

/* -- The verb ------------------------------------------------------------------------------------
 */

/* Names, addresses and processes of a cluster that is known here. */
static void local_nodes(struct status *s, const struct cluster *c, uint16_t ports[CO_MEMBERS_MAX],
                        char hosts[CO_MEMBERS_MAX][256])
{
    s->cluster = c->id;
    snprintf(s->dir, sizeof s->dir, "%s", c->dir);
    s->n_safekeepers = 0;
    for (unsigned i = 0; i < c->n; i++) {
        const struct cluster_node *node = &c->at[i];
        struct status_node *n = node->node == c->owner ? &s->pageserver : &s->more[s->n_more];
        if (!node->pageserver)
            n = &s->safekeepers[s->n_safekeepers];
        else if (node->node != c->owner)
            s->n_more++;
        n->node = node->pageserver ? 0 : node->node;
        n->local = true;
        n->pid = process_alive(c, i);
        snprintf(n->name, sizeof n->name, "%s", node->name);
        client_address(CLUSTER_HOST, cluster_port(c, i), n->address);
        if (!node->pageserver) {
            ports[s->n_safekeepers] = cluster_port(c, i);
            snprintf(hosts[s->n_safekeepers++], 256, "%s", CLUSTER_HOST);
        }
    }
}

static void gather(const struct client_target *target, const char *only, struct status *s)
{
    uint16_t ports[CO_MEMBERS_MAX] = {0};
    char hosts[CO_MEMBERS_MAX][256];
    Corallite__ServerStatus *server = NULL;
    const struct co_id *cluster = target->local ? &target->cluster.id : NULL;
    snprintf(s->pageserver.name, sizeof s->pageserver.name, "pageserver");
    client_address(target->host, target->port, s->pageserver.address);
    if (target->local)
        local_nodes(s, &target->cluster, ports, hosts);
    ask_pageserver(s, &s->pageserver, target->host, target->port, cluster, only, &server);
    for (uint32_t i = 0; i < target->n_more; i++) {
        char address[CO_HOST_MAX_BYTES + 16];
        client_address(target->more[i].host, target->more[i].port, address);
        struct status_node *n = target->local ? &s->more[i] : add_more(s, address);
        if (n)
            ask_pageserver(s, n, target->more[i].host, target->more[i].port, cluster, only,
                           &server);
    }
    if (server && !target->local)
        take_safekeepers(s, server, ports, hosts);
    if (server)
        name_disks(s, server);
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        ask_safekeeper(s, i, hosts[i], ports[i], cluster);
    find_more(s, hosts, ports, &server);
    if (s->archive.url[0])
        status_count_unread(s);
    if (server)
        corallite__server_status__free_unpacked(server, NULL);
}

/* Leaves only the timelines of one database, or one branch of it. */
static int keep_database(struct status *s, const char *db, const char *branch)
{
    uint32_t kept = 0;
    size_t len = strlen(db);
    for (uint32_t i = 0; i < s->n_timelines; i++) {
        const char *name = s->timelines[i].name;
        bool same = strncmp(name, db, len) == 0 && name[len] == '/';
        if (same && (!branch || strcmp(name + len + 1, branch) == 0))
            s->timelines[kept++] = s->timelines[i];
    }
    s->n_timelines = kept;
    if (kept == 0 && !s->pageserver.up)
        return co_fail(CO_ERR_CONNECT, "what there is of '%s' is not known: %.900s", db,
                       s->pageserver.trouble);
    if (kept == 0 && branch)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is no branch %s/%s here; `corallite branch list %s` names them", db,
                       branch, db);
    if (kept == 0)
        return co_fail(CO_ERR_NOT_FOUND,
                       "there is no database '%s' here; `corallite db list` names them", db);
    return 0;
}

int cli_status(const struct cli_args *args)
{
    static struct client_target target;
    static struct status s;
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    bool one = args->n_words == 1;
    int rc = one ? name_split(args->words[0], db, branch) : 0;
    if (!rc)
        rc = client_target(args, &target);
    if (rc)
        return cli_report(rc);
    gather(&target, one ? db : NULL, &s);
    if (one)
        rc = keep_database(&s, db, strchr(args->words[0], '/') ? branch : NULL);
    if (!rc && cli_has(args, "--json"))
        rc = status_print_json(&s, stdout);
    else if (!rc)
        status_print(&s, stdout);
    int code = rc ? cli_report(rc) : status_all_up(&s) ? CLI_DONE : CLI_FAILED;
    status_free(&s);
    return code;
}
