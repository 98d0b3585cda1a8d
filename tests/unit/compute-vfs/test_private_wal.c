/* test_private_wal.c - the private WAL and the private wal-index. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/shm.h"
#include "compute-vfs/walbuf.h"

TestSuite(private_wal, .timeout = 20);

Test(private_wal, what_was_written_is_read_across_the_border_to_the_file)
{
    struct cv_walbuf w;
    uint8_t model[20000], out[20000];
    size_t len = 0;
    bool cut;

    cv_walbuf_init(&w);
    w.limit = 5000;
    memset(model, 0, sizeof model);
    srand(7);
    for (int i = 0; i < 3000; i++) {
        size_t at = (size_t)rand() % 15000, n = (size_t)rand() % 5000;
        uint8_t data[5000];

        if (i % 500 == 499 && at < len) {
            cv_walbuf_truncate(&w, at);
            memset(model + at, 0, sizeof model - at);
            len = at;
            continue;
        }
        if (at > len)
            at = len; /* SQLite leaves no holes */
        memset(data, rand(), n);
        cr_assert_eq(cv_walbuf_write(&w, at, data, n), 0);
        memcpy(model + at, data, n);
        if (at + n > len)
            len = at + n;
        at = (size_t)rand() % 15000;
        n = (size_t)rand() % 5000;
        cr_assert_eq(cv_walbuf_read(&w, at, out, n, &cut), 0);
        cr_assert_eq(cut, at + n > len);
        for (size_t k = 0; k < n; k++)
            cr_assert_eq(out[k], at + k < len ? model[at + k] : 0, "step %d", i);
    }
    cr_assert_geq(w.fd, 0);
    cr_assert_leq(w.memory.len, 5000);
    cv_walbuf_free(&w);
}

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

Test(private_wal, the_index_is_born_valid)
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

Test(private_wal, a_rewrite_is_noticed_and_stands_for_an_empty_wal)
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
