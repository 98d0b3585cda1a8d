/* test_uri.c - names and parameters. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "compute-vfs/uri.h"

static struct cv_uri u;

static void setup(void)
{
    cv_uri_init(&u);
}

TestSuite(uri, .init = setup, .timeout = 10);

Test(uri, a_name_without_a_branch_means_main)
{
    cr_assert_eq(cv_uri_name(&u, "shop"), 0);
    cr_assert_str_eq(u.db, "shop");
    cr_assert_str_eq(u.branch, "main");
    cr_assert_eq(cv_uri_name(&u, "shop/dev"), 0);
    cr_assert_str_eq(u.branch, "dev");
}

Test(uri, a_bad_name_is_answered_with_a_valid_one)
{
    cr_assert_eq(cv_uri_name(&u, "my shop!"), CO_ERR_NAME);
    cr_assert(strstr(co_sentence(), "my-shop"));
    cr_assert_eq(cv_uri_name(&u, ""), CO_ERR_NAME);
    cr_assert_eq(cv_uri_name(&u, "../etc"), CO_ERR_NAME);
}

Test(uri, a_path_is_told_how_a_plain_file_is_named)
{
    /* ATTACH '/tmp/x.db' on a connection whose main is ours */
    cr_assert_eq(cv_uri_name(&u, "/tmp/x.db"), CO_ERR_NAME);
    cr_assert(strstr(co_sentence(), "file:/tmp/x.db?vfs=unix"));
    cr_assert_eq(cv_uri_name(&u, "./x.db"), CO_ERR_NAME);
    cr_assert(strstr(co_sentence(), "file:./x.db?vfs=unix"));
}

Test(uri, every_parameter_is_checked)
{
    static const struct {
        const char *key, *value;
        int rc;
    } cases[] = {
        {"server", "127.0.0.1:6400", 0},
        {"server", "[::1]:6400", 0},
        {"server", "127.0.0.1", CO_ERR_INVAL},
        {"server", "127.0.0.1:0", CO_ERR_INVAL},
        {"server", "127.0.0.1:65536", CO_ERR_INVAL},
        {"server", ":6400", CO_ERR_INVAL},
        {"server", "a/b:6400", CO_ERR_INVAL},
        {"create", "0", 0},
        {"create", "maybe", CO_ERR_INVAL},
        {"durability", "full", 0},
        {"durability", "normal", 0},
        {"durability", "off", 0},
        {"durability", "very", CO_ERR_INVAL},
        {"commit_timeout", "250", 0},
        {"commit_timeout", "3s", 0},
        {"commit_timeout", "2h", 0},
        {"commit_timeout", "-1", CO_ERR_INVAL},
        {"commit_timeout", "", CO_ERR_INVAL},
        {"commit_timeout", "9999d", CO_ERR_INVAL},
        {"staleness", "100", 0},
        {"cache_mb", "1", 0},
        {"cache_mb", "0", CO_ERR_INVAL},
        {"cache_mb", "12x", CO_ERR_INVAL},
        {"cache_dir", "/var/cache/shop", 0},
        {"cache_dir", "", 0},
        {"cache_dir", "pages", CO_ERR_INVAL},
        {"cache_dir_mb", "1", 0},
        {"cache_dir_mb", "0", CO_ERR_INVAL},
        {"lag_mb", "0", 0},
        {"lag_mb", "1048577", CO_ERR_INVAL},
        {"page_size", "512", 0},
        {"page_size", "65536", 0},
        {"page_size", "4095", CO_ERR_INVAL},
        {"page_size", "131072", CO_ERR_INVAL},
        {"mode", "ro", 0},
        {"cache", "shared", 0},
        {"vfs", "corallite", 0},
        {"nolock", "0", 0},
        {"_busy_timeout", "5000", 0},
        {"busy_timeout", "5000", CO_ERR_INVAL},
        {"nolock", "1", CO_ERR_INVAL},
        {"at", "latest", 0},
        {"at", "-1 hour", 0},
        {"at", "", CO_ERR_INVAL},
        {"token", "x", CO_ERR_INVAL},
        {"servr", "127.0.0.1:6400", CO_ERR_INVAL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup();
        cr_expect_eq(cv_uri_param(&u, cases[i].key, cases[i].value), cases[i].rc, "%s=%s",
                     cases[i].key, cases[i].value);
    }
}

Test(uri, a_moment_longer_than_any_is_refused)
{
    char text[WHEN_AT_MAX + 1];

    memset(text, '1', sizeof text);
    text[WHEN_AT_MAX] = 0;
    cr_assert_eq(cv_uri_param(&u, "at", text), CO_ERR_INVAL);
    text[WHEN_AT_MAX - 1] = 0;
    cr_assert_eq(cv_uri_param(&u, "at", text), 0);
}

Test(uri, durations_have_units)
{
    uint32_t ms;

    cr_assert_eq(cv_parse_ms("x", "1500", &ms), 0);
    cr_assert_eq(ms, 1500);
    cr_assert_eq(cv_parse_ms("x", "7d", &ms), 0);
    cr_assert_eq(ms, 7u * 86400000u);
    cr_assert_eq(cv_parse_ms("x", "5 m", &ms), CO_ERR_INVAL);
}

Test(uri, an_unknown_parameter_is_told_the_known_ones)
{
    cr_assert_eq(cv_uri_param(&u, "durabilty", "full"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "durability,"));
}

Test(uri, without_a_server_it_is_the_local_cluster)
{
    /* What `corallite up` starts is found without a word of configuration. */
    cr_assert_str_eq(u.server, "127.0.0.1:6400");
}

/* The filename of `name` at `server`, read back, is again `v`. */
static const char *there_and_back(const char *server, const char *name, struct cv_uri *v)
{
    static char path[CV_PATH_MAX];

    cr_assert_eq(cv_uri_param(&u, "server", server), 0);
    cr_assert_eq(cv_uri_name(&u, name), 0);
    cv_uri_filename(&u, path);
    cr_assert(cv_uri_is_path(path));
    cv_uri_init(v);
    cr_assert_eq(cv_uri_from_path(v, path), 0);
    cr_assert_str_eq(v->server, u.server);
    cr_assert_str_eq(v->db, u.db);
    cr_assert_str_eq(v->branch, u.branch);
    cr_assert_eq(v->has_moment, u.has_moment);
    cr_assert_eq(v->moment, u.moment);
    return path;
}

Test(uri, the_file_name_is_short_at_the_usual_server_and_is_read_back)
{
    /* S17 */
    struct cv_uri v;

    cr_assert_str_eq(there_and_back(CV_SERVER_DEFAULT, "shop", &v), "corallite:shop/main");
    cr_assert_str_eq(there_and_back("[::1]:6400", "shop/dev", &v),
                     "corallite://[::1]:6400/shop/dev");
    u.has_moment = true;
    u.moment = 0x1a40;
    cr_assert_str_eq(there_and_back("[::1]:6400", "shop/dev", &v),
                     "corallite://[::1]:6400/shop/dev@0000000000001a40");
    cr_assert_str_eq(there_and_back(CV_SERVER_DEFAULT, "shop", &v),
                     "corallite:shop/main@0000000000001a40");
    u.moment = LSN_NONE;
    cr_assert_str_eq(there_and_back(CV_SERVER_DEFAULT, "shop", &v),
                     "corallite:shop/main@0000000000000000");
}

Test(uri, what_is_no_file_name_of_ours_is_refused)
{
    static const char *const bad[] = {
        "corallite:",           "corallite:/",     "corallite://",      "corallite:///a/b",
        "corallite://h:1",      "corallite:a/b/c", "corallite:a/main@", "corallite:a/main@x",
        "corallite:a/main@1@2", "/h:1/a/main",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(cv_uri_from_path(&u, bad[i]), CO_ERR_NAME, "%s", bad[i]);
}

Test(uri, a_whole_uri_in_the_place_of_a_name)
{
    /* Only what holds both file: and vfs=corallite is one; an ordinary path never is. */
    static const char *const is[][2] = {
        {"file:shop?vfs=corallite", "file:shop?vfs=corallite"},
        {"/cwd/file:shop/try?vfs=corallite&at=-1h", "file:shop/try?vfs=corallite&at=-1h"},
        {"/cwd/file:shop?at=latest&vfs=corallite#x", "file:shop?at=latest&vfs=corallite#x"},
    };
    static const char *const is_not[] = {
        "/home/ann/shop.db",        "file:shop",          "file:shop?vfs=corallite2",
        "file:shop?xvfs=corallite", "shop?vfs=corallite", "file:shop#?vfs=corallite",
        "/profile:x?vfs=corallite", "file:shop?",         "",
    };

    for (size_t i = 0; i < sizeof is / sizeof *is; i++) {
        cr_assert(cv_uri_within(is[i][0]), "%s", is[i][0]);
        cr_expect_str_eq(cv_uri_within(is[i][0]), is[i][1]);
    }
    for (size_t i = 0; i < sizeof is_not / sizeof *is_not; i++)
        cr_expect_null(cv_uri_within(is_not[i]), "%s", is_not[i]);
}

Test(uri, a_plain_name_carries_server_and_at_only)
{
    /* What cannot be carried is refused, not dropped: mode=ro would else be writable. */
    static const char *const refused[] = {
        "file:shop?vfs=corallite&mode=ro", "file:shop?vfs=corallite&durability=off",
        "file:shop?vfs=corallite&at",      "file:a b?vfs=corallite",
        "file:a/b/c?vfs=corallite",        "file:shop?vfs=corallite&server=nowhere",
    };
    struct cv_uri uri;
    char lots[1200];

    cv_uri_init(&uri);
    cr_assert_eq(cv_uri_text(&uri, "file:shop/t%72y?vfs=corallite&server=db:7000&at=-1%20hour#x"),
                 0, "%s", co_sentence());
    cr_expect_str_eq(uri.db, "shop");
    cr_expect_str_eq(uri.branch, "try");
    cr_expect_str_eq(uri.server, "db:7000");
    cr_expect_str_eq(uri.at, "-1 hour");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cv_uri_init(&uri);
        cr_expect_neq(cv_uri_text(&uri, refused[i]), 0, "%s", refused[i]);
        cr_expect(co_sentence()[0]);
    }
    snprintf(lots, sizeof lots, "file:shop?vfs=corallite&at=%01100d", 0);
    cr_expect_neq(cv_uri_text(&uri, lots), 0);
    snprintf(lots, sizeof lots, "file:%01100d?vfs=corallite", 0);
    cr_expect_neq(cv_uri_text(&uri, lots), 0);
    cv_uri_init(&uri);
    cr_expect_eq(cv_uri_text(&uri, "file:shop?vfs=corallite&at=%zz%4"), 0);
    cr_expect_str_eq(uri.at, "%zz%4");
}

Test(uri, parameters_that_are_known)
{
    /* Where a program hands a plain path over its own parameters are passed by; every one of ours
     * is accepted as known. */
    static const char *const ours[][2] = {
        {"server", "a:1"},     {"at", "-1h"},       {"create", "0"},
        {"durability", "off"}, {"staleness", "1s"}, {"cache_mb", "8"},
        {"page_size", "4096"}, {"immutable", "1"},  {"mode", "ro"},
        {"cache", "shared"},   {"psow", "1"},       {"vfs", "corallite"},
        {"modeof", "x"},       {"nolock", "0"},     {"commit_timeout", "1s"},
    };
    struct cv_uri uri;

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        cv_uri_init(&uri);
        cr_expect_eq(cv_uri_param(&uri, ours[i][0], ours[i][1]), 0, "%s", co_sentence());
        cr_expect(cv_uri_knows(ours[i][0]), "%s", ours[i][0]);
    }
    cr_expect_not(cv_uri_knows("_busy_timeout"));
}

Test(uri, parameters_that_contradict_each_other_are_refused)
{
    static const struct {
        const char *key, *value;
    } others[] = {{"mode", "ro"}, {"mode", "rw"}, {"at", "latest"}, {"immutable", "1"}};

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        setup();
        cr_assert_eq(cv_uri_param(&u, others[i].key, others[i].value), 0);
        cr_expect_eq(cv_uri_check(&u), 0, "%s alone", others[i].key);
        cr_assert_eq(cv_uri_param(&u, "create", "0"), 0);
        cr_expect_eq(cv_uri_check(&u), 0, "%s and create=0", others[i].key);
        cr_assert_eq(cv_uri_param(&u, "create", "1"), 0);
        cr_expect_eq(cv_uri_check(&u), CO_ERR_INVAL, "%s", others[i].key);
    }
    setup();
    cr_assert_eq(cv_uri_param(&u, "mode", "rwc"), 0);
    cr_assert_eq(cv_uri_param(&u, "create", "1"), 0);
    cr_assert_eq(cv_uri_check(&u), 0);
}

Test(uri, a_server_in_the_name_and_another_one_beside_it_are_refused)
{
    cr_assert_eq(cv_uri_param(&u, "server", "h:1"), 0);
    cr_assert_eq(cv_uri_from_path(&u, "corallite://h:1/a/main"), 0);
    cr_assert_eq(cv_uri_from_path(&u, "corallite://h:2/a/main"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "server=h:1"));
}

Test(uri, several_pageservers_are_named_with_commas)
{
    /* Each is checked as one alone is; the order is kept, for the first is asked first. */
    static const char *const bad[] = {
        "a:1,", ",a:1", "a:1,b", "a:1,a:1", "a:1,,b:2", "a:1,b:2,a:1", "a:1,b:2,c:3,d:4,e:5", ","};
    struct cv_uri uri, back;
    char path[CV_PATH_MAX];

    cv_uri_init(&uri);
    cr_assert_eq(cv_uri_param(&uri, "server", "db1:6400,[::1]:6400,10.0.0.3:7000"), 0, "%s",
                 co_sentence());
    cr_expect_str_eq(uri.server, "db1:6400,[::1]:6400,10.0.0.3:7000");
    cr_assert_eq(cv_uri_name(&uri, "shop/b"), 0);
    cv_uri_path(&uri, path);
    cv_uri_init(&back);
    cr_assert_eq(cv_uri_from_path(&back, path), 0, "%s", co_sentence());
    cr_expect_str_eq(back.server, uri.server);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cv_uri_init(&uri);
        cr_expect_eq(cv_uri_param(&uri, "server", bad[i]), CO_ERR_INVAL, "%s", bad[i]);
        cr_expect_str_eq(uri.server, CV_SERVER_DEFAULT);
    }
}
