/*
 * quorum_ask_sock.c - the calls of cv_log_ops that only ask: where the log ends and what came
 * since, whether a record was committed, how the safekeepers are.
 *
 * A question is on its caller's stack and in the list of the open ones until it is answered or
 * given up (struct cv_ask). While a quorum has promised not to follow anybody else the end of the
 * log is known here, and nothing is asked nor locked.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

static void ask_begin(struct cv_quorum *q, struct cv_ask *ask)
{
    ask->req = ++q->next_req;
    ask->began_us = co_now_us();
    ask->done = false;
    ask->next = q->asks;
    q->asks = ask;
}

static void ask_end(struct cv_quorum *q, struct cv_ask *ask)
{
    struct pr_event cancel = {.kind = PR_EV_CANCEL, .req = ask->req};

    for (struct cv_ask **at = &q->asks; *at != NULL; at = &(*at)->next) {
        if (*at == ask) {
            *at = ask->next;
            break;
        }
    }
    if (!ask->done)
        (void)!cv_quorum_step(q, &cancel); /* without memory: an answer nobody waits for */
}

/* 0 RTT: own commit LSN, while a quorum has promised not to follow anybody else. With or without
 * the lock. */
static bool lease_read(struct cv_quorum *q, lsn_t *out)
{
    if (co_now_us() >= atomic_load_explicit(&q->leased_until_us, memory_order_acquire))
        return false;
    *out = atomic_load_explicit(&q->leased_lsn, memory_order_acquire);
    return true;
}

/* So far the log of a sealed timeline is committed, as a majority tells in answers to what was
 * asked since the call began. *end: so far any of them goes. false: they have not answered. */
static bool sealed_position(const struct cv_quorum *q, uint64_t began_us, lsn_t *out, lsn_t *end)
{
    uint32_t node[CO_MEMBERS_MAX * 2], n = 0;

    *out = *end = 0;
    for (uint32_t i = 0; i < q->n_links; i++) {
        const struct cv_link *l = &q->link[i];
        if (l->pos_round < began_us || n == sizeof node / sizeof *node)
            continue;
        node[n++] = l->sk.node;
        *out = l->pos_commit > *out ? l->pos_commit : *out;
        *end = l->pos_flush > *end ? l->pos_flush : *end;
    }
    return q_is_quorum(&q->view.config, node, n);
}

/* What lies behind may have been acknowledged: by a writer that will say so (one safekeeper may be
 * sealed before the others), or that died, and then the pageserver finds out (decision 75). It is
 * waited for, once; a tail that stays open then stays so. */
static bool sealed_answer(struct cv_quorum *q, uint64_t began_us, lsn_t *out)
{
    bool late = co_now_us() - began_us > CV_SEAL_ASK_US;
    lsn_t end;

    if (!sealed_position(q, began_us, out, &end))
        return late;
    if (late && end > q->sealed_open)
        q->sealed_open = end;
    return end <= *out || end <= q->sealed_open;
}

/* Waits for the answer. The tail that a dead writer left open is settled by the core itself, with
 * an election, once no lease runs. */
static int position_locked(struct cv_quorum *q, uint32_t timeout_ms, struct cv_ask *ask, lsn_t *out)
{
    uint64_t deadline_us = cv_quorum_deadline(timeout_ms);
    int rc;

    for (;;) {
        rc = cv_quorum_refused_for_good(q);
        if (rc != 0 || lease_read(q, out))
            break;
        if (ask->done) {
            *out = ask->lsn;
            break;
        }
        rc = cv_quorum_sealed(q);
        if (rc != 0 && sealed_answer(q, ask->began_us, out))
            break;
        if (!cv_quorum_wait_slice(q, deadline_us)) {
            rc = !cv_quorum_has(q)
                     ? cv_quorum_no_quorum(q)
                     : co_fail(CO_ERR_TIMEOUT,
                               "the safekeepers did not agree within %u ms where the log ends",
                               (unsigned)timeout_ms);
            break;
        }
    }
    return rc;
}

static bool has_records(const struct cv_ask *ask, lsn_t upto)
{
    return upto - ask->since <= ask->records.len; /* LSNs count bytes */
}

/* The records that did not come with the position are asked for once more, of all. */
static void await_records(struct cv_quorum *q, struct cv_ask *ask, lsn_t upto)
{
    uint64_t deadline_us = co_now_us() + CV_FOLLOW_US;

    q->news = upto > ask->since;
    if (!q->news || upto - ask->since > CV_FOLLOW_BYTES || has_records(ask, upto))
        return;
    cv_follow_ask_all(q, ask);
    while (!has_records(ask, upto) && ask->streams > 0 && cv_quorum_wait_slice(q, deadline_us))
        ;
}

int cv_ask_follow(struct cv_log *log, uint32_t timeout_ms, lsn_t since, lsn_t *out,
                  struct co_buf *records)
{
    struct pr_event event = {.kind = PR_EV_POSITION};
    struct cv_ask ask = {.since = since};
    struct cv_quorum *q = cv_quorum_here(log);

    *out = LSN_NONE;
    if (q == NULL)
        return cv_quorum_forked();
    if (lease_read(q, out))
        return 0;
    pthread_mutex_lock(&q->lock);
    int rc = 0;
    if (!lease_read(q, out)) {
        ask_begin(q, &ask);
        event.req = ask.req;
        rc = cv_quorum_step(q, &event);
        if (rc == 0 && since != LSN_NONE && q->news)
            cv_follow_ask_first(q, &ask);
        if (rc == 0)
            rc = position_locked(q, timeout_ms, &ask, out);
        if (rc == 0 && since != LSN_NONE)
            await_records(q, &ask, *out);
        ask_end(q, &ask);
    }
    if (rc == 0 && since != LSN_NONE && *out > since && has_records(&ask, *out)) {
        *records = ask.records;
        records->len = (size_t)(*out - since);
    } else {
        co_buf_free(&ask.records);
    }
    cv_quorum_leave(q);
    return rc;
}

int cv_ask_position(struct cv_log *log, uint32_t timeout_ms, lsn_t *out)
{
    struct co_buf none = {0};

    return cv_ask_follow(log, timeout_ms, LSN_NONE, out, &none);
}

/* CO_ERR_AGAIN: it is older than the history that the safekeepers keep. */
static int status_locked(struct cv_quorum *q, struct pr_event *event, uint32_t timeout_ms,
                         enum cv_verdict *out)
{
    uint64_t deadline_us = cv_quorum_deadline(timeout_ms);
    struct cv_ask ask = {0};

    ask_begin(q, &ask);
    event->req = ask.req;
    int rc = cv_quorum_step(q, event);
    while (rc == 0 && !ask.done && cv_quorum_wait_slice(q, deadline_us))
        rc = cv_quorum_refused_for_good(q);
    ask_end(q, &ask);
    if (rc != 0)
        return rc;
    if (ask.done && ask.verdict != PR_UNKNOWN) {
        *out = ask.verdict == PR_COMMITTED ? CV_COMMITTED : CV_NOT_COMMITTED;
        return 0;
    }
    if (ask.done)
        return CO_ERR_AGAIN;
    if (!cv_quorum_has(q))
        (void)cv_quorum_no_quorum(q); /* for its sentence */
    else
        (void)co_fail(CO_ERR_TIMEOUT, "the outcome could not be learned within %u ms",
                      (unsigned)timeout_ms);
    return CO_ERR_TIMEOUT;
}

/* Who has it now: of those that were told at open some may have been replaced. */
static void find_holder(const struct cv_quorum *q, lsn_t begin_lsn, struct cv_holder *out)
{
    const struct cv_timeline *t = &q->timeline;

    out->cluster = t->cluster;
    out->timeline = t->timeline;
    for (uint32_t i = 0; i < t->n_ancestors && begin_lsn < t->ancestors[i].lsn; i++)
        out->timeline = t->ancestors[i].timeline;
    out->n_safekeepers = q->n_links;
    for (uint32_t i = 0; i < q->n_links; i++)
        out->safekeepers[i] = q->link[i].sk;
}

int cv_ask_status(struct cv_log *log, term_t term, lsn_t begin_lsn, uint32_t timeout_ms,
                  enum cv_verdict *out)
{
    struct cv_quorum *q = cv_quorum_enter(log);
    struct pr_event event = {.kind = PR_EV_RESOLVE, .resolve_term = term, .resolve_lsn = begin_lsn};

    *out = CV_UNKNOWN;
    if (q == NULL)
        return cv_quorum_forked();
    uint64_t deadline_us = cv_quorum_deadline(timeout_ms);
    if (begin_lsn >= q->timeline.start_lsn && !term_is_of(term, q->timeline.born_term)) {
        *out = CV_NOT_COMMITTED;
        cv_quorum_leave(q);
        return 0;
    }
    int rc = begin_lsn < q->timeline.start_lsn ? CO_ERR_AGAIN
                                               : status_locked(q, &event, timeout_ms, out);
    struct cv_holder holder;
    find_holder(q, begin_lsn, &holder);
    cv_quorum_leave(q);
    if (rc == CO_ERR_AGAIN)
        rc = cv_quorum_by_record(&holder, term, begin_lsn, deadline_us, out);
    return rc == CO_ERR_CONNECT || rc == CO_ERR_CLOSED || rc == CO_ERR_AGAIN ? CO_ERR_TIMEOUT : rc;
}

/* -- how the safekeepers are --------------------------------------------------------------------
 */

void cv_ask_stats(struct cv_log *log, struct cv_log_stats *out)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    memset(out, 0, sizeof *out);
    if (q == NULL)
        return;
    for (uint32_t i = 0; i < q->n_links; i++) {
        out->bytes_out[i] = q->link[i].bytes_out + q->link[i].s.bytes_out;
        out->bytes_in += q->link[i].bytes_in + q->link[i].s.bytes_in;
    }
    out->records = q->records;
    out->elections = q->elections;
    out->connected = q->n_up;
    cv_quorum_leave(q);
}

bool cv_ask_sealed(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_enter(log);
    int rc;

    if (q == NULL)
        return false;
    rc = cv_quorum_sealed(q);
    cv_quorum_leave(q);
    return rc != 0;
}

/* Nothing stands against a commit; true in a child as well, which is told so elsewhere. */
static bool is_well(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_here(log);

    return q == NULL || atomic_load_explicit(&q->well, memory_order_relaxed);
}

/* Those that are up and have room are no majority, and would be one with those that have none. */
int cv_ask_no_room(struct cv_log *log)
{
    struct cv_quorum *q = is_well(log) ? NULL : cv_quorum_enter(log);
    uint32_t full = 0, room = 0;
    char who[160] = "";
    int rc = 0;

    if (q == NULL)
        return 0;
    for (uint32_t i = 0; i < q->n_links; i++) {
        const struct cv_link *l = &q->link[i];
        if (l->state != CV_LINK_UP)
            continue;
        room += !l->full;
        if (l->full) {
            size_t used = strlen(who);
            snprintf(who + used, sizeof who - used, "%s%u", full ? ", " : "", l->sk.node);
            full++;
        }
    }
    if (room < cv_quorum_majority(q) && full + room >= cv_quorum_majority(q))
        rc = co_fail(CO_ERR_FULL,
                     "the disks of safekeepers %s are full down to their reserve, so no majority "
                     "takes records: the transaction is not committed. Make room there; they go on "
                     "by themselves",
                     who);
    cv_quorum_leave(q);
    return rc;
}

uint32_t cv_ask_no_quorum_ms(struct cv_log *log, size_t size, char *missing)
{
    struct cv_quorum *q = is_well(log) ? NULL : cv_quorum_enter(log);

    if (missing != NULL)
        missing[0] = 0;
    if (q == NULL)
        return 0;
    /* The members may have changed since a connection last came or went. */
    if (cv_quorum_has(q))
        q->no_quorum_since_us = 0;
    uint64_t since_us = q->no_quorum_since_us;
    if (missing != NULL)
        cv_quorum_absent(q, missing, size);
    cv_quorum_leave(q);
    return since_us == 0 ? 0 : (uint32_t)((co_now_us() - since_us) / 1000u + 1u);
}
