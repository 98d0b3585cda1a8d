/*
 * branch_uv.c - what a branch goes through: BRANCH_CREATE, BRANCH_CHANGE (rename, protect, expiry,
 * drop), RESTORE, the end of what has expired; and RESOLVE.
 *
 * Each is an ask (serve_uv.c) that is looked at again until it can be answered. What it changes, it
 * changes in the registry, once, and then waits until that is durable on a majority of the
 * safekeepers and stored here. A creation and a restore are known by the id of the timeline they
 * make, so that asking again after a lost answer makes nothing twice.
 *
 * A branch point is the end of a transaction, or, where the database was still empty, the begin of
 * the log. The new timeline's ancestor is the one that holds that transaction.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"

#define MODULE "pageserver/branch"

int ps_no_branch(const struct ps_server *s, const char *db, const char *branch)
{
    char names[300] = "";
    size_t n = 0;
    for (const struct ps_timeline *tl = s->reg.all; tl && n < sizeof names; tl = tl->next)
        if (ps_timeline_open(tl) && strcmp(tl->meta.database_name, db) == 0)
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "",
                                  tl->meta.branch);
    if (n)
        return co_fail(CO_ERR_NOT_FOUND, "database '%s' has no branch '%s'; it has %s%s", db,
                       branch, names, n >= sizeof names ? "..." : "");
    return co_fail(CO_ERR_NOT_FOUND,
                   "there is no database '%s'; `corallite db list` shows those there are", db);
}

/* -- Answers ----------------------------------------------------------------------------------- */

static int send_branched(struct ps_server *s, const struct ps_ask *ask, struct ps_timeline *tl)
{
    Corallite__Branched w = CORALLITE__BRANCHED__INIT;
    struct ps_meta_wire meta;
    struct ps_commit base = {0};
    struct ps_timeline *kept = ps_reg_find(&s->reg, &tl->meta.replaces);
    int rc = co_id_is_zero(&tl->meta.ancestor) ? 0 : ps_read_renew(s->read);
    if (!rc && !co_id_is_zero(&tl->meta.ancestor)) {
        rc = ps_commit_at(s->read, &tl->line, tl->meta.ancestor_lsn, &base);
        ps_read_reset(s->read);
    }
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    ps_meta_to_wire(&tl->meta, &meta);
    w.timeline = &meta.wire;
    w.has_lsn = w.has_time_us = 1;
    w.lsn = base.lsn;
    w.time_us = base.time_us;
    if (ask->kind == PS_ASK_RESTORE && kept && ps_timeline_lives(kept))
        w.kept_as = kept->meta.branch;
    peer_send(ask->session->peer, FRAME_BRANCHED, ask->request, &w.base, co_span_of(NULL, 0));
    return 0;
}

static int send_resolved(struct ps_server *s, const struct ps_ask *ask)
{
    const struct ps_moment *m = &ask->moment;
    Corallite__Resolved w = CORALLITE__RESOLVED__INIT;
    struct ps_meta_wire meta;
    struct ps_ancestors up;
    ps_meta_to_wire(&m->tl->meta, &meta);
    if (!ps_lineage_list(s, m->tl, &up))
        return CO_ERR_AGAIN;
    w.n_ancestors = up.n;
    w.ancestors = up.list;
    w.timeline = &meta.wire;
    w.has_lsn = w.has_time_us = w.has_db_pages = w.has_page_size = w.has_head_lsn = 1;
    w.has_rounded = w.rounded = m->rounded;
    w.lsn = m->commit.lsn;
    w.time_us = m->commit.time_us;
    w.db_pages = m->commit.db_pages;
    w.page_size = m->commit.page_size;
    w.head_lsn = m->have_head ? m->head : ps_timeline_reached(m->tl);
    peer_send(ask->session->peer, FRAME_RESOLVED, ask->request, &w.base, co_span_of(NULL, 0));
    return 0;
}

/* -- New timelines ----------------------------------------------------------------------------- */

/* The timeline that a branch at this moment grows from: the one that holds the transaction. With
 * `low`, one that begins right there gives way to its ancestor, which holds the same. */
static struct ps_timeline *parent_of(struct ps_server *s, const struct ps_moment *m, lsn_t point,
                                     bool low)
{
    struct ps_timeline *tl = m->tl;
    while (!co_id_is_zero(&tl->meta.ancestor) &&
           (tl->meta.start_lsn > point || (low && tl->meta.start_lsn == point)))
        tl = ps_reg_find(&s->reg, &tl->meta.ancestor);
    return tl;
}

/* Fills in where the child begins. */
static int grow_from(struct ps_server *s, const struct ps_moment *m, bool low, struct ps_meta *meta)
{
    lsn_t point = m->commit.lsn ? m->commit.lsn : LSN_FIRST;
    const struct ps_timeline *up = parent_of(s, m, point, low);
    char name[PS_META_NAME_TEXT];
    if (ps_reg_depth(&s->reg, up) >= CO_BRANCH_DEPTH_MAX)
        return co_fail(CO_ERR_TOO_LARGE,
                       "%s has %u ancestors, the most a branch may have; branch from one of them, "
                       "or export it and import it as a new database",
                       ps_meta_name(&up->meta, name), CO_BRANCH_DEPTH_MAX);
    meta->database = up->meta.database;
    memcpy(meta->database_name, up->meta.database_name, sizeof meta->database_name);
    meta->ancestor = up->meta.id;
    meta->ancestor_lsn = meta->start_lsn = point;
    meta->base_digest = m->commit.digest; /* zero when it was empty */
    meta->base_term = up->chain.term;
    return 0;
}

static int taken(const char *db, const char *branch)
{
    return co_fail(
        CO_ERR_EXISTS,
        "database '%s' has a branch '%s' already; choose another name, or drop or rename "
        "that one",
        db, branch);
}

/* The timeline with the id that the caller chose, if it was made already. 0 and *out NULL: not. */
static int made_before(struct ps_server *s, const struct ps_ask *ask, struct ps_timeline **out)
{
    struct ps_timeline *tl = co_id_is_zero(&ask->b.id) ? NULL : ps_reg_find(&s->reg, &ask->b.id);
    char name[PS_META_NAME_TEXT];
    *out = tl;
    if (!tl || (ps_timeline_lives(tl) && strcmp(tl->meta.database_name, ask->db) == 0))
        return 0;
    return co_fail(CO_ERR_EXISTS,
                   "'%s/%s' cannot be made with this id: it is that of %s%s; leave the id out, or "
                   "choose another",
                   ask->db, ask->branch, ps_timeline_lives(tl) ? "" : "the dropped ",
                   ps_meta_name(&tl->meta, name));
}

static int check_expiry(const struct ps_ask *ask)
{
    char at[WHEN_TEXT];
    if (!ask->b.expires_us || ask->b.expires_us > co_wall_us())
        return 0;
    return co_fail(CO_ERR_INVAL, "the branch would have expired at %s already",
                   when_format(ask->b.expires_us, at));
}

static int begin_branch(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl;
    if (co_id_is_zero(&ask->b.id))
        ask->b.id = co_id_random();
    struct ps_meta meta = {.id = ask->b.id,
                           .expires_us = ask->b.expires_us,
                           .retention_us = ask->moment.tl->meta.retention_us};
    snprintf(meta.branch, sizeof meta.branch, "%s", ask->branch);
    int rc = grow_from(s, &ask->moment, false, &meta);
    return rc ? rc : ps_catalog_begin(s, &meta, &tl);
}

static int try_create(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl;
    if (!s->reg.heard)
        return CO_ERR_AGAIN;
    int rc = made_before(s, ask, &tl);
    if (rc)
        return rc;
    if (tl)
        return ps_timeline_open(tl) && tl->based ? send_branched(s, ask, tl) : CO_ERR_AGAIN;
    if (ps_reg_name_taken(&s->reg, ask->db, ask->branch))
        return taken(ask->db, ask->branch);
    rc = check_expiry(ask);
    if (!rc)
        rc = ps_moment_poll(s, &ask->moment, ask->db, ask->b.from);
    if (!rc)
        rc = begin_branch(s, ask);
    return rc ? rc : CO_ERR_AGAIN; /* answered once it is active on a majority and stored here */
}

/* -- Restore ----------------------------------------------------------------------------------- */

static int is_protected(const struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT];
    return co_fail(CO_ERR_READONLY,
                   "%s is protected; `corallite branch protect --off %s` comes first",
                   ps_meta_name(&tl->meta, name), name);
}

/* May the content of this branch be replaced? */
static int check_restorable(struct ps_server *s, const struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT];
    ps_meta_name(&tl->meta, name);
    if (tl->meta.state == PS_SEALED)
        return co_fail(CO_ERR_READONLY,
                       "%s is what a restore kept and never changes; restore another branch to it, "
                       "or branch from it",
                       name);
    if (tl->meta.is_protected)
        return is_protected(tl);
    if (ps_reg_restoring(&s->reg, tl))
        return co_fail(CO_ERR_BUSY, "another restore of %s is under way", name);
    return 0;
}

/* BRANCH-before-YYYYMMDDTHHMMSSZ, with -2, -3, ... when that is taken. */
static void default_keep_as(struct ps_server *s, const struct ps_ask *ask,
                            char out[CO_NAME_MAX_BYTES + 1])
{
    char at[WHEN_TEXT], stamp[40];
    when_format(co_wall_us(), at); /* 2026-01-02T03:04:05.678901Z */
    snprintf(stamp, sizeof stamp, "-before-%.4s%.2s%.2sT%.2s%.2s%.2sZ", at, at + 5, at + 8, at + 11,
             at + 14, at + 17);
    for (unsigned i = 1; i < 1000; i++) {
        char tail[8] = "";
        if (i > 1)
            snprintf(tail, sizeof tail, "-%u", i);
        int room = CO_NAME_MAX_BYTES - (int)strlen(stamp) - (int)strlen(tail);
        snprintf(out, CO_NAME_MAX_BYTES + 1, "%.*s%s%s", room, ask->branch, stamp, tail);
        if (!ps_reg_name_taken(&s->reg, ask->db, out))
            return;
    }
}

static int begin_restore(struct ps_server *s, struct ps_ask *ask, struct ps_timeline *old)
{
    const struct ps_moment *m = &ask->moment;
    struct ps_timeline *tl;
    if (m->commit.page_size && old->chain.page_size && m->commit.page_size != old->chain.page_size)
        return co_fail(CO_ERR_INVAL,
                       "%s has pages of %u bytes and that moment has %u: open handles could not "
                       "follow; make it a branch of its own instead",
                       ask->branch, old->chain.page_size, m->commit.page_size);
    if (m->when.kind == WHEN_HEAD && m->tl == old)
        return co_fail(CO_ERR_INVAL,
                       "restoring %s to its own present changes nothing; name a moment, such as "
                       "-10m, or another branch",
                       ask->branch);
    if (co_id_is_zero(&ask->b.id))
        ask->b.id = co_id_random();
    struct ps_meta meta = {.id = ask->b.id,
                           .replaces = old->meta.id,
                           .expires_us = old->meta.expires_us,
                           .retention_us = old->meta.retention_us};
    snprintf(meta.branch, sizeof meta.branch, "%s", ask->branch);
    if (*ask->b.name)
        snprintf(meta.keep_as, sizeof meta.keep_as, "%s", ask->b.name);
    else
        default_keep_as(s, ask, meta.keep_as);
    int rc = grow_from(s, m, true, &meta);
    return rc ? rc : ps_catalog_begin(s, &meta, &tl);
}

static int try_restore(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl, *old;
    if (!s->reg.heard)
        return CO_ERR_AGAIN;
    int rc = made_before(s, ask, &tl);
    if (rc)
        return rc;
    if (tl)
        return ps_timeline_open(tl) && tl->based ? send_branched(s, ask, tl) : CO_ERR_AGAIN;
    old = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (!old)
        return ps_no_branch(s, ask->db, ask->branch);
    if (!ps_timeline_open(old))
        return CO_ERR_AGAIN;
    rc = check_restorable(s, old);
    if (!rc && *ask->b.name && ps_reg_name_taken(&s->reg, ask->db, ask->b.name))
        rc = taken(ask->db, ask->b.name);
    if (!rc)
        rc = ps_moment_poll(s, &ask->moment, ask->db, ask->b.from);
    if (!rc)
        rc = begin_restore(s, ask, old);
    return rc ? rc : CO_ERR_AGAIN;
}

/* -- Changes ----------------------------------------------------------------------------------- */

/* May it be dropped, by hand or by its expiry? CO_ERR_AGAIN: that is not known yet. */
static int check_drop(struct ps_server *s, const struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT];
    const char *pin = "";
    uint32_t pins = ps_pins_of(s, &tl->meta.id, &pin);
    ps_meta_name(&tl->meta, name);
    if (tl->meta.is_protected)
        return is_protected(tl);
    if (ps_pins_change(s, &tl->meta.database, &tl->meta.id))
        return CO_ERR_AGAIN;
    if (ps_reg_branches(&s->reg, &tl->meta.database) == 1)
        return co_fail(CO_ERR_INVAL,
                       "%s is the only branch of its database; `corallite db drop %s` drops both",
                       name, tl->meta.database_name);
    if (pins)
        return co_fail(CO_ERR_BUSY, "%s has %u pin%s ('%s'%s); drop the pins first", name, pins,
                       pins > 1 ? "s" : "", pin, pins > 1 ? ", ..." : "");
    if (ps_reg_restoring(&s->reg, tl))
        return co_fail(CO_ERR_BUSY, "a restore of %s is under way", name);
    return 0;
}

/* Shorter than who reads can be away without being forgotten makes no sense. */
static int check_retention(const struct ps_ask *ask)
{
    if (!ask->b.retention_us || ask->b.retention_us >= 2 * ps_gc_ttl_us)
        return 0;
    return co_fail(CO_ERR_INVAL, "a retention is at least %llu s, or for ever",
                   (unsigned long long)(2 * ps_gc_ttl_us / 1000000));
}

static int check_rename(struct ps_server *s, const struct ps_ask *ask, const struct ps_timeline *tl)
{
    if (!*ask->b.name || strcmp(ask->b.name, tl->meta.branch) == 0)
        return 0;
    if (ps_reg_name_taken(&s->reg, ask->db, ask->b.name))
        return taken(ask->db, ask->b.name);
    if (ps_reg_restoring(&s->reg, tl))
        return co_fail(CO_ERR_BUSY, "a restore of '%s' is under way", tl->meta.branch);
    return 0;
}

static int begin_change(struct ps_server *s, struct ps_ask *ask, struct ps_timeline *tl)
{
    int rc = ask->b.drop ? check_drop(s, tl) : check_rename(s, ask, tl);
    if (!rc && ask->b.has_expires)
        rc = check_expiry(ask);
    if (!rc && ask->b.has_retention)
        rc = check_retention(ask);
    if (!rc && !ask->b.drop && !*ask->b.name && !ask->b.has_protect && !ask->b.has_expires &&
        !ask->b.has_retention)
        rc = co_fail(CO_ERR_INVAL, "no change was asked for: a new name, protection, an expiry, "
                                   "a retention, or to drop it");
    if (rc)
        return rc;
    if (ask->b.drop) {
        ps_reg_drop(&s->reg, tl);
    } else {
        if (*ask->b.name && strcmp(ask->b.name, tl->meta.branch) != 0)
            ps_reg_rename(&s->reg, tl, ask->b.name);
        if (ask->b.has_protect)
            tl->meta.is_protected = ask->b.protect;
        if (ask->b.has_expires)
            tl->meta.expires_us = ask->b.expires_us;
        if (ask->b.has_retention)
            tl->meta.retention_us = ask->b.retention_us;
        ps_reg_change(&s->reg, tl, tl->meta.state);
    }
    ask->b.id = tl->meta.id;
    ask->b.version = tl->meta.version;
    ps_catalog_drive(s, tl);
    return 0;
}

static int try_change(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_timeline *tl;
    if (!s->reg.heard)
        return CO_ERR_AGAIN;
    if (ask->b.version) {
        tl = ps_reg_find(&s->reg, &ask->b.id);
        return tl->stored >= ask->b.version ? send_branched(s, ask, tl) : CO_ERR_AGAIN;
    }
    tl = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (!tl)
        return ps_no_branch(s, ask->db, ask->branch);
    if (!ps_timeline_open(tl))
        return CO_ERR_AGAIN;
    int rc = begin_change(s, ask, tl);
    return rc ? rc : CO_ERR_AGAIN;
}

void ps_branch_tick(struct ps_server *s)
{
    uint64_t now = co_wall_us();
    char name[PS_META_NAME_TEXT], at[WHEN_TEXT];
    bool mine = s->reg.heard && !s->reg.follows;
    for (struct ps_timeline *tl = mine ? s->reg.all : NULL; tl; tl = tl->next) {
        if (!tl->meta.expires_us || tl->meta.expires_us > now || !ps_timeline_open(tl) ||
            check_drop(s, tl))
            continue;
        co_info(MODULE, "branch %s expired at %s and is dropped", ps_meta_name(&tl->meta, name),
                when_format(tl->meta.expires_us, at));
        ps_reg_drop(&s->reg, tl);
        ps_catalog_drive(s, tl);
    }
}

/* -- Log and list ------------------------------------------------------------------------------ */

static int try_log(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_moment *m = &ask->moment;
    if (!ask->b.before_lsn || *m->at) {
        int rc = ps_moment_poll(s, m, ask->db, ask->branch);
        return rc ? rc : ps_log_answer(s, ask);
    }
    /* A further page: what is asked for lies below what was told, and is here. */
    m->tl = ps_reg_find_name(&s->reg, ask->db, ask->branch);
    if (!m->tl && s->reg.heard)
        return ps_no_branch(s, ask->db, ask->branch);
    if (!m->tl || !ps_timeline_open(m->tl) || !m->tl->based)
        return CO_ERR_AGAIN;
    m->commit.lsn = m->tl->chain.last_lsn;
    return ps_log_answer(s, ask);
}

static int try_list(struct ps_server *s, struct ps_ask *ask)
{
    const struct ps_timeline *tl = ps_reg_find_db(&s->reg, ask->db);
    if (!tl)
        return s->reg.heard ? ps_no_branch(s, ask->db, "main") : CO_ERR_AGAIN;
    ask->database = tl->meta.database;
    return ps_branch_list_answer(s, ask);
}

static int try_resolve(struct ps_server *s, struct ps_ask *ask)
{
    int rc = ps_moment_poll(s, &ask->moment, ask->db, ask->branch);
    return rc ? rc : send_resolved(s, ask);
}

bool ps_branch_try(struct ps_server *s, struct ps_ask *ask)
{
    int rc = ask->kind == PS_ASK_RESOLVE         ? try_resolve(s, ask)
             : ask->kind == PS_ASK_BRANCH_CREATE ? try_create(s, ask)
             : ask->kind == PS_ASK_BRANCH_CHANGE ? try_change(s, ask)
             : ask->kind == PS_ASK_RESTORE       ? try_restore(s, ask)
             : ask->kind == PS_ASK_BRANCH_LIST   ? try_list(s, ask)
                                                 : try_log(s, ask);
    if (rc && rc != CO_ERR_AGAIN)
        peer_send_error(ask->session->peer, ask->request, rc);
    return rc != CO_ERR_AGAIN;
}
