#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/changes.h"
#include "tests/unit/pageserver/ps_util.h"

static char dir[64], path[96];
static struct ps_store *store;
static struct ps_txn *wr, *rd;
static struct ps_line line;
static struct ps_scribe scribe;
static struct ps_chain chain;
static struct ps_partial partial;
static struct co_buf log_bytes;
static uint8_t back[CO_PAGE_SIZE_MAX];

static void open_store(bool sync)
{
    struct ps_store_options o = ps_test_store(dir, path);
    o.no_sync = !sync;
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
}
static void close_store(void)
{
    ps_read_free(rd);
    ps_write_free(wr);
    ps_store_close(store);
}
static void setup(void)
{
    ps_tmp(dir);
    open_store(false);
    ps_scribe_init(&scribe, 4096, 20000);
    line = (struct ps_line){.no = 1, .id = scribe.timeline};
    chain = ps_scribe_chain(&scribe);
}
static void teardown(void)
{
    co_buf_free(&log_bytes);
    ps_scribe_free(&scribe);
    close_store();
    ps_tmp_remove(dir);
}
TestSuite(ingest, .init = setup, .fini = teardown, .timeout = 90);

static int ingest(void)
{
    uint32_t n;
    int rc = ps_ingest_store(wr, &line, &chain, &partial, co_buf_span(&log_bytes), &n);
    log_bytes.len = 0;
    return rc;
}

static struct ps_progress progress(void)
{
    struct ps_progress p = {0};
    cr_assert_eq(ps_read_renew(rd), 0);
    int rc = ps_progress_get(rd, 1, &p);
    cr_assert(rc == 0 || rc == CO_ERR_NOT_FOUND);
    ps_read_reset(rd);
    return p;
}

static int get(pgno_t pgno, lsn_t lsn, lsn_t *version)
{
    uint32_t crc;
    cr_assert_eq(ps_read_renew(rd), 0);
    int rc = ps_page_get(rd, &line, pgno, lsn, 4096, back, version, &crc);
    ps_read_reset(rd);
    return rc;
}

static void expect_newest(pgno_t from, pgno_t to)
{
    lsn_t v;
    for (pgno_t p = from; p <= to; p++) {
        if (!scribe.versions[p])
            continue;
        cr_assert_eq(get(p, UINT64_MAX, &v), 0, "page %u: %s", p, co_sentence());
        cr_assert_eq(v, scribe.versions[p]);
        cr_assert_eq(memcmp(back, ps_scribe_page(&scribe, p), 4096), 0, "page %u", p);
    }
}

Test(ingest, records_become_versions_with_deltas_against_the_store_and_the_same_batch)
{
    /* Delta entries take their base from the store or from what the batch has put. */
    pgno_t p[] = {1, 2, 3, 700};
    for (int batch = 0; batch < 5; batch++) {
        for (int i = 0; i < 8; i++)
            ps_scribe_txn(&scribe, &log_bytes, p, 4, FILL_TEXT, (uint64_t)(batch * 10 + i));
        cr_assert_eq(ingest(), 0, "%s", co_sentence());
        expect_newest(1, 700);
    }
    cr_assert_eq(chain.last_lsn, scribe.lsn);
    cr_assert_eq(chain.newest.lsn, scribe.lsn);
    cr_assert_eq(chain.newest.db_pages, 700);
    cr_assert_eq(chain.page_size, 4096);
    cr_assert_eq(progress().last_lsn, scribe.lsn);
    struct ps_progress at = progress();
    cr_assert_eq(memcmp(&at.digest, &scribe.digest, 16), 0);
}

Test(ingest, an_old_version_stays_readable)
{
    /* I13 over the whole way: what a snapshot saw it sees for ever. */
    pgno_t p[] = {5};
    uint8_t first[4096];
    lsn_t v, at;
    ps_scribe_txn(&scribe, &log_bytes, p, 1, FILL_TEXT, 1);
    at = scribe.lsn;
    memcpy(first, ps_scribe_page(&scribe, 5), 4096);
    ps_scribe_txn(&scribe, &log_bytes, p, 1, FILL_TEXT, 2);
    ps_scribe_txn(&scribe, &log_bytes, p, 1, FILL_NOISE, 3);
    cr_assert_eq(ingest(), 0);
    cr_assert_eq(get(5, at, &v), 0);
    cr_assert(v == at && memcmp(back, first, 4096) == 0);
    cr_assert_eq(get(5, at - 1, &v), CO_ERR_NOT_FOUND);
}

Test(ingest, a_config_record_moves_the_position_and_makes_no_commit)
{
    /* S2: CONFIG records never move a reader. */
    struct ps_commit c;
    ps_scribe_config(&scribe, &log_bytes);
    cr_assert_eq(ingest(), 0);
    cr_assert_eq(chain.last_lsn, scribe.lsn);
    cr_assert_eq(chain.newest.lsn, 0);
    cr_assert_eq(progress().last_lsn, scribe.lsn);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_at(rd, &line, UINT64_MAX, &c), CO_ERR_NOT_FOUND);
    pgno_t p[] = {1};
    ps_scribe_txn(&scribe, &log_bytes, p, 1, FILL_TEXT, 1);
    lsn_t txn = scribe.lsn;
    ps_scribe_config(&scribe, &log_bytes);
    cr_assert_eq(ingest(), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert(ps_commit_at(rd, &line, chain.last_lsn, &c) == 0 && c.lsn == txn);
    ps_read_reset(rd);
}

/* Record number 2 of three is replaced by what `spoil` makes of it. */
static void expect_halt(void (*spoil)(struct ps_scribe *), const char *says)
{
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    lsn_t good = scribe.lsn;
    spoil(&scribe);
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_NOISE, 2);
    cr_assert_eq(ingest(), CO_ERR_HALTED, "%s", co_sentence());
    cr_assert(strstr(co_sentence(), says), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "is halted at LSN"), "%s", co_sentence());
    cr_assert_eq(chain.last_lsn, good, "what stands before it is taken");
    cr_assert_eq(progress().last_lsn, good);
    lsn_t v;
    cr_assert(get(1, UINT64_MAX, &v) == 0 && v == good, "and nothing of it is left");
}

static void other_digest(struct ps_scribe *w)
{
    w->digest.b[3] ^= 1;
}
static void gap(struct ps_scribe *w)
{
    w->lsn += 4096;
}
static void backwards(struct ps_scribe *w)
{
    w->lsn -= 8;
}
static void other_cluster(struct ps_scribe *w)
{
    w->cluster = ps_id(99);
}
static void other_timeline(struct ps_scribe *w)
{
    w->timeline = ps_id(99);
}
Test(ingest, a_record_that_follows_another_digest_halts)
{
    /* I12 */
    expect_halt(other_digest, "follows another record");
}
Test(ingest, a_gap_halts)
{
    /* I12 */
    expect_halt(gap, "behind a gap");
}
Test(ingest, a_record_from_before_halts)
{
    /* I12 */
    expect_halt(backwards, "begins before");
}
Test(ingest, a_record_of_another_cluster_halts)
{
    /* I12, O1 */
    expect_halt(other_cluster, "another cluster");
}
Test(ingest, a_record_of_another_timeline_halts)
{
    /* I12, O1 */
    expect_halt(other_timeline, "another timeline");
}

Test(ingest, a_delta_whose_base_is_not_ours_halts)
{
    /* W3: base and result are checked; a wrong page is never made. */
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    cr_assert_eq(ingest(), 0);
    lsn_t good = scribe.lsn;
    ps_scribe_page(&scribe, 2)[999] ^= 0x40; /* the writer believes in another base */
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 2);
    cr_assert_eq(ingest(), CO_ERR_HALTED);
    cr_assert(strstr(co_sentence(), "cannot be applied to page 2"), "%s", co_sentence());
    cr_assert_eq(chain.last_lsn, good);
    lsn_t v;
    cr_assert(get(1, UINT64_MAX, &v) == 0 && v == good, "page 1 of the refused record is gone");
}

Test(ingest, damage_and_half_records_are_no_contradiction)
{
    /* The same bytes are asked for elsewhere: no halt. */
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    size_t whole = log_bytes.len;
    log_bytes.data[200] ^= 1;
    cr_assert_eq(ingest(), CO_ERR_CORRUPT);
    log_bytes.len = whole; /* the bytes are still there */
    log_bytes.data[200] ^= 1;
    log_bytes.len = whole - 8;
    cr_assert_eq(ingest(), CO_ERR_PROTOCOL);
    log_bytes.len = whole;
    cr_assert_eq(ingest(), 0);
    expect_newest(1, 2);
}

Test(ingest, another_page_size_halts)
{
    /* O6 */
    pgno_t p[] = {1};
    struct ps_scribe other;
    ps_scribe_txn(&scribe, &log_bytes, p, 1, FILL_TEXT, 1);
    ps_scribe_init(&other, 8192, 4);
    other.lsn = scribe.lsn;
    other.digest = scribe.digest;
    ps_scribe_txn(&other, &log_bytes, p, 1, FILL_TEXT, 1);
    ps_scribe_free(&other);
    cr_assert_eq(ingest(), CO_ERR_HALTED);
    cr_assert(strstr(co_sentence(), "page size"), "%s", co_sentence());
}

/* -- Atomicity --------------------------------------------------------------------------------- */

static uint64_t commits;
static uint64_t die_after;
static uint64_t used_bytes, most_bytes; /* growth of the file by one LMDB transaction */
static void on_commit(void)
{
    struct ps_store_stats st;
    ps_store_stats(store, &st);
    if (st.used_bytes - used_bytes > most_bytes)
        most_bytes = st.used_bytes - used_bytes;
    used_bytes = st.used_bytes;
    if (++commits == die_after)
        kill(getpid(), SIGKILL);
}

/* A record of about 48 MiB: 12,000 incompressible pages. */
static void large_record(void)
{
    static pgno_t p[12000];
    for (pgno_t i = 0; i < 12000; i++)
        p[i] = i + 1;
    ps_scribe_txn(&scribe, &log_bytes, p, 12000, FILL_NOISE, 77);
}

Test(ingest, a_large_record_goes_in_several_transactions_and_shows_with_the_last)
{
    /* S10, P1; and no LMDB transaction dirties more than the bound. */
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    lsn_t small = scribe.lsn;
    cr_assert_eq(ingest(), 0);
    large_record();
    struct ps_store_stats st;
    ps_store_stats(store, &st);
    used_bytes = st.used_bytes;
    ps_ingest_after_commit = on_commit;
    cr_assert_eq(ingest(), 0, "%s", co_sentence());
    cr_assert_geq(commits, 3);
    cr_assert_leq(most_bytes, CO_INGEST_TXN_BYTES);
    cr_assert_geq(most_bytes, CO_INGEST_TXN_BYTES / 8, "nor are they needlessly small");
    expect_newest(1, 12000);
    lsn_t v;
    cr_assert(get(1, scribe.lsn - 1, &v) == 0 && v == small);
    cr_assert_eq(progress().last_lsn, scribe.lsn);
}

Test(ingest, killed_within_a_large_record_nothing_shows_and_ingesting_again_is_the_same)
{
    /* P1, P2 of the fault model: kill -9 between two LMDB transactions of one record. */
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    lsn_t small = scribe.lsn;
    cr_assert_eq(ingest(), 0);
    struct ps_chain before = chain;
    large_record();
    size_t whole = log_bytes.len;
    close_store(); /* an environment is not used across a fork */
    for (die_after = 1; die_after <= 3; die_after++) {
        pid_t child = fork();
        if (child == 0) {
            struct ps_store_options o = ps_test_store(dir, path);
            uint32_t n;
            if (ps_store_open(&o, &store) || ps_write_new(store, &wr))
                _exit(2);
            ps_ingest_after_commit = on_commit;
            int rc = ps_ingest_store(wr, &line, &chain, &partial, co_buf_span(&log_bytes), &n);
            _exit(rc ? 3 : 4);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
        open_store(false);
        cr_assert_eq(progress().last_lsn, small, "last-record LSN has not moved");
        struct ps_commit c;
        cr_assert_eq(ps_read_renew(rd), 0);
        cr_assert(ps_commit_at(rd, &line, small, &c) == 0 && c.lsn == small);
        lsn_t v;
        cr_assert(get(1, small, &v) == 0 && v == small, "what was visible is");
        close_store();
    }
    open_store(false);
    chain = before;
    log_bytes.len = whole;
    cr_assert_eq(ingest(), 0, "%s", co_sentence());
    expect_newest(1, 12000);
    cr_assert_eq(progress().last_lsn, scribe.lsn);
}

Test(ingest, killed_at_any_batch_the_store_holds_whole_records_and_their_position)
{
    /* P1: pages, commit row and last-record LSN of a batch are there together or not at all. */
    static lsn_t ends[41];
    static struct co_buf part[40];
    pgno_t p[] = {1, 2, 3};
    for (int i = 0; i < 40; i++) {
        ps_scribe_txn(&scribe, &part[i], p, 3, FILL_TEXT, (uint64_t)i);
        ends[i] = scribe.lsn;
    }
    close_store();
    for (int round = 0; round < 4; round++) {
        int fds[2];
        cr_assert_eq(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            struct ps_store_options o = ps_test_store(dir, path);
            struct ps_chain c = chain;
            uint32_t n;
            if (ps_store_open(&o, &store) || ps_write_new(store, &wr))
                _exit(2);
            for (int i = 0; i < 40; i++) {
                if (part[i].len && ends[i] > c.last_lsn)
                    if (ps_ingest_store(wr, &line, &c, &partial, co_buf_span(&part[i]), &n) ||
                        write(fds[1], "x", 1) != 1)
                        _exit(3);
                usleep(300);
            }
            _exit(4);
        }
        char byte;
        for (int i = 0; i < 5; i++)
            cr_assert_eq(read(fds[0], &byte, 1), 1);
        kill(child, SIGKILL);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        close(fds[0]), close(fds[1]);
        open_store(false);
        struct ps_progress at = progress();
        struct ps_commit c;
        int k = 0;
        while (k < 40 && ends[k] != at.last_lsn)
            k++;
        cr_assert_lt(k, 40, "the position is a record's end");
        cr_assert_eq(ps_read_renew(rd), 0);
        cr_assert(ps_commit_at(rd, &line, UINT64_MAX, &c) == 0 && c.lsn == at.last_lsn);
        cr_assert_eq(memcmp(&c.digest, &at.digest, 16), 0);
        lsn_t v;
        for (pgno_t q = 1; q <= 3; q++)
            cr_assert(get(q, UINT64_MAX, &v) == 0 && v == at.last_lsn);
        chain.last_lsn = at.last_lsn;
        chain.digest = at.digest;
        chain.page_size = 4096;
        close_store();
    }
    for (int i = 0; i < 40; i++)
        co_buf_free(&part[i]);
    open_store(false);
}

Test(ingest, the_commit_row_lists_the_changed_pages)
{
    /* M13 */
    struct co_buf list = {0};
    pgno_t a[] = {1, 5, 900}, *got;
    uint32_t n, db_pages;
    lsn_t lsn;
    bool all;
    ps_scribe_txn(&scribe, &log_bytes, a, 3, FILL_TEXT, 1);
    cr_assert_eq(ingest(), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_changes(rd, &line, LSN_FIRST, scribe.lsn, CO_MIB, &list, &all), 0);
    ps_read_reset(rd);
    struct co_span rest = co_buf_span(&list);
    cr_assert_eq(changes_get_commit(&rest, LSN_FIRST, &lsn, &db_pages, &got, &n), 0);
    cr_assert(lsn == scribe.lsn && db_pages == 900 && n == 3 && memcmp(got, a, sizeof a) == 0);
    free(got);
    co_buf_free(&list);
}

/* -- In pieces --------------------------------------------------------------------------------- */

/* Ingests `bytes` in calls of at most n bytes, until an error. */
static int in_pieces(struct co_span bytes, size_t n)
{
    int rc = 0;
    uint32_t records;
    while (!rc && bytes.len) {
        size_t k = n < bytes.len ? n : bytes.len;
        rc = ps_ingest_store(wr, &line, &chain, &partial, co_span_of(bytes.data, k), &records);
        bytes.data += k;
        bytes.len -= k;
    }
    return rc;
}

Test(ingest, a_large_record_in_pieces_shows_when_it_is_whole)
{
    /* S10: between the pieces everything is as before the record. */
    pgno_t p[] = {1, 2};
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    lsn_t small = scribe.lsn, v;
    cr_assert_eq(ingest(), 0);
    large_record();
    size_t most = log_bytes.len - 1;
    cr_assert_eq(in_pieces(co_span_of(log_bytes.data, most), 1000003), 0, "%s", co_sentence());
    cr_assert(progress().last_lsn == small && chain.last_lsn == small);
    cr_assert(get(1, small, &v) == 0 && v == small);
    cr_assert_eq(in_pieces(co_span_of(log_bytes.data + most, 1), 1), 0, "%s", co_sentence());
    cr_assert(progress().last_lsn == scribe.lsn && chain.last_lsn == scribe.lsn);
    expect_newest(1, 12000);
    /* The end of one and the begin of the next may come together. */
    log_bytes.len = 0;
    large_record();
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 3);
    large_record();
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 4);
    cr_assert_eq(in_pieces(co_buf_span(&log_bytes), 30000001), 0, "%s", co_sentence());
    cr_assert_eq(chain.last_lsn, scribe.lsn);
    expect_newest(1, 12000);
}

Test(ingest, a_damaged_large_record_leaves_nothing_behind)
{
    /* Only its last bytes tell. A version of a page that it should not have had must not show when
     * the sound record is there. */
    pgno_t p[] = {1, 2}, q[] = {13000};
    lsn_t v;
    ps_scribe_txn(&scribe, &log_bytes, p, 2, FILL_TEXT, 1);
    ps_scribe_txn(&scribe, &log_bytes, q, 1, FILL_TEXT, 1);
    lsn_t small = scribe.lsn;
    cr_assert_eq(ingest(), 0);
    large_record();
    /* The last entry: its number becomes that of a page that the record does not change. */
    struct wal_header h;
    struct wal_cursor cursor;
    struct wal_entry e, last = {0};
    cr_assert_eq(wal_check(co_buf_span(&log_bytes), &h), 0);
    wal_cursor_init(&cursor, co_buf_span(&log_bytes), &h);
    while (wal_cursor_next(&cursor, &e))
        last = e;
    uint8_t *number =
        log_bytes.data + (last.data.data - log_bytes.data) - (last.encoding == WAL_DELTA ? 24 : 12);
    cr_assert_eq(co_get32(number), 12000u);
    co_put32(number, 13000);
    cr_assert_eq(in_pieces(co_buf_span(&log_bytes), 1 << 20), CO_ERR_CORRUPT);
    cr_assert(!partial.active && progress().last_lsn == small);
    cr_assert(get(13000, UINT64_MAX, &v) == 0 && v == small, "what was put is gone");
    cr_assert(get(1, UINT64_MAX, &v) == 0 && v < small);
    co_put32(number, 12000);
    cr_assert_eq(in_pieces(co_buf_span(&log_bytes), 1 << 20), 0, "%s", co_sentence());
    expect_newest(1, 13000);
}

Test(ingest, a_large_record_that_contradicts_the_chain_halts_when_its_crc_proves_it)
{
    large_record();
    chain.digest.b[3] ^= 1;
    cr_assert_eq(in_pieces(co_buf_span(&log_bytes), 1 << 20), CO_ERR_HALTED);
    cr_assert(strstr(co_sentence(), "follows another record"), "%s", co_sentence());
    log_bytes.data[log_bytes.len / 2] ^= 1;
    cr_assert_eq(in_pieces(co_buf_span(&log_bytes), 1 << 20), CO_ERR_CORRUPT,
                 "damage is no contradiction");
}
