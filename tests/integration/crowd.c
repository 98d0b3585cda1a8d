/*
 * crowd.c - many threads of one process on one database, each with a connection of its own and the
 * stock SQLite; nothing of Corallite is linked in.
 *
 *   crowd EXTENSION URI WRITERS READERS SECONDS [BUSY_MS]
 *
 * The database holds account(id INTEGER PRIMARY KEY, balance INT), made when it is absent; writers
 * move money, so the sum never changes; readers look at the sum, without pause. Prints a line a
 * thread,
 *
 *   writer I COMMITS LONGEST_US BUSY
 *   reader I READS LONGEST_US
 *
 * and `wrong SENTENCE` for whatever must not be; exit status 1 then. BUSY counts SQLITE_BUSY that
 * got through the busy timeout.
 */
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ACCOUNTS 200
#define EACH     1000

struct worker {
    pthread_t thread;
    int number, is_writer;
    uint64_t done, longest_us, busy;
    unsigned random;
};

static const char *uri;
static int busy_ms = 30000;
static atomic_int stop, wrong;

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void tell_wrong(const char *who, sqlite3 *db, int rc)
{
    printf("wrong %s: %d %s\n", who, rc, sqlite3_errmsg(db));
    atomic_store(&wrong, 1);
    atomic_store(&stop, 1);
}

static sqlite3 *open_db(void)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(
        uri, &db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);

    if (rc != SQLITE_OK) {
        fprintf(stderr, "crowd: %s: %s\n", uri, sqlite3_errmsg(db));
        exit(2);
    }
    sqlite3_busy_timeout(db, busy_ms);
    return db;
}

static int transfer(sqlite3 *db, unsigned *random)
{
    char sql[300];
    int a = rand_r(random) % ACCOUNTS + 1, b = rand_r(random) % ACCOUNTS + 1;

    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE; UPDATE account SET balance = balance - 1 WHERE id = %d;"
             "UPDATE account SET balance = balance + 1 WHERE id = %d; COMMIT",
             a, b);
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int look(void *sum, int n, char **values, char **names)
{
    (void)n;
    (void)names;
    *(long long *)sum = values[0] ? atoll(values[0]) : -1;
    return 0;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    sqlite3 *db = open_db();
    uint64_t began, took;

    while (!atomic_load(&stop)) {
        long long sum = -1;
        int rc;

        began = now_us();
        rc = w->is_writer ? transfer(db, &w->random)
                          : sqlite3_exec(db, "SELECT sum(balance) FROM account", look, &sum, NULL);
        took = now_us() - began;
        if (rc == SQLITE_BUSY && w->is_writer) {
            w->busy++;
            fprintf(stderr, "crowd: busy %d after %llu ms: %s\n", sqlite3_extended_errcode(db),
                    (unsigned long long)(took / 1000), sqlite3_errmsg(db));
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            continue;
        }
        if (rc != SQLITE_OK)
            tell_wrong(w->is_writer ? "writer" : "reader", db, rc);
        else if (!w->is_writer && sum != (long long)ACCOUNTS * EACH)
            tell_wrong("a reader saw another sum", db, (int)sum);
        w->done++;
        w->longest_us = took > w->longest_us ? took : w->longest_us;
    }
    if (sqlite3_close(db) != SQLITE_OK)
        tell_wrong("close", db, 0);
    return NULL;
}

static void load_extension(const char *path)
{
    sqlite3 *db = NULL;
    char *error = NULL;

    sqlite3_open(":memory:", &db);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, path, NULL, &error) != SQLITE_OK) {
        fprintf(stderr, "crowd: %s: %s\n", path, error);
        exit(2);
    }
    sqlite3_close(db);
}

static void make_accounts(void)
{
    sqlite3 *db = open_db();
    char sql[300];
    int rc;

    snprintf(
        sql, sizeof sql,
        "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS account(id INTEGER PRIMARY KEY, balance INT);"
        "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < %d)"
        "INSERT OR IGNORE INTO account SELECT x, %d FROM i; COMMIT",
        ACCOUNTS, EACH);
    rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        fprintf(stderr, "crowd: %s\n", sqlite3_errmsg(db));
        exit(2);
    }
    sqlite3_close(db);
}

int main(int argc, char **argv)
{
    int writers, n;
    uint64_t end_us;
    struct worker *all;

    if (argc < 6) {
        fprintf(stderr, "usage: crowd EXTENSION URI WRITERS READERS SECONDS [BUSY_MS]\n");
        return 2;
    }
    uri = argv[2];
    writers = atoi(argv[3]);
    n = writers + atoi(argv[4]);
    busy_ms = argc > 6 ? atoi(argv[6]) : busy_ms;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(argv[1], "-") != 0)
        load_extension(argv[1]);
    make_accounts();
    all = calloc((size_t)n, sizeof *all);
    if (!all)
        return 2;
    for (int i = 0; i < n; i++) {
        all[i] = (struct worker){.number = i < writers ? i : i - writers,
                                 .is_writer = i < writers,
                                 .random = (unsigned)getpid() * 31u + (unsigned)i};
        if (pthread_create(&all[i].thread, NULL, work, &all[i]) != 0)
            return 2;
    }
    end_us = now_us() + (uint64_t)(atof(argv[5]) * 1e6);
    while (now_us() < end_us && !atomic_load(&stop))
        usleep(10000);
    atomic_store(&stop, 1);
    for (int i = 0; i < n; i++) {
        struct worker *w = &all[i];

        pthread_join(w->thread, NULL);
        if (w->is_writer)
            printf("writer %d %llu %llu %llu\n", w->number, (unsigned long long)w->done,
                   (unsigned long long)w->longest_us, (unsigned long long)w->busy);
        else
            printf("reader %d %llu %llu\n", w->number, (unsigned long long)w->done,
                   (unsigned long long)w->longest_us);
    }
    free(all);
    return atomic_load(&wrong);
}
