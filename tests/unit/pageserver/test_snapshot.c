/*
 * test_snapshot.c - a timeline's rows at an LSN, out of one store and into another: what is read
 * there is what is read here, at every moment, and the log goes on behind it. Also while the first
 * store goes on: ingest, and garbage that is collected between two steps.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "pageserver/gc_lmdb.h"
#include "pageserver/snapshot_lmdb.h"
#include "pageserver/store_int_lmdb.h"
#include "pageserver/verify_lmdb.h"
#include "tests/unit/pageserver/ps_util.h"

#define N     120
#define PAGES 30u
#define SIZE  4096u

struct side {
    char dir[64], path[96];
    struct ps_store *store;
    struct ps_txn *wr, *rd;
    struct ps_line line;
    struct ps_chain chain;
    struct ps_partial partial;
};

static struct side here, there;
static struct ps_scribe scribe;
static lsn_t lsn[N];
static struct wal_digest digest[N];
static uint8_t model[N][PAGES][SIZE];
static struct co_buf records[N];

static void open_side(struct side *s, tlno_t no)
{
    *s = (struct side){.line = {.no = no, .id = {{0x11}}}};
    ps_tmp(s->dir);
    struct ps_store_options o = ps_test_store(s->dir, s->path);
    cr_assert_eq(ps_store_open(&o, &s->store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(s->store, &s->wr), 0);
    cr_assert_eq(ps_read_new(s->store, &s->rd), 0);
    s->chain = ps_scribe_chain(&scribe);
}

static void close_side(struct side *s)
{
    ps_partial_free(&s->partial);
    ps_read_free(s->rd);
    ps_write_free(s->wr);
    ps_store_close(s->store);
    ps_tmp_remove(s->dir);
}

/* A log of N commits: the first of all pages, then two or three of them each. */
static void setup(void)
{
    ps_scribe_init(&scribe, SIZE, PAGES);
    open_side(&here, 1);
    open_side(&there, 7);
    for (uint32_t i = 0; i < N; i++) {
        pgno_t pgnos[PAGES];
        uint32_t n;
        for (n = 0; n < (i ? 2 + i % 2 : PAGES); n++)
            pgnos[n] = i ? 1 + n * 9 + i % 9 : 1 + n;
        ps_scribe_txn(&scribe, &records[i], pgnos, n, i % 11 == 5 ? FILL_NOISE : FILL_TEXT, i);
        for (pgno_t p = 1; p <= PAGES; p++)
            memcpy(model[i][p - 1], ps_scribe_page(&scribe, p), SIZE);
        lsn[i] = scribe.lsn;
        digest[i] = scribe.digest;
    }
}
static void teardown(void)
{
    for (int i = 0; i < N; i++)
        co_buf_free(&records[i]);
    ps_scribe_free(&scribe);
    close_side(&here);
    close_side(&there);
}
TestSuite(snapshot, .init = setup, .fini = teardown, .timeout = 60);

static void ingest(struct side *s, int from, int upto)
{
    uint32_t taken;
    for (int i = from; i <= upto; i++)
        cr_assert_eq(ps_ingest_store(s->wr, &s->line, &s->chain, &s->partial,
                                     co_buf_span(&records[i]), &taken),
                     0, "%s", co_sentence());
}

/* Every page of the moments from..upto is what the writer wrote. */
static void expect_moments(struct side *s, int from, int upto)
{
    uint8_t page[SIZE];
    lsn_t version;
    uint32_t crc;
    cr_assert_eq(ps_read_renew(s->rd), 0);
    for (int i = from; i <= upto; i++)
        for (pgno_t p = 1; p <= PAGES; p++) {
            cr_assert_eq(ps_page_get(s->rd, &s->line, p, lsn[i], SIZE, page, &version, &crc), 0,
                         "page %u at commit %d: %s", p, i, co_sentence());
            cr_assert_eq(memcmp(page, model[i][p - 1], SIZE), 0, "page %u at commit %d", p, i);
        }
    ps_read_reset(s->rd);
}

static lsn_t the_newest(void *arg, lsn_t after, const char **pin)
{
    const struct side *s = arg;
    *pin = NULL;
    return after < s->chain.last_lsn ? s->chain.last_lsn : LSN_NONE;
}

/* Nothing in the store is unsound, the counts among it. */
static void expect_sound(struct side *s, lsn_t cutoff)
{
    struct ps_verify_line of = {&s->line, true, cutoff, s->chain.last_lsn, the_newest, s};
    static struct ps_verify_step step;
    struct ps_verify_at at;
    cr_assert_eq(ps_read_renew(s->rd), 0);
    cr_assert_eq(ps_verify_begin(s->rd, &of, &at), 0);
    while (at.phase < PS_VERIFY_DONE) {
        step.n = 0;
        step.cost = 0;
        cr_assert_eq(ps_verify_step(s->rd, &of, &at, &step), 0, "%s", co_sentence());
        cr_assert_eq(step.n, 0, "%s: %s", step.found[0].kind, step.found[0].text);
    }
    ps_read_reset(s->rd);
}

/* One step of the reading; what it gave goes to the other side at once. False: it was the last. */
static bool step_over(struct ps_snap_out *out, size_t bytes)
{
    struct co_buf rows = {0};
    cr_assert_eq(ps_read_renew(here.rd), 0);
    cr_assert_eq(ps_snap_read(here.rd, out, bytes, &rows), 0, "%s", co_sentence());
    ps_read_reset(here.rd);
    cr_assert_eq(ps_write_begin(there.wr), 0);
    cr_assert_eq(ps_snap_write(there.wr, there.line.no, out->lsn, co_buf_span(&rows)), 0, "%s",
                 co_sentence());
    cr_assert_eq(ps_write_commit(there.wr), 0);
    co_buf_free(&rows);
    return !out->done;
}

/* The other side stands where the snapshot is. */
static void stand_at(int i)
{
    struct ps_progress p = {lsn[i], digest[i]};
    cr_assert_eq(ps_write_begin(there.wr), 0);
    cr_assert_eq(ps_progress_put(there.wr, there.line.no, &p), 0);
    cr_assert_eq(ps_write_commit(there.wr), 0);
    there.chain.last_lsn = lsn[i];
    there.chain.digest = digest[i];
    there.chain.page_size = SIZE;
    cr_assert_eq(ps_read_renew(there.rd), 0);
    cr_assert_eq(ps_commit_at(there.rd, &there.line, lsn[i], &there.chain.newest), 0);
    cr_assert_eq(there.chain.newest.lsn, lsn[i]);
    ps_read_reset(there.rd);
}

static void copy(int at, size_t bytes)
{
    struct ps_snap_out out = {.line = &here.line, .lsn = lsn[at]};
    while (step_over(&out, bytes)) {
    }
    stand_at(at);
}

/* What no moment from commit `from` on sees goes. */
static void collect(struct side *s, int from)
{
    struct ps_gc_plan plan = {0};
    struct ps_gc_line line = {.no = s->line.no,
                              .parent = PS_GC_NO_LINE,
                              .start = {.lsn = LSN_FIRST},
                              .from = {lsn[from], PAGES},
                              .to = PS_GC_END};
    uint32_t at;
    cr_assert_eq(ps_gc_add(&plan, &line, &at), 0);
    cr_assert_eq(ps_gc_finish(&plan), 0);
    struct ps_gc_run run = {.plan = &plan};
    while (!run.done) {
        cr_assert_eq(ps_write_begin(s->wr), 0);
        cr_assert_eq(ps_gc_step(s->wr, &run, 50), 0, "%s", co_sentence());
        cr_assert_eq(ps_write_commit(s->wr), 0);
    }
    cr_assert_gt(run.found.versions, 0u);
    ps_gc_free(&plan);
}

Test(snapshot, every_moment_reads_as_before_and_the_log_goes_on)
{
    /* In the middle of what the store has: what is above the LSN is not in it, not even in a pack.
     */
    ingest(&here, 0, N - 1);
    copy(70, 100000);
    expect_moments(&there, 0, 70);
    expect_sound(&there, 0);
    cr_assert_eq(ps_read_renew(there.rd), 0);
    lsn_t above;
    cr_assert_eq(ps_commit_from(there.rd, there.line.no, lsn[70] + 1, &above), CO_ERR_NOT_FOUND);
    ps_read_reset(there.rd);
    ingest(&there, 71, N - 1);
    expect_moments(&there, 0, N - 1);
    expect_sound(&there, 0);
}

Test(snapshot, at_any_commit_and_in_steps_of_any_size)
{
    /* One group a step, and all in one; the other store has it without anything behind. */
    ingest(&here, 0, N - 1);
    for (int at = 0; at < N; at += 17) {
        copy(at, at % 2 ? 1 : CO_GIB);
        expect_moments(&there, 0, at);
        expect_sound(&there, 0);
        bool done = false;
        while (!done) {
            cr_assert_eq(ps_write_begin(there.wr), 0);
            cr_assert_eq(ps_rebuild_step(there.wr, there.line.no, PS_REBUILD_LOG, 1000, &done), 0);
            cr_assert_eq(ps_write_commit(there.wr), 0);
        }
    }
}

Test(snapshot, garbage_and_ingest_between_the_steps_do_no_harm)
{
    /* The cut moves on up to the LSN of the snapshot while it is read, a group at a time: every
     * moment that is left is there, and the log behind it can be replayed. */
    struct ps_snap_out out = {.line = &here.line, .lsn = lsn[80]};
    int next = 81, cut = 10, steps = 0;
    ingest(&here, 0, 80);
    collect(&here, cut);
    while (step_over(&out, 1)) {
        if (++steps % 20 == 0 && cut < 80)
            collect(&here, cut += 10);
        if (next < N && steps % 3 == 0) {
            ingest(&here, next, next);
            next++;
        }
    }
    cr_assert_gt(cut, 10);
    stand_at(80);
    expect_moments(&there, cut, 80);
    ingest(&there, 81, N - 1);
    expect_moments(&there, cut, N - 1);
    collect(&there, cut + 5);
    expect_moments(&there, cut + 5, N - 1);
    expect_sound(&there, lsn[cut + 5]);
}

Test(snapshot, a_store_that_does_not_reach_there_gives_none)
{
    /* It is being rebuilt: the progress is gone first, or lies below. */
    struct ps_snap_out out = {.line = &here.line, .lsn = lsn[20]};
    struct co_buf rows = {0};
    ingest(&here, 0, 19);
    cr_assert_eq(ps_read_renew(here.rd), 0);
    cr_assert_eq(ps_snap_read(here.rd, &out, CO_GIB, &rows), CO_ERR_NOT_FOUND);
    ps_read_reset(here.rd);
    co_buf_free(&rows);
}

Test(snapshot, a_damaged_page_is_not_put_into_one)
{
    /* One byte of any page's newest image or pack: the reading fails and names the page. */
    ingest(&here, 0, 60);
    unsigned found = 0;
    for (pgno_t p = 1; p <= PAGES; p++) {
        struct ps_page_key k = {.no = 1, .pgno = p, .lsn = lsn[60]};
        uint8_t key[PS_PAGE_KEY_BYTES], value[PS_CHUNK_MAX + 16];
        ps_page_key_put(key, &k);
        cr_assert_eq(ps_write_begin(here.wr), 0);
        MDB_val mk = ps_val(key, sizeof key), mv;
        cr_assert_eq(mdb_cursor_get(here.wr->page, &mk, &mv, MDB_SET_RANGE), 0);
        uint8_t found_key[PS_PAGE_KEY_BYTES];
        size_t n = mv.mv_size;
        memcpy(found_key, mk.mv_data, sizeof found_key);
        memcpy(value, mv.mv_data, n);
        value[n - 1] ^= 0x10;
        cr_assert_eq(
            ps_put(here.wr, T_PAGE, co_span_of(found_key, sizeof found_key), co_span_of(value, n)),
            0);
        cr_assert_eq(ps_write_commit(here.wr), 0);

        struct ps_snap_out out = {.line = &here.line, .lsn = lsn[60]};
        struct co_buf rows = {0};
        char name[30];
        snprintf(name, sizeof name, "page %u ", p);
        cr_assert_eq(ps_read_renew(here.rd), 0);
        cr_assert_eq(ps_snap_read(here.rd, &out, CO_GIB, &rows), CO_ERR_CORRUPT);
        cr_assert(strstr(co_sentence(), name), "%s", co_sentence());
        found++;
        ps_read_reset(here.rd);
        co_buf_free(&rows);

        value[n - 1] ^= 0x10;
        cr_assert_eq(ps_write_begin(here.wr), 0);
        cr_assert_eq(
            ps_put(here.wr, T_PAGE, co_span_of(found_key, sizeof found_key), co_span_of(value, n)),
            0);
        cr_assert_eq(ps_write_commit(here.wr), 0);
    }
    cr_assert_eq(found, PAGES);
}

Test(snapshot, rows_that_are_none_are_refused)
{
    /* Each cut, and each byte of the first rows changed: an error with a sentence, or rows that a
     * checksum of a page tells later; never more than was given. */
    struct ps_snap_out out = {.line = &here.line, .lsn = lsn[5]};
    struct co_buf rows = {0};
    unsigned refused = 0;
    ingest(&here, 0, 5);
    cr_assert_eq(ps_read_renew(here.rd), 0);
    cr_assert_eq(ps_snap_read(here.rd, &out, CO_GIB, &rows), 0);
    ps_read_reset(here.rd);
    for (size_t i = 1; i < 3000; i++) {
        struct co_span cut = co_span_of(rows.data + i, 1000 + i % 7);
        cr_assert_eq(ps_write_begin(there.wr), 0);
        int rc = ps_snap_write(there.wr, there.line.no, lsn[5], cut);
        cr_assert(rc == 0 || rc == CO_ERR_CORRUPT);
        refused += rc != 0;
        ps_write_abort(there.wr);
    }
    cr_assert_gt(refused, 2000u);
    /* A row of a later moment is no part of it. */
    cr_assert_eq(ps_write_begin(there.wr), 0);
    cr_assert_eq(ps_snap_write(there.wr, there.line.no, lsn[4], co_buf_span(&rows)),
                 CO_ERR_CORRUPT);
    ps_write_abort(there.wr);
    co_buf_free(&rows);
}
