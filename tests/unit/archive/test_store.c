/* What archive/store.h promises, over every place there is (places.h). */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "places.h"

TestSuite(store, .timeout = 60);

/* Each test runs at each place in turn; what fails names it. */
static const struct place *place;
#define EACH_PLACE for (place = places; place < places + places_n; place++)

static char url[AR_URL_MAX_BYTES];

static struct ar_store *opened(void)
{
    struct ar_store *s;
    cr_assert_eq(ar_open(url, &(struct ar_options){.make = true}, &s), 0, "%s: %s", place->name,
                 co_sentence());
    return s;
}

static struct ar_store *up(void)
{
    place->up(url);
    return opened();
}

static void down(struct ar_store *s)
{
    ar_close(s);
    place->down();
}

static struct co_span text(const char *t)
{
    return co_span_of(t, strlen(t));
}

static void put(struct ar_store *s, const char *name, const char *bytes)
{
    cr_assert_eq(ar_put(s, name, text(bytes)), 0, "%s", co_sentence());
}

static void expect(struct ar_store *s, const char *name, const char *bytes)
{
    struct co_buf out = {0};
    uint64_t size = 99;
    cr_assert_eq(ar_get(s, name, 0, 1000, &out, &size), 0, "%s", co_sentence());
    cr_assert_eq(size, strlen(bytes));
    cr_assert_eq(out.len, strlen(bytes));
    cr_assert(out.len == 0 || memcmp(out.data, bytes, out.len) == 0);
    co_buf_free(&out);
}

Test(store, gives_back_what_was_put)
{
    /* Any range of an object, cut at its end; the size is the whole's; get appends. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct co_buf out = {0};
        uint64_t size;
        put(s, "a/b-1.seg", "0123456789");
        expect(s, "a/b-1.seg", "0123456789");
        cr_assert_eq(ar_get(s, "a/b-1.seg", 3, 4, &out, &size), 0);
        cr_assert_eq(ar_get(s, "a/b-1.seg", 8, 100, &out, &size), 0);
        cr_assert_eq(ar_get(s, "a/b-1.seg", 10, 100, &out, NULL), 0);
        cr_assert_eq(ar_get(s, "a/b-1.seg", 400, 100, &out, NULL), 0);
        cr_assert_eq(ar_get(s, "a/b-1.seg", 0, 0, &out, &size), 0);
        cr_assert_eq(size, 10u);
        cr_assert_eq(out.len, 6u);
        cr_assert_eq(memcmp(out.data, "345689", 6), 0);
        co_buf_free(&out);
        put(s, "empty", "");
        expect(s, "empty", "");
        down(s);
    }
}

Test(store, an_object_never_changes)
{
    /* The same bytes again are no error; others are, and change nothing. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        put(s, "x/y", "one");
        put(s, "x/y", "one");
        cr_assert_eq(ar_put(s, "x/y", text("two")), CO_ERR_EXISTS);
        cr_assert(strstr(co_sentence(), "x/y"), "%s", co_sentence());
        cr_assert_eq(ar_put(s, "x/y", text("on")), CO_ERR_EXISTS);
        cr_assert_eq(ar_put(s, "x/y", text("one more")), CO_ERR_EXISTS);
        cr_assert_eq(ar_put(s, "x/y", text("")), CO_ERR_EXISTS);
        expect(s, "x/y", "one");
        down(s);
    }
}

Test(store, one_alone_gets_a_name)
{
    /* put_if_absent: taken is taken, with whatever bytes. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        cr_assert_eq(ar_put_if_absent(s, "gen/1", text("me")), 0, "%s", co_sentence());
        cr_assert_eq(ar_put_if_absent(s, "gen/1", text("you")), CO_ERR_EXISTS);
        cr_assert(strstr(co_sentence(), "gen/1"), "%s", co_sentence());
        cr_assert_eq(ar_put_if_absent(s, "gen/1", text("me")), CO_ERR_EXISTS);
        expect(s, "gen/1", "me");
        down(s);
    }
}

struct racer {
    pthread_t thread;
    char bytes[24];
    int rc[16];
};

static void *race(void *arg)
{
    struct racer *r = arg;
    struct ar_store *s = opened();
    for (int i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "race/%d", i);
        r->rc[i] = ar_put_if_absent(s, name, text(r->bytes));
    }
    ar_close(s);
    return NULL;
}

Test(store, of_many_at_once_one_wins)
{
    /* Who was told 0 is the one whose bytes are there. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct racer all[6];
        for (int i = 0; i < 6; i++) {
            snprintf(all[i].bytes, sizeof all[i].bytes, "by %d", i);
            cr_assert_eq(pthread_create(&all[i].thread, NULL, race, &all[i]), 0);
        }
        for (int i = 0; i < 6; i++)
            pthread_join(all[i].thread, NULL);
        for (int k = 0; k < 16; k++) {
            char name[32];
            int won = 0;
            snprintf(name, sizeof name, "race/%d", k);
            for (int i = 0; i < 6; i++) {
                cr_assert(all[i].rc[k] == 0 || all[i].rc[k] == CO_ERR_EXISTS);
                if (all[i].rc[k] == 0) {
                    won++;
                    expect(s, name, all[i].bytes);
                }
            }
            cr_assert_eq(won, 1, "%s was given to %d", name, won);
        }
        down(s);
    }
}

Test(store, what_is_not_there_is_not_found)
{
    /* Also below and above what is there. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct co_buf out = {0};
        put(s, "p/q/r", "x");
        static const char *const names[] = {"none", "p", "p/q", "p/q/r/s", "p/q/rr"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            cr_assert_eq(ar_get(s, names[i], 0, 10, &out, NULL), CO_ERR_NOT_FOUND, "%s", names[i]);
            cr_assert(strstr(co_sentence(), names[i]), "%s", co_sentence());
        }
        cr_assert_eq(out.len, 0u);
        co_buf_free(&out);
        down(s);
    }
}

Test(store, removed_is_gone)
{
    /* Twice is no error, and the name is free again. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct co_buf out = {0};
        put(s, "d/one", "1");
        put(s, "d/two", "2");
        cr_assert_eq(ar_remove(s, "d/one"), 0, "%s", co_sentence());
        cr_assert_eq(ar_remove(s, "d/one"), 0, "%s", co_sentence());
        cr_assert_eq(ar_remove(s, "never/was"), 0, "%s", co_sentence());
        cr_assert_eq(ar_get(s, "d/one", 0, 10, &out, NULL), CO_ERR_NOT_FOUND);
        expect(s, "d/two", "2");
        put(s, "d/one", "other");
        expect(s, "d/one", "other");
        down(s);
    }
}

struct seen {
    char names[1000];
    int n, stop_at;
};

static int note(void *arg, const char *name, uint64_t size)
{
    struct seen *seen = arg;
    size_t at = strlen(seen->names);
    snprintf(seen->names + at, sizeof seen->names - at, "%s=%u ", name, (unsigned)size);
    return ++seen->n == seen->stop_at ? 7 : 0;
}

static void expect_list(struct ar_store *s, const char *prefix, const char *after, const char *all)
{
    struct seen seen = {.n = 0};
    cr_assert_eq(ar_list(s, prefix, after, note, &seen), 0, "%s", co_sentence());
    cr_assert_str_eq(seen.names, all);
}

Test(store, lists_in_the_order_of_strcmp)
{
    /* '-' and '.' sort before '/', digits behind it; prefix and after are any strings. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        static const char *const names[] = {"a/b/2", "a0", "a-b", "a/b/10",
                                            "a.b/c", "b",  "a/c", "a/b.x"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            put(s, names[i], names[i]);
        expect_list(s, "", NULL, "a-b=3 a.b/c=5 a/b.x=5 a/b/10=6 a/b/2=5 a/c=3 a0=2 b=1 ");
        expect_list(s, "a/", NULL, "a/b.x=5 a/b/10=6 a/b/2=5 a/c=3 ");
        expect_list(s, "a/b", NULL, "a/b.x=5 a/b/10=6 a/b/2=5 ");
        expect_list(s, "a/b/1", NULL, "a/b/10=6 ");
        expect_list(s, "a/b/10", NULL, "a/b/10=6 ");
        expect_list(s, "a/b/10/x", NULL, "");
        expect_list(s, "zz", NULL, "");
        expect_list(s, "", "a/b/10", "a/b/2=5 a/c=3 a0=2 b=1 ");
        expect_list(s, "", "a/b/1", "a/b/10=6 a/b/2=5 a/c=3 a0=2 b=1 ");
        expect_list(s, "", "a/b", "a/b.x=5 a/b/10=6 a/b/2=5 a/c=3 a0=2 b=1 ");
        expect_list(s, "a/", "a/b/2", "a/c=3 ");
        expect_list(s, "a/", "zz", "");
        down(s);
    }
}

Test(store, a_list_ends_when_it_is_told_to)
{
    /* With the number that the callback gave. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct seen seen = {.stop_at = 2};
        put(s, "1", "");
        put(s, "2", "");
        put(s, "3", "");
        cr_assert_eq(ar_list(s, "", NULL, note, &seen), 7);
        cr_assert_str_eq(seen.names, "1=0 2=0 ");
        down(s);
    }
}

Test(store, many_objects_are_all_listed)
{
    /* More than a page of an object store's answer may hold is put by the place's own test. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct seen seen = {.n = 0};
        for (int i = 0; i < 60; i++) {
            char name[32];
            snprintf(name, sizeof name, "many/%d/%d", i % 7, i);
            put(s, name, "x");
        }
        cr_assert_eq(ar_list(s, "many/", NULL, note, &seen), 0);
        cr_assert_eq(seen.n, 60);
        down(s);
    }
}

Test(store, refuses_names_that_are_none)
{
    /* Nothing outside the place is ever named. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct co_buf out = {0};
        char longest[AR_NAME_MAX_BYTES + 2];
        static const char *const bad[] = {"",   "/a",   "a/", "a//b", "..",  "a/../b",
                                          ".a", "a/.b", "A",  "a b",  "a%2f"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            cr_assert_eq(ar_put(s, bad[i], text("x")), CO_ERR_INVAL, "'%s'", bad[i]);
            cr_assert_eq(ar_put_if_absent(s, bad[i], text("x")), CO_ERR_INVAL);
            cr_assert_eq(ar_get(s, bad[i], 0, 1, &out, NULL), CO_ERR_INVAL);
            cr_assert_eq(ar_remove(s, bad[i]), CO_ERR_INVAL);
        }
        for (size_t i = 0; i < sizeof longest; i++)
            longest[i] = i % 50 == 49 ? '/' : 'n';
        longest[AR_NAME_MAX_BYTES + 1] = 0;
        cr_assert_eq(ar_put(s, longest, text("x")), CO_ERR_INVAL);
        longest[AR_NAME_MAX_BYTES] = 0;
        longest[AR_NAME_MAX_BYTES - 1] = 'n';
        put(s, longest, "x");
        expect(s, longest, "x");
        down(s);
    }
}

Test(store, large_objects_and_no_larger_ones)
{
    /* 20 MiB are 20 MiB; more than the bound is refused before a byte of it is looked at. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        size_t len = 20 * CO_MIB + 7;
        uint8_t *bytes = malloc(len);
        struct co_buf out = {0};
        uint32_t x = 1;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        cr_assert_eq(ar_put(s, "big", co_span_of(bytes, len)), 0, "%s", co_sentence());
        cr_assert_eq(ar_get(s, "big", 0, len, &out, NULL), 0, "%s", co_sentence());
        cr_assert_eq(out.len, len);
        cr_assert_eq(memcmp(out.data, bytes, len), 0);
        cr_assert_eq(ar_put(s, "bigger", co_span_of(bytes, AR_OBJECT_MAX_BYTES + 1)),
                     CO_ERR_TOO_LARGE);
        co_buf_free(&out);
        free(bytes);
        down(s);
    }
}

Test(store, opened_again_it_has_the_same)
{
    /* And opened for reading it takes nothing. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        put(s, "k/1", "v");
        ar_close(s);
        cr_assert_eq(ar_open(url, &(struct ar_options){.read_only = true}, &s), 0, "%s",
                     co_sentence());
        expect(s, "k/1", "v");
        cr_assert_eq(ar_put(s, "k/2", text("v")), CO_ERR_READONLY);
        cr_assert_eq(ar_put_if_absent(s, "k/2", text("v")), CO_ERR_READONLY);
        cr_assert_eq(ar_remove(s, "k/1"), CO_ERR_READONLY);
        expect_list(s, "", NULL, "k/1=1 ");
        down(s);
    }
}

Test(store, canceled_it_does_nothing_more)
{
    /* What waits for the archive at the end of a process does not wait. */
    EACH_PLACE
    {
        struct ar_store *s = up();
        struct seen seen = {.n = 0};
        struct co_buf out = {0};
        put(s, "a", "1");
        ar_cancel(s);
        cr_assert_eq(ar_put(s, "b", text("2")), CO_ERR_CANCELED);
        cr_assert_eq(ar_get(s, "a", 0, 1, &out, NULL), CO_ERR_CANCELED);
        cr_assert_eq(ar_list(s, "", NULL, note, &seen), CO_ERR_CANCELED);
        cr_assert_eq(seen.n, 0);
        down(s);
    }
}
