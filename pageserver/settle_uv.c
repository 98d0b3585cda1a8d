/*
 * settle_uv.c - where a log ends that a restore sealed, found out and told to its safekeepers.
 *
 * A writer tells the safekeepers that a record is committed with its next message. If it dies
 * before that and the branch is restored, an acknowledged commit is on a majority and nobody knows
 * so; no leader will come any more to find out. So the owner of the catalog does it, once for each
 * sealed timeline, one after the other, beside all else (decision 75):
 *
 *   ASK   READ_POS with the history to all who hold it SEALED. They have made durable all that came
 *         before, and take no record any more: what a majority has alike (proto/sealed_end.h) is
 *         committed.
 *   TELL  ELECTED and a heartbeat to each copy that has all of that and does not know: its own
 *         history and a term that begins nowhere, so nothing is cut, whatever happened meanwhile.
 *         Then READ_POS once more, with the history: what is known to be committed is durable
 *         before the answer, and it must not be forgotten by one while the other's disk is lost.
 *
 * It is *settled* when no copy has anything behind the end that may be committed together with a
 * keeper that did not answer. Until then, and until everybody has answered once, it is looked at
 * again: when a safekeeper comes, and now and then. (Who was away may have the end and not know;
 * it would be forgotten with the disk of the only one that does.) Nothing of this is on a disk
 * here: who starts looks at all of them once.
 *
 * A writer that lives says by itself what is committed, and is left GRACE_MS for it.
 */
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/sealed_end.h"

#define MODULE       "pageserver/settle"
#define ROUND_MS     800u /* for the answers */
#define GRACE_MS     250u
#define PATIENCE_MS  500u /* with a safekeeper that is just coming, before a reader is answered */
#define LEASE_MS     50u  /* between looks meanwhile */
#define AGAIN_MIN_MS 200u
#define AGAIN_MAX_MS 30000u
#define NOWHERE      (UINT64_MAX & ~(lsn_t)(LSN_ALIGN - 1)) /* no log reaches so far */

enum step { QUIET, ADOPTS, HEARS, KEEPS, KNOWS };

struct copy {
    bool asked, answered, told; /* told: and counts */
    enum step step;
    term_t term;
    lsn_t flush, commit, known_commit; /* known_*: told also where the copy does not count */
    term_t known_log_term;
    bool lease;
    struct wal_config config;
    struct q_term *history; /* owned; room for one more */
    uint32_t n_history;
};

struct ps_settle {
    struct ps_server *s;
    uv_timer_t timer;
    struct ps_timeline *tl;    /* it is at; NULL: none */
    struct ps_timeline *first; /* somebody waits for this one; or NULL */
    struct ps_timeline *last;  /* the newest whose turn it was */
    uint64_t round;            /* read_id */
    bool telling, open;
    term_t term; /* to tell with */
    struct co_id nonce;
    lsn_t end;
    struct copy of[CO_MEMBERS_MAX];
};

static void on_timer(uv_timer_t *timer);

static void wait_ms(struct ps_settle *st, uint64_t ms)
{
    uv_timer_start(&st->timer, on_timer, ms, 0);
}

/* -- One after the other ----------------------------------------------------------------------- */

static bool is_due(const struct ps_server *s, const struct ps_timeline *tl)
{
    return tl->stored_state == PS_SEALED && ps_timeline_open(tl) &&
           !(tl->seal.settled && tl->seal.all_asked) && uv_now(&s->loop) >= tl->seal.next_ms;
}

/* It is left, until later where it is not settled. */
static void leave(struct ps_settle *st, struct ps_timeline *tl, uint64_t again_ms)
{
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        free(st->of[i].history);
    memset(st->of, 0, sizeof st->of);
    uv_timer_stop(&st->timer);
    st->tl = NULL;
    st->telling = false;
    tl->seal.next_ms = uv_now(&st->s->loop) + again_ms;
}

static void put_off(struct ps_settle *st, struct ps_timeline *tl)
{
    uint64_t ms = AGAIN_MIN_MS << (tl->seal.tries < 8 ? tl->seal.tries : 8);
    tl->seal.tries++;
    tl->seal.tried = tl->seal.settled || uv_now(&st->s->loop) - tl->seal.since_ms >= PATIENCE_MS;
    leave(st, tl, ms < AGAIN_MAX_MS ? ms : AGAIN_MAX_MS);
}

static void send_to(struct ps_server *s, uint32_t node, const struct q_msg *msg)
{
    struct co_buf frame = {0};
    if (!s->nodes[node].peer || qmsg_encode(msg, &frame))
        co_buf_free(&frame); /* no memory: it is tried again */
    else
        peer_send_raw(s->nodes[node].peer, &frame);
}

static void ask(struct ps_settle *st, uint32_t node)
{
    struct q_msg msg = {.type = FRAME_READ_POS,
                        .timeline = st->tl->meta.id,
                        .read_id = st->round,
                        .want_history = true};
    send_to(st->s, node, &msg);
}

/* False: there are not enough to ask. */
static bool begin(struct ps_settle *st, struct ps_timeline *tl)
{
    struct ps_server *s = st->s;
    bool may[CO_MEMBERS_MAX] = {false};
    if (!tl->seal.since_ms)
        tl->seal.since_ms = uv_now(&s->loop);
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        may[i] = s->nodes[i].ready && s->reg.listed[i] && tl->held[i] >= tl->meta.version;
    if (!ps_reg_quorum(&s->reg, may)) {
        put_off(st, tl);
        return false;
    }
    st->tl = st->last = tl;
    st->round = ++s->last_round;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        st->of[i].asked = may[i];
        if (may[i])
            ask(st, i);
    }
    wait_ms(st, ROUND_MS);
    return true;
}

void ps_settle_look(struct ps_server *s)
{
    struct ps_settle *st = s->settle;
    if (!st || s->closing || !s->reg.heard || st->tl || uv_is_active((uv_handle_t *)&st->timer))
        return;
    struct ps_timeline *tl = st->first;
    st->first = NULL;
    if (tl && is_due(s, tl) && begin(st, tl))
        return;
    for (tl = st->last ? st->last->next : NULL; tl; tl = tl->next)
        if (is_due(s, tl) && begin(st, tl))
            return;
    for (tl = s->reg.all; tl; tl = tl->next)
        if (is_due(s, tl) && begin(st, tl))
            return;
}

/* What it came to is told to those who wait for the head, and the next one has its turn. */
static void go_on(struct ps_settle *st)
{
    ps_serve_asks(st->s);
    ps_settle_look(st->s);
}

static void give_up(struct ps_settle *st)
{
    put_off(st, st->tl);
    go_on(st);
}

static void finish(struct ps_settle *st)
{
    struct ps_timeline *tl = st->tl;
    struct ps_server *s = st->s;
    bool here = false; /* somebody who did not answer */
    if (st->end > tl->seal.end)
        tl->seal.end = st->end;
    tl->seal.settled = !st->open;
    tl->seal.all_asked = true;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        if (!s->reg.node_id[i] || st->of[i].answered)
            continue; /* nobody has this place since a replacement; or it is done */
        tl->seal.all_asked = false;
        here |= s->nodes[i].ready;
    }
    put_off(st, tl);
    if (tl->seal.settled && !here)
        tl->seal.next_ms = UINT64_MAX; /* until one comes */
    go_on(st);
}

/* -- What is told ------------------------------------------------------------------------------ */

/* Only holders of all of it get here. */
static void elect(struct ps_settle *st, uint32_t node)
{
    struct copy *c = &st->of[node];
    c->history[c->n_history] = (struct q_term){.term = st->term, .start = NOWHERE};
    struct q_msg msg = {.type = FRAME_ELECTED,
                        .timeline = st->tl->meta.id,
                        .term = st->term,
                        .nonce = st->nonce,
                        .history = {.n = c->n_history + 1, .e = c->history},
                        .start_lsn = c->flush};
    send_to(st->s, node, &msg);
}

static void on_ack(struct ps_settle *st, uint32_t node, const struct q_msg *ack)
{
    struct copy *c = &st->of[node];
    struct q_msg msg = {.timeline = st->tl->meta.id,
                        .term = st->term,
                        .nonce = st->nonce,
                        .begin_lsn = c->flush,
                        .commit_lsn = st->end};
    if (!st->telling || ack->term != st->term || !co_id_eq(&ack->nonce, &st->nonce))
        return;
    if (c->step == ADOPTS) {
        c->step = HEARS;
        msg.type = FRAME_APPEND;
        send_to(st->s, node, &msg);
    } else if (c->step == HEARS && ack->commit_lsn >= st->end) {
        c->step = KEEPS;
        msg.type = FRAME_RELEASE; /* nobody has to wait for the lease of this term */
        send_to(st->s, node, &msg);
        ask(st, node);
    }
}

static void on_kept(struct ps_settle *st, uint32_t node, const struct q_msg *pos)
{
    struct copy *c = &st->of[node];
    bool all = true;
    if (c->step != KEEPS || pos->read_id != st->round || pos->commit_lsn < st->end)
        return;
    c->step = KNOWS;
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        all = all && (st->of[i].step == QUIET || st->of[i].step == KNOWS);
    if (!all)
        return;
    co_metric_add(&ps_m_sealed_ends, 1);
    finish(st);
}

/* -- What was heard ---------------------------------------------------------------------------- */

/* What was read of it here, and where branches grew from it, is committed, whoever knows so still.
 */
static void hear_readers(const struct ps_settle *st, struct sealed_log *log)
{
    const struct ps_chain *chain = &st->tl->chain;
    sealed_hear_read(&log->read, chain->last_lsn, chain->term);
    for (const struct ps_timeline *tl = st->s->reg.all; tl; tl = tl->next)
        if (co_id_eq(&tl->meta.ancestor, &st->tl->meta.id))
            sealed_hear_read(&log->read, tl->meta.ancestor_lsn, tl->meta.base_term);
}

static uint32_t gather(const struct ps_settle *st, struct sealed_log *log,
                       uint32_t node[CO_MEMBERS_MAX])
{
    *log = (struct sealed_log){.config = &st->s->reg.config, .start = st->tl->meta.start_lsn};
    hear_readers(st, log);
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++) {
        const struct copy *c = &st->of[i];
        sealed_hear(&log->known, c->known_commit, c->known_log_term);
        if (!c->told)
            continue;
        node[log->n] = i;
        log->copy[log->n++] = (struct sealed_copy){
            st->s->nodes[i].id, c->flush, c->commit, {c->n_history, c->history}, &c->config};
    }
    return log->n;
}

/* Finds the end, whether it is settled with that, and who is to be told (ADOPTS). */
static int find_end(struct ps_settle *st, bool *anybody, bool *lease)
{
    struct sealed_log log;
    uint32_t node[CO_MEMBERS_MAX], holder;
    bool told[CO_MEMBERS_MAX] = {false};
    *anybody = *lease = false;
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        told[i] = st->of[i].told;
    if (!gather(st, &log, node) || !ps_reg_quorum(&st->s->reg, told))
        return CO_ERR_AGAIN;
    int rc = sealed_end(&log, &st->end, &holder);
    st->open = log.read.lsn > st->end; /* who has it is away */
    for (uint32_t i = 0; i < log.n && !rc; i++) {
        struct copy *c = &st->of[node[i]];
        bool open;
        lsn_t same;
        rc = sealed_is_open(&log, i, st->end, &open);
        if (!rc)
            rc = sealed_alike(&log, holder, i, &same);
        if (rc)
            break;
        st->open |= open;
        *lease |= c->lease;
        st->term = c->term >= st->term ? c->term + 1 : st->term;
        if (same < st->end || c->commit >= st->end)
            continue;
        if (c->n_history == 0 || c->n_history >= CO_HISTORY_MAX)
            return CO_ERR_AGAIN; /* nothing to tell it with: the command brings it on */
        c->step = ADOPTS;
        *anybody = true;
    }
    return rc;
}

static void conclude(struct ps_settle *st)
{
    struct ps_timeline *tl = st->tl;
    struct ps_server *s = st->s;
    char name[PS_META_NAME_TEXT], end[LSN_TEXT];
    bool anybody, lease;
    st->term = 0;
    int rc = find_end(st, &anybody, &lease);
    if (rc && rc != CO_ERR_AGAIN && !tl->seal.tries)
        co_warn(MODULE, "the end of a sealed log is not found name=%s: %s",
                ps_meta_name(&tl->meta, name), co_sentence());
    if (rc || (anybody && s->reg.follows)) {
        give_up(st); /* the owner tells them */
        return;
    }
    if (!anybody) {
        finish(st);
        return;
    }
    if (lease && uv_now(&s->loop) - tl->seal.since_ms < GRACE_MS) {
        leave(st, tl, 0);
        st->first = tl;
        wait_ms(st, LEASE_MS);
        return;
    }
    co_info(MODULE, "a sealed log ends with what a majority has name=%s end=%s",
            ps_meta_name(&tl->meta, name), lsn_format(st->end, end));
    st->telling = true;
    st->nonce = co_id_random();
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        if (st->of[i].step == ADOPTS)
            elect(st, i);
    wait_ms(st, ROUND_MS);
}

static void look_whether_all(struct ps_settle *st)
{
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        if (st->of[i].asked && !st->of[i].told)
            return;
    conclude(st);
}

static void on_pos(struct ps_settle *st, uint32_t node, const struct q_msg *pos)
{
    struct copy *c = &st->of[node];
    if (!c->asked || c->told || pos->read_id != st->round)
        return;
    c->asked = false;
    c->known_commit = pos->known_commit;
    c->known_log_term = pos->known_log_term;
    /* In doubt, or less than it once said: its position counts for nothing (decisions 24, 51). */
    bool counts = !pos->suspect_lsn && pos->known_commit <= pos->flush_lsn;
    c->history = counts ? malloc((pos->history.n + 1) * sizeof *c->history) : NULL;
    c->answered = c->history || !counts;
    if (c->history) {
        if (pos->history.n)
            memcpy(c->history, pos->history.e, pos->history.n * sizeof *c->history);
        c->told = true;
        c->n_history = pos->history.n;
        c->term = pos->term;
        c->flush = pos->flush_lsn;
        c->commit = pos->commit_lsn;
        c->lease = pos->lease_held;
        c->config = pos->config;
    }
    look_whether_all(st);
}

void ps_settle_heard(struct ps_server *s, uint32_t node, const struct q_msg *msg)
{
    struct ps_settle *st = s->settle;
    if (!st || !st->tl || !co_id_eq(&st->tl->meta.id, &msg->timeline))
        return;
    if (msg->type == FRAME_POS && st->telling)
        on_kept(st, node, msg);
    else if (msg->type == FRAME_POS)
        on_pos(st, node, msg);
    else if (msg->type == FRAME_ACK)
        on_ack(st, node, msg);
    else if (st->telling && (msg->type == FRAME_REJECT || msg->type == FRAME_VOTED))
        give_up(st); /* the tool was there meanwhile (cli/member_sealed_sock.c) */
}

static void on_timer(uv_timer_t *timer)
{
    struct ps_settle *st = timer->data;
    if (!st->tl)
        ps_settle_look(st->s);
    else if (st->telling)
        give_up(st);
    else
        conclude(st);
}

/* -- Safekeepers come and go, and who asks ----------------------------------------------------- */

void ps_settle_node_gone(struct ps_server *s, uint32_t node)
{
    struct ps_settle *st = s->settle;
    if (!st || !st->tl || s->closing)
        return;
    struct copy *c = &st->of[node];
    if (st->telling && c->step != QUIET && c->step != KNOWS) {
        give_up(st);
    } else if (!st->telling && c->asked) {
        c->asked = false;
        look_whether_all(st);
    }
}

void ps_settle_node(struct ps_server *s)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        tl->seal.next_ms = tl->seal.tries = 0;
    ps_settle_look(s);
}

void ps_settle_tick(struct ps_server *s)
{
    uint64_t open = 0;
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        open += tl->stored_state == PS_SEALED && ps_timeline_open(tl) && !tl->seal.settled;
    co_metric_set(&ps_m_sealed_open, open);
    ps_settle_look(s);
}

void ps_settle_soon(struct ps_server *s, struct ps_timeline *tl)
{
    if (!s->settle || tl->seal.tried)
        return;
    s->settle->first = tl;
    ps_settle_look(s);
}

int ps_settle_start(struct ps_server *s)
{
    struct ps_settle *st = s->settle = calloc(1, sizeof *st);
    if (!st)
        return co_fail(CO_ERR_NOMEM, "no memory for what is asked of sealed logs");
    int rc = uv_timer_init(&s->loop, &st->timer);
    co_assert(rc == 0);
    st->s = s;
    st->timer.data = st;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct ps_settle *st = handle->data;
    for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
        free(st->of[i].history);
    free(st);
}

void ps_settle_close(struct ps_server *s)
{
    struct ps_settle *st = s->settle;
    if (!st)
        return;
    s->settle = NULL;
    uv_close((uv_handle_t *)&st->timer, on_closed);
}
