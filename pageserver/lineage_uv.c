/*
 * lineage_uv.c - a branch and its ancestors.
 *
 * A branch reads through its ancestors, and its first records may be deltas against their pages. So
 * it is neither read nor pulled before each ancestor is here up to the LSN where the line leaves
 * it; until then it is "unbased". That is the rule for one moment after a restart, and for as long
 * as it takes when an empty pageserver fetches everything anew.
 */
#include "common/log.h"
#include "pageserver/server_uv.h"

#define MODULE "pageserver/lineage"

void ps_lineage_link(struct ps_server *s, struct ps_timeline *tl)
{
    struct ps_timeline *up =
        co_id_is_zero(&tl->meta.ancestor) ? NULL : ps_reg_find(&s->reg, &tl->meta.ancestor);
    char id[CO_ID_TEXT];
    tl->line.ancestor_lsn = tl->meta.ancestor_lsn;
    if (up && ps_reg_depth(&s->reg, tl) > CO_BRANCH_DEPTH_MAX) {
        /* Not made here: damaged metadata, or a loop. It is not based, and so never read. */
        co_error(MODULE, "a branch has more than %u ancestors, it is not served timeline=%s",
                 CO_BRANCH_DEPTH_MAX, co_id_format(&tl->meta.id, id));
        up = NULL;
    }
    tl->line.ancestor = up ? &up->line : NULL;
}

bool ps_lineage_list(const struct ps_server *s, const struct ps_timeline *tl,
                     struct ps_ancestors *out)
{
    for (out->n = 0; tl && !co_id_is_zero(&tl->meta.ancestor) && out->n < CO_BRANCH_DEPTH_MAX;
         tl = ps_reg_find(&s->reg, &tl->meta.ancestor)) {
        Corallite__Resolved__Ancestor *a = out->list[out->n] = &out->one[out->n];
        out->n++;
        corallite__resolved__ancestor__init(a);
        a->has_timeline = a->has_lsn = 1;
        a->timeline = msg_bytes16(tl->meta.ancestor.b);
        a->lsn = tl->meta.ancestor_lsn;
    }
    return tl != NULL;
}

/* The newest transaction that a new branch sees is its ancestor's. */
static int take_newest(struct ps_server *s, struct ps_timeline *tl)
{
    int rc = ps_read_renew(s->read);
    if (!rc)
        rc = ps_commit_at(s->read, &tl->line, tl->chain.last_lsn, &tl->chain.newest);
    ps_read_reset(s->read);
    if (rc == CO_ERR_NOT_FOUND) {
        tl->chain.newest = (struct ps_commit){0};
        return 0;
    }
    tl->chain.page_size = rc ? 0 : tl->chain.newest.page_size;
    return rc;
}

/* Can it be read and pulled now? */
static bool is_based(struct ps_server *s, struct ps_timeline *tl)
{
    if (tl->based)
        return true;
    if (co_id_is_zero(&tl->meta.ancestor)) {
        tl->based = true;
        return true;
    }
    struct ps_timeline *up = ps_reg_find(&s->reg, &tl->meta.ancestor);
    if (!up || !up->based || !up->line.no || up->chain.last_lsn < tl->meta.ancestor_lsn)
        return false;
    if (!tl->line.ancestor)
        ps_lineage_link(s, tl);
    if (!tl->line.ancestor)
        return false;
    if (take_newest(s, tl)) {
        co_error(MODULE, "%s", co_sentence());
        return false;
    }
    tl->based = true;
    return true;
}

/* What is missing of it has to be pulled, whether it is told to be new or not. */
static void want_ancestor(struct ps_server *s, const struct ps_timeline *tl)
{
    struct ps_timeline *up = ps_reg_find(&s->reg, &tl->meta.ancestor);
    if (up && up->line.no && up->chain.last_lsn < tl->meta.ancestor_lsn)
        ps_feed_ensure(s, up);
}

/* True: it was not based before. */
static bool try_one(struct ps_server *s, struct ps_timeline *tl)
{
    bool was = tl->based;
    if (!ps_timeline_fed(tl) || (was && (tl->feed || !ps_feed_due(s, tl))))
        return false;
    if (!is_based(s, tl)) {
        s->n_unbased++;
        want_ancestor(s, tl);
        return false;
    }
    if (ps_feed_due(s, tl))
        ps_feed_open(s, tl);
    if (was)
        return false;
    ps_pages_wake(s, tl);
    return true;
}

void ps_lineage_open(struct ps_server *s, struct ps_timeline *tl)
{
    uint32_t waiting = s->n_unbased;
    if (try_one(s, tl) && waiting)
        ps_lineage_settle(s);
}

void ps_lineage_settle(struct ps_server *s)
{
    bool again = true;
    /* One ancestor after the other: as many rounds as the deepest branch has ancestors. */
    while (again) {
        again = false;
        s->n_unbased = 0;
        for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
            again |= try_one(s, tl);
    }
}
