/*
 * quorum_call_sock.c - the calls of cv_log_ops: what the owner's threads do. A call that blocks
 * looks around every CV_SLICE_US and never outlives its deadline.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

/* Log and quorum are one object. NULL in a child of the process that made it: nothing may be
 * touched there, not even the lock, which a thread of the parent may have held at the fork. */
static struct cv_quorum *here(struct cv_log *log)
{
    struct cv_quorum *q = (struct cv_quorum *)log;

    return q->generation == cv_generation() ? q : NULL;
}

static struct cv_quorum *enter(struct cv_log *log)
{
    struct cv_quorum *q = here(log);

    if (q != NULL)
        pthread_mutex_lock(&q->lock);
    return q;
}

/* Nothing stands against a commit; true in a child as well, which is told so elsewhere. */
static bool is_well(struct cv_log *log)
{
    struct cv_quorum *q = here(log);

    return q == NULL || atomic_load_explicit(&q->well, memory_order_relaxed);
}

static int forked(void)
{
    return co_fail(CO_ERR_CLOSED,
                   "the connection to the log belongs to the parent process; a child "
                   "made by fork() has to open the database anew");
}

static void leave(struct cv_quorum *q)
{
    cv_quorum_kick_if_needed(q);
    pthread_mutex_unlock(&q->lock);
}

/* The background thread reads the connections from now on. */
static void wake_from_nap(struct cv_quorum *q)
{
    q->helped_us = 0;
    if (q->napping)
        cv_quorum_kick(q);
}

/* There is something to read for whoever waits. Connections that are not begun yet are the
 * background thread's to begin: who slept on the others alone would sleep a whole slice. */
static bool may_answer(const struct cv_quorum *q)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->n_links; i++)
        n += cv_link_wants(&q->link[i]) != 0;
    return 2 * n > q->n_links;
}

/* The thread that waits reads the connections by itself, unless another one does. What else may
 * wait for them, others here or the owner's commits, is left to others again afterwards. */
static bool assist_slice(struct cv_quorum *q, uint64_t until_us)
{
    if (q->leading > 0 || q->helping || q->telling || q->tales.n > 0 || !may_answer(q))
        return false;
    q->helping = true;
    cv_quorum_assist(q, until_us);
    if (q->waiting > 0)
        pthread_cond_broadcast(&q->changed);
    if (q->reign != NULL)
        wake_from_nap(q);
    return true;
}

/* Waits for a change, at most a slice and not beyond the deadline. false: the deadline has passed.
 */
static bool wait_slice(struct cv_quorum *q, uint64_t deadline_us)
{
    uint64_t now_us = co_now_us();
    uint64_t us = deadline_us > now_us ? deadline_us - now_us : 0;
    struct timespec at;

    if (us == 0)
        return false;
    us = us > CV_SLICE_US ? CV_SLICE_US : us;
    cv_quorum_kick_if_needed(q);
    if (assist_slice(q, now_us + us))
        return true;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)(us * 1000);
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    q->waiting++;
    pthread_cond_timedwait(&q->changed, &q->lock, &at);
    q->waiting--;
    return true;
}

static uint64_t deadline_of(uint32_t timeout_ms)
{
    return co_now_us() + (uint64_t)timeout_ms * 1000u;
}

/* -- sentences ----------------------------------------------------------------------------------
 */

/* A timeline that was dropped, or that contradicts itself, answers nothing else ever. */
static int refused_for_good(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        const struct cv_link *l = &q->link[i];
        if (l->error == CO_ERR_DROPPED)
            return co_fail(l->error, "the database was dropped (%s)", l->why);
    }
    return 0;
}

/* One word suffices: a restore is driven to its end, and a seal is for ever. */
static int sealed(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++)
        if (q->link[i].sealed)
            return co_fail(CO_ERR_READONLY, "the branch was reset (%s says so), reopen",
                           q->link[i].address);
    return 0;
}

static int compare_clocks(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* S12: who would stamp commits a year ahead does not write. */
static int check_clock(const struct cv_quorum *q)
{
    int64_t ahead[CO_MEMBERS_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].clock_known)
            ahead[n++] = q->link[i].clock_ahead_us;
    }
    if (n < cv_quorum_majority(q))
        return 0; /* the first one heard may be the wrong one */
    qsort(ahead, n, sizeof ahead[0], compare_clocks);
    int64_t median = ahead[n / 2];
    if (n % 2 == 0 && llabs(ahead[n / 2 - 1]) < llabs(median))
        median = ahead[n / 2 - 1];
    if (llabs(median) <= (int64_t)CO_CLOCK_SKEW_MAX_US)
        return 0;
    return co_fail(CO_ERR_CLOCK,
                   "this machine's clock is %" PRId64 " s %s the safekeepers' (more than %llu s): "
                   "set it right, then write again",
                   (int64_t)((llabs(median) + 500000) / 1000000),
                   median > 0 ? "behind" : "ahead of", CO_CLOCK_SKEW_MAX_US / 1000000);
}

static int no_quorum(const struct cv_quorum *q)
{
    char absent[CV_MISSING_MAX];

    cv_quorum_absent(q, absent, sizeof absent);
    return co_fail(
        CO_ERR_NO_QUORUM, "%u of %u safekeepers answer, a majority of %u is needed; missing: %s",
        (unsigned)q->n_up, (unsigned)q->n_links, (unsigned)cv_quorum_majority(q), absent);
}

/* Why nothing came of it, when the deadline has passed. */
static int why_not(const struct cv_quorum *q, uint64_t refused_before, uint32_t timeout_ms)
{
    char absent[CV_MISSING_MAX];

    if (!cv_quorum_has(q))
        return no_quorum(q);
    if (q->n_refused > refused_before)
        return co_fail(CO_ERR_BUSY,
                       "another process has the right to write and did not let go within %u ms "
                       "(%s)",
                       (unsigned)timeout_ms, q->refused);
    cv_quorum_absent(q, absent, sizeof absent);
    return co_fail(CO_ERR_TIMEOUT, "the safekeepers did not settle who writes within %u ms%s%s",
                   (unsigned)timeout_ms, absent[0] != 0 ? "; not serving: " : "", absent);
}

/* -- lead ---------------------------------------------------------------------------------------
 */

/* The present term can be handed to the owner: earlier ones are told to the end. */
static bool may_lead(const struct cv_quorum *q)
{
    return cv_quorum_ready(q) && q->wrecks == NULL && q->tales.grave == 0 && !q->telling_grave;
}

static void hand_over(struct cv_quorum *q, struct cv_lead *out)
{
    q->owned = q->reign->told = true;
    out->term = q->reign->term;
    out->tip_lsn = q->view.tip_lsn;
    out->digest = q->view.tip_digest;
    out->time_us = q->reign->time_us;
}

/* Tells the core to lead. Not while a term is being given back: the next one begins after it. Not
 * before a majority is connected: a campaign that begins earlier asks too few, and only begins anew
 * after a pause. */
static int start_leading(struct cv_quorum *q)
{
    struct pr_event lead = {.kind = PR_EV_LEAD};

    /* Of the members as they are known; the campaign learns who they are now. */
    if (q->doomed || q->asked || q->releasing || (!cv_quorum_has(q) && 2 * q->n_up <= q->n_links))
        return 0;
    int rc = cv_quorum_step(q, &lead);
    q->asked = rc == 0;
    return rc;
}

static int lead_locked(struct cv_quorum *q, uint32_t timeout_ms, bool (*interrupted)(void *),
                       void *arg, struct cv_lead *out)
{
    uint64_t deadline_us = deadline_of(timeout_ms);
    uint64_t refused_before = q->n_refused;
    int rc;

    for (;;) {
        rc = refused_for_good(q);
        if (rc == 0)
            rc = sealed(q);
        if (rc == 0)
            rc = check_clock(q);
        if (rc != 0)
            return rc;
        if (may_lead(q)) {
            hand_over(q, out);
            return 0;
        }
        rc = start_leading(q);
        if (rc != 0)
            return rc;
        if (co_now_us() < q->view.in_use_until_us)
            return co_fail(CO_ERR_LOCKED, "another process has a write transaction open");
        if (q->wrecks != NULL)
            cv_quorum_kick(q);
        if (!wait_slice(q, deadline_us))
            return why_not(q, refused_before, timeout_ms);
        if (interrupted == NULL)
            continue;
        pthread_mutex_unlock(&q->lock);
        bool stop = interrupted(arg);
        pthread_mutex_lock(&q->lock);
        if (stop)
            return co_fail(CO_ERR_CANCELED, "interrupted while waiting for the right to write");
    }
}

static int quorum_lead(struct cv_log *log, uint32_t timeout_ms, bool (*interrupted)(void *),
                       void *arg, struct cv_lead *out)
{
    struct cv_quorum *q = enter(log);

    memset(out, 0, sizeof *out);
    if (q == NULL)
        return forked();
    q->leading++;
    int rc = lead_locked(q, timeout_ms, interrupted, arg, out);
    q->leading--;
    q->linger_until_us = rc == 0 || rc == CO_ERR_CANCELED ? 0 : co_now_us() + CV_LINGER_US;
    if (rc != 0)
        cv_quorum_kick(q); /* to end a campaign that nobody waits for */
    leave(q);
    return rc;
}

/* -- append, release, abandon -------------------------------------------------------------------
 */

/* The log keeps it from here on; the core knows it by its number. */
static uint64_t keep_spilled(struct cv_quorum *q, struct cv_record *record)
{
    struct cv_spilled *s = record->spilled;

    record->spilled = NULL;
    s->id = ++q->last_spilled;
    s->next = q->spilled;
    q->spilled = s;
    return s->id;
}

static void append_locked(struct cv_quorum *q, struct cv_record *record, bool want_received)
{
    struct cv_reign *r = q->reign;
    struct pr_spilled spilled;
    struct pr_event event = {
        .kind = PR_EV_APPEND, .record = &record->bytes, .want_received = want_received};

    /* A record that cannot be kept track of cannot be told the outcome of: the term is given up,
     * and this record with it. */
    if (cv_reign_reserve(r) != 0) {
        q->doomed = true;
        return;
    }
    cv_reign_append(r, q->view.tip_lsn + cv_record_bytes(record));
    if (record->spilled != NULL) {
        spilled.header = record->spilled->header;
        spilled.id = keep_spilled(q, record);
        event.spilled = &spilled;
    }
    if (cv_quorum_step(q, &event) != 0) {
        if (event.spilled != NULL)
            cv_quorum_forget(q, spilled.id);
        cv_reign_unappend(r);
        q->doomed = true;
        return;
    }
    q->records++;
}

static void quorum_append(struct cv_log *log, term_t term, struct cv_record *record,
                          bool want_received)
{
    struct cv_quorum *q = enter(log);

    if (q != NULL) {
        /* Else the owner has been told, or is about to be, that the term is lost. */
        if (cv_quorum_ready(q) && q->reign->term == term)
            append_locked(q, record, want_received);
        leave(q);
    }
    cv_record_free(record);
}

/* -- threads that wait for their commit
 * ------------------------------------------------------------
 */

/* Only while no tale is on its way to the owner: what it lacks then is told by nobody else. */
static bool quorum_attend(struct cv_log *log)
{
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return false;
    bool mine = cv_quorum_ready(q) && !q->helping && !q->telling && q->tales.n == 0;
    if (mine)
        q->helping = true;
    else if (!q->helping)
        wake_from_nap(q);
    pthread_mutex_unlock(&q->lock);
    return mine;
}

static void quorum_assist(struct cv_log *log, uint64_t until_us)
{
    struct cv_quorum *q = enter(log);

    co_assert(q != NULL); /* attend() said true in this very process */
    cv_quorum_assist(q, until_us);
    leave(q);
}

static void quorum_relieve(struct cv_log *log)
{
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return;
    wake_from_nap(q);
    pthread_mutex_unlock(&q->lock);
}

static void quorum_release(struct cv_log *log)
{
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return;
    q->owned = false;
    /* Whoever else waits in lead() goes on with this term. */
    if (cv_quorum_ready(q) && q->leading == 0)
        cv_quorum_release(q);
    else if (q->leading == 0 && q->asked)
        q->linger_until_us = 0; /* a campaign ends with it: the thread sees to that */
    if (q->linger_until_us == 0)
        cv_quorum_kick(q);
    leave(q);
}

static void quorum_writing(struct cv_log *log)
{
    struct pr_event event = {.kind = PR_EV_WRITING};
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return;
    (void)!cv_quorum_step(q, &event); /* without memory: it is said again */
    leave(q);
}

static void quorum_hurry(struct cv_log *log)
{
    struct pr_event event = {.kind = PR_EV_HURRY};
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return;
    (void)!cv_quorum_step(q, &event); /* without memory: it comes by itself, a little later */
    leave(q);
}

static void quorum_abandon(struct cv_log *log, term_t term)
{
    struct cv_quorum *q = enter(log);

    if (q == NULL)
        return;
    if (q->reign != NULL && q->reign->term == term) {
        struct pr_event event = {.kind = PR_EV_ABANDON};
        q->owned = false;
        if (cv_quorum_step(q, &event) != 0)
            q->doomed = true;
    }
    leave(q);
}

/* -- questions ----------------------------------------------------------------------------------
 */

static void ask_begin(struct cv_quorum *q, struct cv_ask *ask)
{
    ask->req = ++q->next_req;
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

/* Waits for the answer. The tail that a dead writer left open is settled by the core itself, with
 * an election, once no lease runs. */
static int position_locked(struct cv_quorum *q, uint32_t timeout_ms, struct cv_ask *ask, lsn_t *out)
{
    uint64_t deadline_us = deadline_of(timeout_ms);
    int rc;

    for (;;) {
        rc = refused_for_good(q);
        if (rc != 0 || lease_read(q, out))
            break;
        if (ask->done) {
            *out = ask->lsn;
            break;
        }
        rc = sealed(q); /* a tail that is open stays open */
        if (rc != 0)
            break;
        if (!wait_slice(q, deadline_us)) {
            rc = !cv_quorum_has(q)
                     ? no_quorum(q)
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
    while (!has_records(ask, upto) && ask->streams > 0 && wait_slice(q, deadline_us))
        ;
}

static int quorum_follow(struct cv_log *log, uint32_t timeout_ms, lsn_t since, lsn_t *out,
                         struct co_buf *records)
{
    struct pr_event event = {.kind = PR_EV_POSITION};
    struct cv_ask ask = {.since = since};
    struct cv_quorum *q = here(log);

    *out = LSN_NONE;
    if (q == NULL)
        return forked();
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
    leave(q);
    return rc;
}

static int quorum_position(struct cv_log *log, uint32_t timeout_ms, lsn_t *out)
{
    struct co_buf none = {0};

    return quorum_follow(log, timeout_ms, LSN_NONE, out, &none);
}

/* CO_ERR_AGAIN: it is older than the history that the safekeepers keep. */
static int status_locked(struct cv_quorum *q, struct pr_event *event, uint32_t timeout_ms,
                         enum cv_verdict *out)
{
    uint64_t deadline_us = deadline_of(timeout_ms);
    struct cv_ask ask = {0};

    ask_begin(q, &ask);
    event->req = ask.req;
    int rc = cv_quorum_step(q, event);
    while (rc == 0 && !ask.done && wait_slice(q, deadline_us))
        rc = refused_for_good(q);
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
        (void)no_quorum(q); /* for its sentence */
    else
        (void)co_fail(CO_ERR_TIMEOUT, "the outcome could not be learned within %u ms",
                      (unsigned)timeout_ms);
    return CO_ERR_TIMEOUT;
}

static int quorum_status(struct cv_log *log, term_t term, lsn_t begin_lsn, uint32_t timeout_ms,
                         enum cv_verdict *out)
{
    struct cv_quorum *q = enter(log);
    struct pr_event event = {.kind = PR_EV_RESOLVE, .resolve_term = term, .resolve_lsn = begin_lsn};

    *out = CV_UNKNOWN;
    if (q == NULL)
        return forked();
    uint64_t deadline_us = deadline_of(timeout_ms);
    int rc = status_locked(q, &event, timeout_ms, out);
    leave(q);
    if (rc == CO_ERR_AGAIN)
        rc = cv_quorum_by_record(&q->timeline, term, begin_lsn, deadline_us, out);
    return rc == CO_ERR_CONNECT || rc == CO_ERR_CLOSED || rc == CO_ERR_AGAIN ? CO_ERR_TIMEOUT : rc;
}

static void quorum_stats(struct cv_log *log, struct cv_log_stats *out)
{
    struct cv_quorum *q = enter(log);

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
    leave(q);
}

static bool quorum_sealed(struct cv_log *log)
{
    struct cv_quorum *q = enter(log);
    int rc;

    if (q == NULL)
        return false;
    rc = sealed(q);
    leave(q);
    return rc != 0;
}

/* Those that are up and have room are no majority, and would be one with those that have none. */
static int quorum_no_room(struct cv_log *log)
{
    struct cv_quorum *q = is_well(log) ? NULL : enter(log);
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
    leave(q);
    return rc;
}

static uint32_t quorum_no_quorum_ms(struct cv_log *log, size_t size, char *missing)
{
    struct cv_quorum *q = is_well(log) ? NULL : enter(log);

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
    leave(q);
    return since_us == 0 ? 0 : (uint32_t)((co_now_us() - since_us) / 1000u + 1u);
}

/* -- close --------------------------------------------------------------------------------------
 */

/* Some safekeeper that is there, or just being connected, lacks of what this leader wrote. */
static bool somebody_lags(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].state == CV_LINK_CONNECTING || q->link[i].state == CV_LINK_HELLO)
            return true;
    }
    for (uint32_t i = 0; i < q->view.n_members; i++) {
        if (q->view.member[i].up && q->view.member[i].match_lsn < q->view.tip_lsn)
            return true;
    }
    return false;
}

/* The last words are not out yet, to one who may take them. */
static bool has_words(const struct cv_quorum *q)
{
    bool has = false;

    for (uint32_t i = 0; i < q->n_links; i++)
        has = has || (q->link[i].state == CV_LINK_UP && psock_wants_out(&q->link[i].s));
    return has;
}

/* What is in flight gets its majority and the lease goes back, as far as the deadline allows. A
 * majority is enough for COMMIT; but nobody else brings the last one up to date before the next
 * writer comes, so those who are there get a moment to take the rest. */
static void wind_up(struct cv_quorum *q, uint64_t deadline_us)
{
    uint64_t moment_us = co_now_us() + CV_PARTING_US;

    while (q->reign != NULL && cv_reign_open(q->reign) && wait_slice(q, deadline_us))
        ;
    if (moment_us > deadline_us)
        moment_us = deadline_us;
    while (cv_quorum_ready(q) && somebody_lags(q) && wait_slice(q, moment_us))
        ;
    if (cv_quorum_ready(q))
        cv_quorum_release(q);
    while (q->releasing && wait_slice(q, deadline_us))
        ;
    while (has_words(q) && wait_slice(q, deadline_us))
        ;
}

/* A socket that is closed with answers unread is reset, and what the other side has not read yet is
 * lost with it. So it is told that no more comes, and heard until it closes. The thread is gone. */
static void part(struct cv_quorum *q, uint64_t deadline_us)
{
    uint64_t until_us = co_now_us() + CV_PARTING_US;
    uint8_t unread[4096];

    if (until_us > deadline_us)
        until_us = deadline_us;

    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].state == CV_LINK_UP)
            shutdown(q->link[i].s.fd, SHUT_WR);
    }
    for (uint32_t i = 0; i < q->n_links; i++) {
        struct pollfd fd = {.fd = q->link[i].s.fd, .events = POLLIN};
        uint64_t now_us = co_now_us();

        while (q->link[i].state == CV_LINK_UP && now_us < until_us &&
               poll(&fd, 1, (int)((until_us - now_us) / 1000 + 1)) > 0 &&
               recv(fd.fd, unread, sizeof unread, 0) > 0)
            now_us = co_now_us();
    }
}

static void quorum_close(struct cv_log *log, uint32_t deadline_ms)
{
    uint64_t deadline_us = deadline_of(deadline_ms);
    struct cv_quorum *q = enter(log);
    bool child = q == NULL;

    if (child) {
        q = (struct cv_quorum *)log;
        /* A thread of the parent was in the middle of something at the fork: nothing here can be
         * relied on, so all of it stays as it is. */
        if (pthread_mutex_trylock(&q->lock) != 0)
            return;
    } else {
        wind_up(q, deadline_us);
        q->stopping = true;
        cv_quorum_kick(q);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->thread, NULL);
        part(q, deadline_us);
        pthread_cond_destroy(&q->changed);
        pthread_mutex_destroy(&q->lock);
    }
    for (uint32_t i = 0; i < q->n_links; i++)
        cv_link_close(&q->link[i]);
    close(q->wake_fd);
    while (q->wrecks != NULL) {
        struct cv_reign *r = q->wrecks;
        q->wrecks = r->next;
        cv_reign_free(r);
    }
    cv_reign_free(q->reign);
    pr_actions_free(&q->actions);
    pr_free(q->pr);
    qmsg_scratch_free(&q->scratch);
    co_buf_free(&q->frame);
    while (q->spilled != NULL)
        cv_quorum_forget(q, q->spilled->id);
    free(q->fragment);
    free(q);
}

const struct cv_log_ops cv_quorum_ops = {
    .close = quorum_close,
    .lead = quorum_lead,
    .append = quorum_append,
    .position = quorum_position,
    .follow = quorum_follow,
    .release = quorum_release,
    .writing = quorum_writing,
    .hurry = quorum_hurry,
    .attend = quorum_attend,
    .assist = quorum_assist,
    .relieve = quorum_relieve,
    .abandon = quorum_abandon,
    .status = quorum_status,
    .stats = quorum_stats,
    .sealed = quorum_sealed,
    .no_quorum_ms = quorum_no_quorum_ms,
    .no_room = quorum_no_room,
};
