/*
 * base.c - the begin of a safekeeper's log: it goes when the archive and the pageservers have it,
 * or a leader tells where the log begins. Archive and pageservers are two positions here; that they
 * really have what lies below is level B's business and that of the integration tests.
 *
 * Of what a node does not have any more it keeps the index (struct rec): the oracle compares logs
 * by it. The bytes are overwritten, so that whoever reads them is found out.
 */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/sim/sim.h"

#define U(x) ((unsigned long long)(x))

/* ---- configurations ----------------------------------------------------------------------------
 */

uint32_t config_number(struct sim *s, const struct wal_config *config)
{
    for (uint32_t i = 0; i < s->n_configs; i++) {
        if (memcmp(&s->configs[i], config, sizeof *config) == 0) {
            return i + 1;
        }
    }
    if (s->n_configs == s->cap_configs) {
        s->cap_configs = s->cap_configs ? 2 * s->cap_configs : 64;
        s->configs = realloc(s->configs, s->cap_configs * sizeof *s->configs);
        co_assert(s->configs);
    }
    s->configs[s->n_configs++] = *config;
    return s->n_configs;
}

static struct wal_config config_in(const struct sim *s, const struct rec *recs, uint32_t n)
{
    while (n > 0 && !recs[n - 1].config) {
        n--;
    }
    return n ? s->configs[recs[n - 1].config - 1] : s->config;
}

struct wal_config config_at(struct sim *s, const struct node *n, uint32_t n_recs)
{
    return config_in(s, n->recs, n_recs);
}

/* As a start finds it: in what it has of the log, else in its base. */
struct wal_config base_config(struct sim *s, const struct node *n)
{
    uint32_t from = node_recs_below(n, n->ctl.base.lsn);
    for (uint32_t i = n->n_recs; i > from; i--) {
        if (n->recs[i - 1].config) {
            return s->configs[n->recs[i - 1].config - 1];
        }
    }
    return n->ctl.base.lsn > LSN_FIRST ? n->ctl.base.config : s->config;
}

/* ---- what goes ---------------------------------------------------------------------------------
 */

static lsn_t some_boundary(struct sim *s, lsn_t from)
{
    uint32_t i = s->n_gold;
    while (i > 0 && s->gold[i - 1].end > from) {
        i--;
    }
    uint32_t room = s->n_gold - i;
    return room ? s->gold[i + below(s, R_BASE, room)].end : from;
}

/* The archive and the pageservers move on; then, now and then, a log's begin may go. The shell asks
 * also for what may not go: the core has the last word. */
void base_tick(struct sim *s, struct node *n)
{
    if (!chance(s, R_BASE, s->w.trim_ppm)) {
        return;
    }
    s->archived = some_boundary(s, s->archived);
    s->followed = some_boundary(s, s->followed);
    if (!n->up || n->paused_until > s->now) {
        return;
    }
    struct sk_view v;
    sk_view(n->sk, local_clock(s, n->id), &v);
    uint32_t from = node_recs_below(n, v.base_lsn), to = node_recs_below(n, v.commit_lsn);
    if (to <= from) {
        return;
    }
    uint32_t k = from + 1 + below(s, R_BASE, to - from);
    lsn_t least = s->archived < s->followed ? s->archived : s->followed;
    if (below(s, R_BASE, 3)) {
        uint32_t may = node_recs_below(n, least);
        k = may > from && may <= to ? may : k;
    }
    struct sk_event e = {.kind = SK_EV_TRIM,
                         .lsn = n->recs[k - 1].end,
                         .digest = n->recs[k - 1].digest,
                         .config = config_at(s, n, k),
                         .archived_lsn = s->archived,
                         .followed_lsn = s->followed};
    node_event(s, n, &e);
}

static void see_base(struct sim *s, const struct node *n, const struct sk_base *b)
{
    uint32_t k = s->n_gold;
    while (k > 0 && s->gold[k - 1].end > b->lsn) {
        k--;
    }
    if (k == 0 || s->gold[k - 1].end != b->lsn ||
        memcmp(s->gold[k - 1].digest.b, b->digest.b, sizeof b->digest.b) != 0) {
        violation(s, "sk%u begins its log at %llu, which is no place of the committed log",
                  n->id + 1, U(b->lsn));
    }
    if (b->lsn > s->archived || b->lsn > s->followed) {
        violation(s, "sk%u keeps its log from %llu on, archived is %llu, followed %llu", n->id + 1,
                  U(b->lsn), U(s->archived), U(s->followed));
    }
    struct wal_config c = config_in(s, s->gold, k);
    if (memcmp(&c, &b->config, sizeof c) != 0) {
        violation(s, "sk%u begins its log at %llu with configuration %u, the log has %u there",
                  n->id + 1, U(b->lsn), b->config.version, c.version);
    }
}

/* All it had goes, and the log begins at lsn: of what lies below it gets the index. */
static void begin_anew(struct sim *s, struct node *n, lsn_t lsn)
{
    uint32_t k = 0;
    while (k < s->n_gold && s->gold[k].end <= lsn) {
        k++;
    }
    node_grow_recs(n, k);
    memcpy(n->recs, s->gold, k * sizeof *n->recs);
    n->n_recs = n->agreed = k;
    size_t used = (size_t)(lsn - LSN_FIRST);
    if (used > n->log_cap) {
        n->log_cap = 2 * used + 65536;
        n->log = realloc(n->log, n->log_cap);
        co_assert(n->log);
    }
    n->written = n->synced = lsn;
    n->staged = n->staged_synced = 0;
    n->log_generation++;
    n->sync_running = false;
    n->based++;
    s->st->based++;
    s->st->based_again += n->based == 2;
}

void base_move(struct sim *s, struct node *n, const struct sk_durable *d)
{
    const struct sk_base *b = &d->base;
    trace(s, "sk%u keeps its log from %llu on%s", n->id + 1, U(b->lsn),
          b->lsn > n->written ? ", of which it has nothing" : "");
    see_base(s, n, b);
    if (b->lsn > n->written) {
        begin_anew(s, n, b->lsn);
    } else {
        s->st->trims++;
    }
    memset(n->log, 0xdd, (size_t)(b->lsn - LSN_FIRST));
}
