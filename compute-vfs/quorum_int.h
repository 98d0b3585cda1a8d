/*
 * quorum_int.h - what the files quorum_*_sock.c share. Nobody else includes it.
 *
 * Threads: everything in struct cv_quorum but `thread`, `generation`, `events`, `wake_fd` and what
 * is shown without it is touched under `lock`. One thread at a time reads connections and closes
 * what fails: the background thread, or, while `helping` is set, a thread that waits for an answer
 * (cv_quorum_assist). Both poll without the lock, and use a descriptor afterwards only if its
 * generation is still the one they polled. Only the background thread opens connections; other
 * threads write to them under the lock and mark a broken one. One thread at a time tells
 * (`telling`), so that events come in order.
 */
#ifndef CORALLITE_COMPUTE_VFS_QUORUM_INT_H
#define CORALLITE_COMPUTE_VFS_QUORUM_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "compute-vfs/generation.h"
#include "compute-vfs/proposer.h"
#include "compute-vfs/quorum_reign.h"
#include "compute-vfs/quorum_sock.h"
#include "proto/peer_sock.h"
#include "proto/qhist.h"
#include "proto/net_sock.h"

#define CV_BACKOFF_MIN_US 20000u
#define CV_BACKOFF_MAX_US 1000000u
#define CV_RESOLVE_US     500000u
#define CV_HURRY_US       100000u  /* longest pause while there is no majority */
#define CV_PING_US        1000000u /* silence that is broken with a PING */
#define CV_DEAD_US        5000000u /* silence after which a connection is given up */
/* Output that waits for one safekeeper; beyond it messages to it are dropped, and the core sends
 * again from where the safekeeper is. Checked before a message is queued. */
#define CV_QUEUE_MAX_BYTES (64 * CO_MIB)
/* What the slowest safekeeper worth waiting for takes in. */
#define CV_SLOW_BYTES_PER_US 10u
/* In flight to one safekeeper: what a large record takes of memory here, for each of them. */
#define CV_WINDOW_BYTES (4 * CO_MIB)
#define CV_TAIL_BYTES   (64 * CO_MIB)
#define CV_SLICE_US     10000u  /* how often a blocked call looks around */
#define CV_PARTING_US   300000u /* at close, for the safekeeper that is behind */
#define CV_RETRY_US     200000u
#define CV_NAP_US       5000u   /* how long the thread leaves connections to threads that wait */
#define CV_LINGER_US    300000u /* longer than SQLite's busy handler pauses */

enum cv_link_state { CV_LINK_IDLE, CV_LINK_CONNECTING, CV_LINK_HELLO, CV_LINK_UP };

/* The connection to one safekeeper. */
struct cv_link {
    struct cv_safekeeper sk;
    struct co_id disk; /* expected; zero: any */
    char address[300];
    enum cv_link_state state;
    struct psock s;
    uint64_t generation; /* of the descriptor: counts connections */
    bool refuses;        /* told us so in an answer, and has not served us since */
    bool broken;         /* seen by a thread that may not close it */
    uint64_t deadline_us, retry_at_us, backoff_us;
    uint64_t heard_us, pinged_us;
    uint32_t pings; /* since it was heard last */
    /* Records on this connection: end of what was sent, of what it says it has (within a record,
     * too), and when the newest byte went out. */
    lsn_t sent_lsn, acked_lsn;
    uint64_t drained_us;
    struct net_addresses addr; /* n 0: not resolved */
    unsigned addr_at;
    bool clock_known;
    int64_t clock_ahead_us;       /* its wall clock less ours */
    uint64_t bytes_in, bytes_out; /* of earlier connections */
    /* A restore sealed the timeline (S14): it takes no records any more. Heartbeats it still
     * answers; the first that was sent after it said so tells how far its log goes for ever. */
    bool sealed, sealed_known;
    /* Its newest answer where its log ends: to which round (a round's number is when it began),
     * how far it goes, and how far that is committed. */
    uint64_t pos_round;
    lsn_t pos_flush, pos_commit;
    bool full; /* its disk: it takes no records until there is room */
    uint64_t sealed_at_us;
    lsn_t sealed_end;
    int error; /* why it is not up, or what it refuses */
    char why[256];
};

#define CV_FOLLOW_BYTES ((uint32_t)(256 * CO_KIB)) /* more than that is not followed */
#define CV_FOLLOW_US    20000u   /* for records that did not come with the position */
#define CV_SEAL_WAIT_US 2500000u /* for the heartbeats' answers */
#define CV_SEAL_ASK_US  1000000u /* for what a majority tells of a sealed timeline */

/* A call that waits for the core's answer; on the caller's stack. */
struct cv_ask {
    uint64_t req, began_us;
    bool done;
    lsn_t lsn;
    enum pr_verdict verdict;
    lsn_t since;           /* records from here on are wanted; LSN_NONE: none */
    struct co_buf records; /* the longest that came */
    uint32_t streams;      /* asked for them and silent yet */
    struct cv_ask *next;
};

struct cv_quorum {
    struct cv_log base;
    unsigned generation; /* of the process that made it */
    struct cv_timeline timeline;
    struct cv_log_events events;
    pthread_t thread;
    int wake_fd;

    /* What each commit and each read asks for, as it was after the newest step: read without the
     * lock, which is held while messages are sent and read. */
    _Atomic uint64_t leased_until_us; /* the end of the lease; 0: none */
    _Atomic lsn_t leased_lsn;         /* committed, by whoever had the lease here last */
    atomic_bool well;                 /* a majority is connected, and no member's disk is full */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock */
    bool stopping, awake;   /* awake: the thread will look around before it sleeps */
    uint64_t sleep_until_us;
    uint32_t waiting;   /* threads that sleep until `changed` */
    bool helping;       /* a thread that waits reads the connections */
    bool napping;       /* the background thread sleeps without polling them */
    bool aside;         /* the same, until the helper has done and wakes it */
    uint64_t helped_us; /* when somebody did last; 0: not lately */

    struct pr_proposer *pr;
    struct pr_actions actions;
    struct pr_view view; /* after the newest step */
    uint64_t timer_at_us;
    struct co_buf frame;        /* scratch */
    struct cv_spilled *spilled; /* records that the core names, but does not hold */
    uint64_t last_spilled;
    uint8_t *fragment; /* scratch: what is read of one, CO_BATCH_BYTES; made at the first */
    struct qmsg_scratch scratch;

    struct cv_link link[CO_MEMBERS_MAX];
    uint32_t n_links, n_up;
    uint64_t nodes_asked_us;                    /* where a member is that has no link: asked last */
    struct cv_safekeeper found[CO_MEMBERS_MAX]; /* by the owner, for the thread to take up */
    uint32_t n_found;
    uint64_t no_quorum_since_us; /* 0: there is one */

    struct cv_reign *reign;  /* the term that is led now */
    struct cv_reign *wrecks; /* lost ones whose fate is open */
    struct cv_tales tales;
    bool telling;       /* somebody tells the owner */
    bool telling_grave; /* a LOST or RESOLVED */

    uint32_t leading; /* calls of lead() under way */
    uint64_t
        linger_until_us; /* a campaign whose caller gave up goes on so long: he may come again */
    bool asked;          /* the core was told to lead, and has not said that this is over */
    bool owned;          /* the owner has been given the present term */
    bool releasing, doomed;
    lsn_t sealed_open; /* a tail up to here, behind the end of a sealed log, was waited for */
    uint64_t next_req;
    struct cv_ask *asks;
    bool news;         /* the last position that was followed had moved */
    char refused[160]; /* why the last campaign failed */
    uint64_t n_refused;
    uint64_t records, elections;
};

/* -- quorum_sock.c -- all with the lock held ------------------------------------------------------
 */

/* Shows the lease, and how the members are, to those who look without the lock: after each change.
 */
void cv_quorum_show(struct cv_quorum *q);
/* Gives the term back once all of it is committed. */
void cv_quorum_release(struct cv_quorum *q);
/* The background thread has something to do at once. */
void cv_quorum_kick(struct cv_quorum *q);
/* As the name says; for after a step on another thread. */
void cv_quorum_kick_if_needed(struct cv_quorum *q);
/* One look at the connections by a thread that waits: polls until until_us, reads, tells. Returns
 * with the lock held; helping was set by the caller, and is not any more. */
void cv_quorum_assist(struct cv_quorum *q, uint64_t until_us);
/* The link's state went to or from CV_LINK_UP. */
void cv_quorum_count_links(struct cv_quorum *q);
/* Leads a term, has no step to do for it any more. */
static inline bool cv_quorum_ready(const struct cv_quorum *q)
{
    return q->reign != NULL && q->view.state == PR_LEADER && !q->releasing && !q->doomed;
}
/* Somebody knows that the timeline was dropped, which nothing ever undoes. */
static inline bool cv_quorum_dropped(const struct cv_quorum *q)
{
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].error == CO_ERR_DROPPED)
            return true;
    }
    return false;
}
/* How many of the members are enough, for sentences. */
static inline uint32_t cv_quorum_majority(const struct cv_quorum *q)
{
    return q->view.config.n / 2 + 1;
}
/* Are enough of the members connected, by the configuration that is known? */
static inline bool cv_quorum_has(const struct cv_quorum *q)
{
    uint32_t set[CO_MEMBERS_MAX], n = 0;
    for (uint32_t i = 0; i < q->n_links; i++) {
        if (q->link[i].state == CV_LINK_UP)
            set[n++] = q->link[i].sk.node;
    }
    return q_is_quorum(&q->view.config, set, n);
}
/* What pr_proposer's member set and the links think of it, for a sentence: "1=host:port (why)". */
void cv_quorum_absent(const struct cv_quorum *q, char *text, size_t size);

/* -- quorum_step_sock.c -- with the lock held -----------------------------------------------------
 */

/* Stamps the event with the time, steps the core, carries its actions out. */
CO_MUST_CHECK int cv_quorum_step(struct cv_quorum *q, struct pr_event *event);
/* Frees a record that the core has given back. */
void cv_quorum_forget(struct cv_quorum *q, uint64_t id);

/* -- quorum_follow_sock.c -- all with the lock held -----------------------------------------------
 */

/* Right after the step that put the question: asks one of those that it went to for records. */
void cv_follow_ask_first(struct cv_quorum *q, struct cv_ask *ask);
void cv_follow_ask_all(struct cv_quorum *q, struct cv_ask *ask);
/* A STREAM_DATA, or the refusal of a STREAM. */
CO_MUST_CHECK int cv_follow_told(struct cv_quorum *q, const struct frame_header *frame,
                                 struct co_span body);
void cv_follow_refused(struct cv_quorum *q, uint64_t req);

/* -- quorum_record_sock.c -- any thread, without the lock -----------------------------------------
 */

/* Whose log it is, and who has it. */
struct cv_holder {
    struct co_id cluster, timeline;
    struct cv_safekeeper safekeepers[CO_MEMBERS_MAX];
    uint32_t n_safekeepers;
};

/* Whether the record of `term` that begins at `begin` is in the committed log; only for what is so
 * old that every safekeeper has committed beyond it. CO_ERR_*: nobody could be asked. */
CO_MUST_CHECK int cv_quorum_by_record(const struct cv_holder *h, term_t term, lsn_t begin,
                                      uint64_t deadline_us, enum cv_verdict *out);

/* -- quorum_link_sock.c -- background thread, lock held, but cv_link_send -------------------------
 */

void cv_link_init(struct cv_link *l, const struct cv_safekeeper *sk,
                  const struct wal_config *config);
/* Connects, gives up, pings as the time demands; returns when it wants to be called again. */
uint64_t cv_link_tick(struct cv_quorum *q, struct cv_link *l, uint64_t now_us);
/* Poll events it waits for; 0: none, do not poll. */
short cv_link_wants(const struct cv_link *l);
/* Poll said something about it. */
void cv_link_io(struct cv_quorum *q, struct cv_link *l);
/* Any thread. Dropped when the link is not up; marks it broken when it cannot take it. */
void cv_link_send(struct cv_quorum *q, struct cv_link *l, const struct q_msg *msg);
/* Queues a control message; the link then has to be looked after. */
CO_MUST_CHECK int cv_link_queue(struct cv_quorum *q, struct cv_link *l, unsigned type,
                                const ProtobufCMessage *message);
/* The same of a request, whose answer names it by its number (not 0). */
CO_MUST_CHECK int cv_link_request(struct cv_quorum *q, struct cv_link *l, unsigned type,
                                  uint64_t req, const ProtobufCMessage *message);
/* Closes it at once, without a word to the core. */
void cv_link_close(struct cv_link *l);

/* -- quorum_nodes_sock.c -- background thread, lock held ------------------------------------------
 */

/* Takes up what the owner found; asks where a member is that there is no link to; returns when it
 * wants to be called again. */
uint64_t cv_nodes_tick(struct cv_quorum *q, uint64_t now_us);
/* The answer. */
CO_MUST_CHECK int cv_nodes_told(struct cv_quorum *q, struct co_span message);
/* Of cv_log_ops: any thread, without the lock. */
void cv_nodes_found(struct cv_log *log, const struct cv_safekeeper *at, uint32_t n);

/* -- quorum_wait_sock.c -- the owner's threads ----------------------------------------------------
 */

/* Log and quorum are one object. NULL in a child of the process that made it. */
struct cv_quorum *cv_quorum_here(struct cv_log *log);
/* The same, with the lock. */
struct cv_quorum *cv_quorum_enter(struct cv_log *log);
void cv_quorum_leave(struct cv_quorum *q);
/* For a child: the sentence. */
CO_MUST_CHECK int cv_quorum_forked(void);
/* With the lock held, here and below. The background thread reads the connections from now on. */
void cv_quorum_wake_from_nap(struct cv_quorum *q);
/* Waits for a change, at most CV_SLICE_US. false: the deadline has passed. */
bool cv_quorum_wait_slice(struct cv_quorum *q, uint64_t deadline_us);
uint64_t cv_quorum_deadline(uint32_t timeout_ms);
/* 0, or CO_ERR_* with a sentence: it was dropped; a restore sealed it. */
CO_MUST_CHECK int cv_quorum_refused_for_good(const struct cv_quorum *q);
CO_MUST_CHECK int cv_quorum_sealed(const struct cv_quorum *q);
/* CO_ERR_NO_QUORUM, and who is missing. */
int cv_quorum_no_quorum(const struct cv_quorum *q);

/* -- quorum_ask_sock.c -- the calls of cv_log_ops (log.h) that only ask ---------------------------
 */

int cv_ask_position(struct cv_log *log, uint32_t timeout_ms, lsn_t *out);
int cv_ask_follow(struct cv_log *log, uint32_t timeout_ms, lsn_t since, lsn_t *out,
                  struct co_buf *records);
int cv_ask_status(struct cv_log *log, term_t term, lsn_t begin_lsn, uint32_t timeout_ms,
                  enum cv_verdict *out);
void cv_ask_stats(struct cv_log *log, struct cv_log_stats *out);
bool cv_ask_sealed(struct cv_log *log);
int cv_ask_no_room(struct cv_log *log);
uint32_t cv_ask_no_quorum_ms(struct cv_log *log, size_t size, char *missing);

/* -- quorum_call_sock.c ---------------------------------------------------------------------------
 */

extern const struct cv_log_ops cv_quorum_ops;

#endif
