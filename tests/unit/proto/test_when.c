#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "proto/when.h"
#include "tests/unit/proto/random.h"

#define NOW 1767323045678901u /* 2026-01-02T03:04:05.678901Z */
#define S   1000000u

TestSuite(when, .timeout = 20);

static struct when ok(const char *text)
{
    struct when w;
    cr_assert_eq(when_parse(text, NOW, &w), 0, "'%s': %s", text, co_sentence());
    return w;
}

static void refused(const char *text, int code, const char *says)
{
    struct when w;
    cr_assert_eq(when_parse(text, NOW, &w), code, "'%s' was taken", text);
    cr_assert(strstr(co_sentence(), says), "'%s': %s", text, co_sentence());
}

Test(when, head_has_three_spellings)
{
    /* Nothing, latest and now are the head, in any case, with blanks around. */
    static const char *const texts[] = {"", "  ", "latest", "NOW", " Latest\t"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_assert_eq(ok(texts[i]).kind, WHEN_HEAD, "%s", texts[i]);
}

Test(when, lsn_in_every_spelling)
{
    /* What lsn_parse reads is a moment. */
    static const char *const texts[] = {"0000000000001a40", "lsn:1a40", "LSN:1A40", "0/1A40",
                                        "lsn:0/1A40"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct when w = ok(texts[i]);
        cr_assert_eq(w.kind, WHEN_LSN);
        cr_assert_eq(w.lsn, 0x1a40, "%s", texts[i]);
    }
}

Test(when, bare_number_is_refused_with_both_spellings)
{
    /* No silent guess between a position and a time. */
    static const char *const texts[] = {"1767323045", "5", "2026", "1a40", "1767323045678"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char lsn[40], at[40];
        snprintf(lsn, sizeof lsn, "lsn:%s", texts[i]);
        snprintf(at, sizeof at, "time:%s", texts[i]);
        refused(texts[i], CO_ERR_INVAL, lsn);
        refused(texts[i], CO_ERR_INVAL, at);
    }
    cr_assert_eq(ok("time:1767323045").time_us, 1767323045ull * S);
    cr_assert_eq(ok("time:1767323045.25").time_us, 1767323045ull * S + S / 4);
    refused("time:2026", CO_ERR_INVAL, "seconds since 1970");
    refused("time:17673230450", CO_ERR_INVAL, "future");
    refused("time:99999999999999999999999", CO_ERR_INVAL, "seconds since 1970");
}

Test(when, dates)
{
    /* RFC 3339 with what people leave out; no zone is UTC. */
    static const struct {
        const char *text;
        uint64_t us;
    } rows[] = {
        {"2026-01-02", 1767312000ull * S},
        {"2026-01-02T03:04", 1767323040ull * S},
        {"2026-01-02 03:04", 1767323040ull * S},
        {"2026-01-02t03:04z", 1767323040ull * S},
        {"2026-01-02T03:04:05", 1767323045ull * S},
        {"2026-01-02T03:04:05Z", 1767323045ull * S},
        {"2026-01-02T03:04:05.5Z", 1767323045ull * S + 500000},
        {"2026-01-02T03:04:05.678901Z", NOW},
        {"2026-01-02T03:04:05.6789019Z", NOW}, /* cut, never rounded up */
        {"2026-01-02 03:04:05 Z", 1767323045ull * S},
        {"2026-01-02T05:04:05+02:00", 1767323045ull * S},
        {"2026-01-02T05:04:05+0200", 1767323045ull * S},
        {"2026-01-01T22:34:05-04:30", 1767323045ull * S},
        {"time:2026-01-02T03:04:05Z", 1767323045ull * S},
        {"2000-02-29", 951782400ull * S},
        {"2024-02-29T23:59:60Z", 1709251200ull * S}, /* a leap second */
        {"1970-01-01", 0},
        {"1970-01-01T00:00+14:00", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct when w = ok(rows[i].text);
        cr_assert_eq(w.kind, WHEN_TIME);
        cr_assert_eq(w.time_us, rows[i].us, "%s: %llu", rows[i].text,
                     (unsigned long long)w.time_us);
    }
}

Test(when, dates_that_are_none)
{
    /* The sentence shows what a time looks like. */
    static const char *const texts[] = {
        "2025-13-01",
        "2025-00-01",
        "2025-02-29",
        "1900-01-01",
        "2025-1-2",
        "2025-01-02T",
        "2025-01-02T3:04",
        "2025-01-02T03",
        "2025-01-02T24:00",
        "2025-01-02T03:60",
        "2025-01-02T03:04:61",
        "2025-01-02T03:04:05.",
        "2025-01-02T03:04X",
        "2025-01-02T03:04+2",
        "2025-01-02x",
        "2025-01-02T03:04Zx",
        "2025-01-02T03:04+24:00",
        "time:2025-01",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refused(texts[i], CO_ERR_INVAL, "2026-01-02T03:04");
}

Test(when, before_now)
{
    /* Units and their words; several add up. */
    static const struct {
        const char *text;
        uint64_t seconds;
    } rows[] = {
        {"-5m", 300},
        {"-5 m", 300},
        {"-1 hour", 3600},
        {"5 minutes ago", 300},
        {"an hour ago", 3600},
        {"A Day Ago", 86400},
        {"-2h30m", 9000},
        {"-1d 2h", 93600},
        {"-0s", 0},
        {"-90 secs", 90},
        {"-2w", 1209600},
        {"one week ago", 604800},
        {"5minutes ago", 300},
        {"time:-5m", 300},
        {"time: 1h ago", 3600},
        {"-1D", 86400},
        {"1 hour 5 min ago", 3900},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct when w = ok(rows[i].text);
        cr_assert_eq(w.kind, WHEN_TIME);
        cr_assert_eq(NOW - w.time_us, rows[i].seconds * S, "%s", rows[i].text);
    }
}

Test(when, spans_that_cannot_be_right)
{
    /* No direction, both directions, no unit, the future, before 1970: each says what to do. */
    refused("5m", CO_ERR_INVAL, "-5m");
    refused("5 minutes", CO_ERR_INVAL, "-5 minutes");
    refused("-5m ago", CO_ERR_INVAL, "twice");
    refused("+5m", CO_ERR_INVAL, "future");
    refused("-5", CO_ERR_INVAL, "no moment");
    refused("-5x", CO_ERR_INVAL, "no moment");
    refused("-1.5h", CO_ERR_INVAL, "no moment");
    refused("-", CO_ERR_INVAL, "no moment");
    refused("ago", CO_ERR_INVAL, "no moment");
    refused("-9999w", CO_ERR_INVAL, "1970");
    refused("-18446744073709551615w", CO_ERR_INVAL, "1970");
    refused("-99999999999999999999s", CO_ERR_INVAL, "no moment");
    refused("yesterday", CO_ERR_INVAL, "no moment");
}

Test(when, future_names_now)
{
    /* A moment that has not come has no content; the sentence shows the pageserver's clock. */
    refused("2026-01-02T03:04:06Z", CO_ERR_INVAL, "2026-01-02T03:04:05.678901Z now");
    refused("2026-01-02T03:04:05.678902Z", CO_ERR_INVAL, "future");
    refused("9999-12-31T23:59:59Z", CO_ERR_INVAL, "future");
}

Test(when, pins)
{
    /* A pin is a name. */
    cr_assert_eq(ok("pin:before-v2").kind, WHEN_PIN);
    cr_assert_str_eq(ok("pin:before-v2").pin, "before-v2");
    char longest[5 + CO_NAME_MAX_BYTES];
    memset(longest, 'n', sizeof longest);
    memcpy(longest, "pin:", 4);
    longest[4 + CO_NAME_MAX_BYTES] = 0;
    cr_assert_str_eq(ok(longest).pin, longest + 4);
    refused("pin:", CO_ERR_NAME, "name");
    refused("pin:a b", CO_ERR_NAME, "a-b");
}

Test(when, wild_text_is_refused_without_repeating_control_characters)
{
    /* Text from the network goes into sentences printable only, and never overruns. */
    refused("now\n", CO_ERR_INVAL, "now?");
    char text[400];
    memset(text, ' ', sizeof text);
    text[398] = '1';
    text[399] = 0;
    cr_assert_neq(ok("now").kind, WHEN_LSN);
    struct when w;
    memset(text, '1', 399);
    cr_assert_eq(when_parse(text, NOW, &w), CO_ERR_INVAL);
    struct rnd r = rnd_begin("when");
    static const char letters[] = "0123456789-:.TZ+ agomhdwslntip/@\n\x01\xff";
    for (int i = 0; i < 100000; i++) {
        size_t n = rnd_any(&r) % 40;
        for (size_t k = 0; k < n; k++)
            text[k] = letters[rnd_any(&r) % (sizeof letters - 1)];
        text[n] = 0;
        int rc = when_parse(text, NOW, &w);
        if (rc) {
            for (const char *c = co_sentence(); *c; c++)
                cr_assert(*c >= ' ' && *c <= '~', "%s", co_sentence());
        } else if (w.kind == WHEN_TIME) {
            cr_assert_leq(w.time_us, NOW);
        }
    }
}

Test(when, prints_what_it_reads)
{
    /* A printed time comes back to the microsecond, and is what the C library prints. */
    struct rnd r = rnd_begin("when");
    for (int i = 0; i < 20000; i++) {
        uint64_t us = rnd_any(&r) % (253402300800ull * S); /* to the end of 9999 */
        char text[WHEN_TEXT], other[40];
        struct when w;
        struct tm tm;
        time_t t = (time_t)(us / S);
        gmtime_r(&t, &tm);
        size_t n = strftime(other, sizeof other, "%Y-%m-%dT%H:%M:%S", &tm);
        cr_assert_eq(strncmp(when_format(us, text), other, n), 0, "%s %s", text, other);
        cr_assert_eq(when_parse(text, UINT64_MAX, &w), 0, "%s", co_sentence());
        cr_assert_eq(w.time_us, us, "%s", text);
    }
    char text[WHEN_TEXT];
    cr_assert_str_eq(when_format(0, text), "1970-01-01T00:00:00.000000Z");
    cr_assert_str_eq(when_format(NOW, text), "2026-01-02T03:04:05.678901Z");
    cr_assert_lt(strlen(when_format(UINT64_MAX, text)), WHEN_TEXT);
}

Test(when, references)
{
    /* DB[/BRANCH][@MOMENT]. */
    static const struct {
        const char *ref, *db, *branch, *at;
    } rows[] = {
        {"shop", "shop", "main", ""},
        {"shop/dev", "shop", "dev", ""},
        {"shop@-10m", "shop", "main", "-10m"},
        {"shop/dev@2026-01-02 03:04", "shop", "dev", "2026-01-02 03:04"},
        {"shop@lsn:0/1A40", "shop", "main", "lsn:0/1A40"}, /* the slash is the moment's */
        {"shop@0/1A40", "shop", "main", "0/1A40"},
        {"shop@pin:a", "shop", "main", "pin:a"},
    };
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1], at[WHEN_AT_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert_eq(when_split_ref(rows[i].ref, db, branch, at), 0, "%s", co_sentence());
        cr_assert_str_eq(db, rows[i].db);
        cr_assert_str_eq(branch, rows[i].branch);
        cr_assert_str_eq(at, rows[i].at);
    }
    cr_assert_eq(when_split_ref("shop@", db, branch, at), CO_ERR_INVAL);
    cr_assert_eq(when_split_ref("", db, branch, at), CO_ERR_NAME);
    cr_assert_eq(when_split_ref("@now", db, branch, at), CO_ERR_NAME);
    cr_assert_eq(when_split_ref("a/b/c", db, branch, at), CO_ERR_NAME);
    char text[400];
    memset(text, 'x', sizeof text);
    text[399] = 0;
    cr_assert_eq(when_split_ref(text, db, branch, at), CO_ERR_NAME);
    text[4] = '@';
    cr_assert_eq(when_split_ref(text, db, branch, at), CO_ERR_INVAL);
}
