/*
 * oracle.c - what must hold, whatever happens.
 *
 * The gold log is the one sequence of committed records: it grows with the first evidence of a
 * commit and never changes. Everything is compared with it ever after: every safekeeper's log up to
 * its commit LSN, acknowledgements, verdicts, reads. The numbers I1 to I17 are those of the docs.
 *
 * I11 is about leaders of *later* terms: a candidate that slept may win an election late that newer
 * terms have overtaken; it lacks records and may, because it will never commit anything.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "proto/qhist.h"
#include "tests/sim/sim.h"

#define U(x) ((unsigned long long)(x))

void violation(struct sim *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->why, sizeof s->why, format, args);
    va_end(args);
    trace(s, "VIOLATION %s", s->why);
    siglongjmp(s->bad, 1);
}

static bool same(const struct wal_digest *a, const struct wal_digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

static lsn_t gold_end(const struct sim *s)
{
    return s->n_gold ? s->gold[s->n_gold - 1].end : LSN_FIRST;
}

/* ---- one content (I8) --------------------------------------------------------------------------
 */

void see_record(struct sim *s, struct node *n, const struct rec *r)
{
    uint64_t x = r->begin * 0x9e3779b97f4a7c15ull ^ r->term * 0xbf58476d1ce4e5b9ull;
    for (uint32_t i = (uint32_t)(x >> 40);; i++) {
        struct content *c = &s->content[i % CONTENT_SLOTS];
        if (c->epoch != s->content_epoch) {
            *c = (struct content){s->content_epoch, r->term, r->begin, r->digest};
            return;
        }
        if (c->term == r->term && c->begin == r->begin) {
            if (!same(&c->digest, &r->digest)) {
                violation(s, "I8: sk%u takes another record for term %llu, LSN %llu", n->id + 1,
                          U(r->term), U(r->begin));
            }
            return;
        }
    }
}

/* ---- the gold log ------------------------------------------------------------------------------
 */

static void extend_gold(struct sim *s, const struct rec *r)
{
    if (r->begin != gold_end(s)) {
        violation(s, "I9: a gap in the committed log at %llu", U(gold_end(s)));
    }
    if (s->n_gold == s->cap_gold) {
        s->cap_gold = s->cap_gold ? 2 * s->cap_gold : 1024;
        s->gold = realloc(s->gold, s->cap_gold * sizeof *s->gold);
        co_assert(s->gold);
    }
    s->gold[s->n_gold++] = *r;
    fold(s, r->end ^ r->term << 40);
    if (r->config) {
        return;
    }
    if (r->id == 0 || r->id > s->n_txns) {
        violation(s, "a record was committed that nobody wrote");
    }
    struct txn *t = &s->txn[r->id];
    if (t->in_gold) {
        violation(s, "I17: txn %llu is committed twice", U(r->id));
    }
    t->in_gold = true;
    if (t->state == T_NOT_COMMITTED) {
        violation(s, "I17: txn %llu was said not to be committed, but it is, at %llu", U(r->id),
                  U(r->begin));
    }
    if (r->built_on != r->begin) {
        violation(s, "lost update: txn %llu at %llu was built on the state at %llu", U(r->id),
                  U(r->begin), U(r->built_on));
    }
}

/* The log of this node is committed up to lsn: it must be the gold log. */
static void agree(struct sim *s, struct node *n, lsn_t lsn)
{
    uint32_t k = node_recs_below(n, lsn);
    if ((k ? n->recs[k - 1].end : LSN_FIRST) != lsn) {
        violation(s, "sk%u: %llu is not a record boundary in its log", n->id + 1, U(lsn));
    }
    for (uint32_t i = n->agreed; i < k; i++) {
        if (i >= s->n_gold) {
            extend_gold(s, &n->recs[i]);
        } else if (!same(&s->gold[i].digest, &n->recs[i].digest)) {
            violation(s, "sk%u: the committed record at %llu is another one than before", n->id + 1,
                      U(n->recs[i].begin));
        }
    }
    n->agreed = k > n->agreed ? k : n->agreed;
}

static term_t disk_term(const struct node *n)
{
    struct q_history h = {n->ctl.n_history, n->ctl.history};
    return q_last_log_term(&h, n->synced);
}

/* Does this disk hold a log with a boundary at lsn, under a history of this term or a later one? */
static bool holds(const struct node *n, term_t term, lsn_t lsn)
{
    uint32_t k = node_recs_below(n, lsn);
    return n->synced >= lsn && disk_term(n) >= term && (k ? n->recs[k - 1].end : LSN_FIRST) == lsn;
}

/* The same log up to lsn? The digests chain, so the last one stands for all. */
static bool alike(const struct node *a, const struct node *b, lsn_t lsn)
{
    uint32_t k = node_recs_below(a, lsn), m = node_recs_below(b, lsn);
    return k == m && (k == 0 || same(&a->recs[k - 1].digest, &b->recs[m - 1].digest));
}

/* Does every quorum of the configuration have a node of the set? A majority of one group is enough
 * for that: what its leader had in its own log, but on no disk yet, may have been the group alone.
 */
static bool covers(const struct wal_config *c, const uint32_t *set, uint32_t n)
{
    struct wal_config old = *c, new = *c;
    old.n_new = 0;
    new.n = c->n_new;
    memcpy(new.members, c->new_members, sizeof new.members);
    new.n_new = 0;
    return q_is_quorum(&old, set, n) || (c->n_new > 0 && q_is_quorum(&new, set, n));
}

/* Is the log of disk i up to lsn, under that term, on a quorum of disks? `config` is the leader's;
 * NULL: nobody's in particular, then any in force at lsn or put in the log behind it will do. */
static bool on_quorum(struct sim *s, uint32_t i, term_t term, lsn_t lsn,
                      const struct wal_config *config)
{
    const struct node *n = &s->node[i];
    uint32_t set[N_SK], have = 0;
    for (uint32_t j = 0; j < s->w.n_sk && holds(n, term, lsn); j++) {
        const struct node *m = &s->node[j];
        /* What it acknowledged before its disk went back it may have lost, or the term of it. */
        bool lost =
            (node_doubt(s, m) >= lsn && m->synced < lsn) || (m->had >= lsn && !holds(m, term, lsn));
        if (lost || (holds(m, term, lsn) && alike(n, m, lsn))) {
            set[have++] = j + 1;
        }
    }
    if (config) {
        return q_is_quorum(config, set, have);
    }
    for (uint32_t k = node_recs_below(n, lsn); have && k <= n->n_recs; k++) {
        struct wal_config c = config_at(s, n, k);
        if (covers(&c, set, have)) {
            return true;
        }
    }
    return false;
}

/* I10: a quorum of disks holds one and the same log up to lsn. One that is in doubt counts for what
 * it had: it may have acknowledged that before it was damaged. */
static void prove(struct sim *s, term_t term, lsn_t lsn, const struct wal_config *config,
                  const char *what)
{
    for (uint32_t i = 0; i < s->w.n_sk; i++) {
        if (on_quorum(s, i, term, lsn, config)) {
            agree(s, &s->node[i], lsn);
            return;
        }
    }
    violation(s, "I10: %s %llu of term %llu is on no quorum of disks", what, U(lsn), U(term));
}

/* A mistake is to be caught by what it does to users, not by a message that looks wrong. */
static bool mistaken(void)
{
#ifdef CO_MUTATIONS
    return co_mutation != CO_MUTATION_NONE;
#else
    return false;
#endif
}

/* I14: of the configurations in a log only the last may be uncommitted. */
void see_config(struct sim *s, const struct node *n)
{
    bool last = true;
    for (uint32_t k = n->n_recs; k > 0 && !mistaken(); k--) {
        const struct rec *r = &n->recs[k - 1];
        if (!r->config) {
            continue;
        }
        if (last) {
            last = false;
            continue;
        }
        bool committed = r->end <= gold_end(s);
        for (uint32_t i = 0; i < s->w.n_sk && !committed; i++) {
            committed = node_recs_below(&s->node[i], r->end) == k &&
                        same(&s->node[i].recs[k - 1].digest, &r->digest) &&
                        on_quorum(s, i, 0, r->end, NULL);
        }
        if (!committed) {
            violation(s, "I14: sk%u has a configuration behind one at %llu that is not committed",
                      n->id + 1, U(r->begin));
        }
        return;
    }
}

void see_sk_commit(struct sim *s, struct node *n, lsn_t lsn)
{
    agree(s, n, lsn);
}

/* Is it a member, and has it taken part since it became one? What it had before counts nowhere. */
static bool participates(const struct sim *s, const struct node *n)
{
    term_t since = 0;
    bool named = n->id < N_MEMBERS;
    for (uint32_t i = s->n_gold; i > 0; i--) {
        const struct rec *r = &s->gold[i - 1];
        if (r->config && !(r->named >> (n->id + 1) & 1)) {
            named = since > 0;
            break;
        }
        if (r->config) {
            since = r->term;
            named = true;
        }
    }
    return named && disk_term(n) >= since;
}

void see_truncate(struct sim *s, struct node *n, lsn_t lsn, lsn_t commit)
{
    uint32_t k = node_recs_below(n, lsn);
    if (lsn < commit) {
        violation(s, "I5: sk%u truncates to %llu below its commit LSN %llu", n->id + 1, U(lsn),
                  U(commit));
    }
    if (!participates(s, n) || image_aged(n)) {
        /* It may have to begin anew from what it knows to be committed; and a disk that went back
         * in time knows less than the history of a leader takes for granted. The leader brings it.
         */
        return;
    }
    if (k < n->n_recs && k < s->n_gold && same(&s->gold[k].digest, &n->recs[k].digest) &&
        n->recs[k].end <= n->synced) {
        violation(s, "sk%u truncates the committed record at %llu", n->id + 1, U(n->recs[k].begin));
    }
}

/* ---- terms -------------------------------------------------------------------------------------
 */

void see_persist(struct sim *s, struct node *n, const struct sk_durable *d)
{
    if (d->term < n->ctl.term || d->commit_lsn < n->ctl.commit_lsn ||
        d->floor_lsn < n->ctl.floor_lsn || d->base.lsn < n->ctl.base.lsn) {
        violation(s, "I2: sk%u: durable term, commit, floor or base goes back", n->id + 1);
    }
    for (uint32_t i = 0; i < d->n_history; i++) {
        struct q_term e = d->history[i];
        if (e.term < MAX_TERMS && s->leader[e.term].seen && s->leader[e.term].start != e.start) {
            violation(s, "I4: sk%u: term %llu starts at %llu, its leader said %llu", n->id + 1,
                      U(e.term), U(e.start), U(s->leader[e.term].start));
        }
    }
    if (d->n_history > s->st->max_history) {
        s->st->max_history = d->n_history;
    }
}

void see_elected(struct sim *s, struct client *c, const struct q_msg *m)
{
    struct leader_seen *l = &s->leader[m->term < MAX_TERMS ? m->term : 0];
    lsn_t start = m->history.e[m->history.n - 1].start;
    if (l->seen) {
        if (!co_id_eq(&l->nonce, &m->nonce)) {
            violation(s, "I1: two leaders in term %llu", U(m->term));
        }
        if (l->start != start) {
            violation(s, "I1: term %llu was won twice, with starts %llu and %llu", U(m->term),
                      U(l->start), U(start));
        }
        return;
    }
    *l = (struct leader_seen){true, m->nonce, start};
    s->st->elections++;
    trace(s, "c%u is elected in term %llu, start %llu", c->id, U(m->term), U(start));
    for (uint32_t i = 0; i < s->n_marks; i++) {
        if (s->marks[i].term < m->term && s->marks[i].lsn > start) {
            violation(s, "I11: the leader of term %llu starts at %llu, term %llu acknowledged %llu",
                      U(m->term), U(start), U(s->marks[i].term), U(s->marks[i].lsn));
        }
    }
    if (fault(s, F_ISOLATE)) {
        isolate(s, c->id, below(s, R_NEMESIS, s->w.n_sk));
    }
}

void see_ready(struct sim *s, struct client *c, term_t term, lsn_t lsn)
{
    if (term < MAX_TERMS && s->leader[term].seen &&
        memcmp(s->leader[term].nonce.b, c->nonce.b, 12)) {
        violation(s, "I1: c%u leads term %llu of another", c->id, U(term));
    }
    struct pr_view v;
    pr_view(c->pr, &v);
    prove(s, term, lsn, mistaken() ? NULL : &v.config, "the start of a leader,");
}

void see_durable(struct sim *s, struct client *c, term_t term, lsn_t lsn)
{
    for (uint32_t i = 0; i < c->n_inflight; i++) {
        const struct txn *t = &s->txn[c->inflight[i]];
        if (t->end > lsn) {
            break;
        }
        if (t->term != term) {
            violation(s, "c%u: DURABLE of term %llu for a record of term %llu", c->id, U(term),
                      U(t->term));
        }
    }
    struct pr_view v;
    pr_view(c->pr, &v);
    prove(s, term, lsn, v.state == PR_LEADER && !mistaken() ? &v.config : NULL, "commit");
}

/* ---- what users are told -----------------------------------------------------------------------
 */

static void mark(struct sim *s, term_t term, lsn_t lsn)
{
    for (uint32_t i = s->n_marks; i > 0; i--) {
        if (s->marks[i - 1].term == term) {
            if (lsn > s->marks[i - 1].lsn) {
                s->marks[i - 1].lsn = lsn;
            }
            return;
        }
    }
    if (s->n_marks < sizeof s->marks / sizeof s->marks[0]) {
        s->marks[s->n_marks].term = term;
        s->marks[s->n_marks++].lsn = lsn;
    }
}

void see_ack(struct sim *s, uint64_t id)
{
    struct txn *t = &s->txn[id];
    co_assert(t->state == T_OPEN);
    if (!t->in_gold) {
        violation(s, "txn %llu is acknowledged, but another record stands at %llu", U(id),
                  U(t->begin));
    }
    t->state = T_ACKED;
    s->acked++;
    s->acked_after_heal += s->healed;
    mark(s, t->term, t->end);
    if (t->end > s->acked_lsn) {
        s->acked_lsn = t->end;
    }
}

void see_position(struct sim *s, lsn_t lsn, lsn_t floor, const char *what)
{
    if (lsn < floor) {
        violation(s, "I15: %s at %llu is stale: %llu was acknowledged before it began", what,
                  U(lsn), U(floor));
    }
    if (lsn > gold_end(s)) {
        prove(s, 0, lsn, NULL, what);
    }
    uint32_t lo = 0, hi = s->n_gold;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->gold[mid].end < lsn) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lsn != LSN_FIRST && (lo == s->n_gold || s->gold[lo].end != lsn)) {
        violation(s, "%s at %llu is not at a boundary of the committed log", what, U(lsn));
    }
}

void see_verdict(struct sim *s, uint64_t id, enum pr_verdict v)
{
    struct txn *t = &s->txn[id];
    trace(s, "txn %llu is resolved: %s", U(id),
          v == PR_COMMITTED       ? "committed"
          : v == PR_NOT_COMMITTED ? "not committed"
                                  : "too old");
    co_assert(t->state == T_UNKNOWN);
    switch (v) {
    case PR_COMMITTED:
        if (t->end > gold_end(s)) {
            prove(s, 0, t->end, NULL, "a commit said to be durable,");
        }
        if (!t->in_gold) {
            violation(s, "I17: txn %llu is said to be committed and is not", U(id));
        }
        t->state = T_COMMITTED;
        s->st->committed++;
        if (t->end > s->acked_lsn) {
            s->acked_lsn = t->end;
        }
        return;
    case PR_NOT_COMMITTED:
        if (t->in_gold) {
            violation(s, "I17: txn %llu is said not to be committed, but it is", U(id));
        }
        t->state = T_NOT_COMMITTED;
        s->st->not_committed++;
        return;
    case PR_UNKNOWN:
        /* Honest only where the history was collapsed above it. */
        if (s->w.history_keep >= 1024 || gold_end(s) <= t->begin) {
            violation(s, "txn %llu is said to be too old to tell", U(id));
        }
        t->state = T_TOO_OLD;
        s->st->too_old++;
        return;
    }
}

/* ---- the end -----------------------------------------------------------------------------------
 */

void see_gone(struct sim *s, struct node *n)
{
    struct sk_view v;
    sk_view(n->sk, local_clock(s, n->id), &v);
    if (v.refused && !mistaken()) {
        violation(s, "sk%u refused %llu messages, but every sender is a right one", n->id + 1,
                  U(v.refused));
    }
}

/* Is the set of nodes a quorum by the last committed configuration, or by one that stands behind it
 * in the log of one of them? */
static bool enough(struct sim *s, const uint32_t *set, uint32_t n)
{
    uint32_t last = s->n_gold;
    while (last > 0 && !s->gold[last - 1].config) {
        last--;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct node *d = &s->node[set[i] - 1];
        for (uint32_t k = last; k <= d->n_recs; k++) {
            struct wal_config c = config_at(s, d, k);
            if (covers(&c, set, n)) {
                return true;
            }
        }
    }
    return false;
}

void see_end(struct sim *s)
{
    uint32_t set[N_SK], have = 0;
    for (uint32_t i = 0; i < s->w.n_sk; i++) {
        struct node *n = &s->node[i];
        if (n->up) {
            struct sk_view v;
            see_gone(s, n);
            sk_view(n->sk, local_clock(s, n->id), &v);
            agree(s, n, v.commit_lsn);
        }
        uint32_t k = node_recs_below(n, s->acked_lsn);
        bool all = n->synced >= s->acked_lsn && k <= s->n_gold;
        for (uint32_t r = 0; all && r < k; r++) {
            all = same(&n->recs[r].digest, &s->gold[r].digest);
        }
        if (all || (n->synced < s->acked_lsn && node_doubt(s, n) >= s->acked_lsn)) {
            set[have++] = i + 1; /* one in doubt counts for what it had, as in prove() */
        }
    }
    if (!enough(s, set, have)) {
        violation(s, "at the end %u of %u safekeepers have every acknowledged commit", have,
                  s->w.n_sk);
    }
    for (uint64_t id = 1; id <= s->n_txns; id++) {
        const struct txn *t = &s->txn[id];
        bool must = t->state == T_ACKED || t->state == T_COMMITTED;
        if ((must && !t->in_gold) || (t->state == T_NOT_COMMITTED && t->in_gold)) {
            violation(s, "I17: at the end txn %llu is not what its user was told", U(id));
        }
    }
}
