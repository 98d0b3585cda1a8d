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

#include "cli/member_plan.h"
#include "cli/members.h"
#include "common/clock_file.h"
#include "compute-vfs/proposer.h"
#include "proto/qhist.h"
#include "proto/unpack.h"

#define LEAD_US          5000000u
#define STEP_US          5000000u
#define FEED_US          300000u   /* with the lease, for a new member that lags */
#define HOLD_US          2000000u  /* so long at most while somebody else wants the lease, */
#define FRUITLESS_POLITE 3u        /* after so many moments in which it got nothing */
#define FRUITLESS_MAX    6u        /* and no longer than this many make it: 19 s */
#define SILENT_US        10000000u /* who says nothing for so long is not waited for */
#define TELL_US          500000u   /* for the one that has left */

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
    lsn_t upto; /* so far every member is fed that is there; 0: those who come are, with all */
    char why[CO_SENTENCE_MAX];
    char refusal[CO_SENTENCE_MAX]; /* what a safekeeper says of this timeline; "": nothing */
};

static int step(struct walk *w, struct pr_event ev);

static void lose(struct walk *w, struct member *x)
{
    client_close(&x->log);
    x->retry_at_us = co_now_us() + MEMBER_RETRY_US;
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
static void on_error(struct walk *w, struct member *x, struct co_span message)
{
    char id[CO_ID_TEXT];
    Corallite__Error *e = message_unpack(&corallite__error__descriptor, message);
    if (!e)
        return;
    snprintf(w->why, sizeof w->why, "%s", e->sentence ? e->sentence : "refused");
    if (strstr(w->why, co_id_format(&w->t->id, id)))
        snprintf(w->refusal, sizeof w->refusal, "safekeeper %u says: %.400s", x->node, w->why);
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
        x->heard_us = co_now_us();
        if (frame.type == FRAME_ERROR) {
            on_error(w, x, co_span_of(body.data, frame.message_bytes));
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

static int connect_log(struct walk *w, struct member *x)
{
    if (x->log.sock.fd >= 0 || member_connect(w->m, w->t, x))
        return 0;
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
        rc = connect_log(w, &w->m->at[i]);
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

/* Bytes that a member lacks of what it is to be given. */
static uint64_t lag_of(const struct walk *w, uint32_t node)
{
    lsn_t has = match_of(w, node), start = w->t->wire->has_start_lsn ? w->t->wire->start_lsn : 0;
    lsn_t end = w->upto ? w->upto : w->view.commit_lsn;
    has = has > start ? has : start;
    return end > has ? end - has : 0;
}

static int change(struct walk *w, const struct wal_config *target)
{
    w->told = false;
    int rc = step(w, (struct pr_event){.kind = PR_EV_CHANGE, .config = target});
    return rc ? rc : wait_for(w, &w->told, STEP_US);
}

/* The new members of the joint configuration that have all, and the most that one of them lacks. */
static uint32_t fed_of(const struct walk *w, uint32_t fed[CO_MEMBERS_MAX], uint64_t *behind)
{
    uint32_t n = 0;
    *behind = 0;
    for (uint32_t i = 0; i < w->config.n_new; i++) {
        uint32_t node = w->config.new_members[i].node_id;
        uint64_t lag = lag_of(w, node);
        *behind = lag > *behind ? lag : *behind;
        if (match_of(w, node) > 0 && lag == 0)
            fed[n++] = node;
    }
    return n;
}

/* Of the members that said how far they are (catch_up_sock.c), the one that lacks most. */
static uint64_t most_behind(const struct walk *w)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < w->view.n_members; i++) {
        const struct member *x = members_find(w->m, w->view.member[i].node);
        bool told = x && x->up && !x->regressed && w->t->commit[x - w->m->at];
        uint64_t lag = told ? lag_of(w, x->node) : 0;
        most = lag > most ? lag : most;
    }
    return most;
}

static bool is_fed(const struct walk *w, uint32_t node, uint64_t *behind)
{
    if (w->upto)
        return (*behind = most_behind(w)) == 0;
    uint32_t fed[CO_MEMBERS_MAX], n = fed_of(w, fed, behind);
    return member_plan_fed(&w->config, node, fed, n);
}

static struct member_feed *feed_of(struct members *m, const struct co_id *timeline)
{
    struct member_feed *oldest = m->feed;
    for (uint32_t i = 0; i < MEMBER_FEEDS; i++) {
        if (co_id_eq(&m->feed[i].timeline, timeline))
            return &m->feed[i];
        if (m->feed[i].used_us < oldest->used_us)
            oldest = &m->feed[i];
    }
    *oldest = (struct member_feed){.timeline = *timeline};
    return oldest;
}

/* Is this one fed by us: one that comes, or any? */
static bool is_ours(const struct walk *w, uint32_t node)
{
    return w->upto || (q_in_group(w->config.new_members, w->config.n_new, node) &&
                       !q_in_group(w->config.members, w->config.n, node));
}

/* Those that are fed by us, and lack something. */
struct coming {
    lsn_t has;     /* all of them, summed */
    bool up, here; /* one has a connection; and has said something lately */
};

static struct coming coming(const struct walk *w)
{
    struct coming c = {0};
    for (uint32_t i = 0; i < w->view.n_members; i++) {
        uint32_t node = w->view.member[i].node;
        if (!is_ours(w, node))
            continue;
        lsn_t has = match_of(w, node);
        bool lacks = has == 0 || lag_of(w, node) > 0;
        c.has += w->upto && has > w->upto ? w->upto : has;
        const struct member *x = members_find(w->m, node);
        c.up |= lacks && x && w->view.member[i].up;
        c.here |= lacks && x && w->view.member[i].up && co_now_us() - x->heard_us < SILENT_US;
    }
    return c;
}

/* Feeds the new members with the lease, for a moment, and no longer than nobody else wants it:
 * every writer feeds them, too. But an answer from far away takes its time, a large record comes
 * whole in one term or not at all, and so does what is asked of a second safekeeper when the first
 * cannot give it. So where a new one that is up got nothing in several moments they become longer,
 * and if it is not silent, others wait for it. */
static int feed(struct walk *w, uint32_t node)
{
    struct member_feed *f = feed_of(w->m, &w->t->id);
    uint64_t began = co_now_us(), at = began, behind;
    uint64_t longer = (uint64_t)FEED_US << f->fruitless;
    uint64_t held = f->fruitless < FRUITLESS_POLITE ? 0 : longer < HOLD_US ? longer : HOLD_US;
    struct coming c = coming(w);
    int rc = 0;
    while (!rc && !w->lost && !is_fed(w, node, &behind)) {
        if (at >= began + (c.up ? longer : FEED_US) ||
            (w->waiter && (!c.here || at >= began + held)))
            break;
        rc = turn(w, began + longer);
        at = co_now_us();
        c = coming(w);
    }
    if (is_fed(w, node, &behind))
        f->fruitless = 0;
    else if (c.has <= f->has)
        f->fruitless += f->fruitless < FRUITLESS_MAX;
    else
        f->fruitless -= f->fruitless > 0;
    f->has = c.has > f->has ? c.has : f->has;
    f->used_us = at;
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

/* The steps, with the lease. */
static int proceed(struct walk *w, uint32_t node, enum member_step *state, uint64_t *behind)
{
    struct wal_config target;
    int rc = 0;
    while (!rc && !w->lost && member_plan(&w->config, &w->m->book.config, &target)) {
        if (w->config.n_new > 0) {
            *state = MEMBER_JOINT;
            rc = feed(w, node);
            if (!is_fed(w, node, behind))
                return rc;
        }
        if (!rc && !w->lost)
            rc = change(w, &target);
        if (!w->told)
            return rc; /* the next step finds it in the log, or not */
        if (!rc && w->config.n_new == 0)
            rc = tell(w);
    }
    if (!rc && !w->lost)
        *state = MEMBER_DONE;
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
        if (member_connect(w->m, w->t, &w->m->at[i]) == 0)
            rc = step(w, (struct pr_event){.kind = PR_EV_UP, .node = w->m->at[i].node});
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

/* Why it is not led now: what the proposer says, who of its members is missing, and what one says.
 */
static void say_why(struct walk *w, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%.200s",
                                w->why[0] ? w->why : "a majority did not answer in time");
    const char *before = "; not reached: ";
    for (uint32_t i = 0; !w->ready && i < w->view.n_members && n < size; i++) {
        const struct member *x = members_find(w->m, w->view.member[i].node);
        if (w->view.member[i].up)
            continue;
        n += (size_t)snprintf(out + n, size - n, "%ssafekeeper %u%s", before,
                              w->view.member[i].node, x ? member_note(x) : " (it has left)");
        before = ", ";
    }
    if (!w->ready && w->refusal[0] && n < size)
        snprintf(out + n, size - n, "; %s", w->refusal);
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
    char why[2 * CO_SENTENCE_MAX], sentence[CO_SENTENCE_MAX];
    if (!rc && (w->sealed || w->dropped))
        *state = MEMBER_SEALED; /* or dropped, and kept for branches or not: the registry tells */
    say_why(w, why, sizeof why);
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    end(w);
    if (rc)
        return co_fail(rc, "%s", sentence);
    if (*state == MEMBER_BUSY)
        (void)co_fail(CO_ERR_BUSY, "%s: %s", w->t->name, why);
    return 0;
}

int member_log_step(struct members *m, const struct member_timeline *t, uint32_t node,
                    enum member_step *state, uint64_t *behind)
{
    struct walk w = {.m = m, .t = t, .timer_us = UINT64_MAX};
    *state = MEMBER_BUSY;
    *behind = 0;
    int rc = lead(&w);
    if (!rc && w.ready)
        rc = proceed(&w, node, state, behind);
    return finish(&w, rc, state);
}

int member_log_feed(struct members *m, const struct member_timeline *t, lsn_t upto,
                    enum member_step *state, uint64_t *behind)
{
    struct walk w = {.m = m, .t = t, .upto = upto, .timer_us = UINT64_MAX};
    *state = MEMBER_BUSY;
    *behind = UINT64_MAX;
    int rc = lead(&w);
    if (!rc && w.ready) {
        rc = feed(&w, 0);
        *state = is_fed(&w, 0, behind) ? MEMBER_DONE : MEMBER_JOINT;
    }
    return finish(&w, rc, state);
}
