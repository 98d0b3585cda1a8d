/* test_shm.c - the private wal-index. */
#include <criterion/criterion.h>
#include <string.h>

#include "compute-vfs/shm.h"

TestSuite(shm, .timeout = 20);

struct wal_index {
    uint32_t version, unused, change;
    uint8_t is_init, big_endian;
    uint16_t page_size;
    uint32_t max_frame, n_pages, frame_sum[2], salt[2], sum[2];
};

static struct wal_index header(struct cv_shm *shm, int copy)
{
    struct wal_index h;

    memcpy(&h, shm->regions[0] + 48 * copy, sizeof h);
    return h;
}

static void check_sum(const struct wal_index *h)
{
    uint32_t words[10], a = 0, b = 0;

    memcpy(words, h, 40);
    for (int i = 0; i < 10; i += 2) {
        a += words[i] + b;
        b += words[i + 1] + a;
    }
    cr_assert_eq(h->sum[0], a);
    cr_assert_eq(h->sum[1], b);
}

Test(shm, the_index_is_born_valid)
{
    /* M5: whatever bExtend says */
    struct cv_shm shm = {0};
    volatile void *p;
    struct wal_index one, two;

    cr_assert_eq(cv_shm_map(&shm, 0, 32768, 0, &p), 0);
    cr_assert_not_null((void *)p);
    one = header(&shm, 0);
    two = header(&shm, 1);
    cr_assert_eq(memcmp(&one, &two, sizeof one), 0);
    cr_assert_eq(one.version, 3007000);
    cr_assert_eq(one.is_init, 1);
    cr_assert_eq(one.max_frame, 0);
    check_sum(&one);
    cr_assert_eq(cv_shm_map(&shm, 1, 32768, 0, &p), 0);
    cr_assert_null((void *)p, "other regions only when asked for");
    cr_assert_eq(cv_shm_map(&shm, 3, 32768, 1, &p), 0);
    cr_assert_eq(shm.n, 4);
    cv_shm_free(&shm);
}

Test(shm, a_rewrite_is_noticed_and_stands_for_an_empty_wal)
{
    struct cv_shm shm = {0};
    volatile void *p;
    struct wal_index before, after;

    cr_assert_eq(cv_shm_map(&shm, 0, 32768, 0, &p), 0);
    before = header(&shm, 0);
    cv_shm_rewrite(&shm, 77, 65536);
    after = header(&shm, 0);
    check_sum(&after);
    cr_assert_neq(after.change, before.change);
    cr_assert_eq(after.n_pages, 77);
    cr_assert_eq(after.page_size, 1);
    cr_assert_eq(after.max_frame, 0);
    cv_shm_rewrite(&shm, 77, 4096);
    cr_assert_eq(header(&shm, 1).page_size, 4096);
    cv_shm_free(&shm);
}
