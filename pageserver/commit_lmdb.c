/* commit_lmdb.c - tables commit, time and progress: what happened when, and how far. */
#include <stdlib.h>

#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"
#include "proto/changes.h"

#define COMMIT_HEAD_BYTES 32u
#define COMMIT_CHUNK      2000u /* stays inline: head and list of all but large commits */
#define PROGRESS_BYTES    24u
/* What the rows of a commit take in tables commit and time. */
#define PS_COMMIT_BYTES(len, chunks)                                                               \
    ((len) + (chunks) * (PS_COMMIT_KEY_BYTES + 8u) + PS_TIME_KEY_BYTES + 8u)

static void encode_head(uint8_t out[COMMIT_HEAD_BYTES], const struct ps_commit *commit)
{
    co_put64(out, commit->time_us);
    co_put32(out + 8, commit->db_pages);
    co_put32(out + 12, commit->page_size);
    memcpy(out + 16, commit->digest.b, 16);
}

int ps_commit_put(struct ps_txn *txn, tlno_t no, const struct ps_commit *commit,
                  const pgno_t *pgnos, uint32_t n)
{
    uint8_t head[COMMIT_HEAD_BYTES], key[PS_TIME_KEY_BYTES];
    struct co_buf row = {0};
    encode_head(head, commit);
    int rc = co_buf_append(&row, head, sizeof head);
    if (!rc)
        rc = changes_put_pages(&row, pgnos, n);
    struct ps_commit_key k = {.no = no, .lsn = commit->lsn};
    for (size_t at = 0; !rc && at < row.len; at += COMMIT_CHUNK, k.chunk++) {
        size_t len = row.len - at < COMMIT_CHUNK ? row.len - at : COMMIT_CHUNK;
        ps_commit_key_put(key, &k);
        rc = ps_put(txn, T_COMMIT, co_span_of(key, PS_COMMIT_KEY_BYTES),
                    co_span_of(row.data + at, len));
    }
    if (!rc)
        rc = ps_usage_add(
            txn, no,
            &(struct ps_usage_change){.commits = 1,
                                      .commit_bytes = (int64_t)PS_COMMIT_BYTES(row.len, k.chunk)});
    co_buf_free(&row);
    if (rc)
        return rc;
    struct ps_time_key t = {.no = no, .time_us = commit->time_us, .lsn = commit->lsn};
    ps_time_key_put(key, &t);
    return ps_put(txn, T_TIME, co_span_of(key, PS_TIME_KEY_BYTES), co_span_of("", 0));
}

static int bad_commit(const struct ps_txn *txn, lsn_t lsn)
{
    char at[LSN_TEXT];
    return co_fail(CO_ERR_CORRUPT, "%s: the row of the commit at LSN %s is damaged",
                   txn->store->dir, lsn_format(lsn, at));
}

static int decode_head(const struct ps_txn *txn, lsn_t lsn, struct co_span row,
                       struct ps_commit *out)
{
    if (row.len < COMMIT_HEAD_BYTES)
        return bad_commit(txn, lsn);
    out->lsn = lsn;
    out->time_us = co_get64(row.data);
    out->db_pages = co_get32(row.data + 8);
    out->page_size = co_get32(row.data + 12);
    memcpy(out->digest.b, row.data + 16, 16);
    return 0;
}

/* Moves the commit cursor to the first row of timeline `no` at or after (lsn, 0). */
static int seek(struct ps_txn *txn, tlno_t no, lsn_t lsn, struct ps_commit_key *key, MDB_val *value)
{
    uint8_t bytes[PS_COMMIT_KEY_BYTES];
    struct ps_commit_key want = {.no = no, .lsn = lsn};
    ps_commit_key_put(bytes, &want);
    MDB_val k = ps_val(bytes, sizeof bytes);
    int rc = mdb_cursor_get(txn->commit, &k, value, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "looking a commit up");
    if (!ps_commit_key_get(ps_span(k), key))
        return bad_commit(txn, lsn);
    return key->no == no ? 0 : CO_ERR_NOT_FOUND;
}

/* Moves on by one row. CO_ERR_NOT_FOUND at the end of the table or of the timeline. */
static int step(struct ps_txn *txn, MDB_cursor_op op, tlno_t no, struct ps_commit_key *key,
                MDB_val *value)
{
    MDB_val k;
    int rc = mdb_cursor_get(txn->commit, &k, value, op);
    if (rc == MDB_NOTFOUND)
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "reading commits");
    if (!ps_commit_key_get(ps_span(k), key))
        return bad_commit(txn, 0);
    return key->no == no ? 0 : CO_ERR_NOT_FOUND;
}

/* Moves a cursor to the last row before `key`, whosever it is. */
static int before(MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    return mdb_cursor_get(cursor, key, value, rc ? MDB_LAST : MDB_PREV);
}

/* Length of the page list of a row; its first chunk holds it whole. */
static int decode_count(const struct ps_txn *txn, lsn_t lsn, struct co_span row, uint32_t *out)
{
    uint64_t n;
    if (!co_get_varint(row.data + COMMIT_HEAD_BYTES, row.len - COMMIT_HEAD_BYTES, &n) ||
        n > UINT32_MAX)
        return bad_commit(txn, lsn);
    *out = (uint32_t)n;
    return 0;
}

/* Newest commit of this one timeline at or below lsn; n_pages may be NULL. */
static int newest_own(struct ps_txn *txn, tlno_t no, lsn_t lsn, struct ps_commit *out,
                      uint32_t *n_pages)
{
    uint8_t bytes[PS_COMMIT_KEY_BYTES];
    struct ps_commit_key key = {.no = no, .lsn = lsn, .chunk = UINT16_MAX};
    ps_commit_key_put(bytes, &key);
    MDB_val k = ps_val(bytes, sizeof bytes), value;
    int rc = before(txn->commit, &k, &value);
    if (rc == MDB_NOTFOUND)
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "looking a commit up");
    if (!ps_commit_key_get(ps_span(k), &key))
        return bad_commit(txn, lsn);
    if (key.no != no)
        return CO_ERR_NOT_FOUND;
    if (key.chunk != 0) {
        rc = seek(txn, no, key.lsn, &key, &value);
        if (rc)
            return rc;
    }
    rc = decode_head(txn, key.lsn, ps_span(value), out);
    return rc || !n_pages ? rc : decode_count(txn, key.lsn, ps_span(value), n_pages);
}

int ps_commit_whose(struct ps_txn *txn, const struct ps_line *line, lsn_t lsn,
                    struct ps_commit *out, const struct ps_line **owner, uint32_t *n_pages)
{
    co_assert(txn->live);
    for (; line; line = line->ancestor) {
        int rc = newest_own(txn, line->no, lsn, out, n_pages);
        if (owner)
            *owner = line;
        if (rc != CO_ERR_NOT_FOUND)
            return rc;
        if (line->ancestor_lsn < lsn)
            lsn = line->ancestor_lsn;
    }
    return co_fail(CO_ERR_NOT_FOUND, "there is no commit that early");
}

int ps_commit_at(struct ps_txn *txn, const struct ps_line *line, lsn_t lsn, struct ps_commit *out)
{
    return ps_commit_whose(txn, line, lsn, out, NULL, NULL);
}

static int newest_own_time(struct ps_txn *txn, MDB_cursor *cursor, tlno_t no, uint64_t time_us,
                           lsn_t lsn, lsn_t *out)
{
    uint8_t bytes[PS_TIME_KEY_BYTES];
    struct ps_commit last;
    if (lsn != UINT64_MAX) {
        /* An ancestor, seen up to lsn. Times never go back along a timeline, so the last commit
         * seen answers for every later time, and an earlier time ends before what is not seen:
         * nothing has to be walked over, however far the ancestor went on. */
        int seen = newest_own(txn, no, lsn, &last, NULL);
        if (seen)
            return seen;
        if (last.time_us <= time_us) {
            *out = last.lsn;
            return 0;
        }
    }
    struct ps_time_key key = {.no = no, .time_us = time_us, .lsn = UINT64_MAX};
    ps_time_key_put(bytes, &key);
    MDB_val k = ps_val(bytes, sizeof bytes), value;
    int rc = before(cursor, &k, &value);
    /* Of equal times some may lie after the point up to which it is seen. */
    while (!rc && ps_time_key_get(ps_span(k), &key) && key.no == no && key.lsn > lsn)
        rc = mdb_cursor_get(cursor, &k, &value, MDB_PREV);
    if (rc == MDB_NOTFOUND || (!rc && key.no != no))
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "looking a time up");
    *out = key.lsn;
    return 0;
}

int ps_commit_at_time(struct ps_txn *txn, const struct ps_line *line, uint64_t time_us, lsn_t *out)
{
    co_assert(txn->live);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn->txn, txn->store->dbi[T_TIME], &cursor);
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "looking a time up");
    rc = CO_ERR_NOT_FOUND;
    for (lsn_t lsn = UINT64_MAX; line && rc == CO_ERR_NOT_FOUND; line = line->ancestor) {
        rc = newest_own_time(txn, cursor, line->no, time_us, lsn, out);
        lsn = line->ancestor_lsn < lsn ? line->ancestor_lsn : lsn;
    }
    mdb_cursor_close(cursor);
    return rc == CO_ERR_NOT_FOUND ? co_fail(rc, "there is no commit that early") : rc;
}

int ps_commit_from(struct ps_txn *txn, tlno_t no, lsn_t lsn, lsn_t *out)
{
    struct ps_commit_key key;
    MDB_val value;
    int rc = seek(txn, no, lsn, &key, &value);
    if (!rc)
        *out = key.lsn;
    return rc;
}

int ps_commit_delete(struct ps_txn *txn, tlno_t no, lsn_t lsn)
{
    struct ps_commit_key key;
    struct ps_commit commit;
    struct ps_usage_change change = {.commits = -1,
                                     .commit_bytes = -(int64_t)(PS_TIME_KEY_BYTES + 8)};
    uint8_t time_key[PS_TIME_KEY_BYTES];
    MDB_val value;
    bool had;
    int rc = seek(txn, no, lsn, &key, &value);
    if (!rc && (key.lsn != lsn || key.chunk != 0))
        rc = CO_ERR_NOT_FOUND;
    if (!rc)
        rc = decode_head(txn, lsn, ps_span(value), &commit);
    if (rc)
        return rc;
    while (!rc && key.lsn == lsn) {
        change.commit_bytes -= (int64_t)(value.mv_size + PS_COMMIT_KEY_BYTES + 8);
        rc = mdb_cursor_del(txn->commit, 0);
        if (rc)
            return ps_lmdb_fail(txn->store, rc, "deleting a commit");
        txn->cost += PS_PUT_COST;
        rc = seek(txn, no, lsn, &key, &value);
    }
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    struct ps_time_key t = {.no = no, .time_us = commit.time_us, .lsn = lsn};
    ps_time_key_put(time_key, &t);
    rc = ps_del(txn, T_TIME, co_span_of(time_key, sizeof time_key), &had);
    return rc ? rc : ps_usage_add(txn, no, &change);
}

/* -- Change lists ------------------------------------------------------------------------------ */

struct change_list {
    struct co_buf *out;
    size_t limit;
    lsn_t prev;
    bool full;
};

/* Reads the row that begins at the cursor whole (its chunks) into `row`; leaves the cursor on the
 * next row and says in *more whether that is this timeline's. */
static int read_row(struct ps_txn *txn, tlno_t no, struct ps_commit_key *key, MDB_val *value,
                    struct co_buf *row, bool *more)
{
    lsn_t lsn = key->lsn;
    uint16_t chunk = 0;
    int rc = 0;
    row->len = 0;
    while (!rc && key->lsn == lsn) {
        if (key->chunk != chunk++)
            return bad_commit(txn, lsn);
        rc = co_buf_append(row, value->mv_data, value->mv_size);
        if (!rc)
            rc = step(txn, MDB_NEXT, no, key, value);
    }
    *more = rc == 0;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static int list_row(struct ps_txn *txn, struct change_list *list, lsn_t lsn,
                    const struct co_buf *row)
{
    struct ps_commit commit;
    pgno_t *pgnos = NULL;
    uint32_t n;
    int rc = decode_head(txn, lsn, co_buf_span(row), &commit);
    if (rc)
        return rc;
    struct co_span rest = co_span_of(row->data + COMMIT_HEAD_BYTES, row->len - COMMIT_HEAD_BYTES);
    if (changes_get_pages(&rest, &pgnos, &n))
        return bad_commit(txn, lsn);
    rc = changes_put_commit(list->out, list->prev, lsn, commit.db_pages, pgnos, n);
    free(pgnos);
    list->prev = lsn;
    list->full = list->out->len > list->limit;
    return rc;
}

/* The commits of one timeline in (since, upto]. */
static int list_own(struct ps_txn *txn, tlno_t no, lsn_t since, lsn_t upto,
                    struct change_list *list)
{
    struct ps_commit_key key;
    MDB_val value;
    struct co_buf row = {0};
    int rc = since == UINT64_MAX ? CO_ERR_NOT_FOUND : seek(txn, no, since + 1, &key, &value);
    bool more = rc == 0;
    while (!rc && more && key.lsn <= upto && !list->full) {
        lsn_t lsn = key.lsn;
        rc = read_row(txn, no, &key, &value, &row, &more);
        if (!rc)
            rc = list_row(txn, list, lsn, &row);
    }
    co_buf_free(&row);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* Oldest ancestor first: recursion is bounded by CO_BRANCH_DEPTH_MAX, checked where lines are made.
 */
static int list_line(struct ps_txn *txn, const struct ps_line *line, lsn_t since, lsn_t upto,
                     struct change_list *list)
{
    int rc = 0;
    if (line->ancestor && since < line->ancestor_lsn)
        rc = list_line(txn, line->ancestor, since,
                       upto < line->ancestor_lsn ? upto : line->ancestor_lsn, list);
    if (rc || list->full)
        return rc;
    return list_own(txn, line->no, since, upto, list);
}

int ps_commit_changes(struct ps_txn *txn, const struct ps_line *line, lsn_t since, lsn_t upto,
                      size_t limit_bytes, struct co_buf *list, bool *all)
{
    co_assert(txn->live);
    struct change_list state = {.out = list, .limit = limit_bytes, .prev = since};
    list->len = 0;
    int rc = list_line(txn, line, since, upto, &state);
    *all = state.full;
    if (rc || state.full)
        list->len = 0;
    return rc;
}

/* -- Progress ---------------------------------------------------------------------------------- */

int ps_progress_put(struct ps_txn *txn, tlno_t no, const struct ps_progress *p)
{
    uint8_t key[PS_LINE_KEY_BYTES], row[PROGRESS_BYTES];
    co_put32be(key, no);
    co_put64(row, p->last_lsn);
    memcpy(row + 8, p->digest.b, 16);
    return ps_put(txn, T_PROGRESS, co_span_of(key, sizeof key), co_span_of(row, sizeof row));
}

int ps_progress_get(struct ps_txn *txn, tlno_t no, struct ps_progress *out)
{
    const uint8_t *row;
    int rc = ps_row_get(txn, T_PROGRESS, no, PROGRESS_BYTES, "progress",
                        "reading how far a timeline is", &row);
    if (rc == CO_ERR_NOT_FOUND)
        return co_fail(rc, "nothing of this timeline was ingested yet");
    if (rc)
        return rc;
    out->last_lsn = co_get64(row);
    memcpy(out->digest.b, row + 8, 16);
    return 0;
}
