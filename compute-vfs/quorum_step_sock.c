/*
 * quorum_step_sock.c - the steps of a log's core: its actions carried out, in order. Messages go to
 * the connections, what the owner is to hear becomes a tale, and who waits is woken.
 *
 * A large record lies in a file of ours; the core knows it by its number, and each fragment is read
 * when it is sent.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

static struct cv_ask *find_ask(struct cv_quorum *q, uint64_t req)
{
    for (struct cv_ask *a = q->asks; a != NULL; a = a->next) {
        if (a->req == req)
            return a;
    }
    return NULL;
}

static struct cv_reign *find_wreck(struct cv_quorum *q, uint64_t req)
{
    for (struct cv_reign *r = q->wrecks; r != NULL; r = r->next) {
        if (r->req == req)
            return r;
    }
    return NULL;
}

/* The term is over; what was open becomes a wreck, unless nothing was. */
static void end_reign(struct cv_quorum *q, bool contested, const char *reason)
{
    struct cv_reign *r = q->reign;

    q->reign = NULL;
    q->owned = q->releasing = false;
    q->asked = contested;
    if (contested) /* time for the owner to say whether he wants it again */
        q->linger_until_us = co_now_us() + CV_LINGER_US;
    if (!r->told) { /* the owner never heard of it */
        cv_reign_free(r);
        return;
    }
    cv_tales_add_lost(&q->tales, r->term, contested, reason);
    if (!cv_reign_open(r)) {
        cv_tales_add(&q->tales, CV_TALE_RESOLVED, r->term, r->durable_lsn, NULL);
        cv_reign_free(r);
        return;
    }
    cv_reign_lose(r);
    r->next = q->wrecks;
    q->wrecks = r;
}

static void on_ready(struct cv_quorum *q, const struct pr_action *a)
{
    co_assert(q->reign == NULL);
    q->elections++;
    q->releasing = false;
    q->refused[0] = 0;
    /* Without memory to keep track of a term it cannot be led: the thread abandons it. */
    if (cv_reign_new(a->term, a->lsn, a->time_us, &q->reign) != 0)
        q->doomed = true;
    else if (q->leading == 0)
        cv_tales_add(&q->tales, CV_TALE_WON, a->term, 0, NULL);
}

static void on_lost(struct cv_quorum *q, const struct pr_action *a)
{
    if (q->reign != NULL && q->reign->term == a->term)
        end_reign(q, a->contested, a->reason != NULL ? a->reason : "leadership ended");
}

static void on_progress(struct cv_quorum *q, const struct pr_action *a)
{
    bool durable = a->kind == PR_DURABLE;
    struct cv_reign *r = q->reign;

    if (r == NULL || r->term != a->term)
        return;
    if (durable)
        cv_reign_durable(r, a->lsn);
    if (r->told)
        cv_tales_add(&q->tales, durable ? CV_TALE_DURABLE : CV_TALE_RECEIVED, a->term, a->lsn,
                     NULL);
}

static void on_resolved(struct cv_quorum *q, const struct pr_action *a)
{
    struct cv_ask *ask = find_ask(q, a->req);
    struct cv_reign *wreck = find_wreck(q, a->req);

    if (ask != NULL) {
        ask->done = true;
        ask->verdict = a->verdict;
        pthread_cond_broadcast(&q->changed);
    }
    if (wreck == NULL)
        return;
    wreck->req = 0;
    if (a->verdict == PR_UNKNOWN)
        wreck->forgotten = true;
    else
        cv_reign_answer(wreck, a->verdict == PR_COMMITTED);
}

static void on_position(struct cv_quorum *q, const struct pr_action *a)
{
    struct cv_ask *ask = find_ask(q, a->req);

    if (ask == NULL)
        return;
    ask->done = true;
    ask->lsn = a->lsn;
    pthread_cond_broadcast(&q->changed);
}

static void send_to(struct cv_quorum *q, uint32_t node, const struct q_msg *msg)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].sk.node == node)
            cv_link_send(q, &q->link[i], msg);
    }
}

/* -- large records ------------------------------------------------------------------------------
 */

static struct cv_spilled **find_spilled(struct cv_quorum *q, uint64_t id)
{
    struct cv_spilled **at = &q->spilled;

    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    co_assert(*at != NULL); /* the core names only what it was given, until it gives it back */
    return at;
}

void cv_quorum_forget(struct cv_quorum *q, uint64_t id)
{
    struct cv_spilled **at = find_spilled(q, id), *gone = *at;

    *at = gone->next;
    cv_spilled_free(gone);
}

/* A fragment is read when it is sent. If it cannot be, the record will never be whole anywhere: the
 * term is given up, and whoever waits hears of it. */
static void send_spilled(struct cv_quorum *q, const struct pr_action *a)
{
    struct cv_spilled *s = *find_spilled(q, a->spilled);
    struct q_msg msg = a->msg;
    int rc = 0;

    co_assert(msg.payload.len <= CO_BATCH_BYTES);
    if (q->fragment == NULL)
        q->fragment = malloc(CO_BATCH_BYTES);
    if (q->fragment == NULL)
        return; /* as a message that was lost: it is sent again */
    rc = cv_spilled_read(s, msg.fragment_at, q->fragment, msg.payload.len);
    if (rc != 0) {
        q->doomed = true;
        return;
    }
    msg.payload.data = q->fragment;
    send_to(q, a->node, &msg);
}

static void carry_out(struct cv_quorum *q, const struct pr_action *a)
{
    switch (a->kind) {
    case PR_SEND:
        if (a->spilled != 0)
            send_spilled(q, a);
        else
            send_to(q, a->node, &a->msg);
        return;
    case PR_FORGET:
        cv_quorum_forget(q, a->spilled);
        return;
    case PR_PROGRESS:
        if (q->reign != NULL && q->reign->term == a->term && q->reign->told)
            cv_tales_add(&q->tales, CV_TALE_PROGRESS, a->term, 0, NULL);
        return;
    case PR_TIMER:
        q->timer_at_us = a->at_us;
        return;
    case PR_DURABLE:
    case PR_RECEIVED:
        on_progress(q, a);
        return;
    case PR_CONFIG: /* of a change that only the tool asks for */
    case PR_CHANGE_REFUSED:
        return;
    case PR_WAITER:
        cv_tales_add_waiter(&q->tales, a->anew);
        return;
    case PR_RESOLVED:
        on_resolved(q, a);
        return;
    case PR_POSITION:
        on_position(q, a);
        return;
    case PR_READY:
        on_ready(q, a);
        break;
    case PR_LOST:
        on_lost(q, a);
        break;
    case PR_REFUSED:
        q->n_refused++;
        snprintf(q->refused, sizeof q->refused, "%s", a->reason != NULL ? a->reason : "");
        break;
    case PR_RELEASED:
        if (q->reign != NULL)
            end_reign(q, false, "the lease was given back");
        q->releasing = false;
        break;
    }
    pthread_cond_broadcast(&q->changed);
}

int cv_quorum_step(struct cv_quorum *q, struct pr_event *event)
{
    event->now_us = co_now_us();
    event->wall_us = co_wall_us();
    int rc = pr_step(q->pr, event, &q->actions);
    if (rc != 0)
        return rc;
    /* Shown before anything goes out, and again with what came of it: others may lead from the
     * moment that they hear of a release, and who is told that a commit is durable reads at it.
     * Whoever looks without the lock must not see the state of before then. */
    pr_view(q->pr, &q->view);
    cv_quorum_show(q);
    for (uint32_t i = 0; i < q->actions.n; i++)
        carry_out(q, &q->actions.a[i]);
    cv_quorum_show(q);
    return 0;
}
