/*
 * reach_file.c - how far the archive can tell a timeline's log: `repair` asks when no safekeeper
 * keeps the log's begin any more. Read, checked and chained as a restore would (archive/walk.h).
 * Where the archive does not have that either any more, its snapshot stands for it.
 */
#include "archive/read.h"
#include "cli/archive.h"
#include "cli/check_sock.h"
#include "cli/sqlite_file.h"

struct reach {
    lsn_t to;
    lsn_t at; /* the last record's end that is not above `to` */
    struct wal_digest digest;
};

static int see(struct reach *r, const struct wal_header *h)
{
    if (sqlite_interrupted())
        return co_fail(CO_ERR_CANCELED, "it was interrupted");
    if (h->end_lsn <= r->to) {
        r->at = h->end_lsn;
        r->digest = h->digest;
    }
    return 0;
}

static int on_whole(void *owner, struct co_span record, const struct wal_header *h)
{
    (void)record;
    return see(owner, h);
}

static int on_piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                    const struct wal_header *last)
{
    (void)lsn, (void)at, (void)bytes;
    return last ? see(owner, last) : 0;
}

static int read_line(struct ar_store *store, const struct co_id *cluster,
                     const struct ar_line *line, struct reach *r)
{
    struct ar_sink sink = {r, on_whole, on_piece};
    struct ar_walk walk;
    ar_walk_line(&walk, cluster, line);
    r->at = walk.end;
    r->digest = walk.digest;
    int rc = line->kept.lsn ? archive_check_snapshot(store, cluster, line, true) : 0;
    if (!rc && r->at > r->to)
        rc = co_fail(CO_ERR_NOT_FOUND, "the archive has its log from a later place on only");
    if (!rc)
        rc = ar_read_log(store, cluster, line, &walk, &sink);
    ar_walk_free(&walk);
    return rc;
}

int check_archive_reaches(const char *url, const struct co_id *cluster,
                          const struct co_id *timeline, lsn_t to, lsn_t *at,
                          struct wal_digest *digest, uint64_t *bytes)
{
    struct reach r = {.to = to};
    struct ar_store *store;
    struct ar_line line;
    Corallite__ArchiveState *state = NULL;
    int rc = ar_open(url, &(struct ar_options){.read_only = true}, &store);
    if (rc)
        return rc;
    rc = ar_newest_state(store, cluster, NULL, &state);
    int found = CO_ERR_NOT_FOUND;
    for (size_t i = 0; !rc && i < state->n_lines && found == CO_ERR_NOT_FOUND; i++) {
        rc = ar_line_read(state->lines[i], &line);
        if (!rc && co_id_eq(&line.id, timeline))
            found = read_line(store, cluster, &line, &r);
    }
    if (!rc)
        rc = found;
    *at = r.at;
    *digest = r.digest;
    *bytes = rc ? 0 : r.at - ar_line_from(&line) + (line.kept.lsn ? line.snap.bytes : 0);
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    ar_close(store);
    return rc;
}
