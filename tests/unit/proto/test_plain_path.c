#include <stdio.h>
#include <string.h>

#include <criterion/criterion.h>

#include "proto/name.h"
#include "proto/plain_path.h"
#include "tests/unit/proto/random.h"

TestSuite(plain_path, .timeout = 20);

Test(plain_path, patterns)
{
    /* With a / the whole path, without one its last part; a * takes slashes too. */
    static const struct {
        const char *patterns, *path;
        bool matches;
    } rows[] = {
        {"*.db", "/home/ann/app.db", true},
        {"*.db", "/app.db", true},
        {"*.db", "/home/ann/app.db-journal", false},
        {"*.db", "app.db", false}, /* not absolute */
        {"*.db", "/home/x.db/", false},
        {"app.db", "/home/ann/app.db", true},
        {"app.db", "/home/ann/my-app.db", false},
        {"/home/*/app.db", "/home/ann/app.db", true},
        {"/home/*/app.db", "/home/ann/deep/app.db", true},
        {"/home/*/app.db", "/srv/home/ann/app.db", false},
        {"*/ann/*", "/home/ann/app.db", true},
        {"*.sqlite,*.db", "/a/b.db", true},
        {"*.sqlite,*.db", "/a/b.sqlite", true},
        {"*.sqlite,*.db", "/a/b.sqlite3", false},
        {"[ab].db", "/b.db", true},
        {"a\\*.db", "/a*.db", true},
        {"a\\*.db", "/ab.db", false},
        {"*", "/.hidden", true},
        {"*", "/", false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(plain_path_matches(rows[i].patterns, rows[i].path), rows[i].matches,
                     "'%s' and '%s'", rows[i].patterns, rows[i].path);
}

Test(plain_path, patterns_that_match_nothing_are_refused)
{
    /* A pattern that can never match is a mistake, and is told. */
    static const char *const good[] = {"*.db", "/a/*", "*/x/*.db", "?.db", "[ab]/c", "a,b,/c"};
    static const char *const bad[] = {"", "a,", ",a", "a,,b", "data/*.db", "a,./x"};
    char lots[PLAIN_PATTERNS_MAX_BYTES + 2];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect_eq(plain_path_check(good[i]), 0, "'%s': %s", good[i], co_sentence());
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(plain_path_check(bad[i]), CO_ERR_INVAL, "'%s'", bad[i]);
    memset(lots, 'a', sizeof lots - 1);
    lots[sizeof lots - 1] = 0;
    cr_expect_eq(plain_path_check(lots), CO_ERR_INVAL);
    cr_expect_not(plain_path_matches(lots, "/a"));
}

Test(plain_path, names)
{
    /* The rule is a promise: other tools work it out again. */
    static const char *const rows[][2] = {
        {"/home/ann/app.db", "home-ann-app.db"},
        {"/home/ann/.newsboat/cache.db", "home-ann-.newsboat-cache.db"},
        {"/srv/my-app/a_b.db", "srv-my_-app-a__b.db"},
        {"/a b/\xc3\xbc.db", "a_20b-_c3_bc.db"},
        {"/x", "x"},
        /* 63 characters, and one more (the digest is sha256sum's) */
        {"/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk",
         "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk"},
        {"/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl",
         "jklmnopqrstuvwxyzabcdefghijkl_h4b12333c1cfbe2e631e7a52c767b7d05"},
        {"/.x", "x_h38ce3d36eb3673ce59a0803a5d98b7cc"},
        {"/__", "db_hb9a8007d6a3d1d7866b33dc612758ad3"},
    };
    char name[CO_NAME_MAX_BYTES + 1];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        plain_path_database(rows[i][0], name);
        cr_expect_str_eq(name, rows[i][1]);
        cr_expect_eq(name_check(name), 0, "'%s'", name);
    }
}

/* Reads a name of the first kind back. */
static void decode(const char *name, char *out)
{
    unsigned byte;

    *out++ = '/';
    for (; *name; name++) {
        if (*name == '-')
            *out++ = '/';
        else if (*name != '_')
            *out++ = *name;
        else if (name[1] == '_' || name[1] == '-')
            *out++ = *++name;
        else {
            cr_assert_eq(sscanf(name + 1, "%2x", &byte), 1, "'%s'", name);
            *out++ = (char)byte;
            name += 2;
        }
    }
    *out = 0;
}

Test(plain_path, no_two_paths_have_one_name)
{
    /* Short ones can be read back; long ones carry 128 bits of a digest behind "_h". */
    static const char letters[] = "abc..//--__ \xc3";
    struct rnd r = rnd_begin("plain_path");
    char path[200], name[CO_NAME_MAX_BYTES + 1], back[200];
    int hashed = 0;

    for (int round = 0; round < 20000; round++) {
        size_t n = 1 + rnd_below(&r, 90);

        path[0] = '/';
        for (size_t i = 1; i <= n; i++)
            path[i] = letters[rnd_below(&r, sizeof letters - 1)];
        path[n + 1] = 0;
        plain_path_database(path, name);
        cr_assert_eq(name_check(name), 0, "'%s' of '%s'", name, path);
        if (strstr(name, "_h")) {
            hashed++;
            continue;
        }
        decode(name, back);
        cr_assert_str_eq(back, path);
    }
    cr_expect(hashed > 1000 && hashed < 19000, "%d of 20000", hashed);
}
