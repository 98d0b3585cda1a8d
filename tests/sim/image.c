/*
 * image.c - a disk that goes back in time: an older image is put back, or what was synced is lost
 * at a crash. One node a seed, its victim.
 *
 * What is guaranteed (docs/guarantees.md) is the condition here, and nothing in the oracle is
 * loosened for it: of what the victim forgets, each other member has a copy in its own log, or the
 * word of a leader on its own disk. Where one has neither, and it alone is left with the victim,
 * nobody is left who knows; no test can ask for more. Then the node is down for longer than a
 * lease, as a machine is whose disk is replaced.
 */
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/sim/sim.h"

/* What was handed to the disk a while ago is on it. */
#define WITNESS_SYNC_US 5000u

void witness_settle(struct sim *s, struct node *n, bool all)
{
    if (n->pending_at && (all || s->now - n->pending_at > WITNESS_SYNC_US)) {
        memcpy(n->witness, n->pending, sizeof n->witness);
        n->n_witness = n->n_pending;
        n->pending_at = 0;
    }
}

void witness_write(struct sim *s, struct node *n, const struct q_known_list *known)
{
    witness_settle(s, n, true); /* one is written after the other */
    co_assert(known->n <= Q_KNOWN_MAX);
    memcpy(n->pending, known->e, known->n * sizeof *known->e);
    n->n_pending = known->n;
    n->pending_at = s->now;
}

/* A crash: what was under way is there or not. */
void witness_crash(struct sim *s, struct node *n)
{
    witness_settle(s, n, false);
    if (n->pending_at && below(s, R_DISK, 2)) {
        witness_settle(s, n, true);
    }
    n->pending_at = 0;
}

/* ---- what others know --------------------------------------------------------------------------
 */

static lsn_t committed(const struct sim *s)
{
    return s->n_gold ? s->gold[s->n_gold - 1].end : LSN_FIRST;
}

static bool has_all(const struct sim *s, const struct node *n)
{
    return n->synced >= committed(s) && n->n_recs >= s->n_gold &&
           (s->n_gold == 0 ||
            memcmp(n->recs[s->n_gold - 1].digest.b, s->gold[s->n_gold - 1].digest.b,
                   sizeof(struct wal_digest)) == 0);
}

/* Its doubt may be over and that not on its disk yet: a crash brings it back. */
static bool in_doubt(const struct sim *s, const struct node *n)
{
    return n->ctl.suspect_lsn || node_doubt(s, n);
}

/* May the disk of n go back to a log that ends at `end`, and to a term? *word: somebody has nothing
 * but the word of a leader. */
static bool covered(struct sim *s, const struct node *n, lsn_t end, term_t term, bool *word)
{
    bool loses = end < committed(s);
    *word = false;
    if (s->w.n_sk != N_MEMBERS || s->w.come_back || n->promised > committed(s) || in_doubt(s, n)) {
        return false;
    }
    for (uint32_t i = 0; i < s->w.n_sk; i++) {
        struct node *o = &s->node[i];
        if (o == n) {
            continue;
        }
        witness_settle(s, o, false);
        bool log = has_all(s, o);
        if (in_doubt(s, o) || (term < n->ctl.term && o->ctl.term < n->ctl.term) ||
            (loses && !log && q_known_commit(o->witness, o->n_witness) < committed(s))) {
            return false;
        }
        *word |= loses && !log;
    }
    return true;
}

/* ---- an image ----------------------------------------------------------------------------------
 */

static void copy_durable(struct sk_durable *to, uint32_t *cap, const struct sk_durable *from)
{
    struct q_term *e = to->history;
    if (from->n_history > *cap) {
        *cap = 2 * from->n_history;
        e = realloc(e, *cap * sizeof *e);
        co_assert(e);
    }
    if (from->n_history) {
        memcpy(e, from->history, from->n_history * sizeof *e);
    }
    *to = *from;
    to->history = e;
}

static void take(struct sim *s, struct node *n)
{
    struct image *im = &s->image;
    size_t len = (size_t)(n->synced - LSN_FIRST);
    if (len > im->cap) {
        im->cap = 2 * len;
        im->log = realloc(im->log, im->cap);
        co_assert(im->log);
    }
    if (len) {
        memcpy(im->log, n->log, len);
    }
    im->end = n->synced;
    copy_durable(&im->ctl, &im->cap_history, &n->ctl);
    witness_settle(s, n, false);
    memcpy(im->witness, n->witness, sizeof im->witness);
    im->n_witness = n->n_witness;
    im->starts = n->starts;
    im->start_id = n->start_id;
    im->taken = true;
}

/* The index of what lies below the begin of the log is kept (base.c): it is the committed log. */
static void index_below(struct sim *s, struct node *n, lsn_t base)
{
    uint32_t k = 0;
    while (k < s->n_gold && s->gold[k].end <= base) {
        k++;
    }
    node_grow_recs(n, k);
    if (k) {
        memcpy(n->recs, s->gold, k * sizeof *n->recs);
    }
    n->n_recs = n->agreed = k;
}

static void put_back(struct sim *s, struct node *n, const struct image *im)
{
    n->had = n->synced > n->had ? n->synced : n->had;
    if (im->end > LSN_FIRST) {
        memcpy(n->log, im->log, (size_t)(im->end - LSN_FIRST));
    }
    n->written = n->synced = n->promised = im->end;
    index_below(s, n, im->ctl.base.lsn); /* the scan of the start finds the others */
    copy_durable(&n->ctl, &n->cap_history, &im->ctl);
    n->ctl.no_lease = false;
    memcpy(n->witness, im->witness, sizeof n->witness);
    n->n_witness = im->n_witness;
    n->pending_at = 0;
    n->starts = im->starts;
    n->start_id = im->start_id;
    n->aged = true;
}

/* How far the image has the committed log: to its end, or not to the end of that. A log that is as
 * long may be another one, of an older term. */
static lsn_t reaches(const struct sim *s, const struct image *im)
{
    const struct rec *last = s->n_gold ? &s->gold[s->n_gold - 1] : NULL;
    struct wal_header h;
    if (!last || im->ctl.base.lsn >= last->end) {
        return im->end;
    }
    if (im->end < last->end ||
        wal_check(co_span_of(im->log + (last->begin - LSN_FIRST), (size_t)(im->end - last->begin)),
                  &h) ||
        memcmp(h.digest.b, last->digest.b, sizeof h.digest.b) != 0) {
        return LSN_FIRST;
    }
    return im->end;
}

static void crash_for(struct sim *s, struct node *n, uint64_t us)
{
    node_crash(s, n);
    n->down_until = s->now + us;
}

/* Who has more than the word of a leader is not to be asked for a while; who has only that is to
 * have it from its disk, in half the cases. */
static void hide_the_knowing(struct sim *s, const struct node *victim)
{
    for (uint32_t i = 0; i < s->w.n_sk; i++) {
        struct node *o = &s->node[i];
        if (o != victim && o->up && has_all(s, o)) {
            crash_for(s, o, 2 * s->w.lease_us + below(s, R_NEMESIS, 3000000));
        } else if (o != victim && below(s, R_NEMESIS, 2)) {
            node_crash(s, o);
        }
    }
}

static struct client *any_leader(struct sim *s)
{
    for (uint32_t i = 0; i < s->w.n_clients; i++) {
        struct client *c = &s->client[i];
        if (c->up && c->leads && !c->releasing && c->paused_until <= s->now) {
            return c;
        }
    }
    return NULL;
}

static void hears_only(struct sim *s, uint32_t k, uint32_t c)
{
    for (uint32_t i = 0; i < s->w.n_clients; i++) {
        s->cut[N_SK + i][k] = s->cut[k][N_SK + i] = i != c;
    }
}

/* A leader sees one safekeeper alone, and gives it records; then its machine stops, and others
 * elect somebody else. When it goes on, it sees the victim alone, whose disk is from before. */
static void displace(struct sim *s, struct node *n)
{
    struct image *im = &s->image;
    struct client *c = im->displaced == NOBODY ? any_leader(s) : &s->client[im->leader];
    if (!c || !c->up || (im->displaced == CUT_OFF && !c->leads) ||
        (im->displaced > CUT_OFF && c->paused_until <= s->now)) {
        im->displaced = NOBODY; /* it died, or lost its term, or nobody was elected in time */
        return;
    }
    switch (im->displaced) {
    case NOBODY:
        if (n->up && fault(s, F_DISPLACED)) {
            take(s, n);
            c->plan += 2;
            im->leader = c->id;
            im->keeper = (n->id + 1 + below(s, R_NEMESIS, 2)) % N_MEMBERS;
            isolate(s, c->id, im->keeper);
            im->displaced = CUT_OFF;
        }
        return;
    case CUT_OFF:
        if (c->n_inflight == 0 || s->node[im->keeper].synced < c->tip) {
            return;
        }
        c->paused_until = s->now + 3 * s->w.lease_us + 3000000;
        trace(s, "fault: c%u stops, cut off", c->id);
        im->displaced = STOPPED;
        return;
    case STOPPED:
        return;
    case IMAGE_THERE:
        if (n->up) {
            isolate(s, c->id, n->id);
            hears_only(s, n->id, c->id); /* it would know by the others */
            c->paused_until = s->now + 1;
            im->displaced = NOBODY;
        }
        return;
    }
}

void image_nemesis(struct sim *s)
{
    struct image *im = &s->image;
    struct node *n = &s->node[im->victim];
    struct client *c = &s->client[im->leader];
    bool word;
    if (!s->w.ppm[F_IMAGE] || n->refused) {
        return;
    }
    displace(s, n);
    if (im->displaced == NOBODY && (!im->taken || below(s, R_NEMESIS, 60) == 0)) {
        take(s, n);
        return;
    }
    bool waits = im->displaced == STOPPED && n->ctl.term > c->term;
    if (!n->up || im->ctl.term > n->ctl.term || (im->displaced != NOBODY && !waits) ||
        !covered(s, n, reaches(s, im), im->ctl.term, &word) ||
        !(waits || (!s->w.ppm[F_DISPLACED] && (word || below(s, R_NEMESIS, 8) == 0))) ||
        !fault(s, F_IMAGE)) {
        return;
    }
    trace(s, "fault: sk%u gets an older image: log to %llu, term %llu, starts %llu", n->id + 1,
          (unsigned long long)im->end, (unsigned long long)im->ctl.term,
          (unsigned long long)im->starts);
    crash_for(s, n, s->w.lease_us + s->w.lease_us / 32);
    put_back(s, n, im);
    if (waits) {
        im->displaced = IMAGE_THERE;
        c->paused_until = n->down_until + 200000;
        s->st->displaced++;
    } else if (word && below(s, R_NEMESIS, 4)) {
        hide_the_knowing(s, n);
    }
    s->st->images++;
    s->st->words += word;
    im->taken = false;
}

/* At a crash: the end of the log, that was synced, is not there. The control block is. */
void image_lie(struct sim *s, struct node *n)
{
    bool word;
    uint32_t k = node_recs_below(n, n->ctl.commit_lsn > n->ctl.floor_lsn ? n->ctl.commit_lsn
                                                                         : n->ctl.floor_lsn);
    if (!s->w.ppm[F_LYING] || n->id != s->image.victim || n->n_recs <= k) {
        return;
    }
    lsn_t x = n->recs[k + below(s, R_DISK, n->n_recs - k)].begin;
    if (x >= n->synced || !covered(s, n, x, n->ctl.term, &word) || !fault(s, F_LYING)) {
        return;
    }
    trace(s, "fault: the disk of sk%u had not synced what lies behind %llu", n->id + 1,
          (unsigned long long)x);
    n->had = n->synced > n->had ? n->synced : n->had;
    n->written = n->synced = n->promised = x;
    n->staged = n->staged_synced = 0;
    n->n_recs = node_recs_below(n, x);
    n->agreed = n->agreed < n->n_recs ? n->agreed : n->n_recs;
    n->aged = true;
    n->down_until = s->now + s->w.lease_us + s->w.lease_us / 32;
    s->st->lies++;
    s->st->words += word;
}

/* The acceptor says that its disk went back in time. */
void image_refused(struct sim *s, struct node *n)
{
    if (!n->aged) {
        violation(s, "sk%u is refused as one whose disk went back in time, and it did not",
                  n->id + 1);
    }
    trace(s, "sk%u takes no part any more", n->id + 1);
    n->refused = true;
    s->st->refused_nodes++;
}

/* It may be refused from now on, for good: no copy of another may be damaged beside it. */
bool image_aged(const struct node *n)
{
    return n->aged;
}

void image_birth(struct sim *s)
{
    s->image.taken = false;
    s->image.displaced = NOBODY;
    s->image.leader = 0;
    s->image.victim = below(s, R_SWARM, N_MEMBERS);
}

void image_free(struct sim *s)
{
    free(s->image.log);
    free(s->image.ctl.history);
}
