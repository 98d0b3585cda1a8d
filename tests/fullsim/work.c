/*
 * work.c - what the connections do: bank transfers whose total stays, lists that are appended to,
 * changes at the level of pages, branches that diverge, reads of the past. All content is in the
 * SQL text, so that the same text on a plain SQLite gives the same pages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "proto/message.h"
#include "proto/peer_sock.h"
#include "proto/unpack.h"
#include "tests/fullsim/client.h"

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
                        "create table thing(id integer primary key, a int, data blob);"
                        "create index by_a on thing(a);"
                        "with recursive s(i) as (select 0 union all select i+1 from s where i<%d) "
                        "insert into acct select i, %d, zeroblob(60) from s;"
                        "with recursive s(i) as (select 0 union all select i+1 from s where i<%d) "
                        "insert into list select i, '' from s",
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

/* A transaction that stays open for a while meets what happens to others. */
static void linger(void)
{
    if (below(R_WORK, 5) == 0)
        task_sleep(below(R_WORK, 120000));
}

/* ---- reading -----------------------------------------------------------------------------------
 */

/* A list that was read: who appended to it. */
struct seen {
    struct conn *conn;
    uint64_t id[MAX_TXNS];
    uint32_t n;
};

static void check_list(struct seen *s, const char *v)
{
    for (const char *p = v; *p; p++) {
        uint64_t id = strtoull(p, (char **)(uintptr_t)&p, 10);
        if (id == 0 || id > n_txns || *p != ',')
            violation("connection %u reads a list that nobody wrote: %.100s", s->conn->id, v);
        if (txns[id].state == T_NOT_COMMITTED)
            violation("connection %u reads transaction %llu, which was told not to be committed",
                      s->conn->id, (unsigned long long)id);
        for (uint32_t i = 0; i < s->n; i++)
            if (s->id[i] == id)
                violation("connection %u reads transaction %llu twice", s->conn->id,
                          (unsigned long long)id);
        co_assert(s->n < MAX_TXNS);
        s->id[s->n++] = id;
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

/* One read transaction over everything. */
void work_read(struct conn *c, const char *why)
{
    int rc = client_sql(c, "begin");
    if (rc)
        return;
    long long sum = client_int(c, &rc, "select sum(bal) from acct");
    linger();
    if (!rc && sum != (long long)ACCOUNTS * BALANCE)
        violation("connection %u (%s): the accounts hold %lld instead of %d", c->id, why, sum,
                  ACCOUNTS * BALANCE);
    run_stats.sums += rc == 0;
    struct seen *seen = calloc(1, sizeof *seen);
    co_assert(seen != NULL);
    seen->conn = c;
    if (!rc)
        rc = sqlite3_exec(c->db, "select v from list", take_list, seen, NULL);
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

static char *noise(uint32_t bytes)
{
    char *hex = malloc(2 * (size_t)bytes + 1);
    bool dense = below(R_WORK, 2);
    co_assert(hex != NULL);
    for (uint32_t i = 0; i < 2 * bytes; i++)
        hex[i] = "0123456789abcdef"[dense || i % 64 == 0 ? below(R_WORK, 16) : 7];
    hex[2 * bytes] = 0;
    return hex;
}

static int begin(struct conn *c)
{
    client_begin(c);
    return client_sql(c, below(R_WORK, 3) ? "begin immediate" : "begin");
}

static int sign(struct conn *c)
{
    linger();
    return client_sql(c, "insert into log values(%lld, %u)", (long long)c->txn->id, c->id);
}

static void finish(struct conn *c, int rc)
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
    if ((rc & 0xff) == SQLITE_BUSY && below(R_WORK, 2))
        work_read(c, "a read after a refusal");
}

static void transfer(struct conn *c)
{
    uint32_t from = below(R_WORK, ACCOUNTS), to = below(R_WORK, ACCOUNTS);
    uint32_t sum = 1 + below(R_WORK, 50);
    int rc = begin(c);
    char *pad = noise(40 + below(R_WORK, 200));
    bool plain = below(R_WORK, 2); /* its record has the same length as many others */
    if (!rc && below(R_WORK, 4) == 0) {
        long long all = client_int(c, &rc, "select sum(bal) from acct");
        if (!rc && all != (long long)ACCOUNTS * BALANCE)
            violation("connection %u: inside its transaction the accounts hold %lld", c->id, all);
    }
    linger();
    if (!rc && plain)
        rc = client_sql(c, "update acct set bal=bal-%u where id=%u", sum, from);
    else if (!rc)
        rc = client_sql(c, "update acct set bal=bal-%u, pad=x'%s' where id=%u", sum, pad, from);
    if (!rc)
        rc = client_sql(c, "update acct set bal=bal+%u where id=%u", sum, to);
    if (!rc)
        rc = sign(c);
    free(pad);
    finish(c, rc);
}

static void append(struct conn *c)
{
    int rc = begin(c);
    if (!rc)
        rc = client_sql(c, "update list set v = v || '%lld,' where k = %u", (long long)c->txn->id,
                        below(R_WORK, LISTS));
    if (!rc)
        rc = sign(c);
    finish(c, rc);
}

/* A savepoint in the transaction is rolled back. */
static int detour(struct conn *c)
{
    int rc = client_sql(c, "savepoint s");
    if (!rc)
        rc = client_sql(c, "update thing set a = a + 1 where id %% 3 = 0");
    if (!rc)
        rc = client_sql(c, "delete from thing where id %% 5 = 1");
    if (!rc)
        rc = client_sql(c, "rollback to s");
    if (!rc)
        rc = client_sql(c, "release s");
    if (!rc)
        c->txn->savepoint = true;
    return rc;
}

static int change_things(struct conn *c)
{
    char *data = noise(1 + below(R_WORK, 12) * below(R_WORK, 400));
    uint32_t n = 1 + below(R_WORK, 12), a = below(R_WORK, 100);
    int rc = 0;
    switch (below(R_WORK, 6)) {
    case 0:
    case 1:
        rc = client_sql(c,
                        "with recursive s(i) as (select 1 union all select i+1 from s where i<%u) "
                        "insert into thing(a, data) select %u + i, x'%s' from s",
                        n, a, data);
        break;
    case 2:
        rc = client_sql(c, "update thing set a = a + %u, data = x'%s' where a %% 7 = %u", n, data,
                        a % 7);
        break;
    case 3:
        rc = client_sql(c, "delete from thing where a %% 5 = %u", a % 5);
        break;
    case 4:
        rc = client_sql(c,
                        "delete from thing where id in (select id from thing order by a limit "
                        "%u)",
                        4 * n);
        break;
    default:
        rc = client_sql(c, "update thing set data = data || x'%s' where id %% 9 = %u", data, a % 9);
        break;
    }
    free(data);
    return rc;
}

static int change_schema(struct conn *c)
{
    uint32_t k = below(R_WORK, 3);
    int rc;
    switch (below(R_WORK, 4)) {
    case 0:
        rc = client_sql(c, "create table if not exists more%u(x, y)", k);
        if (!rc)
            rc = client_sql(c, "insert into more%u values(%lld, 'y')", k, (long long)c->txn->id);
        break;
    case 1:
        rc = client_sql(c, "drop table if exists more%u", k);
        break;
    case 2:
        rc = client_sql(c, "create index if not exists by_len%u on thing(length(data), a)", k);
        break;
    default:
        rc = client_sql(c, "drop index if exists by_len%u", k);
        break;
    }
    if (!rc)
        c->txn->ddl = true;
    return rc;
}

/* A blob of many pages, and a cache that does not hold them. */
static int much(struct conn *c)
{
    char *data = noise(2000);
    int rc = client_sql(c, "pragma cache_size=10");
    uint32_t pages = 105 + below(R_WORK, 60);
    if (!rc)
        rc = client_sql(c,
                        "with recursive s(i) as (select 1 union all select i+1 from s where "
                        "i<%u) insert into thing(a, data) select -i, x'%s' || zeroblob(%u) "
                        "from s",
                        pages * sim.w.page_size / 4096 + 60, data, sim.w.page_size / 2);
    free(data);
    if (!rc)
        rc = client_sql(c, "delete from thing where a < -4");
    if (!rc)
        probe(P_SPILL);
    return rc;
}

static void paged(struct conn *c)
{
    uint32_t what = below(R_WORK, 24);
    int rc;
    if (what == 0) {
        client_begin(c);
        c->txn->vacuum = true;
        (void)client_commit(c, sim.w.auto_vacuum == 2 && below(R_WORK, 2)
                                   ? "pragma incremental_vacuum(5)"
                                   : "vacuum");
        return;
    }
    rc = begin(c);
    if (!rc)
        rc = what < 4 ? change_schema(c) : what == 4 ? much(c) : change_things(c);
    if (!rc && below(R_WORK, 4) == 0)
        rc = detour(c);
    if (!rc && below(R_WORK, 3) == 0)
        rc = change_things(c);
    if (!rc)
        rc = sign(c);
    finish(c, rc);
}

/* ---- outcomes that are unknown -----------------------------------------------------------------
 */

static int take_text(void *out, int n, char **values, char **names)
{
    (void)names;
    if (n && values[0])
        snprintf(out, 40, "%s", values[0]);
    return 0;
}

/* Whoever is at it asks for all of them. */
static void ask(struct conn *c, struct txn *x)
{
    char id[64], word[40] = "", sql[160];
    lsn_commit_id_format(x->term, x->begin, id);
    snprintf(sql, sizeof sql, "select corallite_commit_status('%s')", id);
    int rc = sqlite3_exec(c->db, sql, take_text, word, NULL);
    trace("status of %s: %d %s", id, rc, word);
    if (!rc && x->state == T_UNKNOWN && strcmp(word, "unknown") != 0)
        txn_verdict(x, word);
}

void work_resolve(struct conn *c)
{
    for (uint32_t i = 1; i <= n_txns; i++) {
        struct txn *x = &txns[i];
        if (x->state != T_UNKNOWN)
            continue;
        if (co_id_eq(&x->timeline, &c->timeline->id)) {
            ask(c, x);
            continue;
        }
        struct conn other = work_other(c, timeline_of(&x->timeline), 0);
        if (other.db) {
            ask(&other, x);
            sqlite3_close(other.db);
        }
    }
}

/* ---- branches and moments ----------------------------------------------------------------------
 */

struct conn work_other(struct conn *c, struct timeline *t, lsn_t at)
{
    struct conn other = *c;
    int rc;
    other.timeline = t;
    other.db = client_open(&other, t->branch, at, &rc);
    if (!other.db)
        client_check_code(&other, rc, "opening a branch or a moment");
    return other;
}

static void make_branch(struct conn *c)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    struct timeline *from = &timelines[below(R_WORK, n_timelines)];
    struct co_id id = co_id_random();
    char name[32], at[64], digits[LSN_TEXT], host[32];
    lsn_t lsn = any_lsn(from);
    struct psock s;
    if (lsn < setup_lsn)
        return;
    uint64_t deadline = co_now_us() + 3000000;
    snprintf(name, sizeof name, "b%u", c->id * 1000 + n_timelines);
    snprintf(at, sizeof at, "lsn:%s", lsn_format(lsn, digits));
    snprintf(host, sizeof host, "10.0.%u.9", c->user->server);
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    q.database = (char *)(uintptr_t) "shop";
    q.branch = name;
    q.from_branch = from->branch;
    q.at = at;
    q.has_id = 1;
    q.id = msg_bytes16(id.b);
    q.has_deadline_ms = 1;
    q.deadline_ms = 2500;
    if (psock_connect(&s, host, 6400, &hello, deadline, NULL))
        return;
    struct frame_header frame;
    struct co_buf body;
    int rc = psock_call(&s, FRAME_BRANCH_CREATE, &q.base, co_span_of(NULL, 0), deadline, &frame,
                        &body, NULL);
    trace("branch %s from %s at %s: %d", name, from->branch, at, rc);
    if (!rc) {
        Corallite__Branched *m = NULL;
        if (frame.type == FRAME_BRANCHED)
            m = message_unpack(&corallite__branched__descriptor,
                               co_span_of(body.data, frame.message_bytes));
        if (!m || m->lsn != lsn)
            violation("branch %s was asked for at %llx and made at %llx", name,
                      (unsigned long long)lsn, m ? (unsigned long long)m->lsn : 0);
        timeline_make(&id, name, gold_at(from, lsn) && lsn <= from->base ? from->parent : from,
                      lsn);
        run_stats.branches++;
        corallite__branched__free_unpacked(m, NULL);
        co_buf_free(&body);
    }
    psock_close(&s);
}

static void some(struct conn *c);

static void go_to_branch(struct conn *c)
{
    if (n_timelines < 2 || (n_timelines < 6 && below(R_WORK, 3) == 0)) {
        make_branch(c);
        return;
    }
    struct conn other = work_other(c, &timelines[1 + below(R_WORK, n_timelines - 1)], 0);
    if (!other.db)
        return;
    for (uint32_t n = 1 + below(R_WORK, 4); n > 0; n--)
        some(&other);
    c->after_heal = other.after_heal;
    sqlite3_close(other.db);
}

static void go_to_past(struct conn *c)
{
    struct timeline *t = &timelines[below(R_WORK, n_timelines)];
    lsn_t lsn = any_lsn(t);
    if (lsn < setup_lsn)
        return;
    struct conn other = work_other(c, t, lsn);
    if (!other.db)
        return;
    work_read(&other, "a read of the past");
    probe(P_PAST_READ);
    sqlite3_close(other.db);
}

/* ------------------------------------------------------------------------------------------------
 */

static void some(struct conn *c)
{
    uint32_t pick = below(R_WORK, sim.w.bank + sim.w.append + sim.w.paged);
    if (below(R_WORK, 4) == 0)
        work_read(c, "a read");
    else if (pick < sim.w.bank)
        transfer(c);
    else if (pick < sim.w.bank + sim.w.append)
        append(c);
    else
        paged(c);
}

void work_one(struct conn *c)
{
    uint32_t pick = below(R_WORK, 100);
    if (pick < sim.w.branch)
        go_to_branch(c);
    else if (pick < sim.w.branch + sim.w.past)
        go_to_past(c);
    else
        some(c);
}
