#include "pageserver/verify_lmdb.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "pageserver/verify_int_lmdb.h"
#include "proto/changes.h"

#define MISSING_MAX 20u /* pages of one moment */

void ps_verify_say(struct ps_walk *w, const char *kind, pgno_t pgno, lsn_t lsn, const char *format,
                   ...)
{
    va_list args;
    if (w->step->n == PS_VERIFY_FINDINGS_MAX)
        return; /* is_full ends the step before; one row finds two things at most */
    struct ps_found *f = &w->step->found[w->step->n++];
    *f = (struct ps_found){.kind = kind, .pgno = pgno, .lsn = lsn};
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
}

bool ps_verify_full(const struct ps_walk *w)
{
    return w->step->cost >= PS_VERIFY_STEP_BYTES || w->step->n + 4 >= PS_VERIFY_FINDINGS_MAX;
}

void ps_verify_next_phase(struct ps_walk *w)
{
    struct ps_verify_at *at = w->at;
    at->phase++;
    at->lsn = at->phase == PS_VERIFY_PAGES ? UINT64_MAX : 0;
    at->pgno = at->phase == PS_VERIFY_MOMENTS;
    at->time_us = 0;
    at->index = 0;
}

/* Are commit and versions at this LSN to be there, whatever was collected? */
bool ps_verify_strict(const struct ps_walk *w, lsn_t lsn)
{
    return w->of->strict && lsn > w->of->cutoff && lsn <= w->at->upto;
}

int ps_verify_fail(struct ps_walk *w, int rc)
{
    return ps_lmdb_fail(w->txn->store, rc, "looking through the store");
}

/* -- Single rows --------------------------------------------------------------------------------
 */

/* The head of a commit's row. CO_ERR_NOT_FOUND: there is no row, or one without a head. */
int ps_verify_commit(struct ps_walk *w, tlno_t no, lsn_t lsn, struct ps_commit *out)
{
    uint8_t bytes[PS_COMMIT_KEY_BYTES];
    struct ps_commit_key k = {.no = no, .lsn = lsn};
    ps_commit_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), v;
    int rc = mdb_get(w->txn->txn, w->txn->store->dbi[T_COMMIT], &key, &v);
    if (rc == MDB_NOTFOUND || (!rc && v.mv_size < COMMIT_HEAD_BYTES))
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_verify_fail(w, rc);
    const uint8_t *row = v.mv_data;
    *out = (struct ps_commit){.lsn = lsn,
                              .time_us = co_get64(row),
                              .db_pages = co_get32(row + 8),
                              .page_size = co_get32(row + 12)};
    memcpy(out->digest.b, row + 16, sizeof out->digest.b);
    return 0;
}

static int has_time(struct ps_walk *w, const struct ps_commit *c, bool *out)
{
    uint8_t bytes[PS_TIME_KEY_BYTES];
    struct ps_time_key k = {.no = w->of->line->no, .time_us = c->time_us, .lsn = c->lsn};
    ps_time_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), v;
    int rc = mdb_get(w->txn->txn, w->txn->store->dbi[T_TIME], &key, &v);
    *out = rc == 0;
    return rc && rc != MDB_NOTFOUND ? ps_verify_fail(w, rc) : 0;
}

/* Moves the cursor of the pages to the first key at or behind this one. *on: it is of this page. */
static int seek_page(struct ps_walk *w, const struct ps_page_key *want, struct ps_page_key *k,
                     MDB_val *v, bool *on)
{
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    ps_page_key_put(bytes, want);
    MDB_val key = ps_val(bytes, sizeof bytes);
    int rc = mdb_cursor_get(w->txn->page, &key, v, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return ps_verify_fail(w, rc);
    *on = !rc && ps_page_key_get(ps_span(key), k) && k->no == want->no && k->pgno == want->pgno;
    return 0;
}

/* Has the timeline itself a version of the page at exactly this LSN? */
static int has_version(struct ps_walk *w, pgno_t pgno, lsn_t lsn, bool *out)
{
    struct ps_page_key want = {.no = w->of->line->no, .pgno = pgno, .lsn = lsn}, k;
    struct ps_pack_entry e;
    MDB_val v;
    bool on;
    *out = false;
    int rc = seek_page(w, &want, &k, &v, &on);
    if (rc || !on)
        return rc;
    *out = k.lsn == lsn && k.chunk == 0;
    if (k.lsn == lsn)
        return 0;
    want = (struct ps_page_key){.no = k.no, .pgno = pgno, .lsn = k.lsn, .chunk = PS_PACK_CHUNK};
    rc = seek_page(w, &want, &k, &v, &on);
    if (rc || !on || k.lsn != want.lsn)
        return rc;
    struct co_span rest = ps_span(v);
    e.lsn = k.lsn;
    while (e.lsn < lsn && ps_pack_next(&rest, e.lsn, &e) == 0)
        continue;
    *out = e.lsn == lsn;
    return 0;
}

/* -- Commits ------------------------------------------------------------------------------------
 */

/* Reads the row of the first commit above at->lsn whole, or again the one at at->lsn when a part of
 * its list is left. CO_ERR_NOT_FOUND: there is none. *whole: its chunks follow each other. */
static int read_commit(struct ps_walk *w, lsn_t *lsn, struct co_buf *row, uint32_t *chunks,
                       bool *whole)
{
    struct ps_commit_key k = {.no = w->of->line->no, .lsn = w->at->lsn + (w->at->index == 0)};
    uint8_t bytes[PS_COMMIT_KEY_BYTES];
    ps_commit_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), v;
    if (k.lsn < w->at->lsn)
        return CO_ERR_NOT_FOUND; /* that was the last LSN there can be */
    int rc = mdb_cursor_get(w->txn->commit, &key, &v, MDB_SET_RANGE);
    if (!rc && (!ps_commit_key_get(ps_span(key), &k) || k.no != w->of->line->no))
        rc = MDB_NOTFOUND;
    *lsn = k.lsn;
    *chunks = 0;
    *whole = true;
    row->len = 0;
    if (rc)
        return rc == MDB_NOTFOUND ? CO_ERR_NOT_FOUND : ps_verify_fail(w, rc);
    while (!rc && ps_commit_key_get(ps_span(key), &k) && k.no == w->of->line->no && k.lsn == *lsn) {
        *whole = *whole && k.chunk == *chunks;
        ++*chunks;
        int bad = co_buf_append(row, v.mv_data, v.mv_size);
        if (bad)
            return bad;
        rc = mdb_cursor_get(w->txn->commit, &key, &v, MDB_NEXT);
    }
    return rc && rc != MDB_NOTFOUND ? ps_verify_fail(w, rc) : 0;
}

static int look_at_list(struct ps_walk *w, lsn_t lsn, const struct ps_commit *c,
                        const pgno_t *pgnos, uint32_t n)
{
    char at[LSN_TEXT];
    bool strict = ps_verify_strict(w, lsn), has;
    lsn_format(lsn, at);
    /* At least one: an index of 0 means that the whole list was looked at. */
    for (uint32_t i = 0; w->at->index < n && (i == 0 || !ps_verify_full(w)); i++, w->at->index++) {
        pgno_t pgno = pgnos[w->at->index];
        w->step->cost += PS_VERIFY_ROW_BYTES / 4;
        if (pgno == 0 || pgno > c->db_pages)
            ps_verify_say(w, "commit-pages", pgno, lsn,
                          "the commit at LSN %s lists page %u, and the database has %u pages then",
                          at, (unsigned)pgno, (unsigned)c->db_pages);
        if (!strict)
            continue;
        w->at->listed++;
        int rc = has_version(w, pgno, lsn, &has);
        if (rc)
            return rc;
        if (!has)
            ps_verify_say(w, "version-missing", pgno, lsn,
                          "the version of page %u that the commit at LSN %s wrote is missing",
                          (unsigned)pgno, at);
    }
    if (w->at->index >= n)
        w->at->index = 0;
    return 0;
}

static int one_commit(struct ps_walk *w, struct co_buf *row)
{
    struct ps_commit c;
    pgno_t *pgnos = NULL;
    uint32_t chunks, n = 0;
    lsn_t lsn;
    bool whole, has, again = w->at->index > 0;
    char at[LSN_TEXT];
    int rc = read_commit(w, &lsn, row, &chunks, &whole);
    if (rc)
        return rc;
    lsn_format(lsn, at);
    w->at->lsn = lsn;
    if (!again) {
        w->step->commits++;
        w->at->counted.commits++;
        w->at->counted.commit_bytes +=
            row->len + chunks * (PS_COMMIT_KEY_BYTES + NODE_BYTES) + PS_TIME_KEY_BYTES + NODE_BYTES;
    }
    w->step->cost += PS_VERIFY_ROW_BYTES;
    struct co_span list = row->len < COMMIT_HEAD_BYTES ? (struct co_span){0}
                                                       : co_span_of(row->data + COMMIT_HEAD_BYTES,
                                                                    row->len - COMMIT_HEAD_BYTES);
    rc = list.len ? changes_get_pages(&list, &pgnos, &n) : CO_ERR_PROTOCOL;
    if (rc == CO_ERR_NOMEM)
        return rc;
    if (rc || !whole || list.len || ps_verify_commit(w, w->of->line->no, lsn, &c)) {
        free(pgnos);
        w->at->index = 0;
        ps_verify_say(w, "commit-damaged", 0, lsn, "the row of the commit at LSN %s is damaged",
                      at);
        return 0;
    }
    rc = again ? 0 : has_time(w, &c, &has);
    if (!rc && !again && !has)
        ps_verify_say(w, "time-missing", 0, lsn,
                      "the commit at LSN %s is not in the table of times: no moment finds it", at);
    if (!rc)
        rc = look_at_list(w, lsn, &c, pgnos, n);
    free(pgnos);
    return rc;
}

static int look_at_commits(struct ps_walk *w)
{
    struct co_buf row = {0};
    int rc = 0;
    while (!rc && !ps_verify_full(w))
        rc = one_commit(w, &row);
    co_buf_free(&row);
    if (rc != CO_ERR_NOT_FOUND)
        return rc;
    ps_verify_next_phase(w);
    return 0;
}

/* -- Times --------------------------------------------------------------------------------------
 */

static int look_at_times(struct ps_walk *w)
{
    struct ps_verify_at *at = w->at;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(w->txn->txn, w->txn->store->dbi[T_TIME], &cursor), ours = 0;
    if (rc)
        return ps_verify_fail(w, rc);
    while (!ours && !rc && !ps_verify_full(w)) {
        struct ps_time_key k = {.no = w->of->line->no, .time_us = at->time_us, .lsn = at->lsn + 1};
        uint8_t bytes[PS_TIME_KEY_BYTES];
        struct ps_commit c;
        char text[LSN_TEXT];
        if (k.lsn == 0 && k.time_us++ == UINT64_MAX) {
            rc = MDB_NOTFOUND; /* that was the last key there can be */
            break;
        }
        ps_time_key_put(bytes, &k);
        MDB_val key = ps_val(bytes, sizeof bytes), v;
        rc = mdb_cursor_get(cursor, &key, &v, MDB_SET_RANGE);
        if (!rc && (!ps_time_key_get(ps_span(key), &k) || k.no != w->of->line->no))
            rc = MDB_NOTFOUND;
        if (rc)
            break;
        at->time_us = k.time_us;
        at->lsn = k.lsn;
        w->step->cost += PS_VERIFY_ROW_BYTES;
        ours = ps_verify_commit(w, w->of->line->no, k.lsn, &c);
        if (ours == CO_ERR_NOT_FOUND || (!ours && c.time_us != k.time_us)) {
            ps_verify_say(w, "time-dangling", 0, k.lsn,
                          "the table of times names LSN %s, where no commit of that time is",
                          lsn_format(k.lsn, text));
            ours = 0;
        }
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND)
        ps_verify_next_phase(w);
    return ours ? ours : rc && rc != MDB_NOTFOUND ? ps_verify_fail(w, rc) : 0;
}

/* -- Moments ------------------------------------------------------------------------------------
 */

/* Is there any version of the page at or below lsn, the ancestors' included? */
static int reaches(struct ps_walk *w, pgno_t pgno, lsn_t lsn, bool *out)
{
    *out = false;
    for (const struct ps_line *l = w->of->line; l; l = l->ancestor) {
        struct ps_page_key want = {.no = l->no, .pgno = pgno, .lsn = lsn}, k;
        MDB_val v;
        w->step->cost += PS_VERIFY_ROW_BYTES / 4; /* a deep branch looks in many places */
        int rc = seek_page(w, &want, &k, &v, out);
        if (rc || *out)
            return rc;
        if (l->ancestor_lsn < lsn)
            lsn = l->ancestor_lsn;
    }
    return 0;
}

/* Goes on with the pages of the moment at at->lsn. *done: all of them were looked at. */
static int one_moment(struct ps_walk *w, const char *pin, bool *done)
{
    struct ps_verify_at *at = w->at;
    struct ps_commit c;
    char text[LSN_TEXT];
    bool has;
    int rc = ps_commit_at(w->txn, w->of->line, at->lsn, &c);
    *done = true;
    if (rc == CO_ERR_NOT_FOUND || rc == CO_ERR_CORRUPT)
        return 0; /* empty then; or found by the commits */
    if (rc)
        return rc;
    pgno_t lock = c.page_size ? (pgno_t)(CO_GIB / c.page_size) + 1 : 0;
    for (; at->pgno && at->pgno <= c.db_pages && at->time_us < MISSING_MAX; at->pgno++) {
        if (ps_verify_full(w)) {
            *done = false;
            return 0;
        }
        rc = reaches(w, at->pgno, at->lsn, &has);
        if (rc)
            return rc;
        if (has || at->pgno == lock)
            continue;
        at->time_us++; /* counts them: a wrong size of the database would find without end */
        ps_verify_say(w, pin ? "pin-unreadable" : "page-missing", at->pgno, at->lsn,
                      "page %u has no version at LSN %s, where the database has %u pages%s%s%s",
                      (unsigned)at->pgno, lsn_format(at->lsn, text), (unsigned)c.db_pages,
                      pin ? " (pin '" : "", pin ? pin : "", pin ? "')" : "");
    }
    return 0;
}

static int look_at_moments(struct ps_walk *w)
{
    struct ps_verify_at *at = w->at;
    bool done = false;
    int rc = 0;
    while (!rc && !ps_verify_full(w)) {
        const char *pin = NULL;
        lsn_t next = w->of->moment(w->of->arg, at->lsn - (at->index != 0), &pin);
        if (next == LSN_NONE) {
            ps_verify_next_phase(w);
            return 0;
        }
        if (at->index == 0 || next != at->lsn) {
            at->pgno = 1;
            at->time_us = 0;
        }
        at->lsn = next;
        rc = one_moment(w, pin, &done);
        at->index = !done;
    }
    return rc;
}

/* -- Counts -------------------------------------------------------------------------------------
 */

static bool same_usage(const struct ps_usage *a, const struct ps_usage *b)
{
    return a->versions == b->versions && a->images == b->images && a->page_bytes == b->page_bytes &&
           a->commits == b->commits && a->commit_bytes == b->commit_bytes;
}

static int look_at_usage(struct ps_walk *w)
{
    const struct ps_usage *t = &w->at->told, *c = &w->at->counted;
    struct ps_usage now;
    int rc = ps_usage_get(w->txn, w->of->line->no, &now);
    if (rc)
        return rc;
    if (same_usage(&now, t) && w->at->upto == w->of->upto && !same_usage(t, c))
        ps_verify_say(
            w, "usage-wrong", 0, 0,
            "its counts are wrong: %llu versions (%llu images, %llu bytes) and %llu commits (%llu "
            "bytes) are told, %llu (%llu, %llu) and %llu (%llu) are there",
            (unsigned long long)t->versions, (unsigned long long)t->images,
            (unsigned long long)t->page_bytes, (unsigned long long)t->commits,
            (unsigned long long)t->commit_bytes, (unsigned long long)c->versions,
            (unsigned long long)c->images, (unsigned long long)c->page_bytes,
            (unsigned long long)c->commits, (unsigned long long)c->commit_bytes);
    ps_verify_next_phase(w);
    return 0;
}

/* -- The walk -----------------------------------------------------------------------------------
 */

int ps_verify_begin(struct ps_txn *txn, const struct ps_verify_line *line, struct ps_verify_at *at)
{
    *at = (struct ps_verify_at){
        .phase = PS_VERIFY_COMMITS, .upto = line->upto, .cutoff = line->cutoff};
    return ps_usage_get(txn, line->line->no, &at->told);
}

int ps_verify_step(struct ps_txn *txn, const struct ps_verify_line *line, struct ps_verify_at *at,
                   struct ps_verify_step *step)
{
    struct ps_walk w = {.txn = txn, .of = line, .at = at, .step = step};
    int rc = 0;
    co_assert(txn->live);
    while (!rc && !ps_verify_full(&w) && at->phase < PS_VERIFY_DONE) {
        rc = at->phase == PS_VERIFY_COMMITS   ? look_at_commits(&w)
             : at->phase == PS_VERIFY_TIMES   ? look_at_times(&w)
             : at->phase == PS_VERIFY_PAGES   ? ps_verify_pages(&w)
             : at->phase == PS_VERIFY_MOMENTS ? look_at_moments(&w)
                                              : look_at_usage(&w);
    }
    return rc;
}

int ps_verify_next_no(struct ps_txn *txn, tlno_t after, tlno_t *out)
{
    static const enum ps_table tables[] = {T_PROGRESS, T_PAGE, T_COMMIT, T_TIME, T_USAGE, T_GC};
    *out = 0;
    for (size_t i = 0; after < UINT32_MAX && i < sizeof tables / sizeof *tables; i++) {
        uint8_t prefix[4];
        MDB_cursor *cursor;
        co_put32be(prefix, after + 1);
        MDB_val k = ps_val(prefix, sizeof prefix), v;
        int rc = mdb_cursor_open(txn->txn, txn->store->dbi[tables[i]], &cursor);
        if (rc)
            return ps_lmdb_fail(txn->store, rc, "looking through the store");
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (!rc && k.mv_size >= 4 && (!*out || co_get32be(k.mv_data) < *out))
            *out = co_get32be(k.mv_data);
        mdb_cursor_close(cursor);
        if (rc && rc != MDB_NOTFOUND)
            return ps_lmdb_fail(txn->store, rc, "looking through the store");
    }
    return 0;
}

int ps_verify_newest(struct ps_txn *txn, tlno_t no, lsn_t *out, struct wal_digest *digest)
{
    struct ps_line own = {.no = no};
    struct ps_commit c;
    int rc = ps_commit_at(txn, &own, UINT64_MAX, &c);
    *out = rc ? LSN_NONE : c.lsn;
    if (!rc)
        *digest = c.digest;
    return rc == CO_ERR_NOT_FOUND || rc == CO_ERR_CORRUPT ? 0 : rc;
}
