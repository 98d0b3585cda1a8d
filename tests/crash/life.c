/* life.c - see life.h. */
#include "tests/crash/life.h"

#include <stdlib.h>

#include "common/assert.h"
#include "proto/message.h"

const char step_letter[N_STEPS] = {
#define X(name, letter, text) letter,
    STEPS(X)
#undef X
};

uint64_t life_random(struct life *l)
{
    uint64_t z = l->rng += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

struct sk_birth life_owner(const struct life *l)
{
    return (struct sk_birth){
        .owner = {.cluster = {{1}}, .timeline = {{2}}, .disk = {{3}}, .node = 1},
        .start_lsn = l->start};
}

static struct co_id nonce_of(struct life *l)
{
    struct co_id id = {{0}};
    co_put64(id.b, life_random(l));
    co_put64(id.b + 8, life_random(l));
    return id;
}

/* -- Registry -----------------------------------------------------------------------------------
 */

static void fill_timeline(const struct life *l, uint64_t version, Corallite__Timeline *t,
                          struct msg_config *wire)
{
    static const uint8_t id[16] = {2}, database[16] = {9};
    struct wal_config config = {.version = 1, .n = 3};
    for (uint32_t k = 0; k < 3; k++)
        config.members[k].node_id = k + 1;
    msg_config_fill(&config, wire);
    corallite__timeline__init(t);
    t->has_id = t->has_database = t->has_start_lsn = t->has_state = t->has_version = 1;
    t->id = msg_bytes16(id);
    t->database = msg_bytes16(database);
    t->database_name = "shop";
    t->branch = "main";
    t->start_lsn = l->start;
    t->state = CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE;
    t->version = version;
    t->config = &wire->pb;
}

int life_put(const struct life *l, struct sk_registry *r, uint64_t version)
{
    struct sk_entry entry;
    struct sk_registry_bytes bytes = {0};
    Corallite__Timeline t;
    struct msg_config wire;
    enum sk_put what;
    fill_timeline(l, version, &t, &wire);
    int rc = sk_entry_parse(&t, &entry);
    co_assert(!rc);
    rc = sk_registry_judge(r, &entry, &what);
    if (!rc && what == SK_PUT_CREATE) {
        struct sk_birth birth = life_owner(l);
        rc = sk_files_create(DATA_DIR, &birth);
    }
    r->rewrite_bytes = CHANGES_BYTES;
    if (!rc && what != SK_PUT_NOTHING) {
        rc = sk_registry_encode(r, &entry, &bytes);
        if (!rc)
            rc = sk_registry_write(DATA_DIR, &bytes);
        if (!rc) {
            sk_registry_written(r, &bytes);
            rc = sk_registry_put(r, &entry);
        }
    }
    co_buf_free(&bytes.buf);
    sk_entry_release(&entry);
    return rc;
}

/* -- Records ------------------------------------------------------------------------------------
 */

/* A record behind `parent`; 0 < sectors. */
static void make(struct life *l, int parent, uint32_t sectors, lsn_t sealed, struct made *out)
{
    uint8_t page[512];
    struct made *before = &l->made[parent];
    const struct state *s = &l->x.lo;
    wal_builder_reset(l->builder, sizeof page);
    for (uint32_t i = 1; i <= sectors; i++) {
        for (size_t k = 0; k < sizeof page; k += 8)
            co_put64(page + k, sectors > 1 || k < 64 ? life_random(l) : 0);
        int rc = wal_builder_page(l->builder, i, page, NULL, 0);
        co_assert(!rc);
    }
    struct wal_stamp stamp = {.cluster = {{1}},
                              .timeline = {{2}},
                              .term = s->history[s->n_history - 1].term,
                              .begin_lsn = before->end,
                              .sealed_lsn = sealed,
                              .time_us = 1000000,
                              .commit_uuid = nonce_of(l),
                              .prev_digest = before->digest,
                              .db_pages = sectors};
    *out = (struct made){.begin = before->end, .parent = parent};
    wal_builder_seal(l->builder, &stamp, &out->bytes, &out->digest);
    out->end = out->begin + out->bytes.len;
}

static int keep(struct life *l, const struct made *m)
{
    co_assert(l->n_made < (int)RECORDS);
    l->made[l->n_made] = *m;
    return l->n_made++;
}

static bool room(const struct life *l)
{
    return l->n_made + 3 < (int)RECORDS && l->x.lo.n_history > 0 && !l->x.lo.halted;
}

static int append(struct life *l, uint32_t records, uint32_t sectors)
{
    struct co_buf all = {0};
    struct made m;
    lsn_t at = l->files->log.end_lsn;
    if (!room(l) || l->staged)
        return 1;
    for (uint32_t i = 0; i < records; i++) {
        /* The writer of a batch has heard from the two others by the time it makes the second. */
        lsn_t sealed = i ? l->made[l->x.tip].end : l->files->control.commit_lsn;
        make(l, l->x.tip, sectors, sealed, &m);
        if (sealed > l->x.others)
            l->x.others = sealed;
        l->x.tip = keep(l, &m);
        int rc = co_buf_append(&all, m.bytes.data, m.bytes.len);
        co_assert(!rc);
    }
    int rc = sk_log_append(&l->files->log, at, co_buf_span(&all));
    co_buf_free(&all);
    return rc;
}

static int stage(struct life *l)
{
    struct wal_header h;
    if (!room(l))
        return 1;
    if (!l->staged) {
        make(l, l->x.tip, 3, l->files->control.commit_lsn, &l->staging_made);
        co_buf_free(&l->staging);
        l->staging = l->staging_made.bytes;
    }
    size_t left = l->staging.len - l->staged, third = l->staging.len / 3 & ~(size_t)7;
    size_t n = left < 2 * third ? left : third;
    bool last = n == left;
    int rc = last ? wal_check(co_buf_span(&l->staging), &h) : 0;
    co_assert(!rc);
    struct co_span bytes = co_span_of(l->staging.data + l->staged, n);
    if (last)
        l->x.tip = keep(l, &l->staging_made); /* owns the bytes now */
    rc = sk_log_stage(&l->files->log, l->files->log.end_lsn, l->staged, bytes, last ? &h : NULL);
    l->staged = last ? 0 : l->staged + n;
    if (last)
        l->staging = (struct co_buf){0};
    return rc;
}

static void unstage(struct life *l)
{
    co_buf_free(&l->staging);
    l->staged = 0;
}

/* -- What the store does for the core -----------------------------------------------------------
 */

static int sync_log(struct life *l)
{
    int rc = sk_log_sync(&l->files->log);
    if (!rc && l->files->log.flushed_lsn > l->x.promised)
        l->x.promised = l->files->log.flushed_lsn;
    return rc;
}

/* hi is on its way; afterwards it is. */
static int persist(struct life *l, bool history_changed, lsn_t seal_max)
{
    struct state *s = &l->x.hi;
    struct sk_durable d = {.term = s->term,
                           .voted_nonce = s->nonce,
                           .commit_lsn = l->files->control.commit_lsn,
                           .no_lease = s->no_lease,
                           .floor_lsn = s->floor,
                           .suspect_lsn = l->files->control.suspect_lsn,
                           .suspect_term = l->files->control.suspect_term,
                           .history = s->history,
                           .n_history = s->n_history};
    int rc = sk_files_persist(l->files, &d, history_changed, seal_max);
    if (!rc)
        l->x.lo = l->x.hi;
    return rc;
}

/* S2 of the core: flush, term, cut, history. */
static int elect(struct life *l, bool cuts, bool collapse)
{
    struct expect *x = &l->x;
    lsn_t part = l->made[x->tip].end;
    int parent = x->tip;
    if (x->lo.halted || x->lo.n_history + 1 >= HISTORY_SMALL)
        return 1;
    if (cuts) {
        lsn_t least = l->files->control.commit_lsn;
        if (x->others > least)
            least = x->others; /* no leader cuts what was committed */
        for (uint64_t n = 1 + life_random(l) % 3; n && parent > 0; n--)
            if (l->made[parent].parent >= 0 && l->made[l->made[parent].parent].end >= least)
                parent = l->made[parent].parent;
        if (parent == x->tip)
            return 1;
        part = l->made[parent].end;
    }
    int rc = sync_log(l);
    bool voted = x->lo.n_history && x->lo.term > x->lo.history[x->lo.n_history - 1].term;
    if (!voted || life_random(l) % 2) {
        x->hi.term = x->lo.term + 1 + life_random(l) % 2;
        x->hi.nonce = nonce_of(l);
        if (!rc)
            rc = persist(l, false, cuts ? part : 0);
    } /* else it is the one that was voted for */
    if (!rc && (cuts || l->staged)) {
        x->cut_tip = x->tip;
        x->tip = parent;
        if (x->promised > part)
            x->promised = part;
        unstage(l);
        rc = sk_files_truncate(l->files, part);
    }
    if (rc)
        return rc;
    x->cut_tip = -1;
    while (x->hi.n_history && x->hi.history[x->hi.n_history - 1].start > part)
        x->hi.n_history--;
    if (collapse && x->hi.n_history > 1 &&
        x->hi.history[x->hi.n_history - 1].start <= l->files->control.commit_lsn) {
        x->hi.history[0] = x->hi.history[x->hi.n_history - 1];
        x->hi.n_history = 1;
        if (x->hi.history[0].start > x->hi.floor)
            x->hi.floor = x->hi.history[0].start;
    }
    x->hi.history[x->hi.n_history++] = (struct q_term){x->hi.term, part};
    x->hi.no_lease = false;
    return persist(l, true, 0);
}

static int vote(struct life *l)
{
    if (l->x.lo.halted)
        return 1;
    int rc = sync_log(l);
    l->x.hi.term = l->x.lo.term + 1 + life_random(l) % 3;
    l->x.hi.nonce = nonce_of(l);
    return rc ? rc : persist(l, false, 0);
}

/* The log begins where the record `at` ends. */
static int rebase(struct life *l, int at)
{
    struct state *s = &l->x.hi;
    lsn_t begin = l->made[at].end, commit = l->files->control.commit_lsn;
    struct sk_durable d = {.term = s->term,
                           .voted_nonce = s->nonce,
                           .commit_lsn = begin > commit ? begin : commit,
                           .no_lease = s->no_lease,
                           .floor_lsn = s->floor,
                           .base = {.lsn = begin, .digest = l->made[at].digest},
                           .suspect_lsn = l->files->control.suspect_lsn,
                           .suspect_term = l->files->control.suspect_term};
    d.base.config = (struct wal_config){.version = 1, .n = 1, .members = {{.node_id = 1}}};
    s->base = begin;
    int rc = sk_files_rebase(l->files, &d);
    if (!rc)
        l->x.lo = l->x.hi;
    return rc;
}

static int trim(struct life *l)
{
    int at = l->x.tip;
    while (at > 0 && l->made[at].end > l->files->control.commit_lsn)
        at = l->made[at].parent;
    if (l->x.lo.halted || at <= 0 || l->made[at].end <= l->files->log.start_lsn || l->staged)
        return 1;
    return rebase(l, at);
}

/* Of what it had nothing counts: all of it lies below what is committed. */
static int begin_anew(struct life *l)
{
    struct expect *x = &l->x;
    if (!room(l))
        return 1;
    lsn_t far = l->files->log.end_lsn + 512 * (1 + life_random(l) % 20);
    struct made root = {.begin = far, .end = far, .parent = -1};
    co_put64(root.digest.b, life_random(l));
    x->base_tip = keep(l, &root);
    unstage(l);
    int rc = rebase(l, x->base_tip);
    if (rc)
        return rc;
    x->tip = x->base_tip;
    x->base_tip = -1;
    x->promised = far;
    return 0;
}

static int halt(struct life *l)
{
    if (l->x.lo.halted)
        return 1;
    l->x.hi.halted = true;
    int rc = sk_files_halt(l->files, "because");
    if (!rc)
        l->x.lo.halted = true;
    return rc;
}

static int clean_stop(struct life *l)
{
    int rc = sync_log(l);
    l->x.hi.no_lease = true;
    if (!rc)
        rc = persist(l, false, 0);
    if (!rc)
        rc = sk_files_settle(l->files);
    return rc;
}

static int start_again(struct life *l)
{
    life_kill(l);
    the_disk->fail_sync = the_disk->fail_write = 0;
    l->wrong = check_start(l, &l->x, &l->files, &l->registry);
    l->listed = !l->wrong;
    return l->wrong ? CO_ERR_BUG : 0;
}

static int put(struct life *l)
{
    l->x.put_hi++;
    int rc = life_put(l, &l->registry, l->x.put_hi);
    if (!rc)
        l->x.put_lo = l->x.put_hi;
    return rc;
}

void life_known(uint64_t at, struct q_known out[KNOWN_OF])
{
    for (uint32_t i = 0; i < KNOWN_OF; i++)
        out[i] = (struct q_known){.node = 2 + i,
                                  .starts = 3 * at + i,
                                  .start_id = at << 40 | i,
                                  .term = at,
                                  .flush_lsn = 8 * at,
                                  .commit_lsn = 16 * at};
}

static int witness(struct life *l)
{
    struct q_known known[KNOWN_OF];
    life_known(++l->x.known_hi, known);
    int rc = sk_files_witness(l->files, &(struct q_known_list){KNOWN_OF, known});
    if (!rc)
        l->x.known_lo = l->x.known_hi;
    return rc;
}

static int carry_out(struct life *l, enum step step)
{
    bool more;
    int rc = 0;
    switch (step) {
    case STEP_APPEND:
        return append(l, 1, 1);
    case STEP_LARGE:
        return append(l, 1, 7);
    case STEP_BATCH:
        return append(l, 2, 1);
    case STEP_STAGE:
        return stage(l);
    case STEP_SYNC:
        return l->x.promised == l->made[l->x.tip].end && !l->staged ? 1 : sync_log(l);
    case STEP_COMMIT:
        rc = sync_log(l);
        atomic_store(&l->files->commit_hint, l->x.promised);
        return rc;
    case STEP_SEAL:
        return sk_files_seal(l->files);
    case STEP_IDLE:
        return sk_files_wants_idle(l->files) ? sk_files_idle(l->files, &more) : 1;
    case STEP_VOTE:
        return vote(l);
    case STEP_ELECT:
        return elect(l, false, false);
    case STEP_CUT:
        return elect(l, true, false);
    case STEP_FLOOR:
        return elect(l, false, true);
    case STEP_RESTART:
        rc = clean_stop(l);
        return rc ? rc : start_again(l);
    case STEP_KILL:
        return start_again(l);
    case STEP_TRIM:
        return trim(l);
    case STEP_BASE:
        return begin_anew(l);
    case STEP_PUT:
        return put(l);
    case STEP_WITNESS:
        return witness(l);
    case STEP_HALT:
        return halt(l);
    case N_STEPS:
        break;
    }
    return 1;
}

int life_step(struct life *l, enum step step)
{
    int rc = carry_out(l, step);
    if (rc < 0) {
        life_kill(l);
        return rc;
    }
    l->x.commit = l->files->control.commit_lsn;
    return rc;
}

void life_kill(struct life *l)
{
    if (l->files)
        l->sealed = l->files->control.sealed_lsn;
    sk_files_close(l->files);
    l->files = NULL;
    if (l->listed)
        sk_registry_free(&l->registry);
    l->listed = false;
    unstage(l);
    wrap_forget();
}

/* -- Begin and end ------------------------------------------------------------------------------
 */

void life_begin(struct life *l, uint64_t seed, lsn_t start)
{
    struct wal_builder *b = l->builder;
    *l = (struct life){.rng = seed, .start = start, .n_made = 1, .builder = b};
    l->made[0] = (struct made){.begin = start, .end = start, .parent = -1};
    l->x = (struct expect){
        .cut_tip = -1, .base_tip = -1, .promised = start, .commit = start, .others = start};
    l->x.lo.floor = start;
    l->x.lo.no_lease = true;
    l->x.hi = l->x.lo;
    int rc = b ? 0 : wal_builder_new(&l->builder);
    co_assert(!rc);
}

void life_end(struct life *l)
{
    if (l->files || l->listed)
        life_kill(l);
    unstage(l);
    for (int i = 1; i < l->n_made; i++)
        co_buf_free(&l->made[i].bytes);
    l->n_made = 0;
}

/* What a daemon's first start makes, and then the birth of a timeline. */
int life_birth(struct life *l)
{
    struct sk_registry_bytes bytes = {0};
    void (*told)(void) = disk_changed;
    disk_changed = NULL;
    int rc = sk_io_mkdir(DATA_DIR);
    if (!rc)
        rc = sk_io_sync_dir("/");
    if (!rc)
        rc = sk_io_mkdir(DATA_DIR "/timelines");
    if (!rc)
        rc = sk_io_sync_dir(DATA_DIR);
    if (!rc)
        rc = sk_registry_encode(&l->registry, NULL, &bytes);
    if (!rc)
        rc = sk_registry_write(DATA_DIR, &bytes);
    co_assert(!rc);
    sk_registry_written(&l->registry, &bytes);
    l->listed = true;
    co_buf_free(&bytes.buf);
    disk_changed = told;
    l->x.put_hi = 1;
    rc = life_put(l, &l->registry, 1);
    if (rc)
        return rc;
    l->x.put_lo = 1;
    l->x.born = true;
    struct sk_birth birth = life_owner(l);
    return sk_files_open(DATA_DIR, &birth, &l->files);
}
