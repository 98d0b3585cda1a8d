#include <criterion/criterion.h>

#include "common/main_file.h"

TestSuite(main_file, .timeout = 10);

static char host[256];
static uint16_t port;

Test(main_file, reads_addresses)
{
    /* HOST:PORT and [V6]:PORT; 0 means "any port". */
    cr_assert_eq(co_parse_address("--listen", "127.0.0.1:6400", host, &port), 0);
    cr_assert_str_eq(host, "127.0.0.1");
    cr_assert_eq(port, 6400);
    cr_assert_eq(co_parse_address("--listen", "[::1]:65535", host, &port), 0);
    cr_assert_str_eq(host, "::1");
    cr_assert_eq(port, 65535);
    cr_assert_eq(co_parse_address("--listen", "node-1.example_net:0", host, &port), 0);
    cr_assert_str_eq(host, "node-1.example_net");
    cr_assert_eq(port, 0);
}

Test(main_file, refuses_what_is_no_address)
{
    /* Each refusal names the option and shows what was given. */
    static const char *const bad[] = {"",
                                      ":6400",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "h:6400x",
                                      "::1:6400",
                                      "[::1:6400",
                                      "[::1]6400",
                                      "[]:1",
                                      "a b:1",
                                      "h:+1",
                                      "h: 1",
                                      "http://h:80",
                                      "h/x:1",
                                      "h:1:2",
                                      "[a b]:1",
                                      "h:00000000000000000001x",
                                      "h:99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(co_parse_address("--advertise", bad[i], host, &port), CO_ERR_INVAL, "'%s'",
                     bad[i]);
        cr_assert(strstr(co_sentence(), "--advertise"), "%s", co_sentence());
        cr_assert(strstr(co_sentence(), bad[i]), "%s", co_sentence());
    }
}

Test(main_file, bounds_the_host)
{
    /* A host fits the caller's 256 bytes, or is refused. */
    char text[400];
    memset(text, 'h', sizeof text);
    memcpy(text + 255, ":1", 3);
    cr_assert_eq(co_parse_address("--x", text, host, &port), 0);
    cr_assert_eq(strlen(host), 255u);
    memset(text, 'h', sizeof text);
    memcpy(text + 256, ":1", 3);
    cr_assert_eq(co_parse_address("--x", text, host, &port), CO_ERR_INVAL);
}

Test(main_file, knows_loopback)
{
    /* Whatever is not surely loopback is not: it decides whether listening needs a flag. */
    static const char *const yes[] = {"localhost",   "LOCALHOST", "127.0.0.1",
                                      "127.255.0.9", "::1",       "::ffff:127.0.0.1"};
    static const char *const no[] = {"0.0.0.0", "::",          "10.0.0.1",   "128.0.0.1",
                                     "",        "localhost.x", "127.0.0.1x", "::ffff:10.0.0.1"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        cr_assert(co_is_loopback(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        cr_assert_not(co_is_loopback(no[i]), "%s", no[i]);
}

Test(main_file, reads_sizes)
{
    /* Powers of 1024, either case, no overflow. */
    uint64_t v = 0;
    cr_assert_eq(co_parse_size("--map-size", "64", &v), 0);
    cr_assert_eq(v, 64u);
    cr_assert_eq(co_parse_size("--map-size", "16M", &v), 0);
    cr_assert_eq(v, 16u << 20);
    cr_assert_eq(co_parse_size("--map-size", "1t", &v), 0);
    cr_assert_eq(v, 1ull << 40);
    static const char *const bad[] = {"", "K", "1.5G", "-1", "1KB", "1 K", "16777216T", "1e3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(co_parse_size("--map-size", bad[i], &v), CO_ERR_INVAL, "'%s'", bad[i]);
    cr_assert(strstr(co_sentence(), "--map-size"));
}

Test(main_file, reads_durations)
{
    /* A bare number is milliseconds. */
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},       {"250", 250},    {"250ms", 250},    {"3s", 3000},
                {"5m", 300000}, {"2h", 7200000}, {"7d", 604800000}, {"2H", 7200000}};
    uint64_t v = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cr_assert_eq(co_parse_duration("--x", good[i].text, &v), 0);
        cr_assert_eq(v, good[i].ms, "%s", good[i].text);
    }
    static const char *const bad[] = {"", "s", "-1s", "1w", "1.5s", "5 m", "99999999999999999999d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(co_parse_duration("--x", bad[i], &v), CO_ERR_INVAL, "'%s'", bad[i]);
}
