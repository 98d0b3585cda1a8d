/*
 * sealed.c - a log that a restore sealed with an open end. No leader says any more what of it is
 * committed: the pageserver and the operator's tools do, by what a majority of the copies has alike
 * (decisions 53, 75), and a safekeeper learns it as the commit LSN of a record that it has or
 * refuses. Each such word is held against the copies as they were seen at each safekeeper's last
 * step; and what the members have at the end has to be told.
 */
#include "safekeeper/acceptor.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"

static struct copy {
    struct co_id timeline;
    lsn_t flush, commit;
    struct wal_digest written; /* the end of what is written, flushed or not */
    bool seen, doubt;
} copies[MAX_KEEPERS + 1][MAX_TIMELINES];

static struct copy *copy_of(uint32_t host, const struct co_id *timeline)
{
    for (uint32_t i = 0; i < MAX_TIMELINES; i++) {
        struct copy *c = &copies[host][i];
        if (!c->seen || co_id_eq(&c->timeline, timeline))
            return c;
    }
    return NULL;
}

/* The record of this log that ends at `lsn`, going back from `end`. */
static struct record *back_to(const struct wal_digest *end, lsn_t lsn)
{
    struct record *r = record_of(end);
    while (r && r->h.end_lsn > lsn)
        r = record_of(&r->h.prev_digest);
    return r && r->h.end_lsn == lsn ? r : NULL;
}

/* Of a copy in doubt, or of who has left, nothing is asked. */
static bool counts(uint32_t host, const struct copy *c)
{
    return c && c->seen && !c->doubt && member_is(host) && daemon_server(host - 1);
}

/* The record that ends at `commit`, if a majority has it (of the members that are there: `now`);
 * else NULL. */
static struct record *agreed(const struct timeline *t, lsn_t commit, bool now)
{
    for (uint32_t host = 1; host <= MAX_KEEPERS; host++) {
        struct copy *mine = copy_of(host, &t->id);
        if (!mine || !mine->seen || mine->flush < commit || (now && !counts(host, mine)))
            continue;
        struct record *r = back_to(&mine->written, commit);
        uint32_t have = 0;
        for (uint32_t other = 1; r && other <= MAX_KEEPERS; other++) {
            struct copy *c = copy_of(other, &t->id);
            have += c && c->seen && c->flush >= commit && back_to(&c->written, commit) == r &&
                    (!now || counts(other, c));
        }
        if (have > N_KEEPERS / 2)
            return r;
    }
    return NULL;
}

lsn_t sealed_told(const struct timeline *t)
{
    lsn_t most = 0, second = 0;
    for (uint32_t host = 1; host <= MAX_KEEPERS; host++) {
        const struct copy *c = copy_of(host, &t->id);
        lsn_t commit = c && c->seen && member_is(host) ? c->commit : 0;
        if (commit > most) {
            second = most;
            most = commit;
        } else if (commit > second) {
            second = commit;
        }
    }
    return second;
}

/* A log that rots is another's damage: its copy may be refused, and two may then not agree. */
bool sealed_owes(const struct timeline *t)
{
    lsn_t told = sealed_told(t);
    if (!t->sealed || sim.by_probe[P_ROT])
        return false;
    for (uint32_t host = 1; host <= MAX_KEEPERS; host++) {
        struct copy *c = copy_of(host, &t->id);
        struct record *r = counts(host, c) ? record_of(&c->written) : NULL;
        for (; r && r->h.end_lsn > told; r = record_of(&r->h.prev_digest))
            if (agreed(t, r->h.end_lsn, true))
                return true;
    }
    return false;
}

void sealed_step(uint32_t host, const struct co_id *timeline, const struct sk_view *v)
{
    struct timeline *t = timeline_of(timeline);
    struct copy *c = copy_of(host, timeline);
    if (!c)
        return;
    *c = (struct copy){*timeline, v->flush_lsn, v->commit_lsn, v->digest, true, v->suspect_lsn > 0};
    /* moving: it may be sealed already, and the answer on its way, or lost */
    if (!t || !(t->sealed || t->moving) || v->commit_lsn <= t->end || sim.restored)
        return;
    struct record *r = agreed(t, v->commit_lsn, false);
    if (!r)
        violation("safekeeper %u holds %s for committed to %llx, and no majority has that", host,
                  t->branch, (unsigned long long)v->commit_lsn);
    probe(P_SEALED_END);
    trace("settled %s at %llx", t->branch, (unsigned long long)v->commit_lsn);
    record_committed(t, r);
}
