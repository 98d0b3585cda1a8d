/* test_archive_pull.c - the log of a branch, from safekeepers into the archive: rounds of an
 * archiver with three of them, of which one has a byte that rotted. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "tests/unit/pageserver/archive_rig.h"
#include "tests/unit/pageserver/fake_keepers.h"

static struct fake fake;
static struct co_buf records;

static void setup(void)
{
    rig_begin();
    rig.a.snapshot_every = 0;
    fake_start(&fake, &rig.a.cluster);
    rig.task.n_nodes = FAKE_NODES;
    for (uint32_t i = 0; i < FAKE_NODES; i++) {
        rig.task.nodes[i].id = i + 1;
        rig.task.nodes[i].port = fake.node[i].port;
        snprintf(rig.task.nodes[i].host, sizeof rig.task.nodes[i].host, "127.0.0.1");
    }
}

static void teardown(void)
{
    fake_stop(&fake);
    co_buf_free(&records);
    rig_end();
}

TestSuite(archive_pull, .init = setup, .fini = teardown, .timeout = 120);

/* All of it is at the three. */
static void hand_out(void)
{
    fake_append(&fake, &rig.line.id, &records);
    rig.tline.last = rig.tline.known = LSN_FIRST + records.len;
}

static void write_log(uint32_t txns)
{
    for (uint32_t i = 0; i < txns; i++) {
        struct co_buf one = {0};
        rig_write(10, &one);
        cr_assert_eq(co_buf_append(&records, one.data, one.len), 0);
        co_buf_free(&one);
    }
    hand_out();
}

/* The one that is asked first. */
static uint32_t first(void)
{
    return rig.line.id.b[1] % FAKE_NODES;
}

static void rot_at_all(lsn_t lsn)
{
    for (uint32_t i = 0; i < FAKE_NODES; i++)
        fake_set_rot(&fake, i, lsn);
}

/* The archive has the log to its end: each byte once, and as it was written. */
static void expect_all(void)
{
    struct ar_chunk *all;
    uint32_t n;
    lsn_t at = LSN_FIRST;
    cr_assert_eq(rig_archived()->end, rig.tline.last);
    cr_assert_eq(ar_chunks(rig.a.store, &rig.a.cluster, &rig.line.id, &all, &n), 0);
    for (uint32_t i = 0; i < n; i++) {
        struct co_buf bytes = {0};
        cr_assert_eq(all[i].begin, at);
        cr_assert_eq(ar_chunk_get(rig.a.store, &rig.a.cluster, &rig.line.id, &all[i], &bytes), 0,
                     "%s", co_sentence());
        cr_assert(memcmp(bytes.data, records.data + (at - LSN_FIRST), bytes.len) == 0);
        at = all[i].end;
        co_buf_free(&bytes);
    }
    cr_assert_eq(at, rig.tline.last);
    free(all);
}

Test(archive_pull, a_log_that_rotted_at_one_comes_from_another)
{
    write_log(30);
    fake_set_rot(&fake, first(), LSN_FIRST + records.len / 2);
    cr_assert_eq(ps_archive_work(&rig.a), 0, "%s", co_sentence());
    expect_all();
}

Test(archive_pull, a_log_that_rotted_at_all_is_archived_up_to_there)
{
    write_log(30);
    rot_at_all(LSN_FIRST + records.len / 2);
    cr_assert_eq(ps_archive_work(&rig.a), CO_ERR_CORRUPT);
    cr_assert_gt(rig_archived()->end, LSN_FIRST);
    cr_assert_lt(rig_archived()->end, LSN_FIRST + records.len / 2);
    rot_at_all(0);
    cr_assert_eq(ps_archive_work(&rig.a), 0, "%s", co_sentence());
    expect_all();
}

/* Parts of it are objects before it is known to be sound. */
static void write_large(void)
{
    enum { PAGES = 700 };
    static pgno_t pgnos[PAGES];
    struct ps_scribe large;
    for (pgno_t i = 0; i < PAGES; i++)
        pgnos[i] = i + 1;
    ps_scribe_init(&large, 65536, PAGES);
    ps_scribe_txn(&large, &records, pgnos, 3, FILL_NOISE, 1);
    ps_scribe_txn(&large, &records, pgnos, PAGES, FILL_NOISE, 2);
    ps_scribe_txn(&large, &records, pgnos, 3, FILL_NOISE, 3);
    ps_scribe_free(&large);
    cr_assert_gt(records.len, 2 * AR_CHUNK_BYTES);
    hand_out();
}

Test(archive_pull, a_large_record_that_rotted_at_one_comes_from_another)
{
    write_large();
    fake_set_rot(&fake, first(), LSN_FIRST + records.len - 2 * CO_MIB);
    cr_assert_eq(ps_archive_work(&rig.a), 0, "%s", co_sentence());
    expect_all();
}

Test(archive_pull, of_a_large_record_that_did_not_come_to_its_end_nothing_stays)
{
    write_large();
    rot_at_all(LSN_FIRST + records.len - 2 * CO_MIB);
    cr_assert_eq(ps_archive_work(&rig.a), CO_ERR_CORRUPT);
    rot_at_all(0);
    cr_assert_eq(ps_archive_work(&rig.a), 0, "%s", co_sentence());
    expect_all();
}
