/*
 * quorum_call_sock.c - the calls of cv_log_ops that do something: lead, append, give back, close.
 * Those that only ask are in quorum_ask_sock.c; how any of them waits is in quorum_wait_sock.c.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

/* -- lead ---------------------------------------------------------------------------------------
 */

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

/* Why nothing came of it, when the deadline has passed. */
static int why_not(const struct cv_quorum *q, uint64_t refused_before, uint32_t timeout_ms)
{
    char absent[CV_MISSING_MAX];

    if (!cv_quorum_has(q))
        return cv_quorum_no_quorum(q);
    if (q->n_refused > refused_before)
        return co_fail(CO_ERR_BUSY,
                       "another process has the right to write and did not let go within %u ms "
                       "(%s)",
                       (unsigned)timeout_ms, q->refused);
    cv_quorum_absent(q, absent, sizeof absent);
    return co_fail(CO_ERR_TIMEOUT, "the safekeepers did not settle who writes within %u ms%s%s",
                   (unsigned)timeout_ms, absent[0] != 0 ? "; not serving: " : "", absent);
}

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
    uint64_t deadline_us = cv_quorum_deadline(timeout_ms);
    uint64_t refused_before = q->n_refused;
    int rc;

    for (;;) {
        rc = cv_quorum_refused_for_good(q);
        if (rc == 0)
            rc = cv_quorum_sealed(q);
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
        if (!cv_quorum_wait_slice(q, deadline_us))
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
    struct cv_quorum *q = cv_quorum_enter(log);

    memset(out, 0, sizeof *out);
    if (q == NULL)
        return cv_quorum_forked();
    q->leading++;
    int rc = lead_locked(q, timeout_ms, interrupted, arg, out);
    q->leading--;
    q->linger_until_us = rc == 0 || rc == CO_ERR_CANCELED ? 0 : co_now_us() + CV_LINGER_US;
    if (rc != 0)
        cv_quorum_kick(q); /* to end a campaign that nobody waits for */
    cv_quorum_leave(q);
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
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q != NULL) {
        /* Else the owner has been told, or is about to be, that the term is lost. */
        if (cv_quorum_ready(q) && q->reign->term == term)
            append_locked(q, record, want_received);
        cv_quorum_leave(q);
    }
    cv_record_free(record);
}

/* -- threads that wait for their commit
 * ------------------------------------------------------------
 */

/* Only while no tale is on its way to the owner: what it lacks then is told by nobody else. */
static bool quorum_attend(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return false;
    bool mine = cv_quorum_ready(q) && !q->helping && !q->telling && q->tales.n == 0;
    if (mine)
        q->helping = true;
    else if (!q->helping)
        cv_quorum_wake_from_nap(q);
    pthread_mutex_unlock(&q->lock);
    return mine;
}

static void quorum_assist(struct cv_log *log, uint64_t until_us)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    co_assert(q != NULL); /* attend() said true in this very process */
    cv_quorum_assist(q, until_us);
    cv_quorum_leave(q);
}

static void quorum_relieve(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return;
    cv_quorum_wake_from_nap(q);
    pthread_mutex_unlock(&q->lock);
}

static void quorum_release(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_enter(log);

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
    cv_quorum_leave(q);
}

static void quorum_writing(struct cv_log *log)
{
    struct pr_event event = {.kind = PR_EV_WRITING};
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return;
    (void)!cv_quorum_step(q, &event); /* without memory: it is said again */
    cv_quorum_leave(q);
}

static void quorum_hurry(struct cv_log *log)
{
    struct pr_event event = {.kind = PR_EV_HURRY};
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return;
    (void)!cv_quorum_step(q, &event); /* without memory: it comes by itself, a little later */
    cv_quorum_leave(q);
}

static void quorum_abandon(struct cv_log *log, term_t term)
{
    struct cv_quorum *q = cv_quorum_enter(log);

    if (q == NULL)
        return;
    if (q->reign != NULL && q->reign->term == term) {
        struct pr_event event = {.kind = PR_EV_ABANDON};
        q->owned = false;
        if (cv_quorum_step(q, &event) != 0)
            q->doomed = true;
    }
    cv_quorum_leave(q);
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

    while (q->reign != NULL && cv_reign_open(q->reign) && cv_quorum_wait_slice(q, deadline_us))
        ;
    if (moment_us > deadline_us)
        moment_us = deadline_us;
    while (cv_quorum_ready(q) && somebody_lags(q) && cv_quorum_wait_slice(q, moment_us))
        ;
    if (cv_quorum_ready(q))
        cv_quorum_release(q);
    while (q->releasing && cv_quorum_wait_slice(q, deadline_us))
        ;
    while (has_words(q) && cv_quorum_wait_slice(q, deadline_us))
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
    uint64_t deadline_us = cv_quorum_deadline(deadline_ms);
    struct cv_quorum *q = cv_quorum_enter(log);
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
    .position = cv_ask_position,
    .follow = cv_ask_follow,
    .release = quorum_release,
    .writing = quorum_writing,
    .hurry = quorum_hurry,
    .attend = quorum_attend,
    .assist = quorum_assist,
    .relieve = quorum_relieve,
    .abandon = quorum_abandon,
    .status = cv_ask_status,
    .stats = cv_ask_stats,
    .sealed = cv_ask_sealed,
    .no_quorum_ms = cv_ask_no_quorum_ms,
    .found = cv_nodes_found,
    .no_room = cv_ask_no_room,
};
