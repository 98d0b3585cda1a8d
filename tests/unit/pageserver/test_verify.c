/* test_verify.c - looking through the store: what is sound has no finding, each kind of damage has
 * its name, and the steps are small. */
#include <criterion/criterion.h>

#include "pageserver/gc_lmdb.h"
#include "pageserver/store_int_lmdb.h"
#include "pageserver/verify_lmdb.h"
#include "tests/unit/pageserver/ps_util.h"

#define N     24
#define PAGES 40

static char dir[64], path[96];
static struct ps_store *store;
static struct ps_txn *wr, *rd;
static struct ps_line line = {.no = 1, .id = {{0x11}}};
static struct ps_scribe scribe;
static struct ps_chain chain;
static lsn_t lsn[N];
static struct ps_verify_step step;
static unsigned steps;
static uint64_t begin_cost; /* of each step: the larger, the shorter it is */

/* Twenty-four commits: one of all pages, then small ones, then one of noise, which takes two
 * pieces. */
static void setup(void)
{
    struct ps_partial partial = {0};
    ps_tmp(dir);
    struct ps_store_options o = ps_test_store(dir, path);
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
    ps_scribe_init(&scribe, 4096, 100);
    chain = ps_scribe_chain(&scribe);
    for (int i = 0; i < N; i++) {
        struct co_buf records = {0};
        pgno_t pgnos[PAGES];
        uint32_t n, taken;
        for (n = 0; n < (i ? 2u : PAGES); n++)
            pgnos[n] = i ? 1 + n * 7 : 1 + n;
        ps_scribe_txn(&scribe, &records, pgnos, n, i == 5 ? FILL_NOISE : FILL_TEXT, (uint64_t)i);
        cr_assert_eq(ps_ingest_store(wr, &line, &chain, &partial, co_buf_span(&records), &taken), 0,
                     "%s", co_sentence());
        lsn[i] = scribe.lsn;
        co_buf_free(&records);
    }
    ps_partial_free(&partial);
}
static void teardown(void)
{
    ps_scribe_free(&scribe);
    ps_read_free(rd);
    ps_write_free(wr);
    ps_store_close(store);
    ps_tmp_remove(dir);
}
TestSuite(verify, .init = setup, .fini = teardown, .timeout = 60);

static lsn_t the_newest(void *arg, lsn_t after, const char **pin)
{
    (void)arg;
    *pin = NULL;
    return after < chain.last_lsn ? chain.last_lsn : LSN_NONE;
}

/* A whole walk; findings of all steps, up to `max`, go to out. */
static uint32_t walk_from(lsn_t cutoff, struct ps_found *out, uint32_t max)
{
    struct ps_verify_line of = {.line = &line,
                                .strict = true,
                                .cutoff = cutoff,
                                .upto = chain.last_lsn,
                                .moment = the_newest};
    struct ps_verify_at at;
    uint32_t n = 0;
    steps = 0;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_verify_begin(rd, &of, &at), 0);
    while (at.phase < PS_VERIFY_DONE) {
        step.n = 0;
        step.cost = begin_cost;
        cr_assert_eq(ps_read_renew(rd), 0); /* nothing is kept between steps */
        cr_assert_eq(ps_verify_step(rd, &of, &at, &step), 0, "%s", co_sentence());
        for (uint32_t i = 0; i < step.n && n < max; i++)
            out[n++] = step.found[i];
        cr_assert_leq(++steps, 100000);
    }
    ps_read_reset(rd);
    return n;
}

static void expect(const char *kind)
{
    static struct ps_found found[64];
    uint32_t n = walk_from(0, found, 64), i = 0;
    while (i < n && strcmp(found[i].kind, kind) != 0)
        i++;
    cr_assert_lt(i, n, "%u findings, the first is %s: %s; none is %s", n, n ? found[0].kind : "-",
                 n ? found[0].text : "-", kind);
}

static void expect_sound(void)
{
    struct ps_found found[4];
    uint32_t n = walk_from(0, found, 4);
    cr_assert_eq(n, 0, "%s: %s", found[0].kind, found[0].text);
}

static void begin(void)
{
    cr_assert_eq(ps_write_begin(wr), 0);
}
static void commit(void)
{
    cr_assert_eq(ps_write_commit(wr), 0, "%s", co_sentence());
}

/* Deletes rows below the store's own functions, so that counts and lists do not follow. */
static void remove_page(pgno_t pgno, lsn_t at, uint8_t chunk)
{
    struct ps_page_key k = {.no = 1, .pgno = pgno, .lsn = at, .chunk = chunk};
    uint8_t key[PS_PAGE_KEY_BYTES];
    bool had;
    ps_page_key_put(key, &k);
    begin();
    cr_assert_eq(ps_del(wr, T_PAGE, co_span_of(key, sizeof key), &had), 0);
    cr_assert(had);
    commit();
}

Test(verify, what_was_ingested_is_sound)
{
    expect_sound();
}

Test(verify, a_step_is_small_and_holds_no_reader)
{
    /* 24 commits of 42 to 2 pages of 4 KiB: some 90 versions are far less than one step; in steps
     * of one row each it finds the same. */
    struct ps_found found[4];
    cr_assert_eq(walk_from(0, found, 4), 0);
    cr_assert_leq(steps, 3, "%u steps", steps);
    for (uint64_t i = 0; i < 600; i++) { /* 600 pages more: 2.4 MiB */
        struct ps_partial partial = {0};
        struct co_buf records = {0};
        pgno_t pgno = PAGES + 1 + (pgno_t)(i % 40);
        uint32_t taken;
        ps_scribe_txn(&scribe, &records, &pgno, 1, FILL_NOISE, 100 + i);
        cr_assert_eq(ps_ingest_store(wr, &line, &chain, &partial, co_buf_span(&records), &taken),
                     0);
        co_buf_free(&records);
        ps_partial_free(&partial);
    }
    cr_assert_eq(walk_from(0, found, 4), 0, "%s: %s", found[0].kind, found[0].text);
    cr_assert_geq(steps, 3, "2.4 MiB in %u steps", steps);
    /* Wherever in the list of a commit a step ends, none is looked at twice or left out. */
    for (uint64_t cost = PS_VERIFY_STEP_BYTES - 5000; cost < PS_VERIFY_STEP_BYTES; cost += 128) {
        begin_cost = cost;
        cr_assert_eq(walk_from(0, found, 4), 0, "%s: %s", found[0].kind, found[0].text);
    }
    begin_cost = 0;
}

Test(verify, a_version_that_is_gone)
{
    remove_page(39, lsn[0], 0);
    expect("version-missing");
    expect("page-missing");
    expect("usage-wrong");
}

Test(verify, a_chunk_that_is_gone)
{
    remove_page(8, lsn[5], 1);
    expect("chunk-missing");
}

Test(verify, a_commit_that_is_gone)
{
    begin();
    cr_assert_eq(ps_commit_delete(wr, 1, lsn[9]), 0);
    commit();
    expect("commit-missing");
}

Test(verify, below_the_cutoff_only_what_is_kept_is_asked_for)
{
    struct ps_found found[4];
    begin();
    cr_assert_eq(ps_commit_delete(wr, 1, lsn[9]), 0);
    commit();
    uint32_t n = walk_from(lsn[10], found, 4);
    cr_assert_eq(n, 0, "%s: %s", found[0].kind, found[0].text);
    cr_assert_gt(walk_from(lsn[8], found, 4), 0);
}

Test(verify, a_time_without_commit_and_a_commit_without_time)
{
    uint8_t key[PS_TIME_KEY_BYTES];
    struct ps_time_key k = {.no = 1, .time_us = 77, .lsn = lsn[3]};
    ps_time_key_put(key, &k);
    begin();
    cr_assert_eq(ps_put(wr, T_TIME, co_span_of(key, sizeof key), co_span_of("", 0)), 0);
    commit();
    expect("time-dangling");

    struct ps_commit c;
    bool had;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_at(rd, &line, lsn[4], &c), 0);
    ps_read_reset(rd);
    k = (struct ps_time_key){.no = 1, .time_us = c.time_us, .lsn = lsn[4]};
    ps_time_key_put(key, &k);
    begin();
    cr_assert_eq(ps_del(wr, T_TIME, co_span_of(key, sizeof key), &had), 0);
    cr_assert(had);
    commit();
    expect("time-missing");
}

Test(verify, a_list_that_lacks_a_page)
{
    struct ps_commit c;
    pgno_t one = 1;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_at(rd, &line, lsn[7], &c), 0);
    ps_read_reset(rd);
    begin();
    cr_assert_eq(ps_commit_delete(wr, 1, lsn[7]), 0);
    cr_assert_eq(ps_commit_put(wr, 1, &c, &one, 1), 0); /* it wrote pages 1 and 8 */
    commit();
    expect("version-unlisted");
}

Test(verify, counts_are_counted_anew)
{
    struct ps_usage_change change = {.versions = 3};
    begin();
    cr_assert_eq(ps_usage_add(wr, 1, &change), 0);
    commit();
    expect("usage-wrong");
    begin();
    cr_assert_eq(ps_usage_recount(wr, 1), 0);
    commit();
    expect_sound();
}

Test(verify, rows_of_nobody)
{
    tlno_t no;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_verify_next_no(rd, 0, &no), 0);
    cr_assert_eq(no, 1);
    cr_assert_eq(ps_verify_next_no(rd, 1, &no), 0);
    cr_assert_eq(no, 0);
    ps_read_reset(rd);
    struct ps_progress p = {.last_lsn = 8192};
    begin();
    cr_assert_eq(ps_progress_put(wr, 7, &p), 0);
    commit();
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_verify_next_no(rd, 1, &no), 0);
    cr_assert_eq(no, 7);
    ps_read_reset(rd);
}

Test(verify, a_rebuild_takes_the_progress_first_and_is_marked_until_it_is_done)
{
    struct ps_progress p;
    enum ps_rebuild pending;
    bool done;
    begin();
    cr_assert_eq(ps_cutoff_put(wr, 1, lsn[2]), 0);
    cr_assert_eq(ps_rebuild_step(wr, 1, PS_REBUILD_LOG, 5, &done), 0);
    cr_assert_not(done);
    commit();
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_progress_get(rd, 1, &p), CO_ERR_NOT_FOUND);
    cr_assert_eq(ps_rebuild_pending(rd, 1, &pending), 0);
    cr_assert_eq(pending, PS_REBUILD_LOG);
    ps_read_reset(rd);
    for (int i = 0; i < 1000 && !done; i++) {
        begin();
        cr_assert_eq(ps_rebuild_step(wr, 1, PS_REBUILD_LOG, 5, &done), 0);
        commit();
    }
    lsn_t cutoff;
    struct ps_usage u;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_rebuild_pending(rd, 1, &pending), 0);
    cr_assert_eq(pending, PS_REBUILD_NONE);
    cr_assert_eq(ps_usage_count(rd, 1, &u), 0);
    cr_assert_eq(u.versions + u.commits, 0);
    cr_assert_eq(ps_cutoff_get(rd, 1, &cutoff), 0);
    cr_assert_eq(cutoff, lsn[2]); /* what is not readable stays so */
    ps_read_reset(rd);
}
