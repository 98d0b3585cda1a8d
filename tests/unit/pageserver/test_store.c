#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lmdb.h>

#include "common/clock_file.h"
#include "proto/changes.h"
#include "tests/unit/pageserver/ps_util.h"
#include "tests/unit/proto/random.h"

static char dir[64], path[96];
static struct ps_store *store;
static struct ps_txn *wr, *rd;
static struct ps_line line = {.no = 1, .id = {{0x77}}};
static uint8_t page[CO_PAGE_SIZE_MAX], back[CO_PAGE_SIZE_MAX];

static void open_store(void)
{
    struct ps_store_options o = ps_test_store(dir, path);
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
}
static void close_store(void)
{
    ps_read_free(rd);
    ps_write_free(wr);
    ps_store_close(store);
    rd = wr = NULL;
    store = NULL;
}
static void setup(void)
{
    ps_tmp(dir);
    open_store();
}
static void teardown(void)
{
    close_store();
    ps_tmp_remove(dir);
}
TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);

static void put(tlno_t no, pgno_t pgno, lsn_t lsn, uint32_t size, enum ps_fill kind, uint64_t seed)
{
    ps_fill(page, size, kind, seed);
    cr_assert_eq(
        ps_page_put(wr, no, pgno, lsn, page, size, ps_crc(page, size), co_span_of(NULL, 0)), 0,
        "%s", co_sentence());
}

static int get(const struct ps_line *l, pgno_t pgno, lsn_t lsn, uint32_t size, lsn_t *version)
{
    uint32_t crc;
    cr_assert_eq(ps_read_renew(rd), 0);
    int rc = ps_page_get(rd, l, pgno, lsn, size, back, version, &crc);
    if (!rc)
        cr_assert_eq(crc, ps_crc(back, size));
    ps_read_reset(rd);
    return rc;
}

/* The version that a lookup finds is the one with this seed. */
static void expect(const struct ps_line *l, pgno_t pgno, lsn_t lsn, uint32_t size,
                   enum ps_fill kind, uint64_t seed, lsn_t version)
{
    lsn_t found;
    cr_assert_eq(get(l, pgno, lsn, size, &found), 0, "%s", co_sentence());
    ps_fill(page, size, kind, seed);
    cr_assert_eq(memcmp(page, back, size), 0);
    cr_assert_eq(found, version);
}

Test(store, the_newest_version_at_or_below_is_found_for_all_page_sizes)
{
    /* I13, P2, P3: compressible pages, and ones that take up to 17 chunks. */
    lsn_t v;
    for (uint32_t size = CO_PAGE_SIZE_MIN; size <= CO_PAGE_SIZE_MAX; size *= 2)
        for (int kind = FILL_TEXT; kind <= FILL_HALF; kind++) {
            enum ps_fill k = (enum ps_fill)kind;
            struct ps_line l = {.no = size + (uint32_t)kind, .id = ps_id(3)};
            cr_assert_eq(ps_write_begin(wr), 0);
            for (pgno_t p = 1; p <= 3; p++)
                for (lsn_t at = 1000; at <= 3000; at += 1000)
                    put(l.no, p, at, size, k, p * 100000 + at);
            cr_assert_eq(ps_write_commit(wr), 0);
            for (pgno_t p = 1; p <= 3; p++) {
                expect(&l, p, 1000, size, k, p * 100000 + 1000, 1000);
                expect(&l, p, 1999, size, k, p * 100000 + 1000, 1000);
                expect(&l, p, 2000, size, k, p * 100000 + 2000, 2000);
                expect(&l, p, UINT64_MAX, size, k, p * 100000 + 3000, 3000);
                cr_assert_eq(get(&l, p, 999, size, &v), CO_ERR_NOT_FOUND, "missing, never zeros");
            }
            cr_assert_eq(get(&l, 4, 5000, size, &v), CO_ERR_NOT_FOUND);
        }
}

Test(store, a_branch_sees_its_ancestor_up_to_the_branch_point_and_not_further)
{
    /* A miss falls through to the ancestor at min(LSN, ancestor LSN), through several. */
    struct ps_line root = {.no = 10, .id = ps_id(10)};
    struct ps_line child = {.no = 11, .id = ps_id(11), .ancestor = &root, .ancestor_lsn = 2500};
    struct ps_line grand = {.no = 12, .id = ps_id(12), .ancestor = &child, .ancestor_lsn = 2200};
    lsn_t v;
    cr_assert_eq(ps_write_begin(wr), 0);
    put(10, 1, 1000, 4096, FILL_TEXT, 1);
    put(10, 1, 2400, 4096, FILL_TEXT, 2);
    put(10, 1, 3000, 4096, FILL_TEXT, 3);
    put(10, 2, 2600, 4096, FILL_TEXT, 4);
    put(11, 1, 2700, 4096, FILL_TEXT, 5);
    cr_assert_eq(ps_write_commit(wr), 0);
    expect(&child, 1, 9000, 4096, FILL_TEXT, 5, 2700);
    expect(&child, 1, 2699, 4096, FILL_TEXT, 2, 2400);
    expect(&grand, 1, 9000, 4096, FILL_TEXT, 1, 1000);
    cr_assert_eq(get(&child, 2, 9000, 4096, &v), CO_ERR_NOT_FOUND,
                 "written after the branch point");
    expect(&root, 2, 9000, 4096, FILL_TEXT, 4, 2600);
}

static void commit_row(tlno_t no, lsn_t lsn, uint64_t time_us, uint32_t db_pages,
                       const pgno_t *pgnos, uint32_t n)
{
    struct ps_commit c = {.lsn = lsn, .time_us = time_us, .db_pages = db_pages, .page_size = 4096};
    cr_assert_eq(ps_commit_put(wr, no, &c, pgnos, n), 0, "%s", co_sentence());
}

Test(store, commits_are_found_by_lsn_and_by_time)
{
    /* Newest at or below; equal times resolve to the newest LSN; other timelines do not show. */
    struct ps_line a = {.no = 5}, b = {.no = 6}, c = {.no = 7, .ancestor = &a, .ancestor_lsn = 150};
    struct ps_commit at;
    pgno_t p[] = {1, 2, 9};
    lsn_t lsn;
    cr_assert_eq(ps_write_begin(wr), 0);
    commit_row(5, 100, 1000, 1, p, 1);
    commit_row(5, 200, 2000, 2, p, 2);
    commit_row(5, 300, 2000, 9, p, 3);
    commit_row(6, 50, 1500, 1, p, 1);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_at(rd, &a, 99, &at), CO_ERR_NOT_FOUND);
    cr_assert(ps_commit_at(rd, &a, 100, &at) == 0 && at.lsn == 100 && at.db_pages == 1);
    cr_assert(ps_commit_at(rd, &a, 299, &at) == 0 && at.lsn == 200);
    cr_assert(ps_commit_at(rd, &a, UINT64_MAX, &at) == 0 && at.lsn == 300 && at.db_pages == 9);
    cr_assert(ps_commit_at(rd, &b, UINT64_MAX, &at) == 0 && at.lsn == 50, "the last of the table");
    cr_assert_eq(ps_commit_at(rd, &b, 49, &at), CO_ERR_NOT_FOUND);
    cr_assert(ps_commit_at(rd, &c, UINT64_MAX, &at) == 0 && at.lsn == 100, "the ancestor's");
    cr_assert_eq(ps_commit_at_time(rd, &a, 999, &lsn), CO_ERR_NOT_FOUND);
    cr_assert(ps_commit_at_time(rd, &a, 1999, &lsn) == 0 && lsn == 100);
    cr_assert(ps_commit_at_time(rd, &a, 2000, &lsn) == 0 && lsn == 300);
    cr_assert(ps_commit_at_time(rd, &c, 5000, &lsn) == 0 && lsn == 100);
    ps_read_reset(rd);
}

Test(store, a_change_list_says_which_pages_changed_in_which_commit)
{
    /* M13: what changed in (since, upto]; ancestors' commits first; too much is "all". */
    struct ps_line a = {.no = 5}, c = {.no = 7, .ancestor = &a, .ancestor_lsn = 200};
    pgno_t p1[] = {1, 2, 9}, p2[] = {4}, *many = malloc(100000 * sizeof *many), *got;
    struct co_buf list = {0};
    uint32_t n, db_pages;
    lsn_t lsn;
    bool all;
    for (uint32_t i = 0; i < 100000; i++)
        many[i] = i * 300 + 1; /* two bytes each: a row of 100 chunks */
    cr_assert_eq(ps_write_begin(wr), 0);
    commit_row(5, 100, 1000, 9, p1, 3);
    commit_row(5, 200, 2000, 9, p2, 1);
    commit_row(5, 300, 3000, 9, p1, 1);
    commit_row(7, 250, 3000, 9, p1, 2);
    commit_row(7, 260, 3000, 30000000, many, 100000);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_changes(rd, &c, 100, 260, CO_MIB, &list, &all), 0, "%s", co_sentence());
    cr_assert_not(all);
    struct co_span rest = co_buf_span(&list);
    static const lsn_t want[] = {200, 250, 260};
    static const uint32_t count[] = {1, 2, 100000};
    lsn_t prev = 100;
    for (int i = 0; i < 3; i++, prev = lsn) {
        cr_assert_eq(changes_get_commit(&rest, prev, &lsn, &db_pages, &got, &n), 0);
        cr_assert_eq(lsn, want[i]);
        cr_assert_eq(n, count[i]);
        if (i == 2)
            cr_assert_eq(memcmp(got, many, n * sizeof *many), 0);
        free(got);
    }
    cr_assert_eq(changes_get_commit(&rest, prev, &lsn, &db_pages, &got, &n), CO_ERR_AGAIN);
    cr_assert_eq(ps_commit_changes(rd, &c, 250, 259, CO_MIB, &list, &all), 0);
    cr_assert(list.len == 0 && !all, "nothing changed");
    cr_assert_eq(ps_commit_changes(rd, &c, 1, 260, 1000, &list, &all), 0);
    cr_assert(all && list.len == 0);
    cr_assert_eq(ps_commit_changes(rd, &a, 200, 300, CO_MIB, &list, &all), 0);
    rest = co_buf_span(&list);
    cr_assert_eq(changes_get_commit(&rest, 200, &lsn, &db_pages, &got, &n), 0);
    cr_assert(lsn == 300 && n == 1 && rest.len == 0);
    free(got);
    ps_read_reset(rd);
    co_buf_free(&list);
    free(many);
}

static int count_timelines(void *arg, tlno_t no, bool purged, const struct ps_meta *meta)
{
    int *n = arg;
    cr_assert_eq(no, (tlno_t)meta->id.b[0]);
    cr_assert_str_eq(meta->database_name, "shop");
    cr_assert_eq(meta->config.members[1].node_id, 2);
    cr_assert_eq(purged, meta->state == PS_DROPPED);
    ++*n;
    return 0;
}

Test(store, timelines_come_back_with_their_numbers_which_are_never_reused)
{
    /* P4, and what cannot be recomputed survives a restart. */
    struct ps_meta m = {
        .id = ps_id(4),
        .database = ps_id(5),
        .database_name = "shop",
        .branch = "main",
        .start_lsn = LSN_FIRST,
        .config = {.version = 1, .n = 2, .members = {{.node_id = 1}, {.node_id = 2}}},
        .state = PS_ACTIVE,
        .version = 2,
        .created_us = 77,
        .pageserver = ps_id(2)};
    struct ps_progress p = {.last_lsn = 12345, .digest = {{1, 2, 3}}}, q;
    tlno_t next;
    int n = 0;
    cr_assert_eq(ps_write_begin(wr), 0);
    cr_assert_eq(ps_timeline_put(wr, 4, false, &m), 0);
    m.id = ps_id(6), m.state = PS_DROPPED;
    cr_assert_eq(ps_timeline_put(wr, 6, true, &m), 0);
    m.id = ps_id(5);
    cr_assert_eq(ps_timeline_put(wr, 5, true, &m), 0);
    cr_assert_eq(ps_progress_put(wr, 4, &p), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    close_store();
    open_store();
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_timeline_each(rd, count_timelines, &n), 0, "%s", co_sentence());
    cr_assert_eq(n, 3);
    cr_assert_eq(ps_timeline_next_no(rd, &next), 0);
    cr_assert_eq(next, 7);
    cr_assert_eq(ps_progress_get(rd, 4, &q), 0);
    cr_assert(q.last_lsn == 12345 && memcmp(&q.digest, &p.digest, 16) == 0);
    cr_assert_eq(ps_progress_get(rd, 5, &q), CO_ERR_NOT_FOUND);
    ps_read_reset(rd);
}

Test(store, a_dropped_timeline_is_deleted_in_small_steps_and_alone)
{
    /* The pages of a dropped timeline go; those of its neighbours stay. */
    struct ps_line l2 = {.no = 2}, l3 = {.no = 3};
    bool done = false;
    int steps = 0;
    lsn_t v;
    cr_assert_eq(ps_write_begin(wr), 0);
    for (pgno_t p = 1; p <= 100; p++) {
        put(1, p, 10, 4096, FILL_TEXT, p);
        put(2, p, 10, 4096, FILL_NOISE, p); /* two chunks */
        put(3, p, 10, 4096, FILL_TEXT, p);
    }
    commit_row(2, 10, 5, 100, (pgno_t[]){1}, 1);
    commit_row(3, 10, 5, 100, (pgno_t[]){1}, 1);
    cr_assert_eq(ps_write_commit(wr), 0);
    for (; !done; steps++) {
        cr_assert_eq(ps_write_begin(wr), 0);
        cr_assert_eq(ps_purge_step(wr, 2, 50, &done), 0);
        cr_assert_eq(ps_write_commit(wr), 0);
    }
    cr_assert_geq(steps, 4);
    cr_assert_eq(get(&l2, 50, 99, 4096, &v), CO_ERR_NOT_FOUND);
    expect(&line, 100, 99, 4096, FILL_TEXT, 100, 10);
    expect(&l3, 1, 99, 4096, FILL_TEXT, 1, 10);
    struct ps_commit c;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_at(rd, &l2, 99, &c), CO_ERR_NOT_FOUND);
    cr_assert_eq(ps_commit_at(rd, &l3, 99, &c), 0);
    ps_read_reset(rd);
}

/* -- Bad files --------------------------------------------------------------------------------- */

static int reopen(void)
{
    struct ps_store *again = NULL;
    struct ps_store_options o = ps_test_store(dir, path);
    int rc = ps_store_open(&o, &again);
    ps_store_close(rc ? NULL : again);
    return rc;
}

/* Overwrites the first record's format with `format`. */
static void set_format(uint32_t format)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {5, "store"}, v;
    uint8_t row[48];
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_maxdbs(env, 16), 0);
    cr_assert_eq(mdb_env_open(env, path, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, "meta", 0, &dbi), 0);
    cr_assert_eq(mdb_get(txn, dbi, &k, &v), 0);
    memcpy(row, v.mv_data, sizeof row);
    co_put32(row + 8, format);
    v = (MDB_val){sizeof row, row};
    cr_assert_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

Test(store, a_newer_format_is_refused_with_both_numbers)
{
    /* P5 */
    close_store();
    set_format(PS_STORE_FORMAT + 1);
    cr_assert_eq(reopen(), CO_ERR_VERSION);
    cr_assert(strstr(co_sentence(), "has format 3") &&
                  strstr(co_sentence(), "knows formats up to 2"),
              "%s", co_sentence());
    set_format(PS_STORE_FORMAT);
    open_store();
}

Test(store, another_cluster_or_disk_is_refused)
{
    /* A directory that was copied or mounted wrongly is noticed. */
    struct ps_store *again = NULL;
    close_store();
    struct ps_store_options o = ps_test_store(dir, path);
    o.cluster = ps_id(99);
    cr_assert_eq(ps_store_open(&o, &again), CO_ERR_CLUSTER);
    o = ps_test_store(dir, path);
    o.disk = ps_id(99);
    cr_assert_eq(ps_store_open(&o, &again), CO_ERR_NODE);
    open_store();
}

Test(store, a_file_that_is_no_lmdb_file_gets_a_sentence)
{
    /* Bad input gets a sentence that says what to do. */
    char file[128];
    close_store();
    snprintf(file, sizeof file, "%s/data.mdb", path);
    int fd = open(file, O_WRONLY | O_TRUNC);
    memset(page, 'x', 8192);
    cr_assert_eq(write(fd, page, 8192), 8192);
    close(fd);
    cr_assert_eq(reopen(), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "not an LMDB file"), "%s", co_sentence());
    unlink(file);
    open_store();
}

Test(store, a_file_that_was_cut_short_is_refused_instead_of_a_sigbus_later)
{
    /* Never a crash on bad input. */
    char file[128];
    struct stat st;
    cr_assert_eq(ps_write_begin(wr), 0);
    for (pgno_t p = 1; p < 200; p++)
        put(1, p, 5, 4096, FILL_NOISE, p);
    cr_assert_eq(ps_write_commit(wr), 0);
    close_store();
    snprintf(file, sizeof file, "%s/data.mdb", path);
    cr_assert_eq(stat(file, &st), 0);
    cr_assert_eq(truncate(file, st.st_size - 100 * 4096), 0);
    cr_assert_eq(reopen(), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "cut short"), "%s", co_sentence());
    cr_assert_eq(truncate(file, 0), 0);
    unlink(file);
    open_store();
}

/* Flips a byte in the file behind the place where `needle` is found. */
static bool damage(const void *needle, size_t len)
{
    char file[128];
    struct stat st;
    snprintf(file, sizeof file, "%s/data.mdb", path);
    int fd = open(file, O_RDWR);
    cr_assert_eq(fstat(fd, &st), 0);
    size_t size = (size_t)st.st_size;
    uint8_t *bytes = malloc(size);
    cr_assert_eq(pread(fd, bytes, size, 0), st.st_size);
    uint8_t *at = memmem(bytes, size, needle, len);
    bool found = at != NULL;
    if (found) {
        uint8_t flipped = (uint8_t)(at[len / 2] ^ 1);
        cr_assert_eq(pwrite(fd, &flipped, 1, at + len / 2 - bytes), 1);
    }
    close(fd);
    free(bytes);
    return found;
}

Test(store, a_damaged_page_is_an_error_that_names_timeline_page_and_lsn)
{
    /* P2, G4: no silent wrong page. */
    lsn_t v;
    cr_assert_eq(ps_write_begin(wr), 0);
    put(1, 41, 0x1a40, 4096, FILL_NOISE, 1);
    put(1, 42, 0x1a40, 4096, FILL_NOISE, 2);
    cr_assert_eq(ps_write_commit(wr), 0);
    close_store();
    ps_fill(page, 4096, FILL_NOISE, 2);
    cr_assert(damage(page + 512, 64));
    open_store();
    cr_assert_eq(get(&line, 42, 99999, 4096, &v), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "page 42 of timeline 77"), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "0000000000001a40"), "%s", co_sentence());
    expect(&line, 41, 99999, 4096, FILL_NOISE, 1, 0x1a40);
}

/* Bytes of this process now; a sanitizer reserves many for itself. */
static rlim_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%llu", &pages) == 1);
    fclose(f);
    return (rlim_t)pages * 4096;
}

Test(store, a_limited_address_space_makes_the_default_map_smaller)
{
    close_store();
    struct ps_store_options o = ps_test_store(dir, path);
    struct ps_store_stats st;
    struct rlimit limit = {.rlim_max = RLIM_INFINITY};
    limit.rlim_cur = address_space() + 100 * CO_GIB;
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    o.map_bytes = 0;
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    ps_store_stats(store, &st);
    cr_assert_eq(st.map_bytes, 64 * CO_GIB);
    ps_store_close(store);
    o.map_bytes = PS_MAP_BYTES; /* who says how much gets that, or a sentence */
    cr_assert_eq(ps_store_open(&o, &store), CO_ERR_NOMEM);
    cr_assert(strstr(co_sentence(), "--map-size"), "%s", co_sentence());
    o.map_bytes = 0;
    cr_assert_eq(ps_store_open(&o, &store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
}

Test(store, a_full_map_is_full_and_what_is_there_stays_readable)
{
    /* D11: refuse cleanly, keep serving reads. */
    close_store();
    struct ps_store_options o = ps_test_store(dir, path);
    o.map_bytes = CO_MIB;
    cr_assert_eq(ps_store_open(&o, &store), 0);
    cr_assert_eq(ps_write_new(store, &wr), 0);
    cr_assert_eq(ps_read_new(store, &rd), 0);
    cr_assert_eq(ps_write_begin(wr), 0);
    put(1, 1, 5, 4096, FILL_NOISE, 1);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_write_begin(wr), 0);
    int rc = 0;
    ps_fill(page, 4096, FILL_NOISE, 9);
    for (pgno_t p = 2; !rc && p < 1000; p++)
        rc = ps_page_put(wr, 1, p, 5, page, 4096, ps_crc(page, 4096), co_span_of(NULL, 0));
    cr_assert_eq(rc, CO_ERR_FULL);
    cr_assert(strstr(co_sentence(), "--map-size"), "%s", co_sentence());
    ps_write_abort(wr);
    expect(&line, 1, 99, 4096, FILL_NOISE, 1, 5);
}

/* -- Branches ---------------------------------------------------------------------------------- */

Test(store, a_page_is_found_through_64_ancestors)
{
    /* Depth of branches: each level has one page of its own and sees all of those above it. */
    static struct ps_line deep[65];
    cr_assert_eq(ps_write_begin(wr), 0);
    for (uint32_t i = 0; i < 65; i++) {
        deep[i] = (struct ps_line){.no = 100 + i,
                                   .id = ps_id((uint8_t)i),
                                   .ancestor = i ? &deep[i - 1] : NULL,
                                   .ancestor_lsn = i * 1000};
        put(100 + i, i + 1, i * 1000 + 500, 4096, FILL_TEXT, i);
        put(100 + i, i + 1, i * 1000 + 1500, 4096, FILL_TEXT, 777); /* behind the branch point */
        commit_row(100 + i, i * 1000 + 500, i * 1000 + 500, i + 1, (pgno_t[]){i + 1}, 1);
        commit_row(100 + i, i * 1000 + 1500, i * 1000 + 1500, i + 1, (pgno_t[]){i + 1}, 1);
    }
    cr_assert_eq(ps_write_commit(wr), 0);
    for (uint32_t i = 0; i < 64; i++)
        expect(&deep[64], i + 1, UINT64_MAX, 4096, FILL_TEXT, i, i * 1000 + 500);
    expect(&deep[64], 65, UINT64_MAX, 4096, FILL_TEXT, 777, 65500);
    struct ps_commit c;
    lsn_t lsn;
    cr_assert_eq(ps_read_renew(rd), 0);
    for (uint32_t i = 0; i < 64; i++) {
        cr_assert_eq(ps_commit_at(rd, &deep[64], i * 1000 + 999, &c), 0);
        cr_assert_eq(c.lsn, i * 1000 + 500, "clamped at the branch point");
        cr_assert_eq(ps_commit_at_time(rd, &deep[64], i * 1000 + 999, &lsn), 0);
        cr_assert_eq(lsn, i * 1000 + 500, "%u", i);
        cr_assert_eq(ps_commit_at_time(rd, &deep[64], i * 1000 + 500, &lsn), 0);
        cr_assert_eq(lsn, i * 1000 + 500);
        if (i)
            cr_assert(ps_commit_at_time(rd, &deep[64], i * 1000 + 499, &lsn) == 0 &&
                      lsn == (i - 1) * 1000 + 500);
    }
    cr_assert_eq(ps_commit_at_time(rd, &deep[64], 499, &lsn), CO_ERR_NOT_FOUND);
    ps_read_reset(rd);
}

Test(store, a_time_on_a_branch_costs_nothing_for_what_its_ancestor_did_since)
{
    /* 20,000 commits of the parent behind the branch point, all before the time asked for. */
    struct ps_line root = {.no = 10, .id = ps_id(10)};
    struct ps_line child = {.no = 11, .id = ps_id(11), .ancestor = &root, .ancestor_lsn = 1000};
    lsn_t lsn;
    cr_assert_eq(ps_write_begin(wr), 0);
    for (uint64_t i = 1; i <= 20000; i++)
        commit_row(10, i * 1000, i * 10, 1, (pgno_t[]){1}, 1);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    uint64_t begin = co_now_us();
    for (int i = 0; i < 1000; i++)
        cr_assert(ps_commit_at_time(rd, &child, 200000, &lsn) == 0 && lsn == 1000);
    uint64_t us = co_now_us() - begin;
    cr_assert_lt(us, 2000000, "walking over them would take minutes: %llu us",
                 (unsigned long long)us);
    ps_read_reset(rd);
}

Test(store, commits_are_walked_newest_first_with_their_sizes_across_a_branch_point)
{
    /* LOG: each commit is found by itself; also one whose page list takes several rows. */
    struct ps_line root = {.no = 20, .id = ps_id(20)};
    struct ps_line child = {.no = 21, .id = ps_id(21), .ancestor = &root, .ancestor_lsn = 250};
    static pgno_t many[20000];
    const struct ps_line *owner;
    struct ps_commit c;
    uint32_t n;
    for (uint32_t i = 0; i < 20000; i++)
        many[i] = 1 + i * 300;
    cr_assert_eq(ps_write_begin(wr), 0);
    commit_row(20, 100, 1, 1, (pgno_t[]){1}, 1);
    commit_row(20, 200, 2, 6000000, many, 20000);
    commit_row(20, 300, 3, 1, (pgno_t[]){1}, 1);
    commit_row(21, 400, 4, 2, (pgno_t[]){1, 2}, 2);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_commit_whose(rd, &child, 999, &c, &owner, &n), 0);
    cr_assert(c.lsn == 400 && owner == &child && n == 2);
    cr_assert_eq(ps_commit_whose(rd, owner, 399, &c, &owner, &n), 0);
    cr_assert(c.lsn == 200 && owner == &root && n == 20000 && c.db_pages == 6000000);
    cr_assert_eq(ps_commit_whose(rd, owner, 199, &c, &owner, &n), 0);
    cr_assert(c.lsn == 100 && n == 1);
    cr_assert_eq(ps_commit_whose(rd, owner, 99, &c, &owner, &n), CO_ERR_NOT_FOUND);
    ps_read_reset(rd);
}

static int take_pin(void *arg, const struct ps_pin_row *pin)
{
    struct ps_pin_row **at = arg;
    *(*at)++ = *pin;
    return 0;
}

Test(store, pins_survive_a_restart)
{
    /* Named moments, by database and name. */
    struct ps_pin_row a = {.database = ps_id(1), .name = "a", .timeline = ps_id(3), .lsn = 77},
                      b = {.database = ps_id(2), .name = "a", .timeline = ps_id(4), .lsn = 88},
                      got[3], *end = got;
    a.time_us = 5, a.created_us = 6;
    memset(b.name, 'x', CO_NAME_MAX_BYTES);
    cr_assert_eq(ps_write_begin(wr), 0);
    cr_assert_eq(ps_pin_put(wr, &a), 0);
    cr_assert_eq(ps_pin_put(wr, &b), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    close_store();
    open_store();
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_pin_each(rd, take_pin, &end), 0, "%s", co_sentence());
    ps_read_reset(rd);
    cr_assert_eq(end - got, 2);
    cr_assert_eq(memcmp(&got[0], &a, sizeof a), 0);
    cr_assert_eq(memcmp(&got[1], &b, sizeof b), 0);
    cr_assert_eq(ps_write_begin(wr), 0);
    cr_assert_eq(ps_pin_get(wr, &a.database, "a", got), 0);
    cr_assert_eq(memcmp(&got[0], &a, sizeof a), 0);
    cr_assert_eq(ps_pin_get(wr, &b.database, "a", got), CO_ERR_NOT_FOUND);
    cr_assert_eq(ps_pin_delete(wr, &a.database, "a"), 0);
    cr_assert_eq(ps_pin_delete(wr, &a.database, "none"), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(ps_read_renew(rd), 0);
    end = got;
    cr_assert_eq(ps_pin_each(rd, take_pin, &end), 0);
    cr_assert_eq(end - got, 1);
    ps_read_reset(rd);
}

Test(store, when_its_pageserver_took_over_survives_a_restart)
{
    uint64_t us = 1;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(ps_taken_get(rd, &us), 0, "as in a store of an older build");
    ps_read_reset(rd);
    cr_assert_eq(us, 0);
    for (uint64_t put = 77; put < 79; put++) {
        cr_assert_eq(ps_write_begin(wr), 0);
        cr_assert_eq(ps_taken_put(wr, put), 0);
        cr_assert_eq(ps_write_commit(wr), 0);
        close_store();
        open_store();
        cr_assert_eq(ps_read_renew(rd), 0);
        cr_assert_eq(ps_taken_get(rd, &us), 0);
        ps_read_reset(rd);
        cr_assert_eq(us, put);
    }
}

Test(store, a_reader_that_died_holds_nothing_for_ever)
{
    /* A process that looked into the store and was killed: its pages are used again. */
    struct ps_store_stats before, after;
    pid_t pid = fork();
    if (pid == 0) {
        MDB_env *env;
        MDB_txn *txn;
        int rc = mdb_env_create(&env) || mdb_env_open(env, path, MDB_RDONLY, 0) ||
                 mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
        _exit(rc);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    for (int round = 0; round < 300; round++) {
        if (round == 50)
            ps_store_clear_readers(store);
        if (round == 100)
            ps_store_stats(store, &before);
        cr_assert_eq(ps_write_begin(wr), 0);
        put(1, 1, (lsn_t)(round + 1) * 10, 4096, FILL_NOISE, 1);
        cr_assert_eq(ps_page_delete(wr, 1, 1, (lsn_t)round * 10), 0);
        cr_assert_eq(ps_write_commit(wr), 0);
    }
    ps_store_stats(store, &after);
    cr_assert_leq(after.used_bytes, before.used_bytes + 20 * 4096, "%llu, then %llu",
                  (unsigned long long)before.used_bytes, (unsigned long long)after.used_bytes);
}

/* -- Deltas at rest ---------------------------------------------------------------------------- */

/* A page of rows in which update number `i` changes a few bytes, somewhere else each time. */
static void update(uint8_t *p, uint32_t size, uint32_t i)
{
    uint32_t row = (i * 7919u) % (size / 64);
    co_put32(p + (size_t)row * 64 + 8, i);
    co_put64(p + 16, i);
}

static struct ps_usage usage_of(tlno_t no, bool count)
{
    struct ps_usage u;
    cr_assert_eq(ps_read_renew(rd), 0);
    cr_assert_eq(count ? ps_usage_count(rd, no, &u) : ps_usage_get(rd, no, &u), 0);
    ps_read_reset(rd);
    return u;
}

/* The counts that are kept are those that looking at every entry gives. */
static void expect_counts(tlno_t no)
{
    struct ps_usage kept = usage_of(no, false), counted = usage_of(no, true);
    cr_assert_eq(kept.versions, counted.versions);
    cr_assert_eq(kept.images, counted.images);
    cr_assert_eq(kept.page_bytes, counted.page_bytes);
    cr_assert_eq(kept.commits, counted.commits);
    cr_assert_eq(kept.commit_bytes, counted.commit_bytes);
}

/* `n` versions of page 1 of timeline `no`, at LSNs 1000, 2000, ... */
static void put_updates(tlno_t no, uint32_t size, uint32_t n)
{
    ps_fill(page, size, FILL_HALF, 5);
    for (uint32_t i = 1; i <= n; i++) {
        update(page, size, i);
        cr_assert_eq(
            ps_page_put(wr, no, 1, i * 1000, page, size, ps_crc(page, size), co_span_of(NULL, 0)),
            0, "%s", co_sentence());
    }
}

Test(store, small_updates_rest_as_deltas_and_every_version_reads_as_it_was)
{
    /* A read takes an image and its pack; no page size and no version reads otherwise than it was
     * written, in the transaction that wrote it and later. */
    for (uint32_t size = CO_PAGE_SIZE_MIN; size <= CO_PAGE_SIZE_MAX; size *= 2) {
        struct ps_line l = {.no = size, .id = ps_id(3)};
        uint8_t want[CO_PAGE_SIZE_MAX];
        lsn_t v;
        uint32_t crc;
        cr_assert_eq(ps_write_begin(wr), 0);
        put_updates(l.no, size, 300);
        cr_assert_eq(ps_page_get(wr, &l, 1, 150000, size, back, &v, &crc), 0, "%s", co_sentence());
        cr_assert_eq(v, 150000);
        cr_assert_eq(ps_write_commit(wr), 0);
        ps_fill(want, size, FILL_HALF, 5);
        for (uint32_t i = 1; i <= 300; i++) {
            update(want, size, i);
            cr_assert_eq(get(&l, 1, i * 1000 + 999, size, &v), 0, "%s", co_sentence());
            cr_assert(v == i * 1000 && memcmp(back, want, size) == 0, "size %u version %u", size,
                      i);
        }
        struct ps_usage u = usage_of(l.no, false);
        cr_assert_eq(u.versions, 300);
        cr_assert_lt(u.images, 300);
        if (size >= 4096)
            cr_assert(u.images <= 10 && u.page_bytes / u.versions < 100 + size / 64,
                      "size %u: %llu images, %llu bytes a version", size,
                      (unsigned long long)u.images,
                      (unsigned long long)(u.page_bytes / u.versions));
        expect_counts(l.no);
    }
}

Test(store, a_page_that_changes_throughout_rests_as_images)
{
    /* A delta that does not pay is not made. */
    cr_assert_eq(ps_write_begin(wr), 0);
    for (lsn_t at = 1000; at <= 20000; at += 1000)
        put(9, 1, at, 4096, FILL_NOISE, at);
    cr_assert_eq(ps_write_commit(wr), 0);
    struct ps_usage u = usage_of(9, false);
    cr_assert(u.versions == 20 && u.images == 20);
    expect_counts(9);
}

Test(store, putting_the_same_version_again_counts_it_once)
{
    /* P1: a record that is ingested again writes the same keys. */
    cr_assert_eq(ps_write_begin(wr), 0);
    put_updates(9, 4096, 40);
    put_updates(9, 4096, 40);
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(usage_of(9, false).versions, 40);
    expect_counts(9);
    cr_assert_eq(ps_write_begin(wr), 0);
    for (lsn_t at = 40000; at > 0; at -= 1000)
        cr_assert_eq(ps_page_delete(wr, 9, 1, at), 0);
    cr_assert_eq(ps_write_commit(wr), 0);
    struct ps_usage u = usage_of(9, false);
    cr_assert(u.versions == 0 && u.images == 0 && u.page_bytes == 0);
}

Test(store, a_version_taken_out_of_the_middle_leaves_the_others_as_they_are)
{
    /* What the garbage collector relies on: a pack's entries hang on each other. */
    uint8_t want[4096];
    lsn_t v;
    cr_assert_eq(ps_write_begin(wr), 0);
    put_updates(1, 4096, 60);
    for (lsn_t at = 1000; at <= 60000; at += 3000)
        cr_assert_eq(ps_page_delete(wr, 1, 1, at), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_commit(wr), 0);
    cr_assert_eq(get(&line, 1, 1999, 4096, &v), CO_ERR_NOT_FOUND);
    ps_fill(want, 4096, FILL_HALF, 5);
    for (uint32_t i = 1; i <= 60; i++) {
        update(want, 4096, i);
        if (i % 3 == 1)
            continue;
        cr_assert_eq(get(&line, 1, i * 1000, 4096, &v), 0, "%s", co_sentence());
        cr_assert(v == i * 1000 && memcmp(back, want, 4096) == 0, "version %u", i);
    }
    cr_assert_eq(usage_of(1, false).versions, 40);
    expect_counts(1);
}

/* A write transaction reads what it has put, from memory where it can: never something else than
 * lies in the store. */
static void expect_in_write(pgno_t pgno, lsn_t lsn, lsn_t version, uint64_t seed)
{
    lsn_t found;
    uint32_t crc;
    cr_assert_eq(ps_page_get(wr, &line, pgno, lsn, 4096, back, &found, &crc), 0, "%s",
                 co_sentence());
    ps_fill(page, 4096, FILL_NOISE, seed);
    cr_assert_eq(found, version, "page %u at %llu is of %llu", pgno, (unsigned long long)lsn,
                 (unsigned long long)found);
    cr_assert_eq(crc, ps_crc(page, 4096));
    cr_assert_eq(memcmp(page, back, 4096), 0);
}

Test(store, a_write_transaction_reads_what_it_has_put)
{
    cr_assert_eq(ps_write_begin(wr), 0);
    for (pgno_t i = 1; i <= 140; i++) /* more than are kept in mind, and pairs that share a place */
        put(1, i, 10, 4096, FILL_NOISE, i);
    for (pgno_t i = 1; i <= 140; i += 3)
        put(1, i, 20, 4096, FILL_NOISE, 100 + i);
    for (pgno_t i = 1; i <= 140; i++) {
        expect_in_write(i, 15, 10, i);
        expect_in_write(i, 25, i % 3 == 1 ? 20 : 10, i % 3 == 1 ? 100 + i : i);
        expect_in_write(i, 15, 10, i);
    }
    ps_write_abort(wr);
    cr_assert_eq(ps_write_begin(wr), 0);
    lsn_t found;
    uint32_t crc;
    cr_assert_eq(ps_page_get(wr, &line, 140, 25, 4096, back, &found, &crc), CO_ERR_NOT_FOUND,
                 "what was put and taken back is forgotten");
    ps_write_abort(wr);
}

/* Pages whose numbers end alike share a slot; what gathers there goes into the tree whenever
 * somebody looks, another page wants the slot, or the transaction ends. */
Test(store, what_gathers_in_a_transaction_is_never_missed)
{
    enum { PAGES = 6, STEPS = 3000 };
    static const pgno_t pgnos[PAGES] = {1, 65, 129, 2, 66, 3};
    static uint8_t now[PAGES][4096], *kept[STEPS];
    static struct {
        int at;
        lsn_t lsn;
    } done[STEPS];
    struct rnd r = rnd_begin("what gathers");
    int n = 0;
    for (int i = 0; i < PAGES; i++)
        ps_fill(now[i], 4096, FILL_TEXT, (uint64_t)i);
    cr_assert_eq(ps_write_begin(wr), 0);
    for (lsn_t lsn = 1000; n < STEPS; lsn += 8) {
        int i = (int)rnd_below(&r, PAGES);
        uint32_t what = rnd_below(&r, 100), crc;
        lsn_t found;
        if (what < 90) {
            now[i][rnd_below(&r, 4096)] ^= (uint8_t)(1 + rnd_below(&r, 255));
            cr_assert_eq(ps_page_put(wr, 1, pgnos[i], lsn, now[i], 4096, ps_crc(now[i], 4096),
                                     co_span_of(NULL, 0)),
                         0, "%s", co_sentence());
            kept[n] = malloc(4096);
            memcpy(kept[n], now[i], 4096);
            done[n].at = i;
            done[n++].lsn = lsn;
        } else if (what < 97 && n) {
            uint32_t old = rnd_below(&r, (uint32_t)n);
            cr_assert_eq(ps_page_get(wr, &line, pgnos[done[old].at], done[old].lsn, 4096, back,
                                     &found, &crc),
                         0, "%s", co_sentence());
            cr_assert(found == done[old].lsn && memcmp(back, kept[old], 4096) == 0);
        } else if (what < 98) {
            struct ps_usage counted;
            cr_assert_eq(ps_usage_count(wr, 1, &counted), 0);
            cr_assert_eq(counted.versions, (uint64_t)n);
        } else {
            cr_assert_eq(ps_write_commit(wr), 0);
            cr_assert_eq(ps_write_begin(wr), 0);
        }
    }
    cr_assert_eq(ps_write_commit(wr), 0);
    for (int i = 0; i < n; i++) {
        lsn_t v;
        cr_assert_eq(get(&line, pgnos[done[i].at], done[i].lsn, 4096, &v), 0, "%s", co_sentence());
        cr_assert(v == done[i].lsn && memcmp(back, kept[i], 4096) == 0, "version %d", i);
        free(kept[i]);
    }
    expect_counts(1);
}

Test(store, what_was_written_anew_is_not_taken_for_the_newest)
{
    /* Taking a version out of an old group puts what stays of it again; the newest is another. */
    cr_assert_eq(ps_write_begin(wr), 0);
    ps_fill(page, 4096, FILL_NOISE, 1);
    for (lsn_t lsn = 10; lsn <= 14; lsn++) {
        page[0] = (uint8_t)lsn;
        cr_assert_eq(
            ps_page_put(wr, 1, 1, lsn, page, 4096, ps_crc(page, 4096), co_span_of(NULL, 0)), 0);
    }
    put(1, 1, 20, 4096, FILL_NOISE, 2);
    cr_assert_eq(ps_page_delete(wr, 1, 1, 12), 0);
    expect_in_write(1, 25, 20, 2);
    ps_write_abort(wr);
}

Test(store, a_damaged_pack_is_an_error_that_names_the_page)
{
    /* P2: with its CRC or not at all. */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    lsn_t v;
    uint8_t bytes[PS_PAGE_KEY_BYTES], value[PS_PACK_MAX];
    struct ps_page_key k = {.no = 1, .pgno = 1, .lsn = 1000, .chunk = PS_PACK_CHUNK};
    cr_assert_eq(ps_write_begin(wr), 0);
    put_updates(1, 4096, 30);
    cr_assert_eq(ps_write_commit(wr), 0);
    close_store();
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_maxdbs(env, 16), 0);
    cr_assert_eq(mdb_env_open(env, path, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, "page", 0, &dbi), 0);
    ps_page_key_put(bytes, &k);
    MDB_val key = {sizeof bytes, bytes}, found;
    cr_assert_eq(mdb_get(txn, dbi, &key, &found), 0);
    memcpy(value, found.mv_data, found.mv_size);
    value[found.mv_size / 2] ^= 0x10;
    found.mv_data = value;
    cr_assert_eq(mdb_put(txn, dbi, &key, &found, 0), 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    open_store();
    cr_assert_eq(get(&line, 1, 1000, 4096, &v), 0, "what lies before the damage is served");
    cr_assert_eq(get(&line, 1, 30000, 4096, &v), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "page 1 of timeline"), "%s", co_sentence());
}

Test(store, a_store_of_format_1_is_counted_when_it_is_opened)
{
    /* An older build's store goes on: its rows are what they are, the counts are made. */
    struct ps_meta m = {.id = ps_id(4),
                        .database = ps_id(5),
                        .database_name = "shop",
                        .branch = "main",
                        .state = PS_ACTIVE,
                        .config = {.version = 1, .n = 1, .members = {{.node_id = 1}}},
                        .version = 2};
    pgno_t one = 1;
    cr_assert_eq(ps_write_begin(wr), 0);
    cr_assert_eq(ps_timeline_put(wr, 4, false, &m), 0);
    put_updates(4, 4096, 10);
    commit_row(4, 1000, 5, 1, &one, 1);
    cr_assert_eq(ps_write_commit(wr), 0);
    struct ps_usage before = usage_of(4, false);
    close_store();
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    cr_assert_eq(mdb_env_create(&env), 0);
    cr_assert_eq(mdb_env_set_maxdbs(env, 16), 0);
    cr_assert_eq(mdb_env_open(env, path, 0, 0600), 0);
    cr_assert_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    cr_assert_eq(mdb_dbi_open(txn, "usage", 0, &dbi), 0);
    cr_assert_eq(mdb_drop(txn, dbi, 1), 0);
    cr_assert_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    set_format(1);
    open_store();
    struct ps_usage after = usage_of(4, false);
    cr_assert(before.versions == 10 && memcmp(&before, &after, sizeof after) == 0);
    expect_counts(4);
}
