/*
 * member_log_sock.c - the tool as the proposer of one timeline: sockets and a clock around the core
 * of compute-vfs/proposer.h. One timeline at a time; the connections are shared by all of them.
 *
 * It asks for the lease as any compute does, and gives it back after each step, at once when
 * another waits. While the configuration is joint every writer feeds the new member; where nobody
 * writes, the tool does, each time that it has the lease.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "cli/members.h"
#include "common/clock_file.h"
#include "compute-vfs/proposer.h"
#include "proto/qhist.h"
#include "proto/unpack.h"

#define LEAD_US    5000000u
#define STEP_US    5000000u
#define FEED_US    300000u /* with the lease, for a new member that lags */
#define TELL_US    500000u /* for the one that has left */
#define RETRY_US   2000000u
#define CONNECT_MS 1000u

struct walk {
    struct members *m;
    const struct member_timeline *t;
    struct pr_proposer *pr;
    struct pr_actions actions;
    struct pr_view view;
    uint64_t timer_us;
    bool ready, lost, released, waiter, refused_change;
    bool told; /* CONFIG: `config` is committed */
    bool sealed, dropped;
    struct wal_config config;
    char why[CO_SENTENCE_MAX];
};

static int step(struct walk *w, struct pr_event ev);

static void lose(struct walk *w, struct member *x)
{
    client_close(&x->log);
    x->retry_at_us = co_now_us() + RETRY_US;
    (void)!step(w, (struct pr_event){.kind = PR_EV_DOWN, .node = x->node});
}

static void send_to(struct walk *w, uint32_t node, const struct q_msg *msg)
{
    struct member *x = members_find(w->m, node);
    if (!x || x->log.sock.fd < 0)
        return;
    w->m->frame.len = 0;
    /* What cannot be sent counts as lost; the end of the connection is seen when it is read. */
    if (qmsg_encode(msg, &w->m->frame) == 0)
        (void)!psock_queue(&x->log.sock, co_buf_span(&w->m->frame));
}

static void carry_out(struct walk *w, const struct pr_action *a)
{
    switch (a->kind) {
    case PR_SEND:
        send_to(w, a->node, &a->msg);
        return;
    case PR_TIMER:
        w->timer_us = a->at_us;
        return;
    case PR_READY:
        w->ready = true;
        w->config = a->config;
        return;
    case PR_CONFIG:
        w->told = true;
        w->config = a->config;
        return;
    case PR_CHANGE_REFUSED:
        w->refused_change = true;
        snprintf(w->why, sizeof w->why, "%s", a->reason);
        return;
    case PR_LOST:
        w->lost = true;
        snprintf(w->why, sizeof w->why, "%s", a->reason ? a->reason : "the lease was lost");
        return;
    case PR_REFUSED:
        snprintf(w->why, sizeof w->why, "%s", a->reason ? a->reason : "no majority");
        return;
    case PR_WAITER:
        w->waiter = true;
        return;
    case PR_RELEASED:
        w->released = true;
        return;
    default:
        return;
    }
}

static int step(struct walk *w, struct pr_event ev)
{
    ev.now_us = co_now_us();
    ev.wall_us = co_wall_us();
    int rc = pr_step(w->pr, &ev, &w->actions);
    for (uint32_t i = 0; !rc && i < w->actions.n; i++)
        carry_out(w, &w->actions.a[i]);
    if (!rc)
        pr_view(w->pr, &w->view);
    return rc;
}

/* An error names no timeline: it may be of the one before. What matters comes again. */
static void on_error(struct walk *w, struct co_span message)
{
    Corallite__Error *e = message_unpack(&corallite__error__descriptor, message);
    if (!e)
        return;
    snprintf(w->why, sizeof w->why, "%s", e->sentence ? e->sentence : "refused");
    w->sealed |= e->code == CO_ERR_READONLY;
    w->dropped |= e->code == CO_ERR_DROPPED;
    corallite__error__free_unpacked(e, NULL);
}

static int read_from(struct walk *w, struct member *x)
{
    struct frame_header frame;
    struct co_span body;
    struct q_msg msg;
    int rc, in = psock_pump_in(&x->log.sock);
    while ((rc = psock_next(&x->log.sock, &frame, &body)) == 0) {
        x->heard = true;
        if (frame.type == FRAME_ERROR) {
            on_error(w, co_span_of(body.data, frame.message_bytes));
            continue;
        }
        if (frame.type < FRAME_VOTE || frame.type > FRAME_FREE)
            continue;
        rc = qmsg_decode(&frame, body, &w->m->scratch, &msg);
        if (rc)
            break;
        if (!co_id_eq(&msg.timeline, &w->t->id))
            continue; /* of the one before */
        rc = step(w, (struct pr_event){.kind = PR_EV_MSG, .node = x->node, .msg = &msg});
        if (rc)
            return rc;
    }
    if ((rc && rc != CO_ERR_AGAIN) || (in && in != CO_ERR_AGAIN))
        lose(w, x);
    return 0;
}

static int connect_log(struct walk *w, struct member *x, uint64_t now)
{
    if (x->log.sock.fd >= 0 || now < x->retry_at_us)
        return 0;
    if (client_connect(&x->log, x->host, x->port, &w->m->cluster, x->node, CONNECT_MS)) {
        x->log.sock.fd = -1;
        x->retry_at_us = co_now_us() + RETRY_US;
        return 0;
    }
    return step(w, (struct pr_event){.kind = PR_EV_UP, .node = x->node});
}

/* Sockets and time, once; returns at the latest at until_us. */
static int turn(struct walk *w, uint64_t until_us)
{
    struct pollfd fd[NODES_MAX];
    struct member *of[NODES_MAX];
    nfds_t n = 0;
    uint64_t now = co_now_us(), at = w->timer_us < until_us ? w->timer_us : until_us;
    int rc = 0;
    for (uint32_t i = 0; !rc && i < w->m->n; i++)
        rc = connect_log(w, &w->m->at[i], now);
    for (uint32_t i = 0; !rc && i < w->m->n; i++) {
        struct member *x = &w->m->at[i];
        if (x->log.sock.fd < 0)
            continue;
        of[n] = x;
        fd[n++] = (struct pollfd){
            .fd = x->log.sock.fd,
            .events = (short)(POLLIN | (psock_wants_out(&x->log.sock) ? POLLOUT : 0))};
    }
    if (rc)
        return rc;
    int wait_ms = at > now ? (int)((at - now + 999) / 1000) : 0;
    if (poll(fd, n, wait_ms < 100 ? wait_ms : 100) < 0 && errno != EINTR)
        return co_fail_errno(CO_ERR_IO, errno, "waiting for the safekeepers failed");
    for (nfds_t i = 0; !rc && i < n; i++) {
        if (fd[i].revents & POLLOUT)
            (void)!psock_pump_out(&of[i]->log.sock);
        if (fd[i].revents & (POLLIN | POLLHUP | POLLERR))
            rc = read_from(w, of[i]);
    }
    if (!rc && co_now_us() >= w->timer_us) {
        w->timer_us = UINT64_MAX;
        rc = step(w, (struct pr_event){.kind = PR_EV_TIMER});
    }
    return rc;
}

/* Until *flag, an end that is for good, or the time is over. */
static int wait_for(struct walk *w, const bool *flag, uint64_t patience_us)
{
    uint64_t until = co_now_us() + patience_us;
    int rc = 0;
    while (!rc && !*flag && !w->lost && !w->sealed && !w->dropped && !w->refused_change &&
           co_now_us() < until)
        rc = turn(w, until);
    return rc;
}

static lsn_t match_of(const struct walk *w, uint32_t node)
{
    for (uint32_t i = 0; i < w->view.n_members; i++)
        if (w->view.member[i].node == node)
            return w->view.member[i].match_lsn;
    return 0;
}

/* Bytes that the new member lacks of what is committed. */
static uint64_t lag_of(const struct walk *w, uint32_t node)
{
    lsn_t has = match_of(w, node), start = w->t->wire->has_start_lsn ? w->t->wire->start_lsn : 0;
    has = has > start ? has : start;
    return w->view.commit_lsn > has ? w->view.commit_lsn - has : 0;
}

static int change(struct walk *w, const struct wal_config *target)
{
    w->told = false;
    int rc = step(w, (struct pr_event){.kind = PR_EV_CHANGE, .config = target});
    return rc ? rc : wait_for(w, &w->told, STEP_US);
}

static int feed(struct walk *w, uint32_t node)
{
    uint64_t until = co_now_us() + FEED_US;
    int rc = 0;
    while (!rc && !w->lost && !w->waiter && co_now_us() < until &&
           (match_of(w, node) == 0 || lag_of(w, node) > 0))
        rc = turn(w, until);
    return rc;
}

/* Who has left hears of it, if it is there. */
static int tell(struct walk *w)
{
    uint64_t until = co_now_us() + TELL_US;
    int rc = 0;
    while (!rc && !w->lost && w->view.untold > 0 && co_now_us() < until) {
        rc = turn(w, until);
    }
    return rc;
}

static void make_target(const struct wal_config *from, const struct wal_member *new, uint32_t old,
                        struct wal_config *to)
{
    *to = (struct wal_config){0};
    bool in = false;
    for (uint32_t i = 0; i < from->n; i++) {
        if (!in && new->node_id < from->members[i].node_id) {
            to->members[to->n++] = *new;
            in = true;
        }
        if (from->members[i].node_id != old)
            to->members[to->n++] = from->members[i];
    }
    if (!in)
        to->members[to->n++] = *new;
}

/* The steps, with the lease. */
static int proceed(struct walk *w, const struct wal_member *new, uint32_t old,
                   enum member_step *state, uint64_t *behind)
{
    struct wal_config target;
    bool gone = !q_in_group(w->config.members, w->config.n, old);
    bool here = q_in_group(w->config.members, w->config.n, new->node_id);
    if (w->config.n_new == 0 && gone && here) {
        *state = MEMBER_DONE;
        return 0;
    }
    if (gone || here)
        return co_fail(
            CO_ERR_INVAL,
            "%s has other members than the cluster (safekeeper %u %s, safekeeper %u %s); "
            "finish the replacement that was begun there first",
            w->t->name, old, gone ? "is none" : "is one", new->node_id,
            here ? "is one" : "is none");
    make_target(&w->config, new, old, &target);
    int rc = w->config.n_new == 0 ? change(w, &target) : 0;
    if (rc || w->config.n_new == 0)
        return rc;
    if (!q_same_group(target.members, target.n, w->config.new_members, w->config.n_new))
        return co_fail(CO_ERR_INVAL, "%s is on the way to other members; finish that first",
                       w->t->name);
    *state = MEMBER_JOINT;
    rc = feed(w, new->node_id);
    *behind = lag_of(w, new->node_id);
    if (rc || w->lost || match_of(w, new->node_id) == 0 || *behind > 0)
        return rc;
    rc = change(w, &target);
    if (!rc && w->told && w->config.n_new == 0) {
        *state = MEMBER_DONE;
        rc = tell(w);
    }
    return rc;
}

static int begin(struct walk *w)
{
    struct pr_options o = {.cluster = w->m->cluster,
                           .timeline = w->t->id,
                           .nonce = co_id_random(),
                           .config = w->t->config,
                           .lease_us = CO_LEASE_US,
                           .renew_us = CO_LEASE_RENEW_US,
                           .resend_us = 1000000,
                           .batch_bytes = CO_BATCH_BYTES,
                           .window_bytes = 4 * CO_MIB,
                           .tail_bytes = 4 * CO_MIB};
    co_random_bytes(&o.seed, sizeof o.seed);
    int rc = pr_new(&o, &w->pr);
    for (uint32_t i = 0; !rc && i < w->m->n; i++) {
        w->m->at[i].heard = false;
        rc = w->m->at[i].log.sock.fd >= 0
                 ? step(w, (struct pr_event){.kind = PR_EV_UP, .node = w->m->at[i].node})
                 : connect_log(w, &w->m->at[i], co_now_us());
    }
    return rc ? rc : step(w, (struct pr_event){.kind = PR_EV_LEAD});
}

/* Where no majority answered, a connection on which nothing came may be one that the other end does
 * not know of any more: the next step makes it anew. */
static void lose_the_silent(struct walk *w)
{
    for (uint32_t i = 0; i < w->m->n; i++)
        if (w->m->at[i].log.sock.fd >= 0 && !w->m->at[i].heard)
            lose(w, &w->m->at[i]);
}

/* Gives the lease back; the safekeepers let go by themselves if that does not arrive. */
static void end(struct walk *w)
{
    if (w->pr && !w->ready)
        lose_the_silent(w);
    w->lost = w->refused_change = false;
    if (w->pr &&
        step(w, (struct pr_event){.kind = w->ready ? PR_EV_RELEASE : PR_EV_ABANDON}) == 0 &&
        w->ready)
        (void)!wait_for(w, &w->released, FEED_US);
    for (uint32_t i = 0; i < w->m->n; i++)
        if (w->m->at[i].log.sock.fd >= 0)
            (void)!psock_pump_out(&w->m->at[i].log.sock);
    pr_free(w->pr);
    pr_actions_free(&w->actions);
}

/* Until there is the lease, an end that is for good, or the time is over. */
static int lead(struct walk *w)
{
    int rc = begin(w);
    return rc ? rc : wait_for(w, &w->ready, LEAD_US);
}

/* rc: of what was done with the lease. */
static int finish(struct walk *w, int rc, enum member_step *state)
{
    char why[CO_SENTENCE_MAX], sentence[CO_SENTENCE_MAX];
    if (!rc && (w->sealed || w->dropped))
        *state = MEMBER_SEALED; /* or dropped, and kept for branches or not: the registry tells */
    snprintf(why, sizeof why, "%s", w->why[0] ? w->why : "a majority did not answer in time");
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    end(w);
    if (rc)
        return co_fail(rc, "%s", sentence);
    if (*state == MEMBER_BUSY)
        (void)co_fail(CO_ERR_BUSY, "%s: %.300s", w->t->name, why);
    return 0;
}

int member_log_step(struct members *m, const struct member_timeline *t,
                    const struct wal_member *new, uint32_t old, enum member_step *state,
                    uint64_t *behind)
{
    struct walk w = {.m = m, .t = t, .timer_us = UINT64_MAX};
    *state = MEMBER_BUSY;
    *behind = 0;
    int rc = lead(&w);
    if (!rc && w.ready)
        rc = proceed(&w, new, old, state, behind);
    return finish(&w, rc, state);
}

/* Of the members that are there, the one that lacks most; all of it when it has not followed yet.
 */
static uint64_t most_behind(const struct walk *w)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < w->view.n_members; i++) {
        uint64_t lag = w->view.member[i].up ? lag_of(w, w->view.member[i].node) : 0;
        most = lag > most ? lag : most;
    }
    return most;
}

int member_log_feed(struct members *m, const struct member_timeline *t, enum member_step *state,
                    uint64_t *behind)
{
    struct walk w = {.m = m, .t = t, .timer_us = UINT64_MAX};
    uint64_t until = 0;
    *state = MEMBER_BUSY;
    *behind = UINT64_MAX;
    int rc = lead(&w);
    while (!rc && w.ready && !w.lost) {
        uint64_t lag = most_behind(&w);
        if (lag < *behind)
            until = co_now_us() + STEP_US;
        *behind = lag;
        *state = lag ? MEMBER_JOINT : MEMBER_DONE;
        if (!lag || w.waiter || co_now_us() >= until)
            break;
        rc = turn(&w, until);
    }
    return finish(&w, rc, state);
}
