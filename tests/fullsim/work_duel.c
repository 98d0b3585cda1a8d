/*
 * work_duel.c - a writer is displaced behind its back, and everybody else holds still meanwhile.
 *
 * Two rules of the VFS about lost commits (M8) are broken visibly only where a few things meet that
 * chance does not bring together in thousands of transactions. So in some seeds a connection acts
 * it out, a few times:
 *
 *   1  all others stop beginning anything
 *   2  it commits a mark with synchronous=OFF, and is cut off from all safekeepers just before: its
 *      COMMIT is told OK, and the record lies with nobody
 *   3  a connection of another compute waits for the lease to run out, and commits a mark into the
 *      same row: a record of the same length in the same place, so that the lost LSN comes again
 *   4  the link heals, and the first one reads
 *
 * In one half it reads anew: an LSN that it knows, and another content. In the other half its
 * reading began in 2, at its own commit; half of what that wrote is read then, the rest now, and
 * SQLite has kept nothing in between.
 */
#include "tests/fullsim/work.h"

#define PATIENCE_US 20000000u

enum state { NONE, BEGUN, AWAY, TAKING, TAKEN };

static struct {
    enum state state;
    uint32_t host; /* of who is displaced */
    uint32_t row, n;
    uint64_t until;
    lsn_t lost;
} duel;

bool work_duel_is_on(void)
{
    return duel.state != NONE && sim.now < duel.until;
}

static void set_link(uint32_t host, bool cut)
{
    for (uint32_t k = 1; k <= daemon_keepers(); k++) {
        net_cut(host, k, cut);
        net_cut(k, host, cut);
    }
}

/* Should nobody live to do it. */
static void heal_later(void *a, uint64_t host)
{
    (void)a;
    set_link((uint32_t)host, false);
}

/* Its pages come into the cache, so that a record is the difference to them. */
static int warm(struct conn *c)
{
    int rc;
    (void)client_int(c, &rc, "select count(*) from mark where v <> ''");
    if (!rc)
        (void)client_int(c, &rc, "select max(id) from log");
    return rc;
}

static void rival(struct conn *c)
{
    duel.state = TAKING;
    int rc = warm(c);
    while (!rc && sim.now < duel.until && duel.state == TAKING) {
        client_begin(c);
        rc = client_sql(c, "begin immediate");
        if (!rc)
            rc = work_mark(c, duel.row);
        struct txn *x = c->txn;
        if (!rc && client_commit(c, "commit") == 0) {
            if (x->end == duel.lost)
                probe(P_SAME_LSN);
            duel.state = TAKEN;
            return;
        }
        if (c->txn)
            client_rollback(c, rc);
        rc = (rc & 0xff) == SQLITE_BUSY ? 0 : 1;
        task_sleep(10000);
    }
    if (duel.state == TAKING)
        duel.state = TAKEN; /* it did not come to it */
}

bool work_duel(struct conn *c)
{
    if (!work_duel_is_on()) {
        duel.state = NONE;
        return false;
    }
    if (duel.state == AWAY && c->user->host != duel.host)
        rival(c);
    else
        task_sleep(2000);
    return true;
}

/* Two pages are changed: what is read of one and not of the other was never committed so. */
static int commit_into_nothing(struct conn *c, bool two_pages, uint64_t *id)
{
    client_begin(c);
    *id = c->txn->id;
    int rc = client_sql(c, "begin immediate");
    if (!rc)
        rc = work_mark(c, duel.row);
    if (!rc && two_pages)
        rc = work_sign(c);
    if (!rc && fault_now(F_DUEL))
        set_link(duel.host, true);
    else
        rc = 1;
    if (rc) {
        client_rollback(c, rc);
        return rc;
    }
    struct txn *x = c->txn;
    rc = client_commit(c, "commit");
    duel.lost = x->end;
    return rc;
}

static void wait_for_rival(void)
{
    duel.state = AWAY;
    while (work_duel_is_on() && duel.state != TAKEN)
        task_sleep(1000);
    set_link(duel.host, false);
}

/* A transaction that began on its own commit, of which the second half is read too late. */
static void read_halves(struct conn *c, uint64_t id)
{
    int rc = client_sql(c, "pragma shrink_memory");
    long long mark = 0, sign = 0;
    if (!rc)
        rc = client_sql(c, "begin");
    if (!rc)
        mark = client_int(c, &rc, "select count(*) from mark where k = %u and v = '%08x'", duel.row,
                          work_mark_of(id));
    wait_for_rival();
    task_sleep(200000 + below(R_WORK, 1000000));
    if (!rc) {
        sign = client_int(c, &rc, "select count(*) from log where id = %lld", (long long)id);
        if (!rc && mark != sign)
            violation("connection %u reads %lld of the pages that transaction %llu wrote: its "
                      "snapshot was lost, and the transaction goes on",
                      c->id, mark, (unsigned long long)id);
        if (rc)
            probe(P_DEAD_GROUND);
    }
    if (!sqlite3_get_autocommit(c->db))
        client_rollback(c, 0);
}

static void level(struct conn *c, bool full, bool off)
{
    c->full = full;
    c->off = off;
    (void)client_sql(c, "pragma synchronous=%s", full ? "full" : off ? "off" : "normal");
}

void work_be_displaced(struct conn *c)
{
    bool full = c->full, off = c->off, halves = below(R_WORK, 2);
    uint64_t id;
    if (duel.state != NONE || duel.n >= sim.w.duels || c->timeline != &timelines[0])
        return;
    duel.state = BEGUN;
    duel.n++;
    duel.host = c->user->host;
    duel.row = below(R_WORK, LISTS);
    duel.until = sim.now + PATIENCE_US;
    after(PATIENCE_US, heal_later, NULL, duel.host);
    task_sleep(300000 + below(R_WORK, 300000)); /* others end what they are at */
    level(c, false, true);
    if (warm(c) == 0 && commit_into_nothing(c, halves, &id) == 0) {
        if (halves)
            read_halves(c, id);
        else
            wait_for_rival();
        probe(P_DUEL);
        work_read(c, "a read of who was displaced");
    }
    set_link(duel.host, false);
    level(c, full, off);
    duel.state = NONE;
}
