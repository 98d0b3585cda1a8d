/* test_followers.c - who follows, what all of them have, and DIR/followers. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "safekeeper/followers_file.h"

static char dir[64], path[80];
static struct sk_followers f;

static void setup(void)
{
    f = (struct sk_followers){0};
    snprintf(dir, sizeof dir, "/tmp/corallite-followers-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/followers", dir);
}

static void teardown(void)
{
    unlink(path);
    rmdir(dir);
}

TestSuite(followers, .init = setup, .fini = teardown, .timeout = 20);

static uint32_t add(uint8_t disk, const char *address, bool changed)
{
    struct co_id id = {{disk}};
    uint32_t slot;
    bool is;
    cr_assert_eq(sk_followers_add(&f, &id, address, &slot, &is), 0, "%s", co_sentence());
    cr_assert_eq(is, changed);
    return slot;
}

Test(followers, one_that_comes_again_keeps_its_slot)
{
    cr_assert_eq(add(1, "a:1", true), 0);
    cr_assert_eq(add(2, "b:2", true), 1);
    cr_assert_eq(add(1, "a:1", false), 0);
    cr_assert_eq(add(1, "c:3", true), 0, "it serves elsewhere now");
    cr_assert_str_eq(f.e[0].address, "c:3");
    cr_assert_eq(sk_followers_count(&f), 2);
    sk_followers_forget(&f, 0);
    cr_assert_eq(sk_followers_count(&f), 1);
    cr_assert_eq(add(3, "d:4", true), 0, "a free slot is used again");
}

Test(followers, the_floor_is_what_every_one_of_them_has)
{
    /* Nothing that one of them lacks may ever lie below it. */
    lsn_t at[SK_FOLLOWERS_MAX] = {0};
    cr_assert_eq(sk_followers_floor(&f, at), LSN_NONE, "nobody follows: nothing may go");
    uint32_t a = add(1, "a:1", true), b = add(2, "b:2", true);
    cr_assert_eq(sk_followers_floor(&f, at), LSN_NONE);
    at[a] = 5000;
    cr_assert_eq(sk_followers_floor(&f, at), LSN_NONE, "one has not said anything yet");
    at[b] = 3000;
    cr_assert_eq(sk_followers_floor(&f, at), 3000);
    at[b] = 9000;
    cr_assert_eq(sk_followers_floor(&f, at), 5000);
    add(3, "c:3", true);
    cr_assert_eq(sk_followers_floor(&f, at), LSN_NONE, "a new one has nothing");
    at[7] = 100;
    at[2] = 6000;
    cr_assert_eq(sk_followers_floor(&f, at), 5000, "a slot that nobody has counts for nothing");
}

Test(followers, there_is_a_bound_and_a_sentence)
{
    struct co_id id = {{99}}, none = {{0}};
    uint32_t slot;
    bool changed;
    for (uint8_t i = 1; i <= SK_FOLLOWERS_MAX; i++)
        add(i, "", true);
    cr_assert_eq(sk_followers_add(&f, &id, "", &slot, &changed), CO_ERR_FULL);
    cr_assert(strstr(co_sentence(), "corallite pageserver forget"));
    cr_assert_eq(sk_followers_add(&f, &none, "", &slot, &changed), CO_ERR_PROTOCOL);
    add(3, "", false);
}

Test(followers, who_follows_is_kept_and_how_far_is_not)
{
    struct sk_followers back;
    cr_assert_eq(sk_followers_load(dir, &back), 0);
    cr_assert_eq(sk_followers_count(&back), 0, "there is no file");
    add(1, "127.0.0.1:6400", true);
    add(2, "[::1]:6402", true);
    f.e[1].heard_us = 77;
    cr_assert_eq(sk_followers_save(dir, &f), 0);
    cr_assert_eq(sk_followers_load(dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(sk_followers_count(&back), 2);
    cr_assert_str_eq(back.e[1].address, "[::1]:6402");
    cr_assert(co_id_eq(&back.e[1].disk, &f.e[1].disk));
    cr_assert_eq(back.e[1].heard_us, 0);
}

Test(followers, damage_is_a_sentence)
{
    struct sk_followers back;
    struct co_buf bytes = {0};
    add(1, "127.0.0.1:6400", true);
    cr_assert_eq(sk_followers_save(dir, &f), 0);
    cr_assert_eq(sk_io_read_all(path, 1000, &bytes), 0);
    for (size_t i = 0; i < bytes.len; i++) {
        if (i >= 20 && i < 24)
            continue; /* spare */
        bytes.data[i] ^= 0x40;
        cr_assert_eq(sk_io_replace(dir, "followers", co_buf_span(&bytes)), 0);
        int rc = sk_followers_load(dir, &back);
        cr_expect_eq(rc, i >= 8 && i < 12 ? CO_ERR_VERSION : CO_ERR_CORRUPT, "byte %zu: %d", i, rc);
        bytes.data[i] ^= 0x40;
    }
    cr_assert_eq(sk_io_replace(dir, "followers", co_span_of(bytes.data, 10)), 0);
    cr_assert_eq(sk_followers_load(dir, &back), CO_ERR_CORRUPT);
    co_buf_free(&bytes);
}
