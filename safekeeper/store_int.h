/*
 * store_int.h - what the files store_*_uv.c share. Nobody else includes it.
 *
 * store_uv.c        who does a round: the store thread, or the loop thread (`here`)
 * store_round_uv.c  what a round is
 */
#ifndef CORALLITE_SAFEKEEPER_STORE_INT_H
#define CORALLITE_SAFEKEEPER_STORE_INT_H

#include <pthread.h>

#include "common/metrics.h"
#include "safekeeper/store_uv.h"

/* A round of more appended bytes is large: the file system's share of it is small. */
#define SK_LARGE_ROUND_BYTES (64 * CO_KIB)

struct sk_stored {
    struct sk_store *store;
    struct sk_files *files;
    void (*flushed)(void *owner, lsn_t lsn, uint64_t staged);
    void *owner;
    /* store thread */
    bool dirty;           /* appended to in this round */
    bool tending;         /* in the list of those that idle work is looked for */
    uint64_t round_bytes; /* appended in this round */
    struct sk_stored *next_dirty, *next_tended;
    /* under the mutex */
    bool noted;
    lsn_t note_lsn;
    uint64_t note_staged;
    struct sk_stored *next_noted;
    struct sk_job detach;
};

struct sk_job_list {
    struct sk_job *head, **tail;
};

struct sk_store {
    uv_async_t async;
    uv_prepare_t before_poll;
    uv_check_t after_poll;
    uv_timer_t unhurried; /* runs while what was gathered waits for nobody's sake */
    struct sk_store_events events;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    /* under the mutex */
    struct sk_job_list todo, done;
    struct sk_stored *noted;
    bool stop, failed;
    bool working;     /* the store thread has jobs or idle work in hand */
    bool here;        /* the loop thread has: then the store thread touches nothing */
    bool dozing;      /* the store thread waits without an end */
    uint64_t here_ns; /* when the loop thread had last */
    char sentence[CO_SENTENCE_MAX];
    /* loop thread */
    struct sk_job_list gathered; /* submitted, and in nobody's hands yet */
    uint64_t gathered_bytes;
    bool hurried;     /* somebody waits for something that was gathered */
    uint32_t in_hand; /* jobs whose `done` is still to come, without those gathered */
    bool failure_told;
    struct sk_store *sibling; /* the stores of one loop form a ring */
    int handles;              /* to be closed */
    /* whoever does a round */
    struct sk_stored *dirty, *tended;
    uint64_t tended_ns;
    uint32_t wary;    /* rounds that the loop thread leaves to the store thread */
    uint64_t sync_us; /* the longest of this round */
    /* From the one that failed on: nobody carries them out, and what they hold stays theirs. */
    struct sk_job *undone;
};

static inline void sk_jobs_push(struct sk_job_list *list, struct sk_job *job)
{
    job->next = NULL;
    *list->tail = job;
    list->tail = &job->next;
}

static inline struct sk_job *sk_jobs_take(struct sk_job_list *list)
{
    struct sk_job *head = list->head;
    list->head = NULL;
    list->tail = &list->head;
    return head;
}

extern struct co_metric sk_m_direct_rounds;

/* Whoever has the files: carries the jobs out, syncs what they wrote, reports. An error ends the
 * service, and the jobs from there on stay in `undone`. */
CO_MUST_CHECK int sk_round(struct sk_store *s, struct sk_job *jobs);
/* One step of idle work, then the next timeline's turn; *more: there is another. */
CO_MUST_CHECK int sk_round_idle(struct sk_store *s, bool *more);
/* A job for sk_store_detach. */
int sk_round_close_files(struct sk_job *job);

#endif
