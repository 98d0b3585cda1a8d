#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/process_file.h"
#include "tests/unit/slower.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/corallite-cli-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void teardown(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(cluster, .timeout = 10, .init = setup, .fini = teardown);

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

Test(cluster, ports_are_as_documented)
{
    /* pageserver P and P+1; safekeeper i P+10+2(i-1) and the next. */
    struct cluster c = {.port_base = 6400};
    unsigned index;
    cluster_default(&c);
    cr_assert_eq(c.n, 4);
    cr_assert_str_eq(c.at[1].name, "safekeeper-2");
    cr_assert_eq(c.at[1].node, 2);
    cr_assert_eq(cluster_port(&c, 1), 6412);
    cr_assert_eq(cluster_port(&c, cluster_owner(&c)), 6400);
    cr_assert_str_eq(c.at[cluster_owner(&c)].name, "pageserver");
    /* A second pageserver and spares have those that were free. */
    cr_assert_eq(cluster_add(&c, true, 2, &index), 0);
    cr_assert_str_eq(c.at[index].name, "pageserver-2");
    cr_assert_eq(cluster_port(&c, index), 6402);
    for (uint32_t node = 4; node <= 6; node++) {
        cr_assert_eq(cluster_add(&c, false, node, &index), 0);
        cr_assert_eq(cluster_port(&c, index), 6404 + 2 * (node - 4));
        cr_assert_eq(index, node - 1, "safekeepers come first, by number");
    }
    cr_assert_eq(cluster_add(&c, false, 7, &index), CO_ERR_FULL);
    cr_assert(strstr(co_sentence(), "6 safekeepers"), "%s", co_sentence());
    /* The port of one that has left is another's. */
    cluster_remove(&c, cluster_find(&c, false, 2));
    cr_assert_eq(cluster_find(&c, false, 2), c.n);
    cr_assert_eq(cluster_add(&c, false, 7, &index), 0);
    cr_assert_eq(cluster_port(&c, index), 6412);
    for (unsigned i = 0; i < c.n; i++)
        cr_assert_lt(cluster_port(&c, i) + 1, 6400 + (int)CLUSTER_PORTS);
}

Test(cluster, a_port_base_that_leaves_no_room_is_refused)
{
    uint16_t base = 0;
    cr_assert_eq(cluster_parse_port_base("7400", &base), 0);
    cr_assert_eq(base, 7400);
    cr_assert_eq(cluster_parse_port_base("65520", &base), 0);
    static const char *const wrong[] = {
        "65521", "80", "", "x", "7400x", "-1", " 7400", "99999999", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_eq(cluster_parse_port_base(wrong[i], &base), CO_ERR_INVAL, "'%s'", wrong[i]);
}

Test(cluster, its_file_comes_back_as_written)
{
    static struct cluster c = {.port_base = 7420}, back;
    char text[CLUSTER_TEXT_MAX];
    unsigned index;
    memset(c.id.b, 0xa5, sizeof c.id.b);
    cluster_default(&c);
    cr_assert_eq(cluster_format(&c, text), strlen(text));
    cr_assert(strstr(text, "corallite-cluster 1\n"), "an older build reads the usual one: %s",
              text);
    cr_assert_eq(cluster_parse(text, "x", &back), 0);
    cr_assert(co_id_eq(&c.id, &back.id));
    cr_assert_eq(back.port_base, 7420);
    cr_assert_eq(back.n, 4);
    /* Other daemons than those: an older build must not start the first three. */
    cr_assert_eq(cluster_add(&c, false, 4, &index), 0);
    cluster_remove(&c, cluster_find(&c, false, 2));
    cr_assert_eq(cluster_add(&c, true, 2, &index), 0);
    c.owner = 2;
    cluster_format(&c, text);
    cr_assert(strstr(text, "corallite-cluster 2\n"), "%s", text);
    cr_assert_eq(cluster_parse(text, "x", &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 5);
    cr_assert_eq(back.owner, 2);
    for (unsigned i = 0; i < c.n; i++) {
        cr_assert_str_eq(back.at[i].name, c.at[i].name);
        cr_assert_eq(cluster_port(&back, i), cluster_port(&c, i));
    }
}

Test(cluster, lines_of_daemons_that_cannot_be_are_damage)
{
    struct cluster c;
    static const char *const wrong[] = {
        "safekeeper 1 10\nowner 1\n",                                  /* no pageserver */
        "pageserver 1 0\nowner 1\n",                                   /* no safekeeper */
        "safekeeper 1 10\npageserver 1 0\n",                           /* no owner */
        "safekeeper 1 10\npageserver 1 0\nowner 2\n",                  /* another owner */
        "safekeeper 1 10\nsafekeeper 1 12\npageserver 1 0\nowner 1\n", /* twice */
        "safekeeper 1 10\nsafekeeper 2 10\npageserver 1 0\nowner 1\n", /* one port */
        "safekeeper 1 11\npageserver 1 0\nowner 1\n",                  /* a port of HTTP */
        "safekeeper 0 10\npageserver 1 0\nowner 1\n",
        "safekeeper 99999 10\npageserver 1 0\nowner 1\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[400];
        snprintf(text, sizeof text,
                 "corallite-cluster 2\nid 00112233445566778899aabbccddeeff\nport-base 6400\n%s",
                 wrong[i]);
        cr_assert_eq(cluster_parse(text, "/d/cluster", &c), CO_ERR_CORRUPT, "'%s'", wrong[i]);
    }
}

Test(cluster, a_damaged_or_newer_file_is_refused_by_name)
{
    struct cluster c;
    cr_assert_eq(cluster_parse("", "/d/cluster", &c), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "/d/cluster"));
    cr_assert_eq(cluster_parse("corallite-cluster 1\nid 00\nport-base 6400\n", "x", &c),
                 CO_ERR_CORRUPT);
    cr_assert_eq(
        cluster_parse("corallite-cluster 1\nid 00112233445566778899aabbccddeeff\n", "x", &c),
        CO_ERR_CORRUPT);
    cr_assert_eq(cluster_parse("corallite-cluster 3\n", "/d/cluster", &c), CO_ERR_VERSION);
    cr_assert(strstr(co_sentence(), "newer"));
}

Test(cluster, making_it_twice_gives_the_same_cluster)
{
    struct cluster a, b;
    bool made;
    char path[200];
    snprintf(path, sizeof path, "%s/deep/er", dir);
    cr_assert_eq(cluster_open(path, &a), CO_ERR_NOT_FOUND);
    /* In a child: the lock is held until its process ends. */
    pid_t child = fork();
    if (child == 0)
        _exit(cluster_open_or_make(path, 7400, NULL, &a, &made) == 0 && made ? 0 : 1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    cr_assert_eq(cluster_open(path, &a), 0);
    cr_assert_not(co_id_is_zero(&a.id));
    cr_assert_eq(cluster_open_or_make(path, 9000, NULL, &b, &made), 0, "%s", co_sentence());
    cr_assert_not(made);
    cr_assert(co_id_eq(&a.id, &b.id));
    cr_assert_eq(b.port_base, 7400);
}

Test(cluster, data_without_its_cluster_file_is_not_adopted)
{
    /* A fresh id over old data would make every daemon refuse it, or worse, accept it. */
    struct cluster c;
    bool made;
    char path[200];
    snprintf(path, sizeof path, "%s/safekeeper-2", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(cluster_open_or_make(dir, 7400, NULL, &c, &made), CO_ERR_EXISTS);
}

Test(cluster, purge_removes_its_own_and_nothing_else)
{
    struct cluster c;
    bool made;
    char path[200];
    cr_assert_eq(cluster_open_or_make(dir, 7400, NULL, &c, &made), 0);
    snprintf(path, sizeof path, "%s/pageserver", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    put("pageserver/data", "x");
    put("mine", "x");
    cr_assert_eq(cluster_purge(&c), 0, "%s", co_sentence());
    cr_assert_neq(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/mine", dir);
    cr_assert_eq(access(path, F_OK), 0);
}

Test(cluster, the_start_time_is_found_whatever_the_program_is_called)
{
    uint64_t ticks = 0;
    const char *stat = "12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
    cr_assert(cluster_parse_stat(stat, &ticks));
    cr_assert_eq(ticks, 777);
    cr_assert_not(cluster_parse_stat("12 (x) R 1 2", &ticks));
    cr_assert_not(cluster_parse_stat("", &ticks));
}

Test(cluster, a_recycled_pid_is_not_taken_for_the_daemon)
{
    /* This very process has the pid, but not that start time. */
    struct cluster c;
    bool made;
    char text[100];
    cr_assert_eq(cluster_open_or_make(dir, 7400, NULL, &c, &made), 0);
    snprintf(text, sizeof text, "%d 1 no-such-boot\n", (int)getpid());
    put("run/safekeeper-1.pid", text);
    cr_assert_eq(process_alive(&c, 0), 0);
    put("run/safekeeper-1.pid", "rubbish\n");
    cr_assert_eq(process_alive(&c, 0), 0);
}

Test(cluster, a_started_program_is_alive_until_it_ends_and_its_last_words_are_kept)
{
    struct cluster c;
    bool made;
    int pid;
    long long offset;
    char words[512];
    char *argv[] = {"/bin/sh", "-c",
                    "echo '2026-01-01T00:00:00.0Z error some/module: the disk is gone' >&2; "
                    "echo later; sleep 0.2",
                    NULL};
    cr_assert_eq(cluster_open_or_make(dir, 7400, NULL, &c, &made), 0);
    cr_assert_eq(process_start(&c, 0, argv, &pid, &offset), 0, "%s", co_sentence());
    cr_assert_eq(process_alive(&c, 0), pid);
    for (int i = 0; i < 100 * (int)slower() && process_alive(&c, 0); i++)
        usleep(50000);
    cr_assert_eq(process_alive(&c, 0), 0);
    process_last_words(&c, 0, offset, words);
    cr_assert_str_eq(words, "the disk is gone");
}

Test(cluster, a_log_line_is_cut_to_its_message)
{
    cr_assert_str_eq(cluster_log_message("2026-01-01T00:00:00.0Z info a/b: port in use: 1"),
                     "port in use: 1");
    cr_assert_str_eq(cluster_log_message("Segmentation fault"), "Segmentation fault");
}

Test(cluster, names_of_daemons_have_short_forms_and_proposals)
{
    static struct cluster c;
    unsigned i;
    cluster_default(&c);
    cr_assert_eq(cluster_node_by_name(&c, "sk3", &i), 0);
    cr_assert_eq(i, 2);
    cr_assert_eq(cluster_node_by_name(&c, "pageserver", &i), 0);
    cr_assert_eq(i, cluster_owner(&c));
    cr_assert_eq(cluster_node_by_name(&c, "ps2", &i), CO_ERR_INVAL);
    cr_assert_eq(cluster_node_by_name(&c, "safekeper-2", &i), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "'safekeeper-2'"), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "safekeeper-3 and pageserver"), "%s", co_sentence());
}

Test(cluster, an_archive_is_kept_with_it)
{
    /* Where there is none the file is as it was before there were archives. */
    struct cluster c = {.port_base = 6400}, d;
    char text[CLUSTER_TEXT_MAX];
    cluster_default(&c);
    cluster_format(&c, text);
    cr_assert(!strstr(text, "archive"));
    strcpy(c.archive, "dir:/mnt/elsewhere/with a space");
    cluster_format(&c, text);
    cr_assert_eq(cluster_parse(text, "x", &d), 0);
    cr_assert_str_eq(d.archive, c.archive);
    cr_assert_eq(
        cluster_parse("corallite-cluster 1\nid 00112233445566778899aabbccddeeff\nport-base "
                      "6400\narchive \n",
                      "x", &d),
        CO_ERR_CORRUPT);
}
