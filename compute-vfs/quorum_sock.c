/*
 * quorum_sock.c - the background thread of a log: what it sees to by itself (terms that nobody
 * wants any more, fates that are asked for), how it sleeps and who wakes it.
 */
#include "compute-vfs/quorum_sock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

#define CV_NEVER UINT64_MAX

/* -- waking -------------------------------------------------------------------------------------
 */

void cv_quorum_kick(struct cv_quorum *q)
{
    uint64_t one = 1;

    if (q->awake)
        return;
    q->awake = true;
    ssize_t n = write(q->wake_fd, &one, sizeof one);
    (void)n; /* full means that it is awake */
}

void cv_quorum_kick_if_needed(struct cv_quorum *q)
{
    /* A nap is short: a timer that comes within it may wait for its end, or every commit would wake
     * the thread for a word that the next commit says. */
    uint64_t nap_us = q->napping ? CV_NAP_US : 0;
    bool needed =
        q->tales.n > 0 || q->doomed ||
        (q->timer_at_us < q->sleep_until_us && q->sleep_until_us - q->timer_at_us > nap_us);

    for (uint32_t i = 0; i < q->n_links; i++)
        needed = needed || q->link[i].broken || psock_wants_out(&q->link[i].s);
    if (needed)
        cv_quorum_kick(q);
}

void cv_quorum_count_links(struct cv_quorum *q)
{
    q->n_up = 0;
    for (uint32_t i = 0; i < q->n_links; i++)
        q->n_up += q->link[i].state == CV_LINK_UP;
    if (cv_quorum_has(q))
        q->no_quorum_since_us = 0;
    else if (q->no_quorum_since_us == 0)
        q->no_quorum_since_us = co_now_us();
    cv_quorum_show(q);
    pthread_cond_broadcast(&q->changed);
}

void cv_quorum_show(struct cv_quorum *q)
{
    bool leads = q->reign != NULL && q->view.state == PR_LEADER, well = cv_quorum_has(q);

    for (uint32_t i = 0; i < q->n_links; i++)
        well = well && !q->link[i].full;
    atomic_store_explicit(&q->well, well, memory_order_relaxed);
    /* Whoever sees the end of a lease sees all that was committed under it, or more. */
    if (leads && q->view.commit_lsn > atomic_load_explicit(&q->leased_lsn, memory_order_relaxed))
        atomic_store_explicit(&q->leased_lsn, q->view.commit_lsn, memory_order_release);
    atomic_store_explicit(&q->leased_until_us, leads ? q->view.lease_until_us : 0,
                          memory_order_release);
}

void cv_quorum_absent(const struct cv_quorum *q, char *text, size_t size)
{
    size_t used = 0;

    text[0] = 0;
    for (uint32_t i = 0; i < q->n_links && used < size; i++) {
        const struct cv_link *l = &q->link[i];
        if (l->state == CV_LINK_UP && l->error == 0)
            continue;
        int n =
            snprintf(text + used, size - used, "%ssafekeeper %u at %s (%s)", used > 0 ? ", " : "",
                     (unsigned)l->sk.node, l->address, l->why[0] != 0 ? l->why : "no answer");
        used += n > 0 ? (size_t)n : 0;
    }
}

/* -- what the thread sees to by itself ----------------------------------------------------------
 */

static bool step_plain(struct cv_quorum *q, enum pr_event_kind kind)
{
    struct pr_event event = {.kind = kind};

    return cv_quorum_step(q, &event) == 0;
}

void cv_quorum_release(struct cv_quorum *q)
{
    q->releasing = true;
    if (!step_plain(q, PR_EV_RELEASE))
        q->releasing = false; /* without memory: the thread tries again, as nobody owns the term */
}

static void cancel(struct cv_quorum *q, uint64_t req)
{
    struct pr_event event = {.kind = PR_EV_CANCEL, .req = req};

    (void)!cv_quorum_step(q, &event); /* without memory: an answer that nobody waits for */
}

static bool is_sealed_without(const struct cv_quorum *q, uint32_t node, lsn_t begin)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].sk.node == node && q->link[i].sealed_known && q->link[i].sealed_end <= begin)
            return true;
    }
    return false;
}

/* S14: so many safekeepers are sealed without this record that no majority can ever have it. */
static bool sealed_out(const struct cv_quorum *q, lsn_t begin)
{
    const struct wal_config *c = &q->view.config;
    uint32_t may[2 * CO_MEMBERS_MAX], n = 0;

    for (uint32_t i = 0; i < c->n + c->n_new; i++) {
        uint32_t node = i < c->n ? c->members[i].node_id : c->new_members[i - c->n].node_id;
        if (!is_sealed_without(q, node, begin))
            may[n++] = node;
    }
    return !q_is_quorum(c, may, n);
}

/* A sealed timeline has no leader. Until the term is given up heartbeats go on: they tell the
 * safekeepers what is committed, and us what they have. */
static void tend_seal(struct cv_quorum *q, uint64_t now_us)
{
    uint32_t known = 0;
    uint64_t since_us = CV_NEVER;

    for (uint32_t i = 0; i < q->n_links; i++) {
        known += q->link[i].sealed_known;
        if (q->link[i].sealed && q->link[i].sealed_at_us < since_us)
            since_us = q->link[i].sealed_at_us;
    }
    if (since_us == CV_NEVER || q->reign == NULL)
        return;
    if (known >= cv_quorum_majority(q) || now_us - since_us > CV_SEAL_WAIT_US)
        q->doomed = true;
}

/* Asks on for one lost term. true: it is over, its fate known and told, or for ever unknown: the
 * safekeepers keep no history so old. Then the owner's waiters end with their own timeout. */
static bool tend_wreck(struct cv_quorum *q, struct cv_reign *r, uint64_t now_us)
{
    lsn_t kept = 0;
    struct pr_event event = {.kind = PR_EV_RESOLVE, .resolve_term = r->term};

    if (r->forgotten)
        return true;
    if (cv_quorum_dropped(q)) { /* nothing is in it any more */
        cv_tales_add(&q->tales, CV_TALE_RESOLVED, r->term, r->durable_lsn, NULL);
        return true;
    }
    if (cv_reign_decided(r, &kept, &event.resolve_lsn)) {
        cv_tales_add(&q->tales, CV_TALE_RESOLVED, r->term, kept, NULL);
        return true;
    }
    if (r->req == 0 && sealed_out(q, event.resolve_lsn)) {
        cv_reign_answer(r, false);
        return tend_wreck(q, r, now_us);
    }
    if (r->req != 0 && now_us - r->asked_us > CO_LEASE_US) {
        cancel(q, r->req);
        r->req = 0;
    }
    if (r->req != 0 || now_us < r->next_try_us)
        return false;
    r->req = event.req = ++q->next_req;
    r->asked_us = now_us;
    if (cv_quorum_step(q, &event) != 0) {
        r->req = 0;
        r->next_try_us = now_us + CV_RETRY_US;
    }
    return false;
}

static void tend_wrecks(struct cv_quorum *q, uint64_t now_us)
{
    for (struct cv_reign **at = &q->wrecks; *at != NULL && q->tales.n < CV_TALES_MAX / 2;) {
        struct cv_reign *r = *at;
        bool over = tend_wreck(q, r, now_us);
        while (!over && r->req == 0 && now_us >= r->next_try_us)
            over = tend_wreck(q, r, now_us); /* as the leader, the core answers within the step */
        if (!over) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        cv_reign_free(r);
        pthread_cond_broadcast(&q->changed);
    }
}

/* Ends what nobody waits for any more: a campaign, or a term that the owner did not take. */
static void tend_leadership(struct cv_quorum *q, uint64_t now_us)
{
    bool wanted = q->owned || q->leading > 0 || now_us < q->linger_until_us;

    if (q->reign != NULL && cv_reign_open(q->reign) && cv_quorum_dropped(q))
        q->doomed = true; /* its commits need not wait for their time to end */

    if (q->doomed || (!wanted && q->asked && q->reign == NULL)) {
        if (step_plain(q, PR_EV_ABANDON))
            q->doomed = q->asked = false;
    } else if (!wanted && q->reign != NULL && !q->releasing) {
        cv_quorum_release(q);
    }
}

/* All that time and circumstance ask for; returns when it wants to be called again. */
static uint64_t tend(struct cv_quorum *q)
{
    uint64_t now_us = co_now_us();
    uint64_t next_us = CV_NEVER;

    for (uint32_t i = 0; i < q->n_links; i++) {
        uint64_t at_us = cv_link_tick(q, &q->link[i], now_us);
        next_us = at_us < next_us ? at_us : next_us;
    }
    if (q->timer_at_us <= now_us) {
        q->timer_at_us = CV_NEVER;
        if (!step_plain(q, PR_EV_TIMER))
            q->timer_at_us = now_us + CV_RETRY_US;
    }
    uint64_t nodes_us = cv_nodes_tick(q, now_us);
    next_us = nodes_us < next_us ? nodes_us : next_us;
    tend_seal(q, now_us);
    tend_wrecks(q, now_us);
    tend_leadership(q, now_us);
    if (now_us < q->linger_until_us && q->linger_until_us < next_us)
        next_us = q->linger_until_us;
    if (q->wrecks != NULL || q->doomed)
        next_us = now_us + CV_RETRY_US / 4 < next_us ? now_us + CV_RETRY_US / 4 : next_us;
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].broken)
            next_us = now_us;
    }
    return q->timer_at_us < next_us ? q->timer_at_us : next_us;
}

/* -- the thread ---------------------------------------------------------------------------------
 */

/* Tells the owner everything there is to tell, unless another thread does: that one goes on until
 * nothing is left. Called and returns with the lock held. */
static void tell(struct cv_quorum *q)
{
    struct cv_tale tale;

    if (q->telling)
        return;
    q->telling = true;
    while (cv_tales_take(&q->tales, &tale)) {
        q->telling_grave = tale.kind == CV_TALE_LOST || tale.kind == CV_TALE_RESOLVED;
        pthread_mutex_unlock(&q->lock);
        cv_tale_tell(&tale, &q->events);
        pthread_mutex_lock(&q->lock);
        if (q->telling_grave)
            pthread_cond_broadcast(&q->changed);
        q->telling_grave = false;
    }
    q->telling = false;
}

struct polled {
    struct pollfd fd[CO_MEMBERS_MAX + 1];
    struct cv_link *link[CO_MEMBERS_MAX + 1];
    uint64_t generation[CO_MEMBERS_MAX + 1];
    nfds_t n;
};

/* fd: what wakes the thread besides; negative: nothing. */
static void gather(struct cv_quorum *q, struct polled *p, int fd, bool links)
{
    p->n = 1;
    p->fd[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    for (uint32_t i = 0; links && i < q->n_links; i++) {
        short wants = cv_link_wants(&q->link[i]);
        if (wants == 0)
            continue;
        p->fd[p->n] = (struct pollfd){.fd = q->link[i].s.fd, .events = wants};
        p->generation[p->n] = q->link[i].generation;
        p->link[p->n++] = &q->link[i];
    }
}

static void sleep_until(struct polled *p, uint64_t until_us)
{
    uint64_t now_us = co_now_us();
    uint64_t wait_us = until_us > now_us ? until_us - now_us : 0;
    if (wait_us > CV_PING_US)
        wait_us = CV_PING_US;
    struct timespec ts = {.tv_sec = (time_t)(wait_us / 1000000u),
                          .tv_nsec = (long)(wait_us % 1000000u * 1000u)};

    if (ppoll(p->fd, p->n, &ts, NULL) < 0) {
        for (nfds_t i = 0; i < p->n; i++)
            p->fd[i].revents = 0;
    }
}

static void read_all(struct cv_quorum *q, struct polled *p, bool help)
{
    for (nfds_t i = 1; i < p->n && !q->stopping && q->helping == help; i++) {
        struct cv_link *l = p->link[i];
        if (p->fd[i].revents != 0 && p->generation[i] == l->generation && cv_link_wants(l) != 0) {
            cv_link_io(q, l);
            tell(q);
        }
    }
}

/* Threads that wait have been reading lately and are likely to go on: waking this one as well for
 * each answer would cost them their turn. */
static bool may_nap(const struct cv_quorum *q)
{
    bool settling = q->leading > 0 || q->wrecks != NULL || q->releasing || q->doomed ||
                    (q->asked && q->reign == NULL);

    if (settling || q->asks != NULL)
        return !settling && q->helping;
    return q->helping || co_now_us() < q->helped_us + CV_NAP_US;
}

void cv_quorum_assist(struct cv_quorum *q, uint64_t until_us)
{
    struct polled polled;
    uint64_t slice_us = co_now_us() + CV_SLICE_US;
    uint32_t n_up = q->n_up;

    co_assert(q->helping);
    gather(q, &polled, -1, true);
    pthread_mutex_unlock(&q->lock);
    sleep_until(&polled, until_us < slice_us ? until_us : slice_us);
    pthread_mutex_lock(&q->lock);
    read_all(q, &polled, true);
    q->helping = false;
    q->helped_us = co_now_us();
    if (q->n_up != n_up || q->aside)
        cv_quorum_kick(q); /* to connect anew; to read by itself again */
}

static void *run(void *arg)
{
    struct cv_quorum *q = arg;
    struct polled polled;
    uint64_t count;

    pthread_mutex_lock(&q->lock);
    while (!q->stopping) {
        uint64_t until_us = tend(q);
        if (q->tales.n > 0 && !q->telling) {
            tell(q);
            continue;
        }
        q->napping = may_nap(q);
        if (q->napping && until_us > co_now_us() + CV_NAP_US)
            until_us = co_now_us() + CV_NAP_US;
        /* What the helper is to read would end each sleep at once. */
        q->aside = !q->napping && q->helping;
        gather(q, &polled, q->wake_fd, !q->napping && !q->aside);
        q->sleep_until_us = until_us;
        q->awake = false;
        pthread_mutex_unlock(&q->lock);
        sleep_until(&polled, until_us);
        pthread_mutex_lock(&q->lock);
        q->awake = true;
        q->napping = q->aside = false;
        if (polled.fd[0].revents != 0) {
            ssize_t n = read(q->wake_fd, &count, sizeof count);
            (void)n;
        }
        read_all(q, &polled, false);
    }
    tell(q);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* -- birth --------------------------------------------------------------------------------------
 */

/* The thread is a guest in somebody's process: it takes no signal. */
static int start_thread(struct cv_quorum *q)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&q->thread, NULL, run, q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : co_fail_errno(CO_ERR_NOMEM, rc, "no thread for the log");
}

static int make_core(struct cv_quorum *q)
{
    struct pr_options options = {
        .cluster = q->timeline.cluster,
        .timeline = q->timeline.timeline,
        .nonce = co_id_random(),
        .config = q->timeline.config,
        .lease_us = CO_LEASE_US,
        .renew_us = CO_LEASE_RENEW_US,
        .resend_us = 1000000,
        /* A leader without a quorum waits for it: the owner's commit_timeout decides when it is
         * given up, and a newer term when somebody else is faster. */
        .progress_us = 0,
        .batch_bytes = CO_BATCH_BYTES,
        .window_bytes = CV_WINDOW_BYTES,
        .tail_bytes = CV_TAIL_BYTES,
    };

    co_random_bytes(&options.seed, sizeof options.seed);
    return pr_new(&options, &q->pr);
}

int cv_quorum_open(const struct cv_timeline *timeline, const struct cv_log_events *events,
                   struct cv_log **out)
{
    struct cv_quorum *q = calloc(1, sizeof *q);

    *out = NULL;
    if (q == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory for the log");
    if (timeline->n_safekeepers == 0 || timeline->n_safekeepers > CO_MEMBERS_MAX) {
        free(q);
        return co_fail(CO_ERR_PROTOCOL, "the pageserver named %u safekeepers, wanted are 1 to %d",
                       (unsigned)timeline->n_safekeepers, CO_MEMBERS_MAX);
    }
    q->base.ops = &cv_quorum_ops;
    q->generation = cv_generation();
    q->timeline = *timeline;
    q->events = *events;
    q->timer_at_us = CV_NEVER;
    q->n_links = timeline->n_safekeepers;
    q->no_quorum_since_us = co_now_us();
    for (uint32_t i = 0; i < q->n_links; i++)
        cv_link_init(&q->link[i], &timeline->safekeepers[i], &timeline->config);
    pthread_mutex_init(&q->lock, NULL);
    co_condition_init(&q->changed);
    q->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = q->wake_fd >= 0 ? make_core(q)
                             : co_fail_errno(CO_ERR_IO, errno, "no descriptor for the log");
    if (rc == 0) {
        pr_view(q->pr, &q->view);
        rc = start_thread(q);
    }
    if (rc != 0) {
        pr_free(q->pr);
        if (q->wake_fd >= 0)
            close(q->wake_fd);
        pthread_cond_destroy(&q->changed);
        pthread_mutex_destroy(&q->lock);
        free(q);
        return rc;
    }
    *out = &q->base;
    return 0;
}
