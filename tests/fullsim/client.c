/*
 * client.c - the computes: virtual processes with one to three connections each, every connection
 * on its own thread. A process that is killed leaves all that it had, and another comes in its
 * place.
 */
#include "tests/fullsim/client.h"

#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "compute-vfs/commit.h"
#include "tests/fullsim/work.h"
#include "tests/fullsim/wrap.h"

#define MAX_USERS        6u
#define MORE             2u       /* commits of each connection after the healing */
#define RESTORE_HEARD_US 3000000u /* so long an open may find what had the name before */

static struct user users[MAX_USERS];
static uint32_t next_server = 1, next_conn;
static bool set_up, checking;
lsn_t setup_lsn;

/* ---- SQL ---------------------------------------------------------------------------------------
 */

sqlite3 *client_handle(struct conn *c, const char *branch, lsn_t at, int *rc)
{
    char uri[500], moment[64] = "", lsn[LSN_TEXT], server[64], disk[80] = "";
    sqlite3 *db = NULL;
    c->opened_us = sim.now;
    if (at)
        snprintf(moment, sizeof moment, "&at=lsn:%s", lsn_format(at, lsn));
    if (sim.w.cache_dir)
        snprintf(disk, sizeof disk, "&cache_dir=/sim/pages.%u&cache_dir_mb=1",
                 sim.w.cache_dir == 1 ? c->user->host : 0);
    pages_uri(c->user->server, server);
    snprintf(uri, sizeof uri,
             "file:shop/%s?vfs=corallite&server=%s&commit_timeout=%u&staleness=%u"
             "&cache_mb=%u%s%s",
             branch, server, sim.w.commit_timeout_ms, sim.w.staleness_ms, sim.w.cache_mb, disk,
             moment);
    *rc = sqlite3_open_v2(
        uri, &db, SQLITE_OPEN_URI | SQLITE_OPEN_READWRITE | (at ? 0 : SQLITE_OPEN_CREATE), NULL);
    if (*rc) {
        *rc = db ? sqlite3_extended_errcode(db) : *rc;
        trace("open %s%s: %d (%.300s)", branch, moment, *rc, co_sentence());
        sqlite3_close(db);
        return NULL;
    }
    char pragmas[160];
    cv_commit_spill_bytes = sim.w.spill_bytes ? sim.w.spill_bytes : CV_SPILL_BYTES;
    sqlite3_busy_timeout(db, (int)sim.w.busy_ms);
    snprintf(pragmas, sizeof pragmas,
             "pragma temp_store=memory; pragma cache_size=%u; pragma synchronous=%s",
             sim.w.cache_pages,
             c->full  ? "full"
             : c->off ? "off"
                      : "normal");
    (void)sqlite3_exec(db, pragmas, NULL, NULL, NULL);
    return db;
}

/* A restore of the name is under way: whose it is meanwhile is not known. Or it has moved: a
 * pageserver that follows may not have heard of that yet, and an open there still finds what was
 * put aside. */
static bool name_moves(const char *branch)
{
    for (uint32_t i = 0; i < n_timelines; i++)
        if (timelines[i].moving ? strcmp(timelines[i].branch, branch) == 0
                                : timelines[i].sealed && sim.w.follower)
            return true;
    return false;
}

/* What had the name before is opened under it for a moment longer: a pageserver that follows has
 * not heard of the restore yet, or another connection of this process has it open and was not told.
 */
bool client_may_be_of_before(const struct conn *c)
{
    const struct timeline *t = c->timeline;
    return t && t->restored_us && c->opened_us < t->restored_us + RESTORE_HEARD_US;
}

/* The codes that the VFS may answer under faults. Everything else is a finding. */
void client_check_code(struct conn *c, int rc, const char *what)
{
    if (rc && c->db && c->timeline && c->timeline->gone)
        probe(P_DROP_WRITER);
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_BUSY:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_FULL:
    case SQLITE_SCHEMA: /* changed by others twice while a statement was prepared: SQLite tries
                           twice */
        return;
    case SQLITE_READONLY: /* S14: a restore has put the timeline aside */
        if (c->timeline && (c->timeline->sealed || name_moves(c->timeline->branch) ||
                            client_may_be_of_before(c))) {
            probe(P_RESTORE_WRITER);
            return;
        }
        break;
    default:
        break;
    }
    violation("connection %u: %.200s: code %d: %s", c->id, what, rc,
              c->db ? sqlite3_errmsg(c->db) : "");
}

static int run(struct conn *c, const char *sql)
{
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    if (rc)
        rc = sqlite3_extended_errcode(c->db);
    if (rc)
        trace("sql %.60s: %d %s (%.300s)", sql, rc, sqlite3_errmsg(c->db), co_sentence());
    client_check_code(c, rc, sql);
    if ((rc & 0xff) == SQLITE_BUSY)
        probe(rc == SQLITE_BUSY_SNAPSHOT ? P_BUSY_SNAPSHOT : P_BUSY);
    return rc;
}

int client_sql(struct conn *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *sql = sqlite3_vmprintf(format, args);
    va_end(args);
    co_assert(sql != NULL);
    int rc = run(c, sql);
    if (!rc && c->txn)
        txn_sql(c->txn, sql);
    sqlite3_free(sql);
    return rc;
}

static int take_int(void *out, int n, char **values, char **names)
{
    (void)names;
    if (n && values[0])
        *(long long *)out = atoll(values[0]);
    return 0;
}

long long client_int(struct conn *c, int *rc, const char *format, ...)
{
    va_list args;
    long long out = -1;
    va_start(args, format);
    char *sql = sqlite3_vmprintf(format, args);
    va_end(args);
    co_assert(sql != NULL);
    *rc = sqlite3_exec(c->db, sql, take_int, &out, NULL);
    if (*rc)
        *rc = sqlite3_extended_errcode(c->db);
    client_check_code(c, *rc, sql);
    if (*rc)
        trace("sql %.60s: %d %s (%.300s)", sql, *rc, sqlite3_errmsg(c->db), co_sentence());
    sqlite3_free(sql);
    return out;
}

void client_begin(struct conn *c)
{
    c->txn = txn_begin(c->id, c->timeline, c->full);
    co_assert(c->txn != NULL);
    sim.current->txn = c->txn;
}

static void end(struct conn *c, enum txn_state state)
{
    sim.current->txn = NULL;
    if (c->txn->has_record) /* the timeline of a database is known only when it was born */
        co_assert(c->timeline != NULL);
    if (c->timeline && !c->txn->has_record)
        c->txn->timeline = c->timeline->id;
    txn_end(c->txn, state, NULL);
    c->txn = NULL;
}

int client_commit(struct conn *c, const char *sql)
{
    if (strcmp(sql, "commit") != 0)
        txn_sql(c->txn, sql);
    c->committing = true;
    int rc = run(c, sql);
    c->committing = false;
    if (!c->timeline)
        c->timeline = n_timelines ? &timelines[0] : NULL;
    if (rc == SQLITE_OK) {
        end(c, T_ACKED);
        if (sim.healed)
            c->after_heal++;
    } else if (rc == SQLITE_IOERR_FSYNC) {
        end(c, c->txn->has_record ? T_UNKNOWN : T_NOT_COMMITTED);
    } else if (!c->txn->has_record || rc == SQLITE_IOERR_WRITE || (rc & 0xff) == SQLITE_FULL) {
        end(c, T_NOT_COMMITTED);
    } else {
        violation("connection %u: %.100s: code %d, and a record was written: is it committed? %s",
                  c->id, sql, rc, sqlite3_errmsg(c->db));
    }
    if (!sqlite3_get_autocommit(c->db))
        (void)run(c, "rollback");
    return rc;
}

void client_rollback(struct conn *c, int rc)
{
    (void)rc;
    if (!sqlite3_get_autocommit(c->db))
        (void)run(c, "rollback");
    if (c->txn)
        end(c, T_NOT_COMMITTED);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static bool budget_is_left(void)
{
    uint32_t limit = sim.txn_limit < sim.w.txns ? sim.txn_limit : sim.w.txns;
    return run_stats.begun < limit;
}

static bool unknown_left(void)
{
    for (uint32_t i = 1; i <= n_txns; i++)
        if (txns[i].state == T_UNKNOWN && txn_has_to_be_known(&txns[i]))
            return true;
    return work_restores_open() || work_drops_open();
}

static bool all_finished(void)
{
    for (uint32_t i = 0; i < sim.w.n_users; i++) {
        if (!users[i].proc->alive)
            return false;
        for (uint32_t k = 0; k < sim.w.threads; k++)
            if (!users[i].conns[k] || !users[i].conns[k]->finished)
                return false;
    }
    return true;
}

static void reopen(struct conn *c)
{
    int rc;
    while (!c->db) {
        c->db = client_handle(c, "main", 0, &rc);
        if (!c->db) {
            client_check_code(c, rc, "open");
            task_sleep(20000 + below(R_WORK, 100000));
        }
    }
}

/* SQLite that cannot read says "no such table" by the schema that it knew. */
static void read_schema(struct conn *c)
{
    int rc;
    while (client_int(c, &rc, "select count(*) from sqlite_schema where name='log'") != 1)
        task_sleep(10000);
}

static void *conn_main(void *arg)
{
    struct conn *c = arg;
    reopen(c);
    if (c->user->index == 0 && !set_up && c == c->user->conns[0]) {
        while (work_setup(c))
            task_sleep(20000);
        set_up = true;
        trace("set up at %llx", (unsigned long long)setup_lsn);
    }
    while (!set_up)
        task_sleep(5000 + below(R_WORK, 5000));
    if (!c->timeline)
        c->timeline = &timelines[0];
    task_sleep(2000 * (uint64_t)sim.w.staleness_ms); /* so old may be what is read */
    read_schema(c);
    for (;;) {
        if (work_duel(c))
            continue;
        work_resolve(c);
        if (sim.healed ? c->after_heal >= MORE && atlas_settled() : !budget_is_left()) {
            if (sim.healed && !unknown_left() && !member_busy())
                break;
            task_sleep(20000);
            continue;
        }
        work_one(c);
        if (below(R_WORK, 40) == 0 && sqlite3_close(c->db) == SQLITE_OK) {
            c->db = NULL;
            reopen(c);
        }
        /* Who is refused beside a long transaction tries again and again: the table has an end. */
        task_sleep(1 + below(R_WORK, sim.w.think_us) + (n_txns > MAX_TXNS / 2 ? 300000 : 0));
    }
    c->finished = true;
    if (checking || !all_finished())
        return NULL;
    checking = true;
    check_all(c);
    sim.over = !drill_begin();
    return NULL;
}

static void start(struct user *u)
{
    char name[24];
    snprintf(name, sizeof name, "user%u", u->index);
    u->restarting = false;
    u->proc = proc_new(name, u->host);
    u->server = next_server++;
    co_assert(next_server < 255);
    for (uint32_t k = 0; k < sim.w.threads; k++) {
        struct conn *c = calloc(1, sizeof *c);
        co_assert(c != NULL);
        c->user = u;
        c->id = next_conn++;
        c->full = (u->index == 0 && k == 0) || !chance(R_WORK, sim.w.normal_ppm);
        c->off = !c->full && below(R_WORK, 2);
        u->conns[k] = c;
        (void)task_new(u->proc, conn_main, c);
    }
}

static void restart(void *a, uint64_t b)
{
    (void)b;
    start(a);
}

bool clients_check(void)
{
    return checking;
}

void clients_start(void)
{
    for (uint32_t i = 0; i < sim.w.n_users; i++) {
        users[i].index = i;
        users[i].host = HOST_USERS + i;
        start(&users[i]);
    }
}

static void kill_user(struct user *u)
{
    struct proc *p = u->proc;
    net_proc_died(p, below(R_NEMESIS, 2) == 0);
    for (uint32_t k = 0; k < sim.w.threads; k++) {
        txns_killed(u->conns[k]->id);
        work_restores_killed(u->conns[k]->id);
        work_drops_killed(u->conns[k]->id);
    }
    u->restarting = true;
    disk_crash(u->host, sim.w.cache_dir && below(R_DISK, 2));
    after(20000 + below(R_NEMESIS, 1000000), restart, u, 0);
    proc_kill(p);
}

void clients_end(void)
{
    for (uint32_t i = 0; i < sim.w.n_users; i++) {
        net_proc_died(users[i].proc, false);
        proc_kill(users[i].proc);
    }
}

/* false: there is nobody of that kind now. */
bool client_kill_one(bool in_commit)
{
    uint32_t first = below(R_NEMESIS, sim.w.n_users);
    for (uint32_t i = 0; i < sim.w.n_users; i++) {
        struct user *u = &users[(first + i) % sim.w.n_users];
        bool fits = u->proc->alive && set_up;
        bool commits = false;
        for (uint32_t k = 0; k < sim.w.threads && fits; k++)
            commits = commits || u->conns[k]->committing;
        if (!fits || (in_commit && !commits))
            continue;
        if (fault_now(in_commit ? F_COMMIT_KILL : F_USER_KILL))
            kill_user(u);
        return true;
    }
    return false;
}

uint32_t client_in_transaction(void)
{
    uint32_t first = below(R_NEMESIS, sim.w.n_users);
    for (uint32_t i = 0; i < sim.w.n_users; i++) {
        struct user *u = &users[(first + i) % sim.w.n_users];
        for (uint32_t k = 0; k < sim.w.threads; k++)
            if (set_up && u->proc->alive && u->conns[k]->txn)
                return u->host;
    }
    return 0;
}

struct proc *client_proc(uint32_t host)
{
    return users[host - HOST_USERS].proc;
}

bool clients_done(void)
{
    return set_up && !budget_is_left();
}
