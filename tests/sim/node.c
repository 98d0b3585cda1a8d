/*
 * node.c - a safekeeper: the acceptor core, its shell, and its simulated disk.
 *
 * The disk keeps what was written but not synced apart: [synced, written), and behind it the staged
 * fragments of a record in the making. A crash keeps a prefix of it, maybe with sectors torn.
 * Control block and history are one atomic copy. A restart does what the daemon's start-up does:
 * scan with wal_check, chain and the live-record rule, cut what is not live, sync the rest, and
 * build sk_boot from it.
 */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "proto/qhist.h"
#include "tests/sim/sim.h"

static void execute(struct sim *s, struct node *n);

/* ---- disk --------------------------------------------------------------------------------------
 */

void node_grow_recs(struct node *n, uint32_t room)
{
    if (room > n->cap_recs) {
        n->cap_recs = 2 * room < 256 ? 256 : 2 * room;
        n->recs = realloc(n->recs, n->cap_recs * sizeof *n->recs);
        co_assert(n->recs);
    }
}

static void index_record(struct sim *s, struct node *n, const struct wal_header *h,
                         struct co_span record)
{
    node_grow_recs(n, n->n_recs + 1);
    struct wal_config config;
    uint32_t named = 0, number = 0;
    if (h->kind == WAL_CONFIG) {
        if (wal_read_config(record, h, &config)) {
            co_assert(false);
        }
        number = config_number(s, &config);
        for (uint32_t id = 1; id <= N_SK; id++) {
            named |= q_is_member(&config, id) ? 1u << id : 0;
        }
    }
    n->recs[n->n_recs++] = (struct rec){.named = named,
                                        .begin = h->begin_lsn,
                                        .end = h->end_lsn,
                                        .term = h->term,
                                        .digest = h->digest,
                                        .id = co_get64(h->commit_uuid.b),
                                        .built_on = co_get64(h->commit_uuid.b + 8),
                                        .config = number};
}

/* Number of records that end at or below lsn. */
uint32_t node_recs_below(const struct node *n, lsn_t lsn)
{
    uint32_t lo = 0, hi = n->n_recs;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (n->recs[mid].end <= lsn) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct wal_digest node_digest_at(const struct node *n, uint32_t n_recs)
{
    return n_recs ? n->recs[n_recs - 1].digest : (struct wal_digest){{0}};
}

static void disk_write(struct node *n, uint64_t at, struct co_span bytes)
{
    at -= LSN_FIRST;
    if (at + bytes.len > n->log_cap) {
        n->log_cap = 2 * (at + bytes.len) + 65536;
        n->log = realloc(n->log, n->log_cap);
        co_assert(n->log);
    }
    memcpy(n->log + at, bytes.data, bytes.len);
}

/* A fragment goes behind the end of the log; with the last one the record becomes part of it. */
static void disk_stage(struct sim *s, struct node *n, const struct sk_action *a)
{
    struct wal_header h;
    if (a->lsn != n->written || a->fragment_at != n->staged) {
        violation(s, "sk%u: stages at %llu+%llu, its log ends at %llu+%llu", n->id + 1,
                  (unsigned long long)a->lsn, (unsigned long long)a->fragment_at,
                  (unsigned long long)n->written, (unsigned long long)n->staged);
    }
    disk_write(n, a->lsn + a->fragment_at, a->bytes);
    n->staged += a->bytes.len;
    s->st->fragments++;
    if (!a->record) {
        return;
    }
    struct co_span record = co_span_of(n->log + (n->written - LSN_FIRST), (size_t)n->staged);
    if (wal_check(record, &h) || wal_check_digest(record, &h) || h.begin_lsn != n->written ||
        h.total_bytes != n->staged || h.end_lsn != a->record->end_lsn ||
        memcmp(h.digest.b, a->record->digest.b, sizeof h.digest.b) != 0) {
        violation(s, "sk%u: fragments became an unsound record at %llu", n->id + 1,
                  (unsigned long long)n->written);
    }
    index_record(s, n, &h, record);
    see_record(s, n, &n->recs[n->n_recs - 1]);
    n->written = h.end_lsn;
    n->staged = n->staged_synced = 0;
    s->st->in_fragments++;
}

static void disk_append(struct sim *s, struct node *n, lsn_t lsn, struct co_span bytes)
{
    if (lsn != n->written) {
        violation(s, "sk%u: appends at %llu, its log ends at %llu", n->id + 1,
                  (unsigned long long)lsn, (unsigned long long)n->written);
    }
    if (n->staged > 0) {
        violation(s, "sk%u: appends over %llu staged bytes", n->id + 1,
                  (unsigned long long)n->staged);
    }
    disk_write(n, lsn, bytes);
    while (bytes.len > 0) {
        struct wal_header h;
        if (wal_check(bytes, &h) || h.begin_lsn != n->written) {
            violation(s, "sk%u: an unsound record reached the disk", n->id + 1);
        }
        index_record(s, n, &h, bytes);
        see_record(s, n, &n->recs[n->n_recs - 1]);
        n->written = h.end_lsn;
        if (h.kind == WAL_CONFIG) {
            see_config(s, n);
        }
        bytes.data += h.total_bytes;
        bytes.len -= (size_t)h.total_bytes;
    }
}

static void disk_truncate(struct node *n, lsn_t lsn)
{
    n->n_recs = node_recs_below(n, lsn);
    if (n->agreed > n->n_recs) {
        n->agreed = n->n_recs;
    }
    n->written = lsn < n->written ? lsn : n->written;
    n->synced = n->written;
    n->staged = n->staged_synced = 0;
    n->log_generation++;
    n->promised = lsn < n->promised ? lsn : n->promised;
}

static void disk_persist(struct node *n, const struct sk_durable *d, bool history_changed)
{
    struct q_term *e = n->ctl.history;
    uint32_t n_history = n->ctl.n_history;
    if (history_changed) {
        if (d->n_history > n->cap_history) {
            n->cap_history = 2 * d->n_history;
            e = realloc(e, n->cap_history * sizeof *e);
            co_assert(e);
        }
        memcpy(e, d->history, d->n_history * sizeof *e);
        n_history = d->n_history;
    }
    n->ctl = *d;
    n->ctl.history = e;
    n->ctl.n_history = n_history;
}

void node_wipe(struct node *n)
{
    n->written = n->synced = n->promised = LSN_FIRST;
    n->staged = n->staged_synced = 0;
    n->n_recs = n->agreed = 0;
    n->ctl.term = 0;
    n->ctl.commit_lsn = n->ctl.floor_lsn = LSN_FIRST;
    n->ctl.voted_nonce = (struct co_id){{0}};
    n->ctl.n_history = 0;
    n->ctl.no_lease = false;
    n->ctl.suspect_lsn = 0;
    n->ctl.suspect_term = 0;
    n->ctl.base = (struct sk_base){.lsn = LSN_FIRST};
}

void node_birth(struct sim *s, struct node *n)
{
    (void)s;
    node_wipe(n);
    n->ctl.no_lease = true;
    n->log_generation = 0;
    n->boots = n->starts = n->start_id = 0;
    n->based = 0;
    n->n_witness = n->n_pending = 0;
    n->pending_at = n->down_until = n->had = 0;
    n->aged = n->refused = false;
}

/* Has it left, by the configurations in its log? What lies below its begin the base tells. */
static bool has_left(struct sim *s, const struct node *n)
{
    struct wal_config before = n->ctl.base.lsn > LSN_FIRST ? n->ctl.base.config : s->config;
    bool left = n->ctl.base.left;
    for (uint32_t i = node_recs_below(n, n->ctl.base.lsn); i < n->n_recs; i++) {
        if (n->recs[i].config) {
            const struct wal_config *now = &s->configs[n->recs[i].config - 1];
            left = q_left(left, &before, now, n->id + 1);
            before = *now;
        }
    }
    return left;
}

/* As a daemon at start: what is live stays, the rest is cut, the whole is synced. */
static void scan(struct sim *s, struct node *n)
{
    struct q_history h = {n->ctl.n_history, n->ctl.history};
    struct wal_digest chain = n->ctl.base.digest;
    size_t len = (size_t)(n->written - LSN_FIRST), at = (size_t)(n->ctl.base.lsn - LSN_FIRST);
    uint32_t known = n->n_recs;
    n->n_recs = node_recs_below(n, n->ctl.base.lsn);
    while (at < len) {
        struct wal_header r;
        lsn_t begin = LSN_FIRST + at;
        if (wal_check(co_span_of(n->log + at, len - at), &r) || r.begin_lsn != begin ||
            !co_id_eq(&r.cluster, &s->cluster) || !co_id_eq(&r.timeline, &s->timeline) ||
            memcmp(r.prev_digest.b, chain.b, sizeof chain.b) != 0) {
            break;
        }
        if (begin >= n->ctl.floor_lsn && q_term_at(&h, begin) != r.term &&
            !co_mutated(HISTORY_BEFORE_CUT)) {
            break;
        }
        if (n->n_recs < known && n->recs[n->n_recs].begin == begin) {
            n->n_recs++;
        } else {
            index_record(s, n, &r, co_span_of(n->log + at, len - at));
        }
        chain = r.digest;
        at += (size_t)r.total_bytes;
    }
    n->written = n->synced = LSN_FIRST + at;
    n->staged = n->staged_synced = 0;
    if (n->agreed > n->n_recs) {
        n->agreed = n->n_recs;
    }
}

/* So far its log may have reached before it was damaged; 0: no doubt. */
lsn_t node_doubt(const struct sim *s, const struct node *n)
{
    struct sk_view v = {.suspect_lsn = n->ctl.suspect_lsn};
    if (n->sk) {
        sk_view(n->sk, local_clock(s, n->id), &v);
    }
    return v.suspect_lsn;
}

/* A copy may be damaged while the others are whole, and have what it acknowledged: else it would be
 * the second of three that is lost. */
static bool others_are_whole(const struct sim *s, const struct node *n)
{
    for (uint32_t i = 0; i < N_SK; i++) {
        const struct node *o = &s->node[i];
        if (o != n && (o->ctl.suspect_lsn || node_doubt(s, o) || image_aged(o))) {
            return false;
        }
    }
    return true;
}

/* Found at a start: a record above the seal is damaged, and with it everything behind is in doubt.
 */
static void rot(struct sim *s, struct node *n)
{
    uint32_t k = node_recs_below(n, n->ctl.commit_lsn);
    if (n->n_recs == k || !others_are_whole(s, n) || !fault(s, F_ROT)) {
        return;
    }
    lsn_t had = n->written, x = n->recs[k + below(s, R_DISK, n->n_recs - k)].begin;
    trace(s, "fault: rot at sk%u: its log ended at %llu, now at %llu", n->id + 1,
          (unsigned long long)had, (unsigned long long)x);
    if (had > n->ctl.suspect_lsn) {
        n->ctl.suspect_lsn = had;
    }
    n->ctl.suspect_term = n->ctl.term;
    disk_truncate(n, x);
}

/* ---- life --------------------------------------------------------------------------------------
 */

void node_start(struct sim *s, struct node *n)
{
    co_assert(!n->up);
    if (n->refused) {
        return;
    }
    if (s->now < n->down_until) {
        push(s, (struct event){.t = n->down_until + 1, .kind = E_SK_RESTART, .a = n->id});
        return;
    }
    n->starts++;
    n->start_id = 1 + (uint64_t)n->id + 16 * rnd(s, R_DISK);
    if (co_mutated(EMPTY_DISK_VOTES) && n->boots > 0 && below(s, R_DISK, 6) == 0) {
        node_wipe(n);
    }
    scan(s, n);
    if (n->boots > 0) {
        rot(s, n);
    }
    trace(s, "sk%u starts: term %llu, log to %llu, commit %llu", n->id + 1,
          (unsigned long long)n->ctl.term, (unsigned long long)n->written,
          (unsigned long long)n->ctl.commit_lsn);
    if (n->written < n->promised) {
        violation(s, "I6: sk%u said %llu is on its disk, after a restart its log ends at %llu",
                  n->id + 1, (unsigned long long)n->promised, (unsigned long long)n->written);
    }
    struct sk_boot boot = {.cluster = s->cluster,
                           .timeline = s->timeline,
                           .durable = n->ctl,
                           .start_lsn = LSN_FIRST,
                           .flush_lsn = n->written,
                           .digest = node_digest_at(n, n->n_recs),
                           .config = base_config(s, n),
                           .node = s->w.come_back ? 0 : n->id + 1,
                           .left = !s->w.come_back && has_left(s, n),
                           .now_us = local_clock(s, n->id),
                           .lease_us = s->w.lease_us,
                           .history_keep = s->w.history_keep,
                           .starts = n->starts,
                           .start_id = n->start_id,
                           .known = {n->n_witness, n->witness}};
    if (sk_acceptor_new(&boot, &n->sk)) {
        violation(s, "sk%u does not start: %s", n->id + 1, co_sentence());
    }
    n->up = true;
    n->boots++;
    n->sync_running = false;
    n->log_generation++;
    n->timer_at = NEVER;
    n->timer_queued = 0;
    n->busy_until = 0;
    s->st->restarts += n->boots > 1;
}

static void gone(struct sim *s, struct node *n)
{
    see_gone(s, n);
    n->up = false;
    sk_acceptor_free(n->sk);
    n->sk = NULL;
    n->paused_until = 0;
    for (uint32_t c = 0; c < N_CLIENTS; c++) {
        s->sk_closed[c][n->id] = s->next_conn * N_CLIENTS + c;
        conn_lost(s, c, n->id, false);
    }
    push(s, (struct event){.t = s->now + 10000 + below(s, R_NEMESIS, 500000),
                           .kind = E_SK_RESTART,
                           .a = n->id});
}

void node_crash(struct sim *s, struct node *n)
{
    if (!n->up) {
        return;
    }
    trace(s, "fault: sk%u crashes", n->id + 1);
    witness_crash(s, n);
    image_lie(s, n);
    /* Staged bytes that were synced stay, and lie behind the end as a torn record. */
    lsn_t low = n->written == n->synced ? n->written + n->staged_synced : n->synced;
    lsn_t keep = low + below(s, R_DISK, (uint32_t)(n->written + n->staged - low) + 1);
    if (keep > n->synced && fault(s, F_TORN)) {
        size_t from = (size_t)(n->synced - LSN_FIRST), to = (size_t)(keep - LSN_FIRST);
        for (size_t sector = from / 512; sector <= (to - 1) / 512; sector++) {
            size_t a = sector * 512 < from ? from : sector * 512;
            size_t b = (sector + 1) * 512 > to ? to : (sector + 1) * 512;
            if (below(s, R_DISK, 2)) {
                memset(n->log + a, 0, b - a);
            }
        }
    }
    n->written = keep;
    n->staged = n->staged_synced = 0;
    gone(s, n);
}

/* SIGTERM: the core may leave the mark that no lease is out. */
void node_stop(struct sim *s, struct node *n)
{
    if (!n->up) {
        return;
    }
    trace(s, "fault: sk%u is stopped", n->id + 1);
    struct sk_event e = {.kind = SK_EV_SHUTDOWN};
    node_event(s, n, &e);
    if (n->up) {
        n->written = n->synced;
        n->staged = n->staged_synced = 0;
        witness_settle(s, n, true);
        gone(s, n);
    }
}

void node_free(struct node *n)
{
    sk_acceptor_free(n->sk);
    sk_actions_free(&n->actions);
    free(n->log);
    free(n->recs);
    free(n->ctl.history);
    memset(n, 0, sizeof *n);
}

/* ---- shell -------------------------------------------------------------------------------------
 */

static void start_sync(struct sim *s, struct node *n)
{
    if (n->sync_running || (n->written == n->synced && n->staged == n->staged_synced)) {
        return;
    }
    n->sync_running = true;
    push(s, (struct event){.t = s->now + s->w.sync_min_us +
                                below(s, R_DISK, (uint32_t)(s->w.sync_max_us - s->w.sync_min_us)),
                           .kind = E_SYNCED,
                           .a = n->id,
                           .b = (uint32_t)n->log_generation,
                           .n = n->written,
                           .staged = n->staged});
}

void node_synced(struct sim *s, struct node *n, const struct event *e)
{
    if (!n->up || e->b != (uint32_t)n->log_generation) {
        return; /* of before a crash, a FLUSH or a TRUNCATE */
    }
    n->sync_running = false;
    if (fault(s, F_EIO)) {
        trace(s, "fault: fsync error at sk%u", n->id + 1);
        node_crash(s, n);
        return;
    }
    n->synced = e->n;
    if (n->written == e->n) {
        n->staged_synced = e->staged;
    }
    start_sync(s, n);
    struct sk_event ev = {.kind = SK_EV_FLUSHED, .lsn = e->n, .staged = e->staged};
    node_event(s, n, &ev);
}

/* Between two durable actions of a list. true: it died there. */
static bool dies(struct sim *s, struct node *n)
{
    if (!fault(s, F_MID_CRASH)) {
        return false;
    }
    trace(s, "fault: sk%u dies within a list of actions", n->id + 1);
    node_crash(s, n);
    return true;
}

static void read_and_send(struct sim *s, struct node *n, struct sk_action *a)
{
    uint32_t i = node_recs_below(n, a->lsn);
    size_t at = (size_t)(a->lsn - LSN_FIRST), end = at;
    if ((i < n->n_recs ? n->recs[i].begin : n->written) != a->lsn) {
        return; /* not a boundary here: the asker finds another */
    }
    if (i < n->n_recs && !n->recs[i].config &&
        n->recs[i].end - n->recs[i].begin > s->w.fragment_bytes) {
        uint64_t total = n->recs[i].end - n->recs[i].begin;
        if (a->fragment_at >= total || n->recs[i].end > a->to_lsn) {
            return;
        }
        uint64_t left = total - a->fragment_at;
        a->msg.fragment = true;
        a->msg.fragment_at = a->fragment_at;
        a->msg.to_lsn = n->recs[i].end;
        a->msg.payload =
            co_span_of(n->log + at + a->fragment_at,
                       left < s->w.fragment_bytes ? (size_t)left : s->w.fragment_bytes);
        s->st->fetched++;
        net_to_client(s, n->id, a->conn, &a->msg, 500);
        return;
    }
    size_t most = s->w.batch_bytes < 4096 ? 4 * s->w.batch_bytes : CO_BATCH_BYTES;
    while (i < n->n_recs && n->recs[i].end <= a->to_lsn) {
        size_t next = (size_t)(n->recs[i].end - LSN_FIRST);
        if (end > at && next - at > most) {
            break;
        }
        end = next;
        i++;
    }
    a->msg.payload = co_span_of(n->log + at, end - at);
    s->st->fetched++;
    net_to_client(s, n->id, a->conn, &a->msg, 500);
}

static void note_promise(struct node *n, const struct q_msg *m)
{
    if ((m->type == FRAME_ACK || m->type == FRAME_VOTED || m->type == FRAME_POS) &&
        m->flush_lsn > n->promised) {
        n->promised = m->flush_lsn;
    }
}

/* One action. false: the node is gone. */
static bool perform(struct sim *s, struct node *n, struct sk_action *a, bool *truncated)
{
    struct sk_view v;
    uint64_t had;
    switch (a->kind) {
    case SK_FLUSH:
        if (dies(s, n)) {
            return false;
        }
        n->synced = n->written;
        n->staged_synced = n->staged;
        n->log_generation++;
        n->sync_running = false;
        return !dies(s, n);
    case SK_TRUNCATE:
        if (dies(s, n)) {
            return false;
        }
        sk_view(n->sk, local_clock(s, n->id), &v);
        see_truncate(s, n, a->lsn, v.commit_lsn);
        had = n->staged;
        disk_truncate(n, a->lsn);
        n->sync_running = false;
        *truncated = true;
        s->st->truncations++;
        s->st->unstaged += had > 0;
        return !dies(s, n);
    case SK_PERSIST:
        if (dies(s, n)) {
            return false;
        }
        see_persist(s, n, a->durable);
        disk_persist(n, a->durable, a->history_changed);
        return !dies(s, n);
    case SK_REBASE:
        if (dies(s, n)) {
            return false;
        }
        see_persist(s, n, a->durable);
        base_move(s, n, a->durable);
        disk_persist(n, a->durable, false);
        return !dies(s, n);
    case SK_APPEND:
        if (a->fragment) {
            disk_stage(s, n, a);
        } else {
            disk_append(s, n, a->lsn, a->bytes);
        }
        start_sync(s, n);
        return true;
    case SK_SEND:
        note_promise(n, &a->msg);
        net_to_client(s, n->id, a->conn, &a->msg, 0);
        return true;
    case SK_READ:
        read_and_send(s, n, a);
        return true;
    case SK_COMMIT:
        see_sk_commit(s, n, a->lsn);
        return true;
    case SK_TIMER:
        n->timer_at = global_time(s, n->id, a->at_us);
        if (n->timer_queued <= s->now || n->timer_at < n->timer_queued) {
            n->timer_queued = n->timer_at;
            push(s,
                 (struct event){.t = n->timer_at, .kind = E_SK_TIMER, .a = n->id, .n = n->boots});
        }
        return true;
    case SK_WITNESS:
        witness_write(s, n, &a->known);
        return true;
    case SK_REGRESSED:
        image_refused(s, n);
        gone(s, n);
        return false;
    case SK_HALT:
        violation(s, "HALT of sk%u: %s", n->id + 1, a->reason);
    }
    return true;
}

static void execute(struct sim *s, struct node *n)
{
    bool truncated = false;
    for (uint32_t i = 0; i < n->actions.n; i++) {
        if (!perform(s, n, &n->actions.a[i], &truncated)) {
            return;
        }
    }
    if (truncated) {
        uint32_t at = node_recs_below(n, n->written);
        struct sk_event e = {.kind = SK_EV_TRUNCATED,
                             .lsn = n->written,
                             .digest = node_digest_at(n, at),
                             .config = config_at(s, n, at)};
        node_event(s, n, &e);
    }
}

void node_event(struct sim *s, struct node *n, struct sk_event *e)
{
    e->now_us = local_clock(s, n->id);
    if (sk_step(n->sk, e, &n->actions)) {
        violation(s, "sk%u: a step failed: %s", n->id + 1, co_sentence());
    }
    execute(s, n);
}

void node_timer(struct sim *s, struct node *n)
{
    if (!n->up || n->timer_at == NEVER) {
        return;
    }
    if (n->timer_at > s->now) {
        n->timer_queued = n->timer_at;
        push(s, (struct event){.t = n->timer_at, .kind = E_SK_TIMER, .a = n->id, .n = n->boots});
        return;
    }
    n->timer_at = NEVER;
    struct sk_event e = {.kind = SK_EV_TIMER};
    node_event(s, n, &e);
}
