/*
 * owner_uv.c - which pageserver owns the catalog (S13; R8 in registry.h, decision 69): the word to
 * take over becomes durable before it is acted on, then what is another one's is taken over, or
 * this one ends. And which of the owner's lives this is (R12).
 */
#include <stdio.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"

#define MODULE "pageserver/owner"

static int put_moments(struct ps_server *s, uint64_t taken_us, uint64_t life_us)
{
    struct ps_txn *txn;
    int rc = ps_write_new(s->store, &txn);
    if (rc)
        return rc;
    rc = ps_write_begin(txn);
    if (!rc)
        rc = ps_taken_put(txn, taken_us);
    if (!rc)
        rc = ps_life_put(txn, life_us);
    if (!rc)
        rc = ps_write_commit(txn);
    if (!rc)
        rc = ps_store_sync(s->store);
    ps_write_free(txn);
    return rc;
}

int ps_owner_note(struct ps_server *s, uint64_t taken_us, uint64_t life_us)
{
    uint64_t now = co_wall_us();
    if (s->options->follow) {
        if (taken_us && put_moments(s, 0, life_us)) /* a full disk: it serves all the same */
            co_warn(MODULE, "that it was told to take over once stays in the store: %s",
                    co_sentence());
        return 0;
    }
    if (taken_us > s->reg.taken_us)
        s->reg.taken_us = taken_us;
    if (s->options->take_over)
        s->reg.taken_us = now > s->reg.taken_us ? now : s->reg.taken_us + 1;
    /* By a clock that went back the next life would be taken for this one, or an earlier one. */
    s->reg.life_us = now > life_us ? now : life_us + PS_LIFE_VERSIONS;
    int rc = put_moments(s, s->reg.taken_us, s->reg.life_us);
    if (rc != CO_ERR_FULL || s->options->take_over)
        return rc;
    co_warn(MODULE, "when this pageserver started could not be noted in the store: %s",
            co_sentence());
    return 0;
}

/* Who follows does not own the catalog: nothing is its own, or another one took over later. */
static bool not_the_owner(struct ps_server *s)
{
    const struct ps_timeline *tl = s->reg.heard && !ps_reg_outdone(&s->reg) ? s->reg.all : NULL;
    char self[CO_ID_TEXT], name[PS_META_NAME_TEXT];
    while (tl && (tl->meta.state == PS_DROPPED || !co_id_eq(&tl->meta.pageserver, &s->reg.self)))
        tl = tl->next;
    if (!tl)
        return true;
    co_fail(CO_ERR_NODE,
            "this directory (disk %s) owns the catalog, %s among it: start it without --follow",
            co_id_format(&s->reg.self, self), ps_meta_name(&tl->meta, name));
    ps_server_fatal(s);
    return false;
}

/* Takes over what is another pageserver's: at the start all of it, when told to, and later what
 * was left by one that was the owner before (R8). Returns a timeline that is another one's, or
 * NULL. */
static struct ps_timeline *take_over(struct ps_server *s)
{
    struct co_id last = {{0}};
    char other[CO_ID_TEXT];
    struct ps_timeline *tl;
    if (s->options->take_over && !s->ready)
        ps_reg_outdo(&s->reg);
    while ((tl = ps_reg_foreign(&s->reg)) && ps_reg_left_behind(&s->reg, tl)) {
        if (!co_id_eq(&tl->meta.pageserver, &last))
            co_warn(MODULE, "taking timelines over from the pageserver with disk %s",
                    co_id_format(&tl->meta.pageserver, other));
        last = tl->meta.pageserver;
        ps_reg_take_over(&s->reg, tl);
    }
    return tl;
}

bool ps_owner_check(struct ps_server *s)
{
    if (s->reg.follows)
        return not_the_owner(s);
    struct ps_timeline *tl = s->reg.heard ? take_over(s) : NULL;
    if (!tl)
        return true;
    char name[PS_META_NAME_TEXT], other[CO_ID_TEXT], self[CO_ID_TEXT];
    co_fail(CO_ERR_NODE,
            "these safekeepers belong to another pageserver: %s is served from disk %s, this "
            "directory is disk %s; start this one with --follow, or, when that disk is lost, with "
            "--take-over",
            ps_meta_name(&tl->meta, name), co_id_format(&tl->meta.pageserver, other),
            co_id_format(&s->reg.self, self));
    ps_server_fatal(s);
    return false;
}
