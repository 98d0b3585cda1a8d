/*
 * check_log_sock.c - the pageserver's catalog and positions against those of the safekeepers.
 *
 * The digest of a record covers, through the digest before it, everything from the birth of the
 * timeline on. So it is enough to fetch the last transaction of a branch from each safekeeper,
 * verify it, and compare: equal digests there mean equal histories.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/check_sock.h"
#include "cli/sqlite_file.h"
#include "common/clock_file.h"
#include "proto/message.h"
#include "proto/wal.h"
#include "proto/wal_stream.h"

#define ASK_TIMEOUT_MS  5000u
#define TAIL_WAIT_MS    100u /* for a safekeeper that is a little behind */
#define CATALOG_TRIES   5    /* it may be changing while it is looked at */
#define CATALOG_WAIT_NS 300000000

/* -- Lists ---------------------------------------------------------------------------------------
 */

static int add_timeline(struct check_list *list, const Corallite__Timeline *t)
{
    struct check_entry e = {.version = t->version, .state = (int)t->state, .hidden = t->hidden};
    e.start_lsn = t->start_lsn;
    int rc = msg_get16("timeline", t->has_id, &t->id, e.id.b);
    if (rc)
        return rc;
    snprintf(e.name, sizeof e.name, "%.63s/%.63s", t->database_name ? t->database_name : "",
             t->branch ? t->branch : "");
    return check_list_add(list, &e);
}

static int add_branches(struct client *c, const char *database, struct check_list *out)
{
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    q.database = (char *)database;
    int rc = client_call(c, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                         &corallite__branch_listed__descriptor, CLIENT_CHANGE_TIMEOUT_MS, &m);
    for (size_t i = 0; !rc && i < m->n_branches; i++)
        if (m->branches[i]->timeline)
            rc = add_timeline(out, m->branches[i]->timeline);
    if (m)
        corallite__branch_listed__free_unpacked(m, NULL);
    return rc;
}

int check_branches(struct client *c, const char *database, struct check_list *out)
{
    Corallite__DbList q = CORALLITE__DB_LIST__INIT;
    Corallite__DbListed *m = NULL;
    if (database)
        return add_branches(c, database, out);
    int rc = client_call(c, FRAME_DB_LIST, &q.base, FRAME_DB_LISTED,
                         &corallite__db_listed__descriptor, CLIENT_CHANGE_TIMEOUT_MS, &m);
    for (size_t i = 0; !rc && i < m->n_databases; i++)
        if (m->databases[i]->name) {
            rc = add_branches(c, m->databases[i]->name, out);
            if (rc == CO_ERR_NOT_FOUND || rc == CO_ERR_DROPPED)
                rc = 0; /* dropped in between */
        }
    if (m)
        corallite__db_listed__free_unpacked(m, NULL);
    return rc;
}

static int list_registry(struct client *c, struct check_list *out)
{
    struct co_id after;
    bool more = true;
    int rc = 0;
    while (!rc && more) {
        Corallite__TimelineList q = CORALLITE__TIMELINE_LIST__INIT;
        Corallite__TimelineListed *m = NULL;
        q.has_after = out->n > 0;
        if (out->n)
            after = out->e[out->n - 1].id;
        q.after = (ProtobufCBinaryData){.len = sizeof after.b, .data = after.b};
        rc = client_call(c, FRAME_TIMELINE_LIST, &q.base, FRAME_TIMELINE_LISTED,
                         &corallite__timeline_listed__descriptor, ASK_TIMEOUT_MS, &m);
        if (rc)
            break;
        for (size_t i = 0; !rc && i < m->n_timelines; i++)
            rc = add_timeline(out, m->timelines[i]);
        more = m->more && m->n_timelines > 0;
        corallite__timeline_listed__free_unpacked(m, NULL);
    }
    return rc;
}

/* -- The safekeepers -----------------------------------------------------------------------------
 */

static struct client keepers[CHECK_NODES_MAX];

int check_keepers_open(struct client *c, struct check_report *r)
{
    Corallite__ServerStatus *m = NULL;
    int rc = client_call(c, FRAME_SERVER_STATUS, NULL, FRAME_SERVER_STATUS_OK,
                         &corallite__server_status__descriptor, ASK_TIMEOUT_MS, &m);
    if (rc)
        return rc;
    snprintf(r->archive, sizeof r->archive, "%s", m->archive ? m->archive : "");
    for (size_t i = 0; i < m->n_safekeepers && r->n_nodes < CHECK_NODES_MAX; i++) {
        const Corallite__Safekeeper *k = m->safekeepers[i];
        struct check_node *n = &r->nodes[r->n_nodes];
        struct client *to = &keepers[r->n_nodes++];
        const char *host = k->host ? k->host : "";
        *n = (struct check_node){.node = k->node};
        client_address(host, (uint16_t)k->port, n->address);
        struct co_id disk;
        int bad = msg_get16("disk", k->has_disk, &k->disk, disk.b);
        if (!bad)
            bad = client_connect_keeper(to, host, (uint16_t)k->port, &c->cluster, k->node, &disk,
                                        ASK_TIMEOUT_MS);
        n->answered = bad == 0;
        if (bad)
            check_say(r->notes, "safekeeper %u was not looked at: %s", (unsigned)n->node,
                      co_sentence());
    }
    corallite__server_status__free_unpacked(m, NULL);
    return 0;
}

/* A safekeeper that fails from here on is not asked again. */
static void lose(struct check_report *r, uint32_t i)
{
    r->nodes[i].answered = false;
    client_close(&keepers[i]);
    check_say(r->notes, "safekeeper %u was not looked at to the end: %s",
              (unsigned)r->nodes[i].node, co_sentence());
}

static void free_lists(struct check_list *pageserver, struct check_list all[CHECK_NODES_MAX])
{
    free(pageserver->e);
    for (uint32_t i = 0; i < CHECK_NODES_MAX; i++)
        free(all[i].e);
    *pageserver = (struct check_list){0};
    memset(all, 0, CHECK_NODES_MAX * sizeof *all);
}

/* Looks until the catalog is found equal, or has been found different often enough. */
static int compare_catalog(struct client *c, struct check_report *r, const char *only,
                           struct check_list *pageserver)
{
    static struct check_list all[CHECK_NODES_MAX];
    const struct timespec wait = {.tv_nsec = CATALOG_WAIT_NS};
    size_t notes = json_array_size(r->notes);
    int rc = 0;
    for (int try = 1;; try++) {
        r->n_compared = 0;
        json_array_clear(r->problems);
        while (json_array_size(r->notes) > notes)
            json_array_remove(r->notes, json_array_size(r->notes) - 1);
        rc = check_branches(c, only, pageserver);
        for (uint32_t i = 0; i < r->n_nodes && !rc; i++) {
            if (r->nodes[i].answered && list_registry(&keepers[i], &all[i])) {
                lose(r, i);
                notes++;
            }
            r->nodes[i].timelines = all[i].n;
        }
        if (!rc)
            check_catalog(r, pageserver, all, only);
        bool equal = json_array_size(r->problems) == 0 && json_array_size(r->notes) == notes;
        if (rc || equal || try == CATALOG_TRIES || sqlite_interrupted())
            break;
        free_lists(pageserver, all);
        nanosleep(&wait, NULL);
    }
    struct check_list kept = *pageserver;
    *pageserver = (struct check_list){0};
    free_lists(pageserver, all);
    *pageserver = kept;
    return rc;
}

/* -- The last transaction ------------------------------------------------------------------------
 */

/* Where the last transaction of a branch lies: in `timeline`, somewhere in (from, to]. */
struct tail {
    struct co_id timeline;
    lsn_t from, to;
    uint64_t bytes, records; /* verified so far */
    bool chained;            /* of a record before: its digest is known */
    bool begins;             /* `from` is no begin: the digest there is known */
    struct wal_digest begin;
};

static bool same_id(ProtobufCBinaryData a, const struct co_id *b)
{
    return a.len == sizeof b->b && memcmp(a.data, b->b, sizeof b->b) == 0;
}

/* tail->to 0: there is nothing to compare. */
static int find_tail(struct client *c, const struct check_branch *b,
                     const struct check_list *pageserver, struct tail *tail)
{
    char at[LSN_TEXT + 8], lsn[LSN_TEXT];
    Corallite__Log q = CORALLITE__LOG__INIT;
    Corallite__Logged *m = NULL;
    snprintf(at, sizeof at, "lsn:%s", lsn_format(b->lsn, lsn));
    q.database = (char *)b->database;
    q.branch = (char *)b->branch;
    q.at = at;
    q.has_limit = 1;
    q.limit = 2;
    *tail = (struct tail){.to = 0};
    int rc = client_call(c, FRAME_LOG, &q.base, FRAME_LOGGED, &corallite__logged__descriptor,
                         CLIENT_CHANGE_TIMEOUT_MS, &m);
    if (rc)
        return rc;
    if (m->n_commits && msg_get16("timeline", m->commits[0]->has_timeline, &m->commits[0]->timeline,
                                  tail->timeline.b) == 0) {
        const struct check_entry *e = check_find(pageserver, &tail->timeline);
        tail->to = m->commits[0]->lsn;
        if (m->n_commits > 1 && same_id(m->commits[1]->timeline, &tail->timeline))
            tail->from = m->commits[1]->lsn;
        else if (e)
            tail->from = e->start_lsn;
        else
            tail->to = 0; /* it lies in an ancestor that is nobody's branch any more */
    }
    corallite__logged__free_unpacked(m, NULL);
    return rc;
}

/* A record that is sound in itself: it begins here, and is built on the one before. */
static int take_record(struct tail *t, const struct wal_header *h, lsn_t *at,
                       struct wal_digest *digest, bool *found)
{
    if (h->begin_lsn != *at)
        return co_fail(CO_ERR_CORRUPT, "its log at %016llx holds a record of %016llx",
                       (unsigned long long)*at, (unsigned long long)h->begin_lsn);
    if (t->chained && memcmp(h->prev_digest.b, digest->b, sizeof digest->b) != 0)
        return co_fail(CO_ERR_CORRUPT,
                       "its log at %016llx holds a record that was not built on the one before",
                       (unsigned long long)*at);
    t->chained = true;
    t->records++;
    t->bytes += h->total_bytes;
    *at = h->end_lsn;
    *digest = h->digest;
    *found = h->end_lsn == t->to;
    return 0;
}

/* Whole records: verifies each; *digest is that of the one that ends at `to`. */
static int verify(struct tail *t, struct co_span bytes, lsn_t *at, struct wal_digest *digest,
                  bool *found)
{
    struct wal_header h;
    while (bytes.len && !*found) {
        int rc = wal_check(bytes, &h);
        if (rc == CO_ERR_AGAIN)
            return co_fail(CO_ERR_CORRUPT, "its log at %016llx ends within a record",
                           (unsigned long long)*at);
        if (!rc)
            rc = wal_check_digest(co_span_of(bytes.data, h.total_bytes), &h);
        if (!rc)
            rc = take_record(t, &h, at, digest, found);
        if (rc)
            return rc;
        bytes = co_span_of(bytes.data + h.total_bytes, bytes.len - h.total_bytes);
    }
    return 0;
}

/* A piece of one large record, which is verified as it comes. At its end *at moves behind it. */
static int verify_piece(struct tail *t, struct wal_stream *s, struct co_span piece, lsn_t *at,
                        struct wal_digest *digest, bool *found)
{
    enum wal_stream_step step = WAL_STREAM_ENTRY;
    struct wal_entry entry;
    int rc = piece.len > wal_stream_left(s)
                 ? co_fail(CO_ERR_CORRUPT, "its log at %016llx holds more of a record than it has",
                           (unsigned long long)*at)
                 : wal_stream_feed(s, piece);
    while (!rc && step == WAL_STREAM_ENTRY)
        rc = wal_stream_next(s, &step, &entry);
    if (rc || step != WAL_STREAM_END)
        return rc;
    rc = take_record(t, wal_stream_header(s), at, digest, found);
    wal_stream_reset(s);
    return rc;
}

static int stream(struct client *c, const struct tail *t, lsn_t at, uint64_t fragment_at,
                  Corallite__StreamData **out, struct co_buf *records)
{
    Corallite__Stream q = CORALLITE__STREAM__INIT;
    struct co_id id = t->timeline;
    q.has_timeline = q.has_from_lsn = q.has_max_bytes = q.has_wait_ms = q.has_fragment_at = 1;
    q.timeline = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    q.from_lsn = at;
    q.fragment_at = fragment_at;
    q.max_bytes = CO_BATCH_BYTES;
    q.wait_ms = TAIL_WAIT_MS;
    return client_call_payload(c, FRAME_STREAM, &q.base, FRAME_STREAM_DATA,
                               &corallite__stream_data__descriptor, ASK_TIMEOUT_MS, out, records);
}

/* One answer of a safekeeper: whole records from `at` on, or a piece of the one that begins there.
 * *ended: it has no more. */
static int fetch_some(struct client *c, struct tail *t, struct wal_stream *s, lsn_t *at,
                      struct wal_digest *digest, bool *found, bool *ended)
{
    Corallite__StreamData *m = NULL;
    struct co_buf records = {0};
    uint64_t fragment_at = wal_stream_got(s);
    int rc = stream(c, t, *at, fragment_at, &m, &records);
    if (rc)
        return rc;
    bool piece = m->has_fragment && m->fragment, fits = m->fragment_at == fragment_at;
    corallite__stream_data__free_unpacked(m, NULL);
    *ended = records.len == 0;
    if (*ended)
        rc = 0;
    else if (piece ? !fits : fragment_at > 0)
        rc = co_fail(CO_ERR_PROTOCOL, "its log at %016llx does not go on where it was read to",
                     (unsigned long long)*at);
    else if (piece)
        rc = verify_piece(t, s, co_buf_span(&records), at, digest, found);
    else
        rc = verify(t, co_buf_span(&records), at, digest, found);
    co_buf_free(&records);
    return rc;
}

/* What one safekeeper has of the tail. *found false without an error: it is not that far. */
static int fetch_tail(struct client *c, struct tail *t, struct wal_digest *digest, bool *found)
{
    struct wal_stream *s;
    lsn_t at = t->from;
    bool ended = false;
    *found = false;
    t->chained = t->begins;
    *digest = t->begin;
    t->bytes = t->records = 0;
    int rc = wal_stream_new(&s);
    if (rc)
        return rc;
    while (!rc && !*found && !ended && at <= t->to)
        rc = sqlite_interrupted() ? co_fail(CO_ERR_CANCELED, "check was interrupted")
                                  : fetch_some(c, t, s, &at, digest, found, &ended);
    wal_stream_free(s);
    return rc;
}

/* The log of one that answered CO_ERR_TRUNCATED may begin where the last transaction ends: all of
 * it is archived, and was dropped there or never brought back. It knows the end to be committed. */
static bool has_dropped(struct client *c, const struct tail *t)
{
    Corallite__StreamData *m = NULL;
    struct co_buf records = {0};
    bool has = stream(c, t, t->to, 0, &m, &records) == 0 && m->commit_lsn >= t->to;
    if (m)
        corallite__stream_data__free_unpacked(m, NULL);
    co_buf_free(&records);
    return has;
}

static void compare_logs(struct check_report *r, struct check_branch *b, struct tail *t)
{
    struct wal_digest first = {{0}}, digest;
    bool found;
    char lsn[LSN_TEXT];
    uint32_t answered = 0, of_first = 0, dropped = 0;
    lsn_format(t->to, lsn);
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        unsigned node = (unsigned)r->nodes[i].node;
        if (!r->nodes[i].answered)
            continue;
        int rc = fetch_tail(&keepers[i], t, &digest, &found);
        if (rc && keepers[i].sock.fd < 0) {
            lose(r, i);
            continue;
        }
        answered++;
        if (rc == CO_ERR_TRUNCATED && has_dropped(&keepers[i], t)) {
            dropped++;
            check_say(r->notes,
                      "%s/%s: safekeeper %u keeps nothing below LSN %s, so there was nothing to "
                      "compare; the archive has it",
                      b->database, b->branch, node, lsn);
        } else if (rc) {
            check_problem(b, "safekeeper %u: %s", node, co_sentence());
        } else if (!found) {
            check_say(r->notes,
                      "%s/%s: the log of safekeeper %u ends before LSN %s; the next write brings "
                      "it up, or `corallite safekeeper catch-up`",
                      b->database, b->branch, node, lsn);
        } else if (b->copies && memcmp(first.b, digest.b, sizeof first.b) != 0) {
            check_problem(b, "safekeepers %u and %u have different logs up to LSN %s",
                          (unsigned)of_first, node, lsn);
        } else {
            first = digest;
            of_first = r->nodes[i].node;
            b->copies++;
        }
    }
    if ((b->copies + dropped) * 2 <= r->n_nodes && answered * 2 > r->n_nodes)
        check_problem(
            b,
            "the pageserver has LSN %s, and %u of the %u safekeepers that answered have it "
            "as well: that is no majority of %u",
            lsn, (unsigned)b->copies, (unsigned)answered, (unsigned)r->n_nodes);
}

/* No safekeeper keeps the log from t->from on: what lies below comes from the archive, and they go
 * on behind it. */
static int begin_in_archive(struct check_report *r, struct tail *t, struct check_reach *out)
{
    const struct co_id *cluster = NULL;
    lsn_t at;
    for (uint32_t i = 0; i < r->n_nodes && !cluster; i++)
        if (r->nodes[i].answered)
            cluster = &keepers[i].cluster;
    if (!cluster || !r->archive[0])
        return co_fail(CO_ERR_NOT_FOUND, "there is no archive");
    int rc = check_archive_reaches(r->archive, cluster, &t->timeline, t->to, &at, &t->begin,
                                   &out->bytes);
    if (rc || at < t->from)
        return rc ? rc : CO_ERR_NOT_FOUND;
    t->begins = true;
    t->from = at;
    out->archived = out->bytes;
    out->found = at == t->to;
    out->digest = t->begin;
    return 0;
}

int check_log_reaches(struct check_report *r, const struct co_id *timeline, lsn_t from, lsn_t to,
                      struct check_reach *out)
{
    int rc = 0;
    struct tail t = {.timeline = *timeline, .from = from, .to = to};
    *out = (struct check_reach){0};
    for (uint32_t i = 0; i < r->n_nodes && !rc && !out->found; i++) {
        if (!r->nodes[i].answered)
            continue;
        int bad = fetch_tail(&keepers[i], &t, &out->digest, &out->found);
        if (bad == CO_ERR_TRUNCATED && !t.begins && begin_in_archive(r, &t, out) == 0 &&
            !out->found)
            bad = fetch_tail(&keepers[i], &t, &out->digest, &out->found);
        if (out->found && bad == CO_ERR_TRUNCATED)
            bad = 0;
        if (bad == CO_ERR_CANCELED)
            rc = bad;
        else if (bad && keepers[i].sock.fd < 0)
            lose(r, i);
        else
            out->asked++;
        out->node = r->nodes[i].node;
        out->bytes = out->archived + t.bytes;
        out->records = t.records;
    }
    return rc;
}

Corallite__Pageservers *check_pageservers(struct check_report *r)
{
    Corallite__Pageservers ask = CORALLITE__PAGESERVERS__INIT, *known = NULL;
    for (uint32_t i = 0; i < r->n_nodes && !known; i++)
        if (r->nodes[i].answered &&
            client_call(&keepers[i], FRAME_PAGESERVERS, &ask.base, FRAME_PAGESERVERS_OK,
                        &corallite__pageservers__descriptor, ASK_TIMEOUT_MS, &known))
            known = NULL;
    return known;
}

void check_keepers_close(struct check_report *r)
{
    for (uint32_t i = 0; i < r->n_nodes; i++)
        if (r->nodes[i].answered)
            client_close(&keepers[i]);
}

int check_safekeepers(struct client *c, struct check_report *r, const char *only)
{
    struct check_list pageserver = {0};
    int rc = compare_catalog(c, r, only, &pageserver);
    for (uint32_t i = 0; i < r->n_branches && !rc; i++) {
        struct tail t;
        struct check_branch *b = &r->branches[i];
        if (sqlite_interrupted())
            rc = co_fail(CO_ERR_CANCELED, "check was interrupted");
        if (rc || !b->lsn)
            continue;
        rc = find_tail(c, b, &pageserver, &t);
        if (rc == CO_ERR_CORRUPT || rc == CO_ERR_GONE) {
            check_problem(b, "%s", co_sentence());
            rc = 0;
            continue;
        }
        if (rc || !t.to)
            continue;
        compare_logs(r, b, &t);
    }
    uint32_t answered = 0;
    for (uint32_t i = 0; i < r->n_nodes; i++)
        answered += r->nodes[i].answered;
    if (!rc && answered * 2 <= r->n_nodes)
        check_say(r->problems,
                  "%u of %u safekeepers could be looked at, which is no majority: nothing is known "
                  "of the log",
                  (unsigned)answered, (unsigned)r->n_nodes);
    free(pageserver.e);
    return rc;
}
