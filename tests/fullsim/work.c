/*
 * work.c - what the connections do: bank transfers whose total stays, lists that are appended to,
 * marks that are written over each other, and reading all of it. All content is in the SQL text, so
 * that the same text on a plain SQLite gives the same pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/fullsim/work.h"

/* ---- setting up --------------------------------------------------------------------------------
 */

/* The transaction by which everything begins; tried until it is there. */
int work_setup(struct conn *c)
{
    char vacuum[40];
    int rc = 0;
    long long done = client_int(c, &rc, "select count(*) from sqlite_schema where name='log'");
    if (!rc && done == 1) {
        struct record *r = n_timelines ? gold_at(&timelines[0], NEVER) : NULL;
        setup_lsn = r ? r->h.end_lsn : 0;
        return r == NULL;
    }
    if (!rc)
        rc = client_sql(c, "pragma page_size=%u", sim.w.page_size);
    if (rc)
        return rc;
    client_begin(c); /* on an empty database it is a transaction */
    snprintf(vacuum, sizeof vacuum, "pragma auto_vacuum=%u", sim.w.auto_vacuum);
    rc = client_commit(c, vacuum);
    if (rc)
        return rc;
    client_begin(c);
    rc = client_sql(c, "begin immediate");
    /* An earlier try whose outcome was unknown may have turned out to be committed by now. */
    if (!rc && client_int(c, &rc, "select count(*) from sqlite_schema") > 0 && !rc)
        rc = SQLITE_BUSY;
    if (!rc)
        rc = client_sql(c,
                        "create table acct(id integer primary key, bal int, pad blob);"
                        "create table log(id integer primary key, who int);"
                        "create table list(k integer primary key, v text);"
                        "create table mark(k integer primary key, v text);"
                        "create table thing(id integer primary key, a int, data blob);"
                        "create index by_a on thing(a);"
                        "with recursive s(i) as (select 0 union all select i+1 from s where i<%d) "
                        "insert into acct select i, %d, zeroblob(60) from s;"
                        "with recursive s(i) as (select 0 union all select i+1 from s where i<%d) "
                        "insert into list select i, '' from s;"
                        "insert into mark select k, '00000000' from list",
                        ACCOUNTS - 1, BALANCE, LISTS - 1);
    if (rc) {
        client_rollback(c, rc);
        return rc;
    }
    rc = client_commit(c, "commit");
    if (rc == SQLITE_OK)
        setup_lsn = gold_at(&timelines[0], NEVER)->h.end_lsn;
    return rc;
}

void work_linger(void)
{
    if (below(R_WORK, 5) == 0)
        task_sleep(below(R_WORK, sim.w.linger_us));
}

/* ---- reading -----------------------------------------------------------------------------------
 */

/* A read transaction: whose changes it has seen. */
struct seen {
    struct conn *conn;
    uint64_t id[MAX_TXNS];
    uint32_t n;
};

/* What is read at a snapshot that is known to be committed was committed there: SQLite's own cache
 * is asked, too. An older snapshot goes on with what was lost since: a connection's own commit with
 * less than FULL, and what that stands upon. */
static void see(struct seen *s, uint64_t id, const char *what)
{
    const struct txn *x = &txns[id];
    const struct task *t = sim.current;
    if (x->state == T_NOT_COMMITTED && x->told_us < t->pin_us)
        violation("connection %u reads transaction %llu, which was told not to be committed",
                  s->conn->id, (unsigned long long)id);
    if (t->pin_known && !txn_is_at(x, t->pin_line, t->pin))
        violation("connection %u reads transaction %llu in %s at %llx, where it is not",
                  s->conn->id, (unsigned long long)id, what, (unsigned long long)t->pin);
    co_assert(s->n < MAX_TXNS);
    s->id[s->n++] = id;
}

static void check_list(struct seen *s, const char *v)
{
    for (const char *p = v; *p; p++) {
        uint64_t id = strtoull(p, (char **)(uintptr_t)&p, 10);
        if (id == 0 || id > n_txns || *p != ',')
            violation("connection %u reads a list that nobody wrote: %.100s", s->conn->id, v);
        for (uint32_t i = 0; i < s->n; i++)
            if (s->id[i] == id)
                violation("connection %u reads transaction %llu twice", s->conn->id,
                          (unsigned long long)id);
        see(s, id, "a list");
    }
    run_stats.appends_checked++;
}

/* What its own connection committed with less than FULL it may see before nobody can lose it, and
 * with it whatever that stands upon. */
static void note_seen(const struct seen *s)
{
    lsn_t own = 0;
    for (uint64_t id = 1; id <= n_txns; id++) {
        const struct txn *x = &txns[id];
        if (x->client == s->conn->id && !x->full && x->state == T_ACKED && x->end > own)
            own = x->end;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        struct txn *x = &txns[s->id[i]];
        x->seen |= x->client != s->conn->id && x->end > own;
    }
}

static int take_list(void *arg, int n, char **values, char **names)
{
    (void)n;
    (void)names;
    check_list(arg, values[0] ? values[0] : "");
    return 0;
}

/* A mark is its writer's number, times an odd one: eight digits that have nothing in common with
 * those before, so that records of marks have the same length. */
#define MARK_OF(id)  ((uint32_t)(id)*0x9e3779b1u)
#define MARKER_OF(v) ((v)*0x0e8b2f51u) /* its inverse, modulo 2^32 */

static int take_mark(void *arg, int n, char **values, char **names)
{
    struct seen *s = arg;
    (void)n;
    (void)names;
    uint32_t id = MARKER_OF((uint32_t)strtoul(values[0] ? values[0] : "z", NULL, 16));
    if (id > n_txns)
        violation("connection %u reads a mark that nobody made: %s", s->conn->id, values[0]);
    if (id)
        see(s, id, "a mark");
    return 0;
}

/* Its halves apart, so that much can happen in between. */
static long long sum_of_accounts(struct conn *c, int *rc)
{
    if (below(R_WORK, 2))
        return client_int(c, rc, "select sum(bal) from acct");
    long long low = client_int(c, rc, "select sum(bal) from acct where id < %d", ACCOUNTS / 2);
    work_linger();
    if (*rc)
        return 0;
    return low + client_int(c, rc, "select sum(bal) from acct where id >= %d", ACCOUNTS / 2);
}

/* One read transaction over everything. */
void work_read(struct conn *c, const char *why)
{
    int rc = client_sql(c, "begin");
    if (rc)
        return;
    long long sum = sum_of_accounts(c, &rc);
    work_linger();
    if (!rc && sum != (long long)ACCOUNTS * BALANCE)
        violation("connection %u (%s): the accounts hold %lld instead of %d", c->id, why, sum,
                  ACCOUNTS * BALANCE);
    run_stats.sums += rc == 0;
    struct seen *seen = calloc(1, sizeof *seen);
    co_assert(seen != NULL);
    seen->conn = c;
    if (!rc)
        rc = sqlite3_exec(c->db, "select v from list", take_list, seen, NULL);
    if (!rc)
        rc = sqlite3_exec(c->db, "select v from mark", take_mark, seen, NULL);
    if (!rc) {
        long long twice =
            client_int(c, &rc, "select count(*) - count(distinct id) from log where id > 0");
        if (!rc && twice != 0)
            violation("connection %u: %lld transactions are in the log twice", c->id, twice);
    }
    if (!rc && below(R_WORK, 8) == 0) {
        long long n = client_int(c, &rc, "select count(*) from thing indexed by by_a where a >= 0");
        long long m = rc ? 0 : client_int(c, &rc, "select count(*) from thing where a >= 0");
        if (!rc && n != m)
            violation("connection %u: the index has %lld rows, the table %lld", c->id, n, m);
    }
    if (!sqlite3_get_autocommit(c->db) && (client_sql(c, "commit") || rc)) {
        client_rollback(c, 0);
        seen->n = 0;
    }
    if (rc == 0)
        note_seen(seen);
    free(seen);
}

/* ---- writing -----------------------------------------------------------------------------------
 */

char *work_noise(uint32_t bytes, bool dense)
{
    char *hex = malloc(2 * (size_t)bytes + 1);
    co_assert(hex != NULL);
    for (uint32_t i = 0; i < 2 * bytes; i++)
        hex[i] = "0123456789abcdef"[dense || i % 64 == 0 ? below(R_WORK, 16) : 7];
    hex[2 * bytes] = 0;
    return hex;
}

int work_begin(struct conn *c)
{
    client_begin(c);
    return client_sql(c, below(R_WORK, 3) ? "begin immediate" : "begin");
}

int work_sign(struct conn *c)
{
    work_linger();
    return client_sql(c, "insert into log values(%lld, %u)", (long long)c->txn->id, c->id);
}

void work_finish(struct conn *c, int rc)
{
    if (!rc && below(R_WORK, 30) == 0) {
        client_rollback(c, 0); /* it has changed its mind */
        return;
    }
    if (!rc)
        (void)client_commit(c, "commit");
    else
        client_rollback(c, rc);
    /* Who was refused and reads instead is offered the tip (M7). */
    if ((rc & 0xff) == SQLITE_BUSY && (sim.w.busy_ms == 0 || below(R_WORK, 2)))
        work_read(c, "a read after a refusal");
}

static void transfer(struct conn *c)
{
    uint32_t from = below(R_WORK, ACCOUNTS), to = below(R_WORK, ACCOUNTS);
    uint32_t sum = 1 + below(R_WORK, 50);
    int rc = work_begin(c);
    char *pad = work_noise(40 + below(R_WORK, 200), below(R_WORK, 2));
    bool plain = below(R_WORK, 2); /* its record has the same length as many others */
    if (!rc && below(R_WORK, 4) == 0) {
        long long all = sum_of_accounts(c, &rc);
        if (!rc && all != (long long)ACCOUNTS * BALANCE)
            violation("connection %u: inside its transaction the accounts hold %lld", c->id, all);
    }
    work_linger();
    if (!rc && plain)
        rc = client_sql(c, "update acct set bal=bal-%u where id=%u", sum, from);
    else if (!rc)
        rc = client_sql(c, "update acct set bal=bal-%u, pad=x'%s' where id=%u", sum, pad, from);
    if (!rc)
        rc = client_sql(c, "update acct set bal=bal+%u where id=%u", sum, to);
    if (!rc)
        rc = work_sign(c);
    free(pad);
    work_finish(c, rc);
}

static void append(struct conn *c)
{
    int rc = work_begin(c);
    if (!rc)
        rc = client_sql(c, "update list set v = v || '%lld,' where k = %u", (long long)c->txn->id,
                        below(R_WORK, LISTS));
    if (!rc)
        rc = work_sign(c);
    work_finish(c, rc);
}

uint32_t work_mark_of(uint64_t txn)
{
    return MARK_OF(txn);
}

int work_mark(struct conn *c, uint32_t row)
{
    return client_sql(c, "update mark set v = '%08x' where k = %u", MARK_OF(c->txn->id), row);
}

static void mark(struct conn *c)
{
    int rc = work_begin(c);
    work_linger();
    if (!rc)
        rc = work_mark(c, below(R_WORK, LISTS));
    work_finish(c, rc);
}

/* ------------------------------------------------------------------------------------------------
 */

void work_some(struct conn *c)
{
    const struct swarm *w = &sim.w;
    const struct {
        uint32_t weight;
        void (*run)(struct conn *c);
    } kinds[] = {{w->bank, transfer},
                 {w->append, append},
                 {w->mark, mark},
                 {w->large, work_large},
                 {w->paged, work_paged}};
    uint32_t sum = w->bank + w->append + w->mark + w->large + w->paged, pick = below(R_WORK, sum),
             k = 0;
    if (below(R_WORK, 4) == 0) {
        work_read(c, "a read");
        return;
    }
    while (pick >= kinds[k].weight)
        pick -= kinds[k++].weight;
    kinds[k].run(c);
}

void work_one(struct conn *c)
{
    uint32_t pick = below(R_WORK, 100);
    if (sim.w.archive_ms && below(R_ARCHIVE, 40) == 0)
        work_pin(c);
    if (sim.w.drop && below(R_DROP, sim.w.drop) == 0)
        work_drop(c);
    if (sim.w.duels && below(R_WORK, 25) == 0)
        work_be_displaced(c);
    else if (pick < sim.w.branch)
        work_go_to_branch(c);
    else if (pick < sim.w.branch + sim.w.restore)
        work_restore(c);
    else if (pick < sim.w.branch + sim.w.restore + sim.w.past)
        work_go_to_past(c);
    else
        work_some(c);
}
