/*
 * pageserver_pool.h - the connections to the pageservers, and a question with its answer over any
 * of them. Used by pageserver_sock.c and pageserver_moments_sock.c only.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGESERVER_POOL_H
#define CORALLITE_COMPUTE_VFS_PAGESERVER_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "compute-vfs/choice.h"
#include "compute-vfs/pageserver_sock.h"
#include "proto/peer_sock.h"

#define CV_RETRY_MIN_US 20000u
#define CV_RETRY_MAX_US 500000u
/* So long the first try may take, each further one twice as long as the one before: a connection
 * whose other end vanished without a word is not waited on for all of the time that there is. */
#define CV_TRY_US 4000000u
/* So long what only the owner of the catalog can do waits for it, where others answer. */
#define CV_OWNER_WAIT_US 3000000u
/* The server's own deadline ends so much before ours, so that its sentence still arrives. */
#define CV_ANSWER_US 100000u

struct cv_endpoint {
    char host[256];
    uint16_t port;
    struct psock
        *idle[CV_POOL_MAX]; /* under the pageserver's lock; the last one used comes first */
    uint32_t n_idle;
};

struct cv_pageserver {
    struct cv_pages base;
    pid_t pid;                           /* of the process that made it */
    char address[CV_SERVERS_MAX * 300u]; /* of all of them, for sentences */

    pthread_mutex_t lock;
    struct cv_endpoint at[CV_SERVERS_MAX];
    struct cv_choice choice; /* under lock */
    struct co_id cluster;    /* under lock; zero until an answer named it */
    atomic_bool reached;     /* a Hello was answered once, by any */
    _Atomic uint64_t round_trips, pages, bytes_in, bytes_out;
};

/* Closes the idle connections. */
void cv_pool_close(struct cv_pageserver *ps);

/* One question and its answer, on whatever connection. `end_us` bounds it all, but for a pageserver
 * that has not got that far in the log and says that it gets on: then the time begins anew. */
struct cv_question {
    unsigned type, answer;
    const ProtobufCMessage *message;
    const ProtobufCMessageDescriptor *answer_type;
    uint32_t *deadline_ms; /* field of the message: what is left, set before each try; or NULL */
    bool slow;             /* it may take its time, whoever else could be asked */
    /* A pageserver that is behind, and gets on: how far each said that it is. */
    struct cv_lag {
        bool told;
        uint64_t progress;
    } lag[CV_SERVERS_MAX];
    /* result */
    struct frame_header frame;
    struct co_buf body; /* freed by cv_question_release */
    void *reply;        /* unpacked; freed by cv_question_release */
    struct co_span payload;
};

void cv_question_release(struct cv_question *ask);
/* Asks until there is an answer, the time is over, or the answer is no. */
CO_MUST_CHECK int cv_pageserver_ask(struct cv_pageserver *ps, struct cv_question *ask,
                                    uint64_t end_us);
/* Of cv_pages_ops: pageserver_moments_sock.c. */
int cv_pageserver_resolve(struct cv_pages *p, const char *db, const char *branch, const char *at,
                          uint32_t timeout_ms, struct cv_moment *out);
int cv_pageserver_holder(struct cv_pages *p, const char *db, const char *branch, lsn_t lsn,
                         uint32_t timeout_ms, struct co_id *timeline, struct co_id *holder);
int cv_pageserver_log(struct cv_pages *p, const char *db, const char *branch, const char *at,
                      lsn_t before_lsn, uint32_t limit, uint32_t timeout_ms, struct cv_logged *out,
                      uint32_t *n, bool *more);
int cv_pageserver_branches(struct cv_pages *p, const char *db, uint32_t timeout_ms,
                           struct cv_branch **out, uint32_t *n);

/* Sleeps. */
void cv_pause_us(uint64_t us);

#endif
