/*
 * quorum_wait_sock.c - how a thread of the owner is in the log: it enters, waits for a change, and
 * leaves; and what stands against it whatever it asks for.
 *
 * What changes while it waits it hears from the background thread, or reads off the connections by
 * itself unless another one does. It looks around every CV_SLICE_US and never outlives its
 * deadline. In a child of the process that made the log nobody gets in.
 */
#include <time.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"

/* Log and quorum are one object. NULL in a child of the process that made it: nothing may be
 * touched there, not even the lock, which a thread of the parent may have held at the fork. */
struct cv_quorum *cv_quorum_here(struct cv_log *log)
{
    struct cv_quorum *q = (struct cv_quorum *)log;

    return q->generation == cv_generation() ? q : NULL;
}

struct cv_quorum *cv_quorum_enter(struct cv_log *log)
{
    struct cv_quorum *q = cv_quorum_here(log);

    if (q != NULL)
        pthread_mutex_lock(&q->lock);
    return q;
}

int cv_quorum_forked(void)
{
    return co_fail(CO_ERR_CLOSED,
                   "the connection to the log belongs to the parent process; a child "
                   "made by fork() has to open the database anew");
}

void cv_quorum_leave(struct cv_quorum *q)
{
    cv_quorum_kick_if_needed(q);
    pthread_mutex_unlock(&q->lock);
}

/* The background thread reads the connections from now on. */
void cv_quorum_wake_from_nap(struct cv_quorum *q)
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
        cv_quorum_wake_from_nap(q);
    return true;
}

/* Waits for a change, at most a slice and not beyond the deadline. false: the deadline has passed.
 */
bool cv_quorum_wait_slice(struct cv_quorum *q, uint64_t deadline_us)
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

uint64_t cv_quorum_deadline(uint32_t timeout_ms)
{
    return co_now_us() + (uint64_t)timeout_ms * 1000u;
}

/* -- sentences ----------------------------------------------------------------------------------
 */

/* A timeline that was dropped, or that contradicts itself, answers nothing else ever. */
int cv_quorum_refused_for_good(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        const struct cv_link *l = &q->link[i];
        if (l->error == CO_ERR_DROPPED)
            return co_fail(l->error, "the database was dropped (%s)", l->why);
    }
    return 0;
}

/* One word suffices: a restore is driven to its end, and a seal is for ever. Others may take
 * records until they hear of it. */
int cv_quorum_sealed(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++)
        if (q->link[i].sealed)
            return co_fail(CO_ERR_READONLY, "the branch was reset (%s says so), reopen",
                           q->link[i].address);
    return 0;
}

int cv_quorum_no_quorum(const struct cv_quorum *q)
{
    char absent[CV_MISSING_MAX];

    cv_quorum_absent(q, absent, sizeof absent);
    return co_fail(
        CO_ERR_NO_QUORUM, "%u of %u safekeepers answer, a majority of %u is needed; missing: %s",
        (unsigned)q->n_up, (unsigned)q->n_links, (unsigned)cv_quorum_majority(q), absent);
}
