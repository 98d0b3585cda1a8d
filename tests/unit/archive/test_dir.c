/* What is special to an archive in a directory. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "archive/store.h"
#include "tests/unit/slower.h"

static char base[64], url[80], aside[80];

static void setup(void)
{
    snprintf(base, sizeof base, "/tmp/co_archdir_XXXXXX");
    cr_assert(mkdtemp(base));
    snprintf(url, sizeof url, "dir:%s/a", base);
    snprintf(aside, sizeof aside, "%s/aside", base);
}

static void teardown(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(dir, .init = setup, .fini = teardown, .timeout = 30);

static struct ar_store *made(void)
{
    struct ar_store *s;
    cr_assert_eq(ar_open(url, &(struct ar_options){.make = true}, &s), 0, "%s", co_sentence());
    return s;
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

Test(dir, is_made_only_when_asked_to)
{
    /* A volume that is not mounted is not silently replaced by an empty directory. */
    struct ar_store *s;
    cr_assert_eq(ar_open(url, NULL, &s), CO_ERR_NOT_FOUND);
    cr_assert(strstr(co_sentence(), base), "%s", co_sentence());
    cr_assert_eq(ar_open(url, &(struct ar_options){.make = true, .read_only = true}, &s),
                 CO_ERR_NOT_FOUND);
    ar_close(made());
    cr_assert_eq(ar_open(url, NULL, &s), 0);
    ar_close(s);
}

Test(dir, wants_an_absolute_path_and_a_scheme)
{
    /* Each with a sentence; nothing is made. */
    struct ar_store *s;
    static const char *const bad[] = {"dir:", "dir:a", "", "/tmp/x", "tape:/x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(ar_open(bad[i], &(struct ar_options){.make = true}, &s), CO_ERR_INVAL, "%s",
                     bad[i]);
}

Test(dir, gone_for_a_while_is_no_missing_object)
{
    /* Every call says that the place is gone, and works again when it is back. */
    struct ar_store *s = made();
    struct co_buf out = {0};
    cr_assert_eq(ar_put(s, "x", co_span_of("1", 1)), 0);
    cr_assert_eq(rename(url + 4, aside), 0);
    cr_assert_eq(ar_get(s, "x", 0, 1, &out, NULL), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), url + 4), "%s", co_sentence());
    cr_assert_eq(ar_put(s, "y", co_span_of("1", 1)), CO_ERR_IO);
    cr_assert_eq(ar_put_if_absent(s, "y", co_span_of("1", 1)), CO_ERR_IO);
    cr_assert_eq(rename(aside, url + 4), 0);
    cr_assert_eq(ar_get(s, "x", 0, 1, &out, NULL), 0, "%s", co_sentence());
    cr_assert_eq(ar_put(s, "y", co_span_of("1", 1)), 0, "%s", co_sentence());
    co_buf_free(&out);
    ar_close(s);
}

Test(dir, objects_cannot_be_written_by_accident)
{
    /* Files of mode 0400, and nothing is left where they were written. */
    struct ar_store *s = made();
    struct stat st;
    char path[200];
    cr_assert_eq(ar_put(s, "d/x", co_span_of("1", 1)), 0);
    cr_assert_eq(ar_put(s, "d/x", co_span_of("2", 1)), CO_ERR_EXISTS);
    cr_assert_eq(ar_put_if_absent(s, "d/x", co_span_of("2", 1)), CO_ERR_EXISTS);
    snprintf(path, sizeof path, "%s/d/x", url + 4);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0400u);
    cr_assert_eq(st.st_nlink, 1u);
    snprintf(path, sizeof path, "%s/.tmp", url + 4);
    cr_assert_eq(entries(path), 0);
    ar_close(s);
}

static int count(void *arg, const char *name, uint64_t size)
{
    (void)name, (void)size;
    ++*(int *)arg;
    return 0;
}

Test(dir, files_of_others_are_not_its_objects)
{
    /* A README that somebody put there, links, hidden files: not listed, not followed. */
    struct ar_store *s = made();
    struct co_buf out = {0};
    char path[200];
    int n = 0;
    cr_assert_eq(ar_put(s, "x", co_span_of("1", 1)), 0);
    static const char *const others[] = {"READ ME", ".hidden", "Upper"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(path, sizeof path, "%s/%s", url + 4, others[i]);
        FILE *f = fopen(path, "w");
        cr_assert(f);
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/link", url + 4);
    cr_assert_eq(symlink("/etc/passwd", path), 0);
    cr_assert_eq(ar_list(s, "", NULL, count, &n), 0);
    cr_assert_eq(n, 1);
    cr_assert_neq(ar_get(s, "link", 0, 1, &out, NULL), 0);
    ar_close(s);
}

Test(dir, killed_while_it_puts_leaves_whole_objects)
{
    /* kill -9 at some moment: each object that is there has all its bytes. */
    static uint8_t bytes[300000];
    memset(bytes, 'z', sizeof bytes);
    for (int round = 0; round < 8; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct ar_store *s = made();
            for (int i = 0;; i++) {
                char name[32];
                snprintf(name, sizeof name, "k/%d-%d", round, i);
                if (ar_put(s, name, co_span_of(bytes, sizeof bytes)))
                    _exit(1);
            }
        }
        usleep((useconds_t)(7000 + 3000 * round) * slower());
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    struct ar_store *s = made();
    int n = 0;
    cr_assert_eq(ar_list(s, "k/", NULL, count, &n), 0);
    char path[200];
    snprintf(path, sizeof path, "%s/k", url + 4);
    DIR *d = opendir(path);
    cr_assert(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        cr_assert_eq(fstatat(dirfd(d), e->d_name, &st, 0), 0);
        cr_assert_eq((size_t)st.st_size, sizeof bytes);
    }
    closedir(d);
    cr_assert_gt(n, 0);
    ar_close(s);
}
