/*
 * safekeeper_sock.c - `corallite safekeeper list`, `corallite safekeeper replace OLD NEW`.
 *
 * A replacement, each step of which may be the last one of a tool that dies; the same command goes
 * on from where it was:
 *
 *   1  the list of the safekeepers becomes joint: OLD is on its way out, NEW on its way in. From
 *      here on the pageserver feeds NEW's registry, and needs both majorities for a change of it
 *   2  NEW gets every entry of the registry that it lacks
 *   3  each timeline: joint, fed, NEW alone (member_log_sock.c), or filled where it is sealed
 *      (member_sealed_sock.c); again until all are done, those that came meanwhile too
 *   4  the list becomes that of the new members; the pageserver lets OLD go
 *   5  step 3 once more: a branch whose making had begun before is born with the old members. The
 *      pageserver takes the list when nothing is being made with those (decision 67)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/local_file.h"
#include "cli/members.h"
#include "cli/text.h"
#include "common/clock_file.h"
#include "proto/qhist.h"

#define CALL_MS   10000u
#define FOLLOW_US 20000000u
#define PAUSE_US  200000u
#define SAY_US    2000000u

/* ---- list --------------------------------------------------------------------------------------
 */

struct row {
    uint32_t node, timelines;
    char address[CO_HOST_MAX_BYTES + 16], disk[CO_ID_TEXT];
    const char *role;
    bool up;
    uint64_t behind;
    const char *why;
    Corallite__NodeStatus *status;
};

static const char *role_of(const struct wal_config *c, uint32_t node)
{
    bool old = q_in_group(c->members, c->n, node), new = q_in_group(c->new_members, c->n_new, node);
    if (c->n_new == 0)
        return old ? "member" : "left";
    return old && new ? "member" : old ? "leaving" : new ? "joining" : "left";
}

/* How much less of each log it has on its disk than the most committed that anybody tells. */
static uint64_t behind(const struct row *rows, uint32_t n, const struct row *of)
{
    uint64_t sum = 0;
    for (size_t i = 0; of->status && i < of->status->n_timeline; i++) {
        const Corallite__NodeStatus__PerTimeline *mine = of->status->timeline[i];
        lsn_t commit = 0;
        if (!mine->has_flush_lsn)
            continue;
        for (uint32_t k = 0; k < n; k++)
            for (size_t j = 0; rows[k].status && j < rows[k].status->n_timeline; j++) {
                const Corallite__NodeStatus__PerTimeline *t = rows[k].status->timeline[j];
                if (t->id.len == 16 && mine->id.len == 16 && t->commit_lsn > commit &&
                    memcmp(t->id.data, mine->id.data, 16) == 0)
                    commit = t->commit_lsn;
            }
        sum += commit > mine->flush_lsn ? commit - mine->flush_lsn : 0;
    }
    return sum;
}

static void fill_row(struct members *m, struct member *x, struct row *r)
{
    *r = (struct row){.node = x->node, .up = x->up, .why = x->why};
    r->role = role_of(&m->book.config, x->node);
    client_address(x->host, x->port, r->address);
    if (!x->up)
        return;
    co_id_format(&x->disk, r->disk);
    if (client_call(&x->admin, FRAME_NODE_STATUS, NULL, FRAME_NODE_STATUS_OK,
                    &corallite__node_status__descriptor, CALL_MS, &r->status) == 0)
        r->timelines = r->status->timelines;
}

static int print_json(const struct members *m, const struct row *rows, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        json_t *o = json_pack("{s:i,s:s,s:s,s:b,s:s?}", "node", (int)r->node, "address", r->address,
                              "role", r->role, "reachable", r->up, "disk", r->up ? r->disk : NULL);
        if (o && r->up) {
            json_object_set_new(o, "timelines", json_integer((json_int_t)r->timelines));
            json_object_set_new(o, "behind_bytes", json_integer((json_int_t)r->behind));
            if (r->status && r->status->regressed)
                json_object_set_new(o, "regressed", json_string(r->status->regressed));
        } else if (o) {
            json_object_set_new(o, "why", json_string(r->why));
        }
        if (!o || json_array_append_new(list, o)) {
            json_decref(list);
            return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
        }
    }
    return cli_print_json(json_pack("{s:i,s:b,s:o}", "version", (int)m->book.config.version,
                                    "replacing", m->book.config.n_new > 0, "safekeepers", list));
}

static void print_rows(const struct members *m, const struct row *rows, uint32_t n)
{
    char bytes[TEXT_MAX];
    printf("%-4s  %-22s  %-8s  %9s  %10s  %s\n", "NODE", "ADDRESS", "ROLE", "TIMELINES", "BEHIND",
           "DISK");
    for (uint32_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        if (r->up && r->status && r->status->regressed)
            printf("%-4u  %-22s  %-8s  takes no part: %s\n", r->node, r->address, r->role,
                   r->status->regressed);
        else if (r->up)
            printf("%-4u  %-22s  %-8s  %9u  %10s  %s\n", r->node, r->address, r->role, r->timelines,
                   text_bytes(r->behind, bytes), r->disk);
        else
            printf("%-4u  %-22s  %-8s  not reached: %s\n", r->node, r->address, r->role, r->why);
    }
    printf("version %u of the list%s\n", m->book.config.version,
           m->book.config.n_new ? "; a replacement is under way" : "");
}

int cli_safekeeper_list(const struct cli_args *args)
{
    static struct members m;
    struct row rows[NODES_MAX];
    int rc = members_open(&m, args);
    for (uint32_t i = 0; !rc && i < m.n; i++)
        fill_row(&m, &m.at[i], &rows[i]);
    for (uint32_t i = 0; !rc && i < m.n; i++)
        rows[i].behind = behind(rows, m.n, &rows[i]);
    if (!rc && cli_has(args, "--json"))
        rc = print_json(&m, rows, m.n);
    else if (!rc)
        print_rows(&m, rows, m.n);
    for (uint32_t i = 0; !rc && i < m.n; i++)
        if (rows[i].status)
            corallite__node_status__free_unpacked(rows[i].status, NULL);
    members_close(&m);
    return cli_report(rc);
}

/* ---- replace -----------------------------------------------------------------------------------
 */

struct replace {
    struct members m;
    uint32_t old;
    struct member *new;
    struct member_timelines all;
    uint32_t n_live, n_sealed;
    uint64_t said_us, began_us;
    bool quiet;
};

static void say(struct replace *r, bool now, const char *format, ...) CO_PRINTF(3, 4);
static void say(struct replace *r, bool now, const char *format, ...)
{
    va_list ap;
    if (r->quiet || (!now && co_now_us() - r->said_us < SAY_US))
        return;
    r->said_us = co_now_us();
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
}

static int parse_node(const char *text, uint32_t *out)
{
    const char *digits = strncmp(text, "safekeeper-", 11) == 0 ? text + 11 : text;
    char *end;
    unsigned long id = strtoul(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end || id == 0 || id > UINT16_MAX)
        return co_fail(CO_ERR_INVAL,
                       "OLD is the node id of a safekeeper, as `corallite safekeeper list` names "
                       "it; '%.60s' is none",
                       text);
    *out = (uint32_t)id;
    return 0;
}

/* [ID=]HOST:PORT */
static int reach_new(struct replace *r, const char *text)
{
    const char *eq = strchr(text, '=');
    char host[256];
    uint16_t port;
    uint32_t id = 0;
    int rc = 0;
    if (eq) {
        char word[32] = "";
        snprintf(word, sizeof word, "%.*s", (int)(eq - text < 31 ? eq - text : 31), text);
        rc = parse_node(word, &id);
    }
    if (!rc)
        rc = psock_split_address(eq ? eq + 1 : text, 6410, host, &port);
    if (!rc)
        rc = members_add(&r->m, host, port, &r->new);
    if (!rc && id && r->new->node != id)
        rc = co_fail(CO_ERR_NODE, "the safekeeper at %.200s has node id %u, not %u", eq + 1,
                     r->new->node, id);
    return rc;
}

/* Who comes, and who goes, in the replacement that the list tells of; 0: nobody. */
static void under_way(const struct wal_config *c, uint32_t *out, uint32_t *in)
{
    *out = *in = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (!q_in_group(c->new_members, c->n_new, c->members[i].node_id))
            *out = c->members[i].node_id;
    for (uint32_t i = 0; i < c->n_new; i++)
        if (!q_in_group(c->members, c->n, c->new_members[i].node_id))
            *in = c->new_members[i].node_id;
}

static int refuse_other(const struct replace *r)
{
    uint32_t out, in;
    under_way(&r->m.book.config, &out, &in);
    const struct node_address *a = nodes_find(&r->m.book, in);
    return co_fail(CO_ERR_BUSY,
                   "another replacement is under way, of safekeeper %u by %u; finish it first: "
                   "corallite safekeeper replace %u %s:%u",
                   out, in, out, a ? a->host : "?", a ? a->port : 0);
}

/* The list is the newest one only if a majority was asked. */
static int refuse_old(const struct replace *r)
{
    const struct wal_config *c = &r->m.book.config;
    char members[100] = "";
    size_t used = 0;
    int rc = members_enough(&r->m, c);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < c->n && used < sizeof members; i++)
        used += (size_t)snprintf(members + used, sizeof members - used, "%s%u", i ? ", " : "",
                                 c->members[i].node_id);
    return co_fail(CO_ERR_INVAL,
                   "safekeeper %u is not a member of this cluster; the members are %s", r->old,
                   members);
}

/* NEW must not have held anything: what it voted before may contradict what it votes now. */
static int check_empty(struct replace *r)
{
    struct member_timelines held = {0};
    int rc = members_list(&r->m, r->new, &held);
    if (!rc && held.n > 0)
        rc = co_fail(
            CO_ERR_EXISTS,
            "the safekeeper at %s:%u holds %u timelines already; a new one has to be empty: "
            "start it with an empty --dir and a --node that was never used",
            r->new->host, r->new->port, held.n);
    member_timelines_free(&held);
    return rc;
}

/* A node id is used once. An id above all members' is new: so were those that they came with. */
static int check_id(const struct replace *r)
{
    const struct wal_config *c = &r->m.book.config;
    uint32_t highest = c->members[c->n - 1].node_id;
    if (c->n_new && c->new_members[c->n_new - 1].node_id > highest)
        highest = c->new_members[c->n_new - 1].node_id;
    return r->new->node > highest
               ? 0
               : co_fail(
                     CO_ERR_INVAL,
                     "the safekeeper at %s:%u has node id %u, which may have been in use; start "
                     "it with an empty --dir and --node %u",
                     r->new->host, r->new->port, r->new->node, highest + 1);
}

/* Adds the member with its disk; ascending. */
static void add_member(struct wal_member *members, uint32_t *n, const struct member *x)
{
    uint32_t at = (*n)++;
    for (; at > 0 && members[at - 1].node_id > x->node; at--)
        members[at] = members[at - 1];
    members[at] = (struct wal_member){.node_id = x->node, .disk_uuid = x->disk};
}

static void know_disks(struct replace *r, struct wal_member *members, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct member *x = members_find(&r->m, members[i].node_id);
        if (x && co_id_is_zero(&members[i].disk_uuid))
            members[i].disk_uuid = co_id_is_zero(&x->named) ? x->disk : x->named;
    }
}

/* May NEW come, and does a majority answer that can be told of it? */
static int check_new(struct replace *r)
{
    int rc = check_empty(r);
    if (!rc)
        rc = check_id(r);
    return rc ? rc : members_enough(&r->m, &r->m.book.config);
}

/* NEW becomes one of those that come. */
static void let_come(struct replace *r, struct nodes *next)
{
    struct wal_config *c = &next->config;
    struct node_address *a = &next->at[next->n++];
    add_member(c->new_members, &c->n_new, r->new);
    c->version++;
    a->node = r->new->node;
    a->port = r->new->port;
    memcpy(a->host, r->new->host, sizeof a->host);
}

/* OLD was being replaced by one that is gone before it was done: NEW takes that one's place in the
 * list. Where a log has the lost one already it is a member that is away, and is exchanged as one
 * (member_plan.h). */
static int put_in_place_of(struct replace *r, uint32_t lost)
{
    struct nodes next = r->m.book;
    struct wal_config *c = &next.config;
    uint32_t n = 0;
    int rc = check_new(r);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < c->n_new; i++)
        if (c->new_members[i].node_id != lost)
            c->new_members[n++] = c->new_members[i];
    c->n_new = n;
    n = 0;
    for (uint32_t i = 0; i < next.n; i++)
        if (next.at[i].node != lost)
            next.at[n++] = next.at[i];
    next.n = n;
    let_come(r, &next);
    return members_put(&r->m, &next);
}

/* The list is joint. */
static int go_on(struct replace *r)
{
    uint32_t out, in;
    under_way(&r->m.book.config, &out, &in);
    if (out != r->old)
        return refuse_other(r);
    if (in == r->new->node)
        return members_put_again(&r->m);
    const struct member *x = members_find(&r->m, in);
    return x && x->up ? refuse_other(r) : put_in_place_of(r, in);
}

/* Step 1. *finished: there is nothing to do any more. */
static int make_joint(struct replace *r, bool *finished)
{
    struct nodes next = r->m.book;
    struct wal_config *c = &next.config;
    bool old = q_in_group(c->members, c->n, r->old);
    bool new = q_in_group(c->members, c->n, r->new->node);
    *finished = c->n_new == 0 && !old && new;
    if (*finished) /* as one says; a tool that died, or was refused, may have told nobody else */
        return members_put_again(&r->m);
    if (c->n_new > 0)
        return go_on(r);
    if (!old)
        return refuse_old(r);
    /* Only the pageserver told, and it lists who is joining with the members: one too many. */
    if (new && c->version == 1 && c->n % 2 == 0)
        return co_fail(CO_ERR_NO_QUORUM,
                       "a replacement is under way that the safekeepers which can be reached do "
                       "not know of yet; start the others, then give the same command again");
    if (new)
        return co_fail(CO_ERR_INVAL,
                       "safekeeper %u is a member already; give the address of a new, "
                       "empty one",
                       r->new->node);
    int rc = check_new(r);
    if (rc)
        return rc;
    know_disks(r, c->members, c->n);
    for (uint32_t i = 0; i < c->n; i++)
        if (c->members[i].node_id != r->old)
            c->new_members[c->n_new++] = c->members[i];
    let_come(r, &next);
    return members_put(&r->m, &next);
}

static int wait_for_pageserver(struct replace *r)
{
    uint64_t until = co_now_us() + FOLLOW_US;
    int rc;
    while ((rc = members_pageserver_follows(&r->m)) == CO_ERR_AGAIN && co_now_us() < until) {
        say(r, false, "waiting for the pageserver to take the new list");
        usleep(PAUSE_US);
    }
    return rc == CO_ERR_AGAIN
               ? co_fail(CO_ERR_TIMEOUT,
                         "the pageserver did not follow the list of safekeepers within %u s; does "
                         "it reach them? Then give the same command again",
                         FOLLOW_US / 1000000)
               : rc;
}

/* Step 2: what the majority holds, NEW holds. */
static int copy_registry(struct replace *r)
{
    struct member_timelines held = {0};
    member_timelines_free(&r->all);
    int rc = members_list_all(&r->m, &r->all);
    if (!rc)
        rc = members_list(&r->m, r->new, &held);
    uint32_t at = 0;
    for (uint32_t i = 0; !rc && i < r->all.n; i++) {
        while (at < held.n && memcmp(held.e[at].id.b, r->all.e[i].id.b, 16) < 0)
            at++;
        bool has = at < held.n && co_id_eq(&held.e[at].id, &r->all.e[i].id) &&
                   held.e[at].version >= r->all.e[i].version;
        if (!has)
            rc = members_put_timeline(r->new, &r->all.e[i]);
        if (rc == CO_ERR_DROPPED || rc == CO_ERR_READONLY)
            rc = 0; /* the pageserver was faster with a newer one */
        if (!has)
            say(r, false, "registry: %u of %u timelines", i + 1, r->all.n);
    }
    member_timelines_free(&held);
    return rc;
}

struct finished {
    struct co_id *id;
    uint32_t n, cap;
};

static bool is_finished(const struct finished *f, const struct co_id *id)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (co_id_eq(&f->id[i], id))
            return true;
    return false;
}

static int note_finished(struct finished *f, const struct co_id *id)
{
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? 2 * f->cap : 64;
        struct co_id *p = realloc(f->id, cap * sizeof *p);
        if (!p)
            return co_fail(CO_ERR_NOMEM, "no memory to remember what is done");
        f->id = p;
        f->cap = cap;
    }
    f->id[f->n++] = *id;
    return 0;
}

/* One step of one timeline. A branch that is reset or dropped meanwhile comes again, as a sealed
 * one or not at all. */
static int step(struct replace *r, const struct member_timeline *t, enum member_step *state,
                uint64_t *lag)
{
    if (t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED)
        return member_sealed_step(&r->m, t, r->new, state, lag);
    int rc = member_log_step(&r->m, t, r->new->node, state, lag);
    if (!rc && *state == MEMBER_SEALED) {
        *state = MEMBER_BUSY;
        (void)co_fail(CO_ERR_BUSY, "%s: it is being reset or dropped at this moment", t->name);
    }
    return rc;
}

/* One round over what is not done yet. *left: how many are not. */
static int walk(struct replace *r, struct finished *f, uint32_t *left)
{
    *left = r->n_live = r->n_sealed = 0;
    for (uint32_t i = 0; i < r->all.n; i++) {
        const struct member_timeline *t = &r->all.e[i];
        enum member_step state = MEMBER_DONE;
        uint64_t lag = 0;
        char bytes[TEXT_MAX];
        if (t->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            continue;
        r->n_live++;
        r->n_sealed += t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
        if (is_finished(f, &t->id))
            continue;
        int rc = step(r, t, &state, &lag);
        if (!rc && state == MEMBER_DONE)
            rc = note_finished(f, &t->id);
        if (rc)
            return rc;
        *left += state != MEMBER_DONE;
        if (state == MEMBER_JOINT)
            say(r, false, "%s: the new safekeeper lacks %s", t->name, text_bytes(lag, bytes));
        else if (state == MEMBER_BUSY)
            say(r, false, "waiting for %s", co_sentence());
        else
            say(r, false, "timelines: %u done", f->n);
    }
    return 0;
}

/* Steps 2 and 3, until a look at the registries finds nothing that is not done. */
static int walk_all(struct replace *r, struct finished *f)
{
    uint32_t left = 1, before = UINT32_MAX;
    int rc = 0;
    while (!rc && (left > 0 || f->n != before)) {
        before = f->n;
        rc = copy_registry(r);
        if (!rc)
            rc = walk(r, f, &left);
        if (!rc && left > 0)
            usleep(PAUSE_US);
    }
    return rc;
}

/* Step 4. */
static int finish(struct replace *r)
{
    struct nodes next = r->m.book;
    struct wal_config *c = &next.config;
    uint32_t n = 0;
    if (c->n_new == 0)
        return 0;
    c->n = c->n_new;
    memcpy(c->members, c->new_members, sizeof c->members);
    c->n_new = 0;
    memset(c->new_members, 0, sizeof c->new_members);
    c->version++;
    for (uint32_t i = 0; i < next.n; i++)
        if (q_is_member(c, next.at[i].node))
            next.at[n++] = next.at[i];
    memset(&next.at[n], 0, (NODES_MAX - n) * sizeof *next.at);
    next.n = n;
    return members_put(&r->m, &next);
}

static int report(const struct replace *r, bool finished, bool json)
{
    char took[TEXT_MAX];
    uint64_t us = co_now_us() - r->began_us;
    if (json)
        return cli_print_json(json_pack("{s:i,s:i,s:s,s:i,s:i,s:i,s:i,s:f}", "replaced",
                                        (int)r->old, "by", (int)r->new->node, "host", r->new->host,
                                        "port", (int)r->new->port, "version",
                                        (int)r->m.book.config.version, "timelines", (int)r->n_live,
                                        "sealed", (int)r->n_sealed, "seconds", (double)us / 1e6));
    if (finished)
        printf("safekeeper %u has been replaced by %u already\n", r->old, r->new->node);
    else
        printf("replaced safekeeper %u by %u at %s:%u: %u timelines in %s\n", r->old, r->new->node,
               r->new->host, r->new->port, r->n_live, text_duration(us, took));
    if (r->n_sealed)
        printf("%u of them are sealed (kept by a restore, or for branches)\n", r->n_sealed);
    return 0;
}

int cli_safekeeper_replace(const struct cli_args *args)
{
    static struct replace r;
    struct finished f = {0};
    bool finished = false;
    r.began_us = co_now_us();
    int rc = parse_node(args->words[0], &r.old);
    if (!rc)
        rc = members_open(&r.m, args);
    if (!rc)
        rc = reach_new(&r, args->words[1]);
    if (!rc)
        rc = make_joint(&r, &finished);
    if (!rc && !finished)
        rc = wait_for_pageserver(&r);
    if (!rc && !finished) {
        say(&r, true, "safekeeper %u is being replaced by %u; the same command goes on from here",
            r.old, r.new->node);
        rc = walk_all(&r, &f);
    }
    if (!rc && !finished)
        rc = finish(&r);
    if (!rc)
        rc = wait_for_pageserver(&r);
    if (!rc)
        rc = walk_all(&r, &f);
    if (!rc)
        rc = report(&r, finished, cli_has(args, "--json"));
    if (!rc && r.m.target.local)
        local_replaced(&r.m.target.cluster, r.old);
    free(f.id);
    member_timelines_free(&r.all);
    members_close(&r.m);
    return cli_report(rc);
}
