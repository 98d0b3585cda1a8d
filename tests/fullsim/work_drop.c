/*
 * work_drop.c - branches that are dropped, those too that others grew from or that a restore put
 * aside.
 *
 * The answer may be lost, and who asked may be killed: then anybody asks again, until it is known
 * what came of it. From the first question on nobody opens the branch anew; who has it open goes
 * on, and finds out.
 */
#include <stdio.h>
#include <string.h>

#include "tests/fullsim/work.h"

#define MAX_DROPS  12u
#define PATIENCE   30000000u
#define REFUSED_US 50000u

static struct drop {
    bool open;  /* not known yet */
    bool heard; /* maybe: it was sent to somebody */
    bool dropped;
    uint32_t asker; /* connection + 1 that is at it; 0: nobody */
    struct timeline *line;
} drops[MAX_DROPS];
static uint32_t n_drops;

static bool has_children(const struct timeline *t)
{
    for (uint32_t i = 0; i < n_timelines; i++)
        if (timelines[i].parent == t && !timelines[i].gone)
            return true;
    return false;
}

static void done(struct drop *d)
{
    d->open = false;
    if (!d->heard && work_has_pin(d->line))
        violation("branch %s was dropped, and it has a pin", d->line->branch);
    d->dropped = d->line->gone = true; /* and moving for good: its name is not used again */
    probe(P_DROP);
    if (has_children(d->line))
        probe(P_DROP_PARENT);
    if (member_busy())
        probe(P_DROP_MOVING);
}

/* It has pins, or is being restored. If an earlier question may have been heard, the drop may come
 * at any time (docs/limits.md), and nothing more is asked of the branch. */
static void refused(struct drop *d)
{
    d->open = false;
    if (d->heard)
        d->line->gone = true;
    else
        d->line->dropping = d->line->moving = false;
}

static void drive(struct conn *c, struct drop *d)
{
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    Corallite__Branched *m = NULL;
    q.database = (char *)(uintptr_t) "shop";
    q.branch = d->line->branch;
    q.has_drop = q.drop = 1;
    d->asker = c->id + 1;
    if (d->heard)
        probe(P_DROP_AGAIN);
    int rc = work_change(c, FRAME_BRANCH_CHANGE, &q.base, &m);
    d->asker = 0;
    trace("drop %s: %d %s", d->line->branch, rc, rc ? co_sentence() : "");
    if (m)
        corallite__branched__free_unpacked(m, NULL);
    if (!d->open)
        return;
    if (rc == CO_ERR_NOT_FOUND && !d->heard)
        violation("branch %s is not there when it is to be dropped: %s", d->line->branch,
                  co_sentence());
    if (rc == 0 || rc == CO_ERR_NOT_FOUND)
        done(d);
    else if (rc == CO_ERR_BUSY)
        refused(d);
    else if (rc != CO_ERR_CONNECT)
        d->heard = true;
}

void work_drop(struct conn *c)
{
    if (n_timelines < 2 || n_drops == MAX_DROPS)
        return;
    struct timeline *t = &timelines[1 + below(R_DROP, n_timelines - 1)];
    for (int i = 0; i < 4 && !has_children(t); i++) /* few have */
        t = &timelines[1 + below(R_DROP, n_timelines - 1)];
    if (t->moving || work_restore_needs(t))
        return;
    drops[n_drops] = (struct drop){.open = true, .line = t};
    t->moving = t->dropping = true;
    drive(c, &drops[n_drops++]);
}

bool work_dropped_at_once(const struct timeline *t)
{
    for (uint32_t i = 0; i < n_drops; i++)
        if (drops[i].line == t && drops[i].dropped && !drops[i].heard)
            return true;
    return false;
}

bool work_drops_open(void)
{
    bool any = false;
    for (uint32_t i = 0; i < n_drops; i++)
        any = any || drops[i].open;
    return any;
}

void work_settle_drops(struct conn *c)
{
    for (uint32_t i = 0; i < n_drops; i++)
        if (drops[i].open && !drops[i].asker)
            drive(c, &drops[i]);
}

void work_drops_killed(uint32_t conn)
{
    for (uint32_t i = 0; i < n_drops; i++)
        if (drops[i].asker == conn + 1) {
            drops[i].asker = 0;
            drops[i].heard = true;
        }
}

/* What was dropped cannot be opened. A pageserver that follows may hear of it a moment later. */
void work_check_drops(struct conn *c)
{
    uint64_t until = sim.now + PATIENCE;
    for (uint32_t i = 0; i < n_drops; i++) {
        struct conn other = {0};
        while (drops[i].dropped && (other = work_other(c, drops[i].line, 0)).db) {
            sqlite3_close(other.db);
            if (sim.now > until)
                violation("branch %s was dropped, and is opened", drops[i].line->branch);
            task_sleep(REFUSED_US);
        }
    }
}
