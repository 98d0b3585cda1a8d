/*
 * work_restore.c - branches whose head becomes a moment of the past: the name goes to a new
 * timeline, what it was stays under another name and takes no record any more.
 *
 * The answer may be lost, and who asked may be killed: then anybody asks again with the same id,
 * until it is known what came of it. As long as that is open nobody opens the branch anew; who has
 * it open goes on, and finds out.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock_file.h"
#include "tests/fullsim/work.h"

#define MAX_RESTORES         16u
#define MAX_TIMELINES_WANTED 12u

static struct restore {
    bool open, asked; /* not known yet; asked for at least once */
    uint32_t asker;   /* connection + 1 that is at it; 0: nobody */
    struct timeline *old, *from;
    struct co_id id;
    char name[64], keep[32];
    lsn_t lsn;
} restores[MAX_RESTORES];
static uint32_t n_restores;

/* What the name goes to. */
static void note_timeline(const struct restore *r)
{
    struct timeline *t = r->from;
    while (t->parent && r->lsn <= t->base)
        t = t->parent;
    timeline_make(&r->id, r->name, t, r->lsn)->restored_us = sim.now;
}

static void done(struct restore *r, const Corallite__Branched *m)
{
    if (m->lsn != r->lsn || strcmp(m->kept_as ? m->kept_as : "", r->keep) != 0)
        violation("branch %s was to be restored to %llx and kept as %s; it is at %llx, kept as %s",
                  r->name, (unsigned long long)r->lsn, r->keep, (unsigned long long)m->lsn,
                  m->kept_as ? m->kept_as : "nothing");
    snprintf(r->old->branch, sizeof r->old->branch, "%s", r->keep);
    r->old->moving = false;
    r->old->sealed = true;
    r->old->kept_us = sim.now;
    note_timeline(r);
    r->open = false;
    probe(P_RESTORE);
    if (member_busy())
        probe(P_RESTORE_MOVING);
}

/* Beyond the head, says the pageserver of a commit whose writer died before it told that it is one:
 * whoever reads the branch settles that (docs/limits.md). */
static void read_once(struct conn *c, struct timeline *t)
{
    int rc;
    struct conn other = work_other(c, t, 0);
    if (!other.db)
        return;
    (void)client_int(&other, &rc, "select count(*) from sqlite_schema");
    sqlite3_close(other.db);
}

static void drive(struct conn *c, struct restore *r)
{
    Corallite__Restore q = CORALLITE__RESTORE__INIT;
    Corallite__Branched *m = NULL;
    char at[64], digits[LSN_TEXT];
    snprintf(at, sizeof at, "lsn:%s", lsn_format(r->lsn, digits));
    q.database = (char *)(uintptr_t) "shop";
    q.branch = r->name;
    q.to_branch = r->from == r->old ? NULL : r->from->branch;
    q.at = at;
    q.keep_as = r->keep;
    q.has_id = 1;
    q.id = msg_bytes16(r->id.b);
    q.has_deadline_ms = 1;
    q.deadline_ms = 2500;
    if (r->asked)
        probe(P_RESTORE_AGAIN);
    r->asked = true;
    r->asker = c->id + 1;
    int rc = work_change(c, FRAME_RESTORE, &q.base, &m);
    r->asker = 0;
    trace("restore %s to %s, kept as %s: %d %s", r->name, at, r->keep, rc, rc ? co_sentence() : "");
    if (rc == CO_ERR_INVAL && r->open)
        read_once(c, r->from);
    if (!rc && r->open) {
        done(r, m);
    } else if (rc == CO_ERR_EXISTS && r->open) {
        /* R4 of pageserver/registry.h: one that no majority knew when the pageserver started. */
        r->old->moving = r->open = false;
        struct timeline *half_made = timeline_of(&r->id);
        if (half_made)
            half_made->moving = half_made->gone = true;
    }
    if (m)
        corallite__branched__free_unpacked(m, NULL);
}

void work_restore(struct conn *c)
{
    struct timeline *t = &timelines[below(R_WORK, n_timelines)];
    for (uint32_t i = 1; i < n_timelines && below(R_WORK, 4); i++)
        if (timelines[i].writers && !timelines[i].sealed)
            t = &timelines[i];
    struct timeline *from = t->parent && below(R_WORK, 2) ? t->parent : t;
    lsn_t lsn = any_lsn(from);
    if (t == &timelines[0] || t->moving || t->sealed || from->moving || lsn < setup_lsn ||
        n_restores == MAX_RESTORES || n_timelines >= MAX_TIMELINES_WANTED)
        return;
    struct restore *r = &restores[n_restores];
    *r = (struct restore){.open = true, .old = t, .from = from, .id = co_id_random(), .lsn = lsn};
    snprintf(r->name, sizeof r->name, "%s", t->branch);
    snprintf(r->keep, sizeof r->keep, "kept%u", n_restores++);
    t->moving = true;
    drive(c, r);
}

void work_restore_seen(const struct co_id *id)
{
    for (uint32_t i = 0; i < n_restores; i++)
        if (restores[i].open && co_id_eq(&restores[i].id, id))
            note_timeline(&restores[i]);
}

bool work_restores_open(void)
{
    bool any = false;
    for (uint32_t i = 0; i < n_restores; i++)
        any = any || restores[i].open;
    return any;
}

bool work_restore_needs(const struct timeline *t)
{
    for (uint32_t i = 0; i < n_restores; i++)
        if (restores[i].open && (restores[i].from == t || co_id_eq(&restores[i].id, &t->id)))
            return true;
    return false;
}

void work_settle_restores(struct conn *c)
{
    for (uint32_t i = 0; i < n_restores; i++)
        if (restores[i].open && !restores[i].asker)
            drive(c, &restores[i]);
}

void work_restores_killed(uint32_t conn)
{
    for (uint32_t i = 0; i < n_restores; i++)
        if (restores[i].asker == conn + 1)
            restores[i].asker = 0;
}
