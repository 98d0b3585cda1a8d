/* test_walbuf.c - the private WAL: memory, then file, as if it were one array. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compute-vfs/walbuf.h"

TestSuite(walbuf, .timeout = 20);

#define MODEL_BYTES 4096u

static struct cv_walbuf small_walbuf(void)
{
    struct cv_walbuf w;

    cv_walbuf_init(&w);
    w.limit = 1000; /* so that writes lie before, across and beyond the border */
    return w;
}

Test(walbuf, write_and_read_beyond_the_memory_limit)
{
    /* The border between memory and file is nobody's business: a frame wholly beyond it. */
    struct cv_walbuf w = small_walbuf();
    uint8_t in[64], out[64];
    bool cut;

    memset(in, 7, sizeof in);
    for (uint64_t at = 0; at < 3000; at += sizeof in)
        cr_assert_eq(cv_walbuf_write(&w, at, in, sizeof in), 0);
    cr_assert_eq(w.memory.len, w.limit);
    for (uint64_t at = 0; at < 2900; at += 13) {
        memset(out, 0, sizeof out);
        cr_assert_eq(cv_walbuf_read(&w, at, out, sizeof out, &cut), 0);
        cr_assert(!cut);
        cr_assert_arr_eq(out, in, sizeof in);
    }
    cv_walbuf_free(&w);
}

Test(walbuf, an_unusable_temporary_directory_is_passed_over)
{
    /* TMPDIR of a service often points nowhere; SQLite itself goes on to /var/tmp and /tmp then. */
    struct cv_walbuf w = small_walbuf();
    uint8_t in[64] = {7};

    setenv("SQLITE_TMPDIR", "/nonexistent", 1);
    setenv("TMPDIR", "/proc", 1);
    cr_assert_eq(cv_walbuf_write(&w, 2000, in, sizeof in), 0, "%s", co_sentence());
    cv_walbuf_free(&w);
}

static void random_step(struct cv_walbuf *w, uint8_t *model, size_t *len, unsigned *seed,
                        unsigned first)
{
    uint8_t bytes[300], out[300];
    size_t n = (size_t)rand_r(seed) % sizeof bytes + 1;
    size_t at = (size_t)rand_r(seed) % (MODEL_BYTES - sizeof bytes);
    bool cut;

    switch (rand_r(seed) % 8) {
    case 0:
        if (at < *len) {
            memset(model + at, 0, *len - at);
            *len = at;
        }
        cv_walbuf_truncate(w, at);
        break;
    case 1:
    case 2:
    case 3:
        memset(bytes, rand_r(seed), n);
        cr_assert_eq(cv_walbuf_write(w, at, bytes, n), 0);
        memcpy(model + at, bytes, n);
        *len = at + n > *len ? at + n : *len;
        break;
    default:
        cr_assert_eq(cv_walbuf_read(w, at, out, n, &cut), 0);
        cr_assert_eq(cut, at + n > *len);
        cr_assert(memcmp(out, model + at, n) == 0, "seed %u", first);
    }
    cr_assert_eq(w->len, *len, "seed %u", first);
}

Test(walbuf, behaves_as_one_array)
{
    /* Writes, reads and truncations in any order agree with a plain array. */
    unsigned seed = (unsigned)time(NULL), first = seed;

    for (int run = 0; run < 50; run++) {
        struct cv_walbuf w = small_walbuf();
        uint8_t model[MODEL_BYTES] = {0};
        size_t len = 0;

        for (int i = 0; i < 400; i++)
            random_step(&w, model, &len, &seed, first);
        cv_walbuf_free(&w);
    }
}
