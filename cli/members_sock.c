/* members_sock.c - see members.h. */
#include "cli/members.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "proto/qhist.h"

#define CONNECT_MS     2000u
#define LOG_CONNECT_MS 1000u /* all others wait meanwhile */
#define CALL_MS        10000u
#define PUT_MS         120000u /* the pageserver may be sending it a thousand at this moment */

struct member *members_find(struct members *m, uint32_t node)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (m->at[i].node == node)
            return &m->at[i];
    return NULL;
}

static struct member *slot(struct members *m, uint32_t node, const char *host, uint16_t port)
{
    struct member *x = members_find(m, node);
    if (!x && m->n < NODES_MAX) {
        x = &m->at[m->n++];
        *x = (struct member){.node = node, .port = port};
        x->admin.sock.fd = x->log.sock.fd = -1;
        snprintf(x->host, sizeof x->host, "%s", host);
    }
    return x;
}

static void reach(struct members *m, struct member *x)
{
    if (x->up)
        return;
    int rc = client_connect_keeper(&x->admin, x->host, x->port, &m->cluster, x->node, &x->named,
                                   CONNECT_MS);
    x->up = rc == 0;
    x->other = rc == CO_ERR_NODE;
    if (rc)
        snprintf(x->why, sizeof x->why, "%s", co_sentence());
    else
        x->disk = x->admin.disk;
}

const char *member_note(const struct member *x)
{
    return x->other ? " (another one answers there: an empty directory, or mixed up addresses)"
                    : "";
}

static const struct co_id *disk_in(const struct wal_member *members, uint32_t n, uint32_t node)
{
    for (uint32_t i = 0; i < n; i++)
        if (members[i].node_id == node && !co_id_is_zero(&members[i].disk_uuid))
            return &members[i].disk_uuid;
    return NULL;
}

static const struct co_id *disk_of(const struct wal_config *c, uint32_t node)
{
    const struct co_id *disk = disk_in(c->members, c->n, node);
    return disk ? disk : disk_in(c->new_members, c->n_new, node);
}

int member_connect(struct members *m, const struct member_timeline *t, struct member *x)
{
    const struct co_id *disk = disk_of(&t->config, x->node);
    bool stands = x->log.sock.fd >= 0;
    if (!disk)
        disk = &x->named;
    if (stands && (co_id_is_zero(disk) || co_id_eq(disk, &x->log.disk)))
        return 0;
    if (stands)
        client_close(&x->log);
    else if (co_now_us() < x->retry_at_us)
        return CO_ERR_CONNECT;
    int rc = client_connect_keeper(&x->log, x->host, x->port, &m->cluster, x->node, disk,
                                   LOG_CONNECT_MS);
    x->other = rc == CO_ERR_NODE;
    if (!rc)
        return 0;
    x->log.sock.fd = -1;
    x->retry_at_us = co_now_us() + MEMBER_RETRY_US;
    return CO_ERR_CONNECT;
}

int members_add(struct members *m, const char *host, uint16_t port, struct member **out)
{
    struct client c;
    int rc = client_connect(&c, host, port, &m->cluster, 0, CONNECT_MS);
    if (rc)
        return rc;
    struct member *x = c.node ? slot(m, c.node, host, port) : NULL;
    if (x && !co_id_is_zero(&x->named) && !co_id_eq(&x->named, &c.disk)) {
        rc =
            co_fail(CO_ERR_NODE,
                    "the safekeeper at %s has node id %u, which stands for another disk: a node id "
                    "is used once. Start it with an empty --dir and a --node that was never used",
                    c.sock.address, x->node);
        client_close(&c);
        return rc;
    }
    if (!x || x->up) {
        rc = x ? 0
               : co_fail(CO_ERR_NODE, "%s is no safekeeper; give the address of a safekeeper",
                         c.sock.address);
        if (x && (x->port != port || strcmp(x->host, host) != 0))
            rc = co_fail(CO_ERR_NODE,
                         "the safekeeper at %s has node id %u, which safekeeper %u at %s:%u has; a "
                         "node id is used once: start it with another --node and an empty --dir",
                         c.sock.address, x->node, x->node, x->host, x->port);
        client_close(&c);
        *out = x;
        return rc;
    }
    x->admin = c;
    x->up = true;
    x->disk = c.disk;
    x->port = port;
    snprintf(x->host, sizeof x->host, "%s", host);
    *out = x;
    return 0;
}

/* -- The list ------------------------------------------------------------------------------------
 */

static int ask_nodes(struct member *x, const struct nodes *put, struct nodes *out)
{
    Corallite__Nodes *answer = NULL;
    struct nodes_message message;
    corallite__nodes__init(&message.pb);
    if (put)
        nodes_fill(put, &message);
    int rc = client_call(&x->admin, FRAME_NODES, &message.pb.base, FRAME_NODES_OK,
                         &corallite__nodes__descriptor, CALL_MS, &answer);
    if (!rc) {
        rc = nodes_read(answer, out);
        corallite__nodes__free_unpacked(answer, NULL);
    } else if (x->admin.sock.fd < 0) {
        x->up = false;
        snprintf(x->why, sizeof x->why, "%s", co_sentence());
    }
    return rc;
}

/* The pageserver's word was first; it knows what the timelines name, too. */
static void name_disks(struct members *m, const struct wal_config *c)
{
    for (uint32_t i = 0; i < m->n; i++) {
        struct member *x = &m->at[i];
        const struct co_id *disk = disk_of(c, x->node);
        if (!disk || !co_id_is_zero(&x->named))
            continue;
        x->named = *disk;
        if (x->up && !co_id_eq(&x->named, &x->disk)) {
            client_close(&x->admin); /* and is told why when it is reached for again */
            x->up = false;
            reach(m, x);
        }
    }
}

static void take(struct members *m, const struct nodes *nodes)
{
    if (nodes->config.version < m->book.config.version)
        return;
    if (nodes->config.version > m->book.config.version)
        m->book = *nodes;
    for (uint32_t i = 0; i < nodes->n; i++) {
        struct member *x = slot(m, nodes->at[i].node, nodes->at[i].host, nodes->at[i].port);
        if (x && !x->up) {
            x->port = nodes->at[i].port;
            snprintf(x->host, sizeof x->host, "%s", nodes->at[i].host);
        }
    }
    name_disks(m, &nodes->config);
}

/* The safekeepers as the pageserver was started with them. */
static int begin_book(struct members *m, const Corallite__ServerStatus *st)
{
    m->book = (struct nodes){.config.version = 1};
    for (size_t i = 0; i < st->n_safekeepers && i < CO_MEMBERS_MAX; i++) {
        const Corallite__Safekeeper *s = st->safekeepers[i];
        struct node_address *a = &m->book.at[m->book.n++];
        uint32_t at = m->book.config.n++;
        a->node = s->node;
        a->port = (uint16_t)s->port;
        snprintf(a->host, sizeof a->host, "%s", s->host ? s->host : "");
        for (; at > 0 && m->book.config.members[at - 1].node_id > s->node; at--)
            m->book.config.members[at] = m->book.config.members[at - 1];
        m->book.config.members[at] = (struct wal_member){.node_id = s->node};
        struct member *x = slot(m, a->node, a->host, a->port);
        int rc = x ? msg_get16("disk", s->has_disk, &s->disk, x->named.b)
                   : co_fail(CO_ERR_PROTOCOL, "the pageserver names too many safekeepers");
        if (rc)
            return rc;
    }
    return wal_config_check(&m->book.config);
}

static int ask_pageserver(struct members *m, Corallite__ServerStatus **out)
{
    struct client c;
    int rc = client_open(&c, &m->target);
    if (rc)
        return rc;
    m->cluster = c.cluster;
    rc = client_call(&c, FRAME_SERVER_STATUS, NULL, FRAME_SERVER_STATUS_OK,
                     &corallite__server_status__descriptor, CALL_MS, out);
    client_close(&c);
    return rc;
}

/* A try that was broken off may have stored the same change with less known of the disks. */
static bool same_members(const struct nodes *a, const struct nodes *b)
{
    const struct wal_config *x = &a->config, *y = &b->config;
    return x->version == y->version && q_same_group(x->members, x->n, y->members, y->n) &&
           q_same_group(x->new_members, x->n_new, y->new_members, y->n_new);
}

/* Two changes that were broken off may both have the newest version, each where the other did not
 * come. What a majority has counts. */
static void settle(struct members *m, const struct nodes said[NODES_MAX])
{
    for (uint32_t i = 0; i < m->n; i++) {
        uint32_t set[NODES_MAX], n = 0;
        for (uint32_t k = 0; k < m->n; k++)
            if (same_members(&said[k], &said[i]) && m->at[k].up)
                set[n++] = m->at[k].node;
        if (said[i].config.version == m->book.config.version &&
            q_is_quorum(&said[i].config, set, n)) {
            m->book = said[i];
            return;
        }
    }
}

int members_open(struct members *m, const struct cli_args *args)
{
    Corallite__ServerStatus *st = NULL;
    static struct nodes said[NODES_MAX]; /* version 0: nothing */
    memset(said, 0, sizeof said);
    *m = (struct members){0};
    int rc = client_target(args, &m->target);
    if (!rc)
        rc = ask_pageserver(m, &st);
    if (rc)
        return rc;
    rc = begin_book(m, st);
    corallite__server_status__free_unpacked(st, NULL);
    for (uint32_t i = 0; !rc && i < m->n; i++) { /* m->n may grow */
        reach(m, &m->at[i]);
        if (m->at[i].up && ask_nodes(&m->at[i], NULL, &said[i]) == 0)
            take(m, &said[i]);
    }
    if (!rc)
        settle(m, said);
    return rc;
}

void members_close(struct members *m)
{
    for (uint32_t i = 0; i < m->n; i++) {
        client_close(&m->at[i].admin);
        client_close(&m->at[i].log);
    }
    qmsg_scratch_free(&m->scratch);
    co_buf_free(&m->frame);
}

int members_enough(const struct members *m, const struct wal_config *config)
{
    uint32_t set[NODES_MAX], n = 0;
    char missing[600] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        const struct member *x = &m->at[i];
        if (x->up && !x->regressed)
            set[n++] = x->node;
        else if (q_is_member(config, x->node) && used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used,
                                     "%ssafekeeper %u at %s:%u%s", used ? ", " : "", x->node,
                                     x->host, x->port, member_note(x));
    }
    return q_is_quorum(config, set, n)
               ? 0
               : co_fail(
                     CO_ERR_NO_QUORUM,
                     "a majority of the safekeepers cannot be reached; missing: %s; start those "
                     "that do not run, then give the same command again",
                     missing);
}

/* *other (NULL: that is refused): some have another list of this version. */
static int put(struct members *m, const struct nodes *nodes, bool *other)
{
    uint32_t set[NODES_MAX], n = 0;
    struct nodes now;
    for (uint32_t i = 0; i < m->n; i++) {
        struct member *x = &m->at[i];
        reach(m, x);
        if (!x->up || ask_nodes(x, nodes, &now))
            continue;
        bool same = same_members(&now, nodes);
        if (now.config.version > nodes->config.version || (!same && !other))
            return co_fail(
                CO_ERR_BUSY,
                "somebody else changes the safekeepers at this moment: safekeeper %u has "
                "version %u of the list; look with `corallite safekeeper list`",
                x->node, now.config.version);
        if (same)
            set[n++] = x->node;
        else
            *other = true;
    }
    if (!q_is_quorum(&nodes->config, set, n))
        return members_enough(m, &nodes->config)
                   ? CO_ERR_NO_QUORUM
                   : co_fail(CO_ERR_NO_QUORUM, "fewer than a majority of the safekeepers "
                                               "stored the new list; give the same "
                                               "command again");
    m->book = *nodes;
    return 0;
}

int members_put(struct members *m, const struct nodes *nodes)
{
    return put(m, nodes, NULL);
}

int members_put_again(struct members *m)
{
    struct nodes next = m->book;
    bool other = false;
    int rc = put(m, &next, &other);
    if (rc || !other)
        return rc;
    next.config.version++; /* decided by a majority: it takes the place of the other one, too */
    return put(m, &next, NULL);
}

int members_pageserver_follows(struct members *m)
{
    Corallite__ServerStatus *st = NULL;
    int rc = ask_pageserver(m, &st);
    if (rc)
        return rc;
    uint32_t known = 0, wanted = 0;
    for (size_t i = 0; i < st->n_safekeepers; i++)
        known += q_is_member(&m->book.config, st->safekeepers[i]->node);
    for (uint32_t i = 0; i < m->n; i++)
        wanted += q_is_member(&m->book.config, m->at[i].node);
    bool same = known == wanted && st->n_safekeepers == wanted;
    corallite__server_status__free_unpacked(st, NULL);
    return same ? 0 : CO_ERR_AGAIN;
}

/* -- Registries ----------------------------------------------------------------------------------
 */

/* Where it is, or would be. */
static uint32_t look_up(const struct member_timelines *t, const struct co_id *id, bool *found)
{
    uint32_t lo = 0, hi = t->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (memcmp(t->e[mid].id.b, id->b, sizeof id->b) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = lo < t->n && co_id_eq(&t->e[lo].id, id);
    return lo;
}

static struct member_timeline *place(struct member_timelines *t, const struct co_id *id,
                                     bool *found)
{
    uint32_t lo = look_up(t, id, found);
    if (*found)
        return &t->e[lo];
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? 2 * t->cap : 64;
        struct member_timeline *e = realloc(t->e, cap * sizeof *e);
        if (!e)
            return NULL;
        t->e = e;
        t->cap = cap;
    }
    memmove(&t->e[lo + 1], &t->e[lo], (t->n - lo) * sizeof *t->e);
    t->n++;
    t->e[lo] = (struct member_timeline){.id = *id};
    return &t->e[lo];
}

static void note_sealed(struct member_timeline *e, uint32_t node, const Corallite__Timeline *wire)
{
    if (wire->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED && e->n_sealed_by < NODES_MAX)
        e->sealed_by[e->n_sealed_by++] = node;
}

/* What the member `at` says. *wire is taken (NULLed) when it is kept. */
static int merge(struct member_timelines *t, const struct members *m, uint32_t at, lsn_t commit,
                 Corallite__Timeline **wire)
{
    struct co_id id;
    bool found;
    int rc = msg_get16("timeline", (*wire)->has_id, &(*wire)->id, id.b);
    struct member_timeline *e = rc ? NULL : place(t, &id, &found);
    if (!e)
        return rc ? rc : co_fail(CO_ERR_NOMEM, "no memory for a list of timelines");
    note_sealed(e, m->at[at].node, *wire);
    e->commit[at] = commit;
    if (found && e->version >= (*wire)->version)
        return 0;
    if (e->wire)
        corallite__timeline__free_unpacked(e->wire, NULL);
    e->wire = *wire;
    *wire = NULL;
    e->version = e->wire->version;
    e->state = (int)e->wire->state;
    snprintf(e->name, sizeof e->name, "%.63s/%.63s",
             e->wire->database_name ? e->wire->database_name : "?",
             e->wire->branch ? e->wire->branch : "?");
    return msg_config_read(e->wire->config, &e->config);
}

int members_list(struct members *m, struct member *of, struct member_timelines *out)
{
    struct co_id after = {{0}};
    bool more = true;
    for (bool first = true; more; first = false) {
        Corallite__TimelineList ask = CORALLITE__TIMELINE_LIST__INIT;
        Corallite__TimelineListed *listed = NULL;
        ask.has_watch = ask.watch = m->watch;
        if (!first) {
            ask.has_after = 1;
            ask.after = msg_bytes16(after.b);
        }
        int rc = client_call(&of->admin, FRAME_TIMELINE_LIST, &ask.base, FRAME_TIMELINE_LISTED,
                             &corallite__timeline_listed__descriptor, CALL_MS, &listed);
        if (rc) {
            of->up = of->admin.sock.fd >= 0;
            return rc;
        }
        more = listed->more && listed->n_timelines > 0;
        for (size_t i = 0; !rc && i < listed->n_timelines; i++) {
            if (i + 1 == listed->n_timelines)
                rc = msg_get16("timeline", listed->timelines[i]->has_id, &listed->timelines[i]->id,
                               after.b);
            if (!rc)
                rc = merge(out, m, (uint32_t)(of - m->at),
                           i < listed->n_commit_lsn ? listed->commit_lsn[i] : 0,
                           &listed->timelines[i]);
            if (!listed->timelines[i]) { /* taken: the array may have no hole */
                listed->timelines[i] = calloc(1, sizeof(Corallite__Timeline));
                if (!listed->timelines[i])
                    return co_fail(CO_ERR_NOMEM, "no memory for a list of timelines");
                corallite__timeline__init(listed->timelines[i]);
            }
        }
        corallite__timeline_listed__free_unpacked(listed, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

/* What a branch grew from is committed, also where nobody who is left was told so. */
static int note_branches(struct member_timelines *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        const Corallite__Timeline *w = t->e[i].wire;
        struct co_id up;
        bool found;
        int rc = msg_get16("ancestor", w->has_ancestor, &w->ancestor, up.b);
        if (rc)
            return rc;
        uint32_t at = look_up(t, &up, &found);
        if (found)
            sealed_hear_read(&t->e[at].read, w->ancestor_lsn, w->base_term);
    }
    return 0;
}

int members_list_all(struct members *m, struct member_timelines *out)
{
    for (uint32_t i = 0; i < m->n; i++) {
        struct member *x = &m->at[i];
        reach(m, x);
        if (!x->up || !q_is_member(&m->book.config, x->node))
            continue;
        int rc = members_list(m, x, out);
        x->regressed |= rc == CO_ERR_REGRESSED;
        if (rc && x->up && !x->regressed)
            return rc;
    }
    int rc = note_branches(out);
    return rc ? rc : members_enough(m, &m->book.config);
}

void member_timelines_free(struct member_timelines *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->e[i].wire)
            corallite__timeline__free_unpacked(t->e[i].wire, NULL);
    free(t->e);
    *t = (struct member_timelines){0};
}

int members_put_timeline(struct member *on, const struct member_timeline *t)
{
    Corallite__TimelinePut put = CORALLITE__TIMELINE_PUT__INIT;
    put.timeline = t->wire;
    return client_call(&on->admin, FRAME_TIMELINE_PUT, &put.base, FRAME_TIMELINE_PUT_OK, NULL,
                       PUT_MS, NULL);
}
