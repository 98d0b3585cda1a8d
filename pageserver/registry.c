#include "pageserver/registry.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/qhist.h"

int ps_reg_init(struct ps_registry *reg, const struct co_id *cluster, const struct co_id *self,
                uint32_t n_nodes)
{
    co_assert(n_nodes >= 1 && n_nodes <= CO_MEMBERS_MAX);
    *reg = (struct ps_registry){
        .cluster = *cluster, .self = *self, .n_nodes = n_nodes, .n_buckets = 1024};
    reg->config.version = 1;
    reg->config.n = n_nodes;
    for (uint32_t i = 0; i < n_nodes; i++)
        reg->node_id[i] = reg->config.members[i].node_id = i + 1;
    reg->by_id = calloc(reg->n_buckets, sizeof *reg->by_id);
    reg->by_name = calloc(reg->n_buckets, sizeof *reg->by_name);
    reg->by_db = calloc(reg->n_buckets, sizeof *reg->by_db);
    if (reg->by_id && reg->by_name && reg->by_db)
        return 0;
    ps_reg_free(reg);
    return co_fail(CO_ERR_NOMEM, "no memory for the registry of timelines");
}

bool ps_reg_quorum(const struct ps_registry *reg, const bool has[CO_MEMBERS_MAX])
{
    uint32_t set[CO_MEMBERS_MAX], n = 0;
    for (uint32_t i = 0; i < reg->n_nodes; i++)
        if (has[i] && reg->node_id[i] && !ps_reg_is_other(reg, i))
            set[n++] = reg->node_id[i];
    return q_is_quorum(&reg->config, set, n);
}

void ps_reg_free(struct ps_registry *reg)
{
    for (struct ps_timeline *tl = reg->all, *next; tl; tl = next) {
        next = tl->next;
        free(tl);
    }
    free(reg->by_id);
    free(reg->by_name);
    free(reg->by_db);
    *reg = (struct ps_registry){0};
}

/* -- Three indexes ----------------------------------------------------------------------------- */

static uint32_t id_bucket(const struct ps_registry *reg, const struct co_id *id)
{
    return co_get32(id->b) & (reg->n_buckets - 1); /* ids are random */
}

static uint32_t name_bucket(const struct ps_registry *reg, const char *db, const char *branch)
{
    uint32_t h = co_crc32c(co_crc32c(0, db, strlen(db) + 1), branch, strlen(branch));
    return h & (reg->n_buckets - 1);
}

static struct ps_timeline **db_bucket(const struct ps_registry *reg, const char *db)
{
    return &reg->by_db[co_crc32c(0, db, strlen(db)) & (reg->n_buckets - 1)];
}

static void link_all(struct ps_registry *reg, struct ps_timeline *tl)
{
    struct ps_timeline **db = db_bucket(reg, tl->meta.database_name);
    struct ps_timeline **id = &reg->by_id[id_bucket(reg, &tl->meta.id)];
    struct ps_timeline **name =
        &reg->by_name[name_bucket(reg, tl->meta.database_name, tl->meta.branch)];
    tl->next_id = *id;
    *id = tl;
    tl->next_name = *name;
    *name = tl;
    tl->next_db = *db;
    *db = tl;
}

static void unlink_name(struct ps_registry *reg, struct ps_timeline *tl)
{
    struct ps_timeline **at =
        &reg->by_name[name_bucket(reg, tl->meta.database_name, tl->meta.branch)];
    while (*at != tl)
        at = &(*at)->next_name;
    *at = tl->next_name;
}

static void link_name(struct ps_registry *reg, struct ps_timeline *tl)
{
    struct ps_timeline **at =
        &reg->by_name[name_bucket(reg, tl->meta.database_name, tl->meta.branch)];
    tl->next_name = *at;
    *at = tl;
}

/* Twice the buckets; staying as it is costs time only. */
static void grow(struct ps_registry *reg)
{
    uint32_t n = reg->n_buckets * 2;
    struct ps_timeline **id = calloc(n, sizeof(struct ps_timeline *));
    struct ps_timeline **name = calloc(n, sizeof(struct ps_timeline *));
    struct ps_timeline **db = calloc(n, sizeof(struct ps_timeline *));
    if (!id || !name || !db) {
        free(id);
        free(name);
        free(db);
        return;
    }
    free(reg->by_id);
    free(reg->by_name);
    free(reg->by_db);
    reg->by_id = id;
    reg->by_name = name;
    reg->by_db = db;
    reg->n_buckets = n;
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        link_all(reg, tl);
}

struct ps_timeline *ps_reg_find(const struct ps_registry *reg, const struct co_id *id)
{
    struct ps_timeline *tl = reg->by_id[id_bucket(reg, id)];
    while (tl && !co_id_eq(&tl->meta.id, id))
        tl = tl->next_id;
    return tl;
}

static bool same_name(const struct ps_timeline *tl, const char *db, const char *branch)
{
    return strcmp(tl->meta.database_name, db) == 0 && strcmp(tl->meta.branch, branch) == 0;
}

struct ps_timeline *ps_reg_find_name(const struct ps_registry *reg, const char *db,
                                     const char *branch)
{
    struct ps_timeline *tl = reg->by_name[name_bucket(reg, db, branch)], *creating = NULL;
    for (; tl; tl = tl->next_name) {
        if (!ps_timeline_lives(tl) || !same_name(tl, db, branch))
            continue;
        if (tl->meta.state != PS_CREATING)
            return tl;
        creating = tl;
    }
    return creating;
}

/* Nothing of it is ingested yet. */
static void be_born(struct ps_registry *reg, struct ps_timeline *tl)
{
    tl->chain = (struct ps_chain){.cluster = reg->cluster,
                                  .timeline = tl->meta.id,
                                  .last_lsn = tl->meta.start_lsn,
                                  .digest = tl->meta.base_digest};
    tl->durable = tl->meta.start_lsn;
}

static int add(struct ps_registry *reg, const struct ps_meta *meta, struct ps_timeline **out)
{
    if (reg->n >= CO_TIMELINES_MAX)
        return co_fail(CO_ERR_FULL, "there are %u timelines, the most a pageserver keeps", reg->n);
    struct ps_timeline *tl = calloc(1, sizeof *tl);
    if (!tl)
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline");
    tl->meta = *meta;
    ps_reg_note_disks(reg, &meta->config);
    tl->line.id = meta->id;
    be_born(reg, tl);
    tl->next = reg->all;
    reg->all = tl;
    if (++reg->n > reg->n_buckets)
        grow(reg);
    if (ps_reg_find(reg, &meta->id) != tl)
        link_all(reg, tl);
    *out = tl;
    return 0;
}

/* -- One name, one timeline (R2) --------------------------------------------------------------- */

static bool older(const struct ps_meta *a, const struct ps_meta *b)
{
    if (a->created_us != b->created_us)
        return a->created_us < b->created_us;
    return memcmp(a->id.b, b->id.b, sizeof a->id.b) < 0;
}

static bool replaces(const struct ps_timeline *tl, const struct ps_timeline *other)
{
    return tl->meta.state == PS_CREATING && ps_timeline_lives(tl) &&
           co_id_eq(&tl->meta.replaces, &other->meta.id);
}

/* Drops the CREATING ones that have to give way to another of the same name. */
static void settle_name(struct ps_registry *reg, struct ps_timeline *tl)
{
    if (!ps_timeline_lives(tl) || !reg->heard || reg->follows)
        return;
    const char *db = tl->meta.database_name, *branch = tl->meta.branch;
    struct ps_timeline *o = reg->by_name[name_bucket(reg, db, branch)];
    for (; o && ps_timeline_lives(tl); o = o->next_name) {
        if (o == tl || !ps_timeline_lives(o) || !same_name(o, db, branch) || replaces(tl, o) ||
            replaces(o, tl))
            continue;
        bool stays = tl->meta.state != o->meta.state ? tl->meta.state != PS_CREATING
                                                     : older(&tl->meta, &o->meta);
        struct ps_timeline *loser = stays ? o : tl;
        if (loser->meta.state == PS_CREATING)
            ps_reg_drop(reg, loser);
    }
}

/* Does one that gave way still count as CREATING? A safekeeper that is away may hold it ACTIVE. */
static bool name_is_contested(const struct ps_registry *reg, const struct ps_timeline *tl)
{
    const char *db = tl->meta.database_name, *branch = tl->meta.branch;
    const struct ps_timeline *o = reg->by_name[name_bucket(reg, db, branch)];
    for (; o; o = o->next_name)
        if (o != tl && o->meta.state == PS_CREATING && !ps_timeline_lives(o) &&
            same_name(o, db, branch))
            return true;
    return false;
}

/* -- What is heard ----------------------------------------------------------------------------- */

static bool is_of_another(const struct ps_registry *reg, const struct ps_meta *meta)
{
    return !co_id_is_zero(&meta->pageserver) && !co_id_eq(&meta->pageserver, &reg->self);
}

/* R8: what is ours tells our moment. */
static void learn_moment(struct ps_registry *reg, const struct ps_meta *meta)
{
    if (co_id_eq(&meta->pageserver, &reg->self) && meta->taken_us > reg->taken_us)
        reg->taken_us = meta->taken_us;
}

int ps_reg_load(struct ps_registry *reg, tlno_t no, bool purged, const struct ps_meta *meta,
                struct ps_timeline **out)
{
    int rc = add(reg, meta, out);
    if (rc)
        return rc;
    learn_moment(reg, meta);
    (*out)->line.no = no;
    (*out)->purged = purged;
    (*out)->stored = meta->version;
    (*out)->stored_state = meta->state;
    return 0;
}

/* The database and where a timeline begins never change; all the rest may. Only, what was asked for
 * twice with one id, of two lives, may have come out differently: the newer one is it. */
static void adopt(struct ps_registry *reg, struct ps_timeline *tl, const struct ps_meta *meta)
{
    if (!tl->line.no && strcmp(tl->meta.database_name, meta->database_name) == 0) {
        unlink_name(reg, tl);
        tl->meta = *meta;
        link_name(reg, tl);
        be_born(reg, tl);
        ps_reg_note_disks(reg, &meta->config);
        return;
    }
    tl->meta.state = meta->state;
    tl->meta.pageserver = meta->pageserver;
    tl->meta.taken_us = meta->taken_us;
    tl->meta.config = meta->config;
    ps_reg_note_disks(reg, &meta->config);
    tl->meta.is_protected = meta->is_protected;
    tl->meta.hidden = meta->hidden;
    tl->meta.dropping = meta->dropping;
    tl->meta.expires_us = meta->expires_us;
    tl->meta.retention_us = meta->retention_us;
    tl->meta.erased_us = meta->erased_us;
    tl->meta.purged = meta->purged;
    if (strcmp(tl->meta.branch, meta->branch) != 0)
        ps_reg_rename(reg, tl, meta->branch);
}

static bool on_majority(const struct ps_registry *reg, const struct ps_timeline *tl)
{
    bool has[CO_MEMBERS_MAX] = {false};
    for (uint32_t i = 0; i < reg->n_nodes; i++)
        has[i] = tl->held[i] >= tl->meta.version;
    return ps_reg_quorum(reg, has);
}

/* R12: what a minority knows of an earlier life of ours is not told to others as it is. And what
 * was decided between two versions (R11) is in neither. */
static void make_anew(struct ps_registry *reg, struct ps_timeline *tl)
{
    if (reg->follows || ps_reg_is_foreign(reg, tl))
        return;
    if (tl->overruled || (tl->meta.version < reg->life_us && !on_majority(reg, tl)))
        ps_reg_change(reg, tl, tl->meta.state);
    tl->overruled = false;
}

/* R5, R11: what a safekeeper takes for final is, whatever else was made meanwhile. */
static int finality(enum ps_state state)
{
    return state == PS_DROPPED ? 2 : state == PS_SEALED;
}

/* R11: an intent to drop that no majority knew at the start, and no later owner's. */
static bool is_stray_drop(const struct ps_registry *reg, const struct ps_timeline *tl,
                          const struct ps_meta *meta)
{
    bool later = is_of_another(reg, meta) && meta->taken_us >= reg->taken_us;
    return reg->heard && !reg->follows && !later && meta->dropping && !tl->meta.dropping &&
           meta->version > tl->meta.version;
}

/* What is known and what was heard become one. */
static void merge(struct ps_registry *reg, struct ps_timeline *tl, const struct ps_meta *meta)
{
    uint64_t known = tl->meta.version;
    bool newer = meta->version > known, stray = is_stray_drop(reg, tl, meta);
    int more = finality(meta->state) - finality(tl->meta.state);
    if (more > 0 || (more == 0 && newer && !stray))
        adopt(reg, tl, meta);
    tl->overruled |= more ? (more > 0) != newer : stray;
    tl->meta.version = newer ? meta->version : known;
}

int ps_reg_heard(struct ps_registry *reg, uint32_t node, const struct ps_meta *meta,
                 struct ps_timeline **out)
{
    co_assert(node < reg->n_nodes);
    struct ps_timeline *tl = ps_reg_find(reg, &meta->id);
    bool late = !tl && reg->heard && meta->state == PS_CREATING && !co_id_is_zero(&meta->replaces);
    int rc = tl ? 0 : add(reg, meta, &tl);
    if (rc)
        return rc;
    merge(reg, tl, meta);
    learn_moment(reg, meta);
    tl->held[node] = meta->version;
    *out = tl;
    if (reg->heard)
        make_anew(reg, tl);
    if (late && !reg->follows && !meta->dropping) /* R4 */
        ps_reg_drop(reg, tl);
    settle_name(reg, tl);
    return 0;
}

/* R12, where the clock is behind that of an earlier life. */
static void outlive(struct ps_registry *reg)
{
    for (const struct ps_timeline *tl = reg->all; reg->life_us && tl; tl = tl->next)
        if (tl->meta.version >= reg->life_us)
            reg->life_us = tl->meta.version + PS_LIFE_VERSIONS;
}

void ps_reg_list_begins(struct ps_registry *reg, uint32_t node)
{
    co_assert(node < reg->n_nodes);
    reg->listed[node] = false;
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next) {
        tl->held[node] = 0;
        tl->asked[node] = 0;
    }
}

bool ps_reg_list_done(struct ps_registry *reg, uint32_t node)
{
    co_assert(node < reg->n_nodes);
    reg->listed[node] = true;
    if (ps_reg_quorum(reg, reg->listed) && !reg->heard) {
        reg->heard = true;
        outlive(reg);
        for (struct ps_timeline *tl = reg->all; tl; tl = tl->next) {
            make_anew(reg, tl);
            settle_name(reg, tl);
        }
    }
    return reg->heard;
}

void ps_reg_birth_config(const struct ps_registry *reg, struct wal_config *out)
{
    q_config_end(&reg->config, out);
    out->version = reg->config.version;
    ps_reg_know_disks(reg, out);
}

bool ps_reg_holds_up(const struct ps_registry *reg, const struct wal_config *list)
{
    struct wal_config wanted, has;
    if (!reg->heard || reg->follows)
        return false; /* nothing is begun here */
    q_config_end(list, &wanted);
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next) {
        if (tl->meta.state != PS_CREATING)
            continue;
        q_config_end(&tl->meta.config, &has);
        if (!q_same_group(wanted.members, wanted.n, has.members, has.n))
            return true;
    }
    return false;
}

/* What every timeline has been born with at least since the cluster was made of an archive. */
static term_t reborn(const struct ps_registry *reg)
{
    term_t newest = 0;
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        newest = tl->meta.born_term > newest ? tl->meta.born_term : newest;
    return newest - newest % TERMS_A_CLUSTER;
}

/* R9. Once there are no more numbers the last ones serve again. */
static term_t born_term(struct ps_registry *reg, const char *db)
{
    const struct ps_timeline *tl = *db_bucket(reg, db);
    term_t newest = 0;
    bool any = false;
    for (; tl; tl = tl->next_db) {
        if (strcmp(tl->meta.database_name, db) != 0)
            continue;
        any = true;
        newest = tl->meta.born_term > newest ? tl->meta.born_term : newest;
    }
    return !any ? reborn(reg) : newest < TERM_BORN_MAX ? newest + TERMS_A_TIMELINE : newest;
}

/* R12 */
static uint64_t next_version(const struct ps_registry *reg, uint64_t last)
{
    return last < reg->life_us ? reg->life_us : last + 1;
}

int ps_reg_create(struct ps_registry *reg, const struct ps_meta *meta, struct ps_timeline **out)
{
    co_assert(reg->heard && meta->state == PS_CREATING);
    struct ps_timeline *has = ps_reg_find_name(reg, meta->database_name, meta->branch);
    co_assert(!has || co_id_eq(&has->meta.id, &meta->replaces));
    term_t born = born_term(reg, meta->database_name);
    int rc = add(reg, meta, out);
    if (rc)
        return rc;
    (*out)->meta.born_term = born;
    (*out)->meta.version = next_version(reg, 0);
    return 0;
}

void ps_reg_change(struct ps_registry *reg, struct ps_timeline *tl, enum ps_state state)
{
    enum ps_state was = tl->meta.state;
    co_assert(!reg->follows);                                            /* R6 */
    co_assert(reg->heard && (was != PS_DROPPED || state == PS_DROPPED)); /* R5 */
    co_assert(was != PS_SEALED || state == PS_SEALED || state == PS_DROPPED);
    tl->meta.state = state;
    tl->meta.version = next_version(reg, tl->meta.version);
    tl->meta.pageserver = reg->self;
    tl->meta.taken_us = reg->taken_us;
}

bool ps_reg_is_foreign(const struct ps_registry *reg, const struct ps_timeline *tl)
{
    return is_of_another(reg, &tl->meta);
}

struct ps_timeline *ps_reg_foreign(const struct ps_registry *reg)
{
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (ps_reg_is_foreign(reg, tl))
            return tl;
    return NULL;
}

bool ps_reg_left_behind(const struct ps_registry *reg, const struct ps_timeline *tl)
{
    return ps_reg_is_foreign(reg, tl) && tl->meta.taken_us < reg->taken_us;
}

bool ps_reg_outdone(const struct ps_registry *reg)
{
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (ps_reg_is_foreign(reg, tl) && tl->meta.taken_us > reg->taken_us)
            return true;
    return false;
}

void ps_reg_outdo(struct ps_registry *reg)
{
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (ps_reg_is_foreign(reg, tl) && tl->meta.taken_us >= reg->taken_us)
            reg->taken_us = tl->meta.taken_us + 1;
}

void ps_reg_take_over(struct ps_registry *reg, struct ps_timeline *tl)
{
    co_assert(ps_reg_left_behind(reg, tl));
    ps_reg_change(reg, tl, tl->meta.state);
}

/* -- Branches ---------------------------------------------------------------------------------- */

struct ps_timeline *ps_reg_find_db(const struct ps_registry *reg, const char *db)
{
    struct ps_timeline *tl = ps_reg_find_name(reg, db, "main");
    if (tl)
        return tl;
    for (tl = *db_bucket(reg, db); tl; tl = tl->next_db)
        if (ps_timeline_lives(tl) && strcmp(tl->meta.database_name, db) == 0)
            return tl;
    return NULL;
}

bool ps_reg_name_taken(const struct ps_registry *reg, const char *db, const char *branch)
{
    if (ps_reg_find_name(reg, db, branch))
        return true;
    for (const struct ps_timeline *tl = *db_bucket(reg, db); tl; tl = tl->next_db)
        if (tl->meta.state == PS_CREATING && ps_timeline_lives(tl) &&
            strcmp(tl->meta.keep_as, branch) == 0 && strcmp(tl->meta.database_name, db) == 0)
            return true;
    return false;
}

uint32_t ps_reg_branches(const struct ps_registry *reg, const struct co_id *database)
{
    uint32_t n = 0;
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        n += ps_timeline_stays(tl) && co_id_eq(&tl->meta.database, database);
    return n;
}

struct ps_timeline *ps_reg_restoring(const struct ps_registry *reg, const struct ps_timeline *of)
{
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (replaces(tl, of))
            return tl;
    return NULL;
}

uint32_t ps_reg_depth(const struct ps_registry *reg, const struct ps_timeline *tl)
{
    uint32_t depth = 0;
    while (tl && !co_id_is_zero(&tl->meta.ancestor) && depth <= CO_BRANCH_DEPTH_MAX) {
        tl = ps_reg_find(reg, &tl->meta.ancestor);
        depth++;
    }
    return depth;
}

bool ps_reg_has_children(const struct ps_registry *reg, const struct ps_timeline *of)
{
    for (const struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (co_id_eq(&tl->meta.ancestor, &of->meta.id) && tl->meta.state != PS_DROPPED)
            return true;
    return false;
}

void ps_reg_rename(struct ps_registry *reg, struct ps_timeline *tl, const char *branch)
{
    unlink_name(reg, tl);
    snprintf(tl->meta.branch, sizeof tl->meta.branch, "%s", branch);
    link_name(reg, tl);
}

void ps_reg_drop(struct ps_registry *reg, struct ps_timeline *tl)
{
    tl->meta.dropping = true;
    ps_reg_change(reg, tl, tl->meta.state);
}

struct ps_timeline *ps_reg_sweep(struct ps_registry *reg)
{
    if (!reg->heard || reg->follows)
        return NULL;
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (tl->meta.hidden && tl->meta.state == PS_SEALED && !ps_reg_has_children(reg, tl)) {
            ps_reg_change(reg, tl, PS_DROPPED);
            return tl;
        }
    return NULL;
}

/* -- What is due ------------------------------------------------------------------------------- */

/* The name under which a restore keeps what it replaces: the one that was asked for, or, should a
 * crash have let somebody else take it meanwhile, one that nobody has. */
static void keep_name(const struct ps_registry *reg, const struct ps_timeline *tl,
                      char out[CO_NAME_MAX_BYTES + 1])
{
    char id[CO_ID_TEXT];
    snprintf(out, CO_NAME_MAX_BYTES + 1, "%s", tl->meta.keep_as);
    if (*out && !ps_reg_find_name(reg, tl->meta.database_name, out))
        return;
    snprintf(out, CO_NAME_MAX_BYTES + 1, "kept-%s", co_id_format(&tl->meta.id, id));
}

/* A restore that a majority knows. True: it can go on; else *next says what else is to be done. */
static bool seal_replaced(struct ps_registry *reg, struct ps_timeline *tl, enum ps_next *next)
{
    struct ps_timeline *old = ps_reg_find(reg, &tl->meta.replaces);
    char name[CO_NAME_MAX_BYTES + 1];
    *next = PS_NEXT_NOTHING;
    if (!old || old->meta.state == PS_DROPPED)
        return true; /* dropped by hand in the middle: there is nothing to keep */
    if (old->meta.dropping)
        return false; /* it goes its way */
    if (old->meta.state == PS_SEALED)
        return old->stored >= old->meta.version;
    keep_name(reg, tl, name);
    ps_reg_rename(reg, old, name);
    old->meta.expires_us = 0; /* what is kept for an undo does not go by itself */
    ps_reg_change(reg, old, PS_SEALED);
    *next = PS_NEXT_SEALED;
    return false;
}

/* A majority knows that it is to go. */
static void go(struct ps_registry *reg, struct ps_timeline *tl)
{
    bool needed = tl->meta.state != PS_CREATING && ps_reg_has_children(reg, tl);
    tl->meta.dropping = false;
    tl->meta.hidden = needed;
    ps_reg_change(reg, tl, needed ? PS_SEALED : PS_DROPPED);
}

enum ps_next ps_reg_next(struct ps_registry *reg, struct ps_timeline *tl)
{
    enum ps_next next;
    if (!reg->heard || !on_majority(reg, tl))
        return PS_NEXT_NOTHING;
    if (tl->meta.state == PS_CREATING && reg->follows)
        return PS_NEXT_NOTHING;
    if (tl->meta.dropping && !reg->follows) {
        go(reg, tl);
        return PS_NEXT_CHANGED;
    }
    if (tl->meta.state == PS_CREATING) {
        if (name_is_contested(reg, tl))
            return PS_NEXT_NOTHING;
        if (!co_id_is_zero(&tl->meta.replaces) && !seal_replaced(reg, tl, &next))
            return next;
        ps_reg_change(reg, tl, PS_ACTIVE);
        return PS_NEXT_CHANGED;
    }
    if (tl->stored < tl->meta.version && tl->storing < tl->meta.version)
        return PS_NEXT_STORE;
    return PS_NEXT_NOTHING;
}
