#include "pageserver/registry.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/crc32c.h"

int ps_reg_init(struct ps_registry *reg, const struct co_id *cluster, const struct co_id *self,
                uint32_t n_nodes)
{
    co_assert(n_nodes >= 1 && n_nodes <= CO_MEMBERS_MAX);
    *reg = (struct ps_registry){
        .cluster = *cluster, .self = *self, .n_nodes = n_nodes, .n_buckets = 1024};
    reg->by_id = calloc(reg->n_buckets, sizeof *reg->by_id);
    reg->by_name = calloc(reg->n_buckets, sizeof *reg->by_name);
    if (reg->by_id && reg->by_name)
        return 0;
    ps_reg_free(reg);
    return co_fail(CO_ERR_NOMEM, "no memory for the registry of timelines");
}

void ps_reg_free(struct ps_registry *reg)
{
    for (struct ps_timeline *tl = reg->all, *next; tl; tl = next) {
        next = tl->next;
        free(tl);
    }
    free(reg->by_id);
    free(reg->by_name);
    *reg = (struct ps_registry){0};
}

/* -- Two indexes ------------------------------------------------------------------------------- */

static uint32_t id_bucket(const struct ps_registry *reg, const struct co_id *id)
{
    return co_get32(id->b) & (reg->n_buckets - 1); /* ids are random */
}

static uint32_t name_bucket(const struct ps_registry *reg, const char *db, const char *branch)
{
    uint32_t h = co_crc32c(co_crc32c(0, db, strlen(db) + 1), branch, strlen(branch));
    return h & (reg->n_buckets - 1);
}

static void link_both(struct ps_registry *reg, struct ps_timeline *tl)
{
    struct ps_timeline **id = &reg->by_id[id_bucket(reg, &tl->meta.id)];
    struct ps_timeline **name =
        &reg->by_name[name_bucket(reg, tl->meta.database_name, tl->meta.branch)];
    tl->next_id = *id;
    *id = tl;
    tl->next_name = *name;
    *name = tl;
}

/* Twice the buckets; staying as it is costs time only. */
static void grow(struct ps_registry *reg)
{
    uint32_t n = reg->n_buckets * 2;
    struct ps_timeline **id = calloc(n, sizeof(struct ps_timeline *));
    struct ps_timeline **name = calloc(n, sizeof(struct ps_timeline *));
    if (!id || !name) {
        free(id);
        free(name);
        return;
    }
    free(reg->by_id);
    free(reg->by_name);
    reg->by_id = id;
    reg->by_name = name;
    reg->n_buckets = n;
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        link_both(reg, tl);
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
    struct ps_timeline *tl = reg->by_name[name_bucket(reg, db, branch)];
    while (tl && (tl->meta.state == PS_DROPPED || !same_name(tl, db, branch)))
        tl = tl->next_name;
    return tl;
}

static int add(struct ps_registry *reg, const struct ps_meta *meta, struct ps_timeline **out)
{
    if (reg->n >= CO_TIMELINES_MAX)
        return co_fail(CO_ERR_FULL, "there are %u timelines, the most a pageserver keeps", reg->n);
    struct ps_timeline *tl = calloc(1, sizeof *tl);
    if (!tl)
        return co_fail(CO_ERR_NOMEM, "no memory for a timeline");
    tl->meta = *meta;
    tl->line.id = meta->id;
    tl->chain = (struct ps_chain){.cluster = reg->cluster,
                                  .timeline = meta->id,
                                  .last_lsn = meta->start_lsn,
                                  .digest = meta->base_digest};
    tl->next = reg->all;
    reg->all = tl;
    if (++reg->n > reg->n_buckets)
        grow(reg);
    if (ps_reg_find(reg, &meta->id) != tl)
        link_both(reg, tl);
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

/* Drops the CREATING ones that have to give way to another of the same name. */
static void settle_name(struct ps_registry *reg, struct ps_timeline *tl)
{
    if (tl->meta.state == PS_DROPPED || !reg->heard)
        return;
    const char *db = tl->meta.database_name, *branch = tl->meta.branch;
    struct ps_timeline *o = reg->by_name[name_bucket(reg, db, branch)];
    for (; o && tl->meta.state != PS_DROPPED; o = o->next_name) {
        if (o == tl || o->meta.state == PS_DROPPED || !same_name(o, db, branch))
            continue;
        bool stays = tl->meta.state != o->meta.state ? tl->meta.state == PS_ACTIVE
                                                     : older(&tl->meta, &o->meta);
        struct ps_timeline *loser = stays ? o : tl;
        if (loser->meta.state == PS_CREATING)
            ps_reg_change(reg, loser, PS_DROPPED);
    }
}

/* -- What is heard ----------------------------------------------------------------------------- */

int ps_reg_load(struct ps_registry *reg, tlno_t no, bool purged, const struct ps_meta *meta,
                struct ps_timeline **out)
{
    int rc = add(reg, meta, out);
    if (rc)
        return rc;
    (*out)->line.no = no;
    (*out)->purged = purged;
    (*out)->stored = meta->version;
    (*out)->stored_state = meta->state;
    return 0;
}

int ps_reg_heard(struct ps_registry *reg, uint32_t node, const struct ps_meta *meta,
                 struct ps_timeline **out)
{
    co_assert(node < reg->n_nodes);
    struct ps_timeline *tl = ps_reg_find(reg, &meta->id);
    int rc = tl ? 0 : add(reg, meta, &tl);
    if (rc)
        return rc;
    if (meta->version > tl->meta.version) {
        /* Names and origin never change; what does is the state and who serves it. */
        tl->meta.state = meta->state;
        tl->meta.version = meta->version;
        tl->meta.pageserver = meta->pageserver;
        tl->meta.config = meta->config;
    }
    tl->held[node] = meta->version;
    *out = tl;
    settle_name(reg, tl);
    return 0;
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
    uint32_t n = 0;
    reg->listed[node] = true;
    for (uint32_t i = 0; i < reg->n_nodes; i++)
        n += reg->listed[i];
    if (n >= ps_reg_majority(reg) && !reg->heard) {
        reg->heard = true;
        for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
            settle_name(reg, tl);
    }
    return reg->heard;
}

int ps_reg_create(struct ps_registry *reg, const struct ps_meta *meta, struct ps_timeline **out)
{
    co_assert(reg->heard && meta->state == PS_CREATING);
    co_assert(!ps_reg_find_name(reg, meta->database_name, meta->branch));
    return add(reg, meta, out);
}

void ps_reg_change(struct ps_registry *reg, struct ps_timeline *tl, enum ps_state state)
{
    co_assert(reg->heard && state >= tl->meta.state);
    tl->meta.state = state;
    tl->meta.version++;
    tl->meta.pageserver = reg->self;
}

struct ps_timeline *ps_reg_foreign(const struct ps_registry *reg)
{
    for (struct ps_timeline *tl = reg->all; tl; tl = tl->next)
        if (!co_id_is_zero(&tl->meta.pageserver) && !co_id_eq(&tl->meta.pageserver, &reg->self))
            return tl;
    return NULL;
}

enum ps_next ps_reg_next(struct ps_registry *reg, struct ps_timeline *tl)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < reg->n_nodes; i++)
        n += tl->held[i] >= tl->meta.version;
    if (!reg->heard || n < ps_reg_majority(reg))
        return PS_NEXT_NOTHING;
    if (tl->meta.state == PS_CREATING) {
        ps_reg_change(reg, tl, PS_ACTIVE);
        return PS_NEXT_CHANGED;
    }
    if (tl->stored < tl->meta.version && tl->storing < tl->meta.version)
        return PS_NEXT_STORE;
    return PS_NEXT_NOTHING;
}
