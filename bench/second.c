/*
 * second.c - two processes on one database: a writer, and one that reads or takes over.
 *
 *   second follow --uri URI [--extension FILE] [--commits 0|1] [--times 2000]
 *     The writer has committed. The other one reads a row by its key, in transactions of their own;
 *     with --commits 1 the writer commits before each. What is timed is BEGIN and the row. In the
 * same transaction the newest row is looked at afterwards: it must be the one just committed.
 *   second take --uri URI [--extension FILE] --release 0|1
 *     The writer commits for a while and then closes (--release 1) or is killed; the other one,
 * which has read and never written, commits at once. What is timed is that commit.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/lib/row.h"
#include "bench/lib/sqlite_client.h"

#define ROWS 2000 /* enough that the newest row is in another leaf than the oldest */

static int argc_;
static char **argv_;
static int to_writer[2], from_writer[2];

static void say(int fd)
{
    if (write(fd, "k", 1) != 1)
        bm_die("the other process ended");
}

static bool hear(int fd)
{
    char c;
    return read(fd, &c, 1) == 1;
}

static void make(sqlite3 *db)
{
    char sql[300];
    sq_exec(db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, k INT, v BLOB)");
    snprintf(sql, sizeof sql,
             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
             "INSERT INTO t(k, v) SELECT i, zeroblob(%d) FROM n",
             ROWS, ROW_BYTES);
    sq_exec(db, sql);
}

/* The process that writes: a commit for each byte that it hears, until the pipe ends. */
static void writer(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(to_writer[1]);
    sq_options(argc_, argv_);
    sqlite3 *db = sq_open();
    make(db);
    sqlite3_stmt *s = sq_prepare(db, "INSERT INTO t(k, v) VALUES(7, zeroblob(100))");
    say(from_writer[1]);
    while (hear(to_writer[0])) {
        sq_run(db, s);
        say(from_writer[1]);
    }
    sqlite3_finalize(s);
    sqlite3_close(db);
    say(from_writer[1]);
    _exit(0);
}

static void commit_there(void)
{
    say(to_writer[1]);
    if (!hear(from_writer[0]))
        bm_die("the writer ended");
}

static void follow(void)
{
    int times = (int)bm_number(argc_, argv_, "--times", 2000), warm = times / 10 + 1;
    bool commits = bm_number(argc_, argv_, "--commits", 0) != 0;
    sqlite3 *db = sq_open();
    sqlite3_stmt *begin = sq_prepare(db, "BEGIN"), *end = sq_prepare(db, "COMMIT");
    sqlite3_stmt *one = sq_prepare(db, "SELECT v FROM t WHERE id = 5");
    sqlite3_stmt *newest = sq_prepare(db, "SELECT max(id) FROM t");
    uint64_t *ns = calloc((size_t)times, sizeof *ns), began = bm_now_ns();
    long long expected = ROWS;
    struct bm_result result;
    if (ns == NULL || times < 1)
        bm_die("--times: 1 or more");
    for (int i = -warm; i < times; i++) {
        if (commits) {
            commit_there();
            expected++;
        }
        uint64_t before = bm_now_ns();
        sq_run(db, begin);
        int found = sq_run(db, one);
        uint64_t after = bm_now_ns();
        if (sqlite3_step(newest) != SQLITE_ROW)
            bm_die("%s", sqlite3_errmsg(db));
        long long have = sqlite3_column_int64(newest, 0);
        sqlite3_reset(newest);
        sq_run(db, end);
        if (found != 1 || have != expected)
            bm_die("a read that is not strict: the newest row is %lld, %lld was acknowledged", have,
                   expected);
        if (i >= 0)
            ns[i] = after - before;
    }
    bm_summarize(ns, (size_t)times, began, bm_now_ns(), &result);
    bm_print(&result, NULL);
}

static void take(pid_t pid)
{
    bool release = bm_number(argc_, argv_, "--release", 0) != 0;
    sqlite3 *db = sq_open();
    uint64_t ns;
    struct bm_result result;
    long long n = ROWS;
    for (int i = 0; i < 50; i++, n++)
        commit_there();
    if (sq_value(db, "SELECT count(*) FROM t") != n)
        bm_die("%lld rows were acknowledged", n);
    if (release) {
        close(to_writer[1]);
        if (!hear(from_writer[0]))
            bm_die("the writer did not close");
    } else {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    uint64_t before = bm_now_ns();
    sq_exec(db, "INSERT INTO t(k, v) VALUES(8, zeroblob(100))");
    ns = bm_now_ns() - before;
    if (sq_value(db, "SELECT count(*) FROM t") != n + 1)
        bm_die("%lld rows were acknowledged", n + 1);
    bm_summarize(&ns, 1, before, before + ns, &result);
    bm_print(&result, NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    argc_ = argc, argv_ = argv;
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(mode, "follow") != 0 && strcmp(mode, "take") != 0)
        bm_die("the modes are follow, take");
    if (pipe(to_writer) != 0 || pipe(from_writer) != 0)
        bm_die("no pipes");
    pid_t pid = fork();
    if (pid < 0)
        bm_die("no process");
    if (pid == 0)
        writer();
    close(from_writer[1]);
    if (!hear(from_writer[0]))
        bm_die("the writer ended");
    sq_options(argc, argv);
    if (mode[0] == 'f')
        follow();
    else
        take(pid);
    return 0;
}
