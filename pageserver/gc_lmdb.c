/*
 * gc_lmdb.c - a plan carried out in the store, a few groups of versions at a time.
 *
 * Timeline by timeline: first its pages, from the newest version at or below the begin of what is
 * kept downwards (what is newer stays in any case); then its commits. A group of which something
 * goes is written anew with what stays, so that nothing has to be kept only because others hang on
 * it.
 */
#include "common/assert.h"
#include "pageserver/gc_lmdb.h"
#include "pageserver/store_int_lmdb.h"

#define GROUP_MAX (PS_PACK_MAX / 6 + 2) /* versions: no entry of a pack is shorter */

/* -- Where the cut is -------------------------------------------------------------------------- */

int ps_cutoff_put(struct ps_txn *txn, tlno_t no, lsn_t cutoff)
{
    uint8_t key[PS_LINE_KEY_BYTES], row[8];
    co_put32be(key, no);
    co_put64(row, cutoff);
    return ps_put(txn, T_GC, co_span_of(key, sizeof key), co_span_of(row, sizeof row));
}

int ps_cutoff_get(struct ps_txn *txn, tlno_t no, lsn_t *cutoff)
{
    const uint8_t *row;
    int rc = ps_row_get(txn, T_GC, no, 8, "gc", "reading what a timeline keeps", &row);
    *cutoff = rc ? 0 : co_get64(row);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* -- Pages ------------------------------------------------------------------------------------- */

static int lmdb(const struct ps_txn *txn, int rc)
{
    return rc == MDB_NOTFOUND ? CO_ERR_NOT_FOUND
           : rc               ? ps_lmdb_fail(txn->store, rc, "looking for what may go")
                              : 0;
}

/* The first entry at or after a key. CO_ERR_NOT_FOUND: none. */
static int seek(struct ps_txn *txn, const struct ps_page_key *want, struct ps_page_key *found,
                MDB_val *value)
{
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    ps_page_key_put(bytes, want);
    MDB_val key = ps_val(bytes, sizeof bytes);
    int rc = lmdb(txn, mdb_cursor_get(txn->page, &key, value, MDB_SET_RANGE));
    if (!rc && !ps_page_key_get(ps_span(key), found))
        rc = co_fail(CO_ERR_CORRUPT, "%s: a key of table page is malformed", txn->store->dir);
    return rc;
}

static int step_back(struct ps_txn *txn, bool from_end, struct ps_page_key *found)
{
    MDB_val key, value;
    int rc = lmdb(txn, mdb_cursor_get(txn->page, &key, &value, from_end ? MDB_LAST : MDB_PREV));
    if (!rc && !ps_page_key_get(ps_span(key), found))
        rc = co_fail(CO_ERR_CORRUPT, "%s: a key of table page is malformed", txn->store->dir);
    return rc;
}

static int oldest(void *arg, tlno_t no, pgno_t pgno, lsn_t *lsn)
{
    struct ps_txn *txn = arg;
    struct ps_page_key want = {.no = no, .pgno = pgno, .lsn = 0, .chunk = UINT8_MAX}, found;
    MDB_val value;
    int rc = seek(txn, &want, &found, &value);
    if (!rc || rc == CO_ERR_NOT_FOUND)
        rc = step_back(txn, rc != 0, &found);
    *lsn = PS_GC_END;
    if (!rc && found.no == no && found.pgno == pgno)
        *lsn = found.lsn;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

struct listed {
    lsn_t lsn[GROUP_MAX];
    uint32_t bytes[GROUP_MAX]; /* that each takes */
    bool keep[GROUP_MAX];
    uint32_t n, drops;
};

/* The newest group of a page at or below `below`, and what overwrote its last version. */
static int list_group(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t below, struct listed *out,
                      lsn_t *newer)
{
    struct ps_page_key want = {.no = no, .pgno = pgno, .lsn = below}, first, k;
    struct ps_pack_entry e;
    struct co_span pack = {0};
    MDB_val key, value;
    int rc = seek(txn, &want, &first, &value);
    if (rc || first.no != no || first.pgno != pgno)
        return rc ? rc : CO_ERR_NOT_FOUND;
    out->n = 1;
    out->lsn[0] = first.lsn;
    out->bytes[0] = 0;
    k = first;
    while (!rc && k.no == no && k.pgno == pgno && k.lsn == first.lsn) {
        if (k.chunk == PS_PACK_CHUNK)
            pack = ps_span(value);
        else
            out->bytes[0] += (uint32_t)(value.mv_size + PS_PAGE_KEY_BYTES + 8);
        rc = lmdb(txn, mdb_cursor_get(txn->page, &key, &value, MDB_NEXT));
        if (!rc && !ps_page_key_get(ps_span(key), &k))
            rc = co_fail(CO_ERR_CORRUPT, "%s: a key of table page is malformed", txn->store->dir);
    }
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    for (e.lsn = first.lsn; out->n < GROUP_MAX; out->n++) {
        size_t left = pack.len;
        rc = ps_pack_next(&pack, e.lsn, &e);
        if (rc)
            break;
        out->lsn[out->n] = e.lsn;
        out->bytes[out->n] = (uint32_t)(left - pack.len);
    }
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    rc = seek(txn, &first, &k, &value);
    if (!rc)
        rc = step_back(txn, false, &k);
    *newer = !rc && k.no == no && k.pgno == pgno ? k.lsn : PS_GC_END;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static bool is_kept(void *arg, lsn_t lsn)
{
    const struct listed *group = arg; /* ascending */
    uint32_t low = 0, high = group->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (group->lsn[mid] < lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return low == group->n || group->lsn[low] != lsn || group->keep[low];
}

static int look_at_group(struct ps_txn *txn, struct ps_gc_run *run, lsn_t below, lsn_t *image)
{
    const struct ps_gc_line *line = &run->plan->lines[run->line];
    struct listed g;
    lsn_t newer;
    int rc = list_group(txn, line->no, run->pgno, below, &g, &newer);
    if (rc)
        return rc;
    *image = g.lsn[0];
    g.drops = 0;
    for (uint32_t i = 0; i < g.n && !rc; i++) {
        rc = ps_gc_needed(run->plan, run->line, run->pgno, g.lsn[i],
                          i + 1 < g.n ? g.lsn[i + 1] : newer, oldest, txn, &g.keep[i]);
        g.drops += !g.keep[i];
    }
    if (rc || !g.drops)
        return rc;
    run->found.versions += g.drops;
    if (run->dry) {
        for (uint32_t i = 0; i < g.n; i++)
            run->found.bytes += g.keep[i] || (i == 0 && g.drops < g.n) ? 0 : g.bytes[i];
        return 0;
    }
    rc = ps_usage_flush(txn);
    if (!rc)
        rc = ps_group_rewrite(txn, line->no, run->pgno, g.lsn[0], is_kept, &g);
    if (txn->usage.page_bytes < 0)
        run->found.bytes += (uint64_t)-txn->usage.page_bytes;
    return rc;
}

/* Goes on to the next page of the line that has versions. CO_ERR_NOT_FOUND: there is none. */
static int next_page(struct ps_txn *txn, struct ps_gc_run *run)
{
    const struct ps_gc_line *line = &run->plan->lines[run->line];
    struct ps_page_key want = {.no = line->no, .pgno = run->pgno + 1, .lsn = UINT64_MAX}, found;
    MDB_val value;
    if (run->pgno == UINT32_MAX)
        return CO_ERR_NOT_FOUND;
    int rc = seek(txn, &want, &found, &value);
    if (rc || found.no != line->no)
        return rc ? rc : CO_ERR_NOT_FOUND;
    run->pgno = found.pgno;
    run->below = line->from.lsn <= line->to && line->to == PS_GC_END ? line->from.lsn : PS_GC_END;
    run->found.pages++;
    return 0;
}

static int step_pages(struct ps_txn *txn, struct ps_gc_run *run, bool *line_done)
{
    lsn_t image = 0;
    int rc = run->below ? look_at_group(txn, run, run->below, &image) : CO_ERR_NOT_FOUND;
    if (!rc) {
        run->below = image - 1;
        return 0;
    }
    if (rc != CO_ERR_NOT_FOUND)
        return rc;
    rc = next_page(txn, run);
    *line_done = rc == CO_ERR_NOT_FOUND;
    return *line_done ? 0 : rc;
}

/* -- Commits ----------------------------------------------------------------------------------- */

static int step_commits(struct ps_txn *txn, struct ps_gc_run *run, bool *line_done)
{
    const struct ps_gc_line *line = &run->plan->lines[run->line];
    lsn_t this_lsn, next_lsn;
    bool needed;
    int rc = ps_commit_from(txn, line->no, run->below, &this_lsn);
    if (!rc)
        rc = ps_commit_from(txn, line->no, this_lsn + 1, &next_lsn);
    /* The last one stays: it says where the timeline is. */
    if (rc || (line->to == PS_GC_END && line->from.lsn <= line->to && next_lsn > line->from.lsn)) {
        *line_done = true;
        return rc == CO_ERR_NOT_FOUND ? 0 : rc;
    }
    run->below = this_lsn + 1;
    rc = ps_gc_needed(run->plan, run->line, 0, this_lsn, next_lsn, oldest, txn, &needed);
    if (rc || needed)
        return rc;
    run->found.commits++;
    return run->dry ? 0 : ps_commit_delete(txn, line->no, this_lsn);
}

int ps_gc_step(struct ps_txn *txn, struct ps_gc_run *run, uint32_t max)
{
    co_assert(txn->live && txn->write);
    int rc = 0;
    for (uint32_t i = 0; i < max && !rc && run->line < run->plan->n; i++) {
        bool line_done = false;
        if (ps_write_cost(txn) >= PS_GC_TXN_BYTES)
            break;
        rc = run->commits ? step_commits(txn, run, &line_done) : step_pages(txn, run, &line_done);
        if (rc || !line_done)
            continue;
        run->line += run->commits;
        run->commits = !run->commits;
        run->pgno = 0;
        run->below = 0;
    }
    run->done = run->line >= run->plan->n;
    return rc;
}
