/*
 * database.h - the process-wide object behind every connection to one branch of a database.
 *
 * Connections are computes of their own (private WAL, private wal-index); here they meet: page
 * cache, what is known of the log, the writer's turn, the lease, the pipeline of commits.
 *
 * Positions in the log, in order:
 *   known     committed, and every change up to it has been told to the cache; what a read
 *             transaction sees. `known.txn` is the newest transaction at or below it: configuration
 *             records never move a reader (S2).
 *   tip       end of what this process has written as leader, durable or not (== known otherwise)
 *   returned  newest commit whose COMMIT said OK, or is about to; no pin here is older (M10)
 *
 * Epochs (M8): an LSN above `known` may come to hold another record after a lost term. So the epoch
 * counts up whenever the tip moves back. Versions above known are dropped with it, handles whose
 * snapshot lies above known are dead until their transaction ends, and a header is good only for
 * the epoch it was written in.
 *
 * Invariants
 *   D1 known <= tip; tip == known whenever the pipeline is empty and the tip is settled.
 *   D2 pipeline: dense, ascending, all of `term`, the first begins at or after known.pos.
 *   D3 at most one handle has the turn; only it publishes.
 *   D4 the cache has every change up to tip.
 *   D5 the log gets the pipeline in its order, all of it before the lease is released.
 *
 * Threads: everything below the line "guarded" is guarded by `lock`. No call to the log, the pages
 * or SQLite is made with it held. Events of the log come on the log's thread. One background thread
 * (the keeper) gives the lease up for others, another (the pacer, once much was written) asks the
 * pageserver how far it is.
 *
 * After fork() a child never touches an object of its parent (S15): objects carry the generation
 * they were born in, and the registry begins empty in a new one.
 */
#ifndef CORALLITE_COMPUTE_VFS_DATABASE_H
#define CORALLITE_COMPUTE_VFS_DATABASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "compute-vfs/ahead.h"
#include "compute-vfs/backend.h"
#include "compute-vfs/cache.h"
#include "compute-vfs/generation.h"
#include "compute-vfs/pace.h"
#include "compute-vfs/page_tier.h"
#include "compute-vfs/uri.h"

#define CV_INFLIGHT_MAX_BYTES (256u << 20) /* of commits on their way; beyond it a writer waits */
#define CV_ERAS_MAX           32u
#define CV_RESERVATION_US     10000u  /* of the writer's turn (M6) */
#define CV_QUEUE_STALE_US     500000u /* a place in the queue whose owner was not seen for so long */
#define CV_WANT_TIP_US        100000u /* M7 */
#define CV_OVERTAKE_US        2000u /* who waits for his turn is overtaken for so long, not longer */
#define CV_EXPECT_US          20000u /* for the turn, before the snapshot; SQLite does not count it */
#define CV_SEEK_MS            1000u /* without a majority; then the pageserver is asked who it is */
#define CV_SETTLE_MS          200u /* own log ahead of its own events for so long: no longer leader */
#define CV_LEAD_TIMEOUT_MS    ((uint32_t)(CO_LEASE_US / 1000 + 1000))
/* Others who wait hear that a write transaction is open here once it is for so long, and again. A
 * shorter one they wait for within their call. */
#define CV_TELL_WRITING_US 100000u
/* Who hears "busy" and comes again at once (a busy handler) is not made to wait that long each
 * time: SQLite counts its own pauses only. */
#define CV_LEAD_AGAIN_MS 100u
#define CV_LEAD_AGAIN_US 1000000u

/* What a reader sees. */
struct cv_snapshot {
    lsn_t lsn; /* of a transaction; 0: the empty database */
    uint32_t db_pages;
    uint64_t epoch;
};

/* One connection, as the database knows it. Embedded in the file of the main database. The fields
 * are guarded by the database's lock. */
struct cv_handle {
    struct cv_handle *next, *prev;
    uint64_t id; /* never reused in a process */
    struct cv_snapshot pin;
    lsn_t snapshot_lsn; /* >= pin.lsn: with own commits under the same read lock (M2) */
    bool pinned;
    bool dead;     /* the snapshot was lost (M8) */
    bool has_turn; /* slot 0 */
    bool queued;
    bool refused;        /* when it last asked for the turn */
    bool patient;        /* came to xSleep after its last refusal: it has a busy handler */
    bool expecting;      /* waits for the turn before it pins, and has not come for it yet */
    uint64_t expects_us; /* since then */
    struct cv_handle *queue_next;
    uint64_t seen_us;           /* last refusal */
    uint64_t outside_us;        /* since then refused because of another process; 0: not so */
    struct cv_sleeper *sleeper; /* who sleeps until the turn is reserved for it; NULL: nobody */
};

/* How a commit can be waited for, from any thread, for as long as the era is remembered. */
struct cv_ticket {
    uint64_t epoch;
    term_t term;
    lsn_t begin_lsn, end_lsn;
};

/* Where a lost term ended. */
struct cv_era {
    uint64_t epoch; /* the one it ended */
    term_t term;
    lsn_t durable_lsn;    /* committed for sure when it was lost */
    lsn_t kept_lsn;       /* when resolved */
    uint64_t progress_us; /* the last of its own: that of later terms says nothing of it */
    bool resolved, given_up;
};

/* A commit that is on its way. */
struct cv_flight {
    lsn_t begin_lsn, end_lsn;
    uint32_t db_pages;
    term_t term;
    uint64_t time_us;
    struct cv_record record; /* until it is shipped */
    bool want_received;
};

struct cv_position {
    lsn_t pos; /* end of the newest record, of any kind */
    lsn_t txn; /* end of the newest transaction */
    uint32_t db_pages;
    uint64_t txn_us; /* its time; together with `txn` it is no other one's, ever */
};

/* What threads of the application wait for. */
enum cv_cause {
    CV_FOR_COMMIT,   /* a commit to be durable, or received */
    CV_FOR_POSITION, /* where the log ends */
    CV_FOR_CHANGES,  /* which pages changed */
    CV_FOR_PAGES,
    CV_FOR_LEASE,
    CV_FOR_TURN,   /* another connection of this process writes */
    CV_FOR_INGEST, /* the pageserver to come near */
    CV_CAUSES
};
#define CV_STATS_MAX 64u

struct cv_database {
    struct cv_database *next;
    uint64_t serial;
    int refs; /* guarded by the registry's lock */
    unsigned generation;
    char path[CV_PATH_MAX];
    struct cv_uri uri; /* of the first handle: server and names */
    struct cv_pages *pages;
    struct cv_log *log;   /* NULL while unborn; set once, under `lock` */
    struct cv_tier *tier; /* the pages on disk, set with it; NULL: none are kept */

    pthread_mutex_t lock;
    /* Anything below changed that is not for one thread alone: whoever waits for his own commit,
     * for his turn, or keeps the lease has a condition of his own. */
    pthread_cond_t changed;
    pthread_cond_t keeper_wake;
    pthread_cond_t pacer_wake, pace_changed;
    /* ---- guarded ---- */
    bool born, being_born;
    struct cv_timeline timeline;
    uint32_t page_size; /* 0: not known, the database is empty */
    struct cv_cache *cache;
    struct cv_handle *handles;

    bool known_valid;                  /* known was learned */
    struct wal_digest followed_digest; /* at followed_lsn, when records told it */
    lsn_t followed_lsn;
    struct cv_position known, tip;
    lsn_t received_lsn, returned_lsn;
    uint64_t position_at_us; /* when known was last made sure to be the end of the log */
    uint64_t epoch;
    struct cv_era eras[CV_ERAS_MAX];
    uint32_t n_eras;      /* ever; the ring holds the last CV_ERAS_MAX */
    uint64_t progress_us; /* on disks; in memories: */
    uint64_t received_us;
    struct cv_waiter *waiters; /* for outcomes (era.c) */
    struct cv_waiter *decided; /* to be woken when the lock is given back */

    bool leading;
    bool role_busy;   /* somebody is in lead() or release() */
    bool release_due; /* the keeper is to call release(); role_busy is set */
    bool contested;   /* the term was lost, the lease perhaps not: the keeper is to see to it */
    term_t term, lost_term;
    struct wal_digest digest; /* at the tip */
    uint64_t time_us;         /* of the newest record */
    uint64_t led_at_us, active_at_us;
    uint64_t not_led_at_us; /* the last try to lead failed then */
    bool others_wait;
    uint64_t told_writing_us; /* when they were told; 0: somebody new has come since */

    struct cv_flight *flights;
    uint32_t n_flights, first_flight, cap_flights;
    uint32_t first_unshipped; /* of the flights, the first that the log has not got */
    bool shipping;            /* somebody is giving them to it */
    uint64_t inflight_bytes;

    struct cv_handle *writer;
    uint64_t writer_since_us;
    struct cv_handle *reserved;
    uint64_t reserved_until_us;
    struct cv_handle *queue_first, *queue_last;

    pthread_t keeper;
    bool keeper_runs, stop;

    struct cv_pace pace;
    pthread_t pacer;
    bool pacer_runs;
    uint64_t pacer_until_us; /* it sleeps until then; 0: it does not sleep */

    uint64_t sought_us; /* the pageserver was asked where the safekeepers are */
    uint64_t n_commits, n_pins, n_positions, n_gaps, n_followed;
    struct {
        uint64_t n, us;
    } waits[CV_CAUSES];
    uint64_t stats_base[CV_STATS_MAX]; /* at PRAGMA corallite_stats = reset */
};

/* -- Registry (database.c) -----------------------------------------------------------------------
 */

/* The object of this URI, made when there is none; adds the handle to it. CO_ERR_NOT_FOUND when the
 * database does not exist and may not come into being. */
CO_MUST_CHECK int cv_database_open(const struct cv_uri *uri, bool may_create, struct cv_handle *h,
                                   struct cv_database **out);
/* Waits up to timeout_ms for what the process has in flight; the last handle gives the lease up and
 * frees the object. */
void cv_database_close(struct cv_database *db, struct cv_handle *h, uint32_t timeout_ms);
/* A reference by serial number, so that a thread may remember an object without holding it; NULL
 * when it is gone. Give it back with cv_database_unref. */
struct cv_database *cv_database_find(uint64_t serial);
void cv_database_unref(struct cv_database *db);

/* Makes the database exist: CREATE at the pageserver. */
CO_MUST_CHECK int cv_database_create(struct cv_database *db, uint32_t timeout_ms);
/* What uri->at stands for, without a database object. */
CO_MUST_CHECK int cv_database_resolve(const struct cv_uri *uri, struct cv_moment *out);
/* Asks whether somebody else created it meanwhile; 0 also when nobody did. */
CO_MUST_CHECK int cv_database_look_again(struct cv_database *db, uint32_t timeout_ms);
/* When the log has reached no majority for a while: asks the pageserver where the safekeepers are.
 * All of those that this process knows may have been replaced while it asked nothing. */
void cv_database_seek_safekeepers(struct cv_database *db);

/* -- Reading (snapshot.c) ------------------------------------------------------------------------
 */

struct cv_pin_request {
    bool want_tip;         /* M7: a refused writer's retry */
    lsn_t own_lsn;         /* newest own commit, of own_epoch; its own connection sees it at once */
    uint32_t own_db_pages; /* at own_lsn */
    uint64_t own_epoch;
    uint32_t staleness_ms;
    uint32_t timeout_ms;
};

/* Decides what a read transaction of `h` sees, and pins it. *speculative: it may still be lost. */
CO_MUST_CHECK int cv_database_pin(struct cv_database *db, struct cv_handle *h,
                                  const struct cv_pin_request *request, bool *speculative);
/* Pins a moment of the past. */
CO_MUST_CHECK int cv_database_pin_at(struct cv_database *db, struct cv_handle *h,
                                     const struct cv_moment *moment, uint32_t timeout_ms);
/* Waits until the next pin sees everything up to `lsn`. CO_ERR_TIMEOUT. */
CO_MUST_CHECK int cv_database_wait_for(struct cv_database *db, lsn_t lsn, uint32_t timeout_ms);
/* Pins a state that was decided before; CO_ERR_AGAIN when it does not exist any more. */
CO_MUST_CHECK int cv_database_repin(struct cv_database *db, struct cv_handle *h,
                                    const struct cv_snapshot *snapshot);
void cv_database_unpin(struct cv_database *db, struct cv_handle *h);

/* Learns every change up to `upto` (M13); known.pos >= upto afterwards. */
CO_MUST_CHECK int cv_database_close_gap(struct cv_database *db, lsn_t upto, uint32_t timeout_ms);

/* Learns from records of the log itself, from `since` on, which are checked here: as far as they
 * are sound and follow what is known. What they do not tell is left to close_gap. */
void cv_database_follow(struct cv_database *db, lsn_t since, struct co_span records);
/* Takes over the page size of a record or an answer; 0: it does not say. CO_ERR_*: it cannot be.
 * Lock held. */
CO_MUST_CHECK int cv_database_check_page_size(struct cv_database *db, uint32_t page_size);

/* One whole page at the snapshot; h may be NULL (no death to notice). */
CO_MUST_CHECK int cv_database_read_page(struct cv_database *db, struct cv_handle *h,
                                        struct cv_ahead *ahead, const struct cv_snapshot *snapshot,
                                        pgno_t pgno, uint8_t *out, uint32_t page_size,
                                        uint32_t timeout_ms);

/* -- The writer's turn (turn.c) ------------------------------------------------------------------
 */

enum cv_turn {
    CV_TURN_GRANTED,
    CV_TURN_BUSY,  /* another connection has a write transaction open */
    CV_TURN_STALE, /* the snapshot is not the tip */
};

/* Never waits for another local writer; may wait for the lease. `comes_again`: a refused handle is
 * expected to retry, so it gets a place in the queue. 0 with *out, or CO_ERR_*. */
CO_MUST_CHECK int cv_turn_take(struct cv_database *db, struct cv_handle *h, bool comes_again,
                               enum cv_turn *out);
/* h is about to pin a snapshot and then to ask for the turn: true if the turn is reserved for it,
 * so that it can pin the tip. Waits for that a little if h has a busy handler. */
bool cv_turn_expect(struct cv_database *db, struct cv_handle *h);
/* It did not ask. */
void cv_turn_forgo(struct cv_database *db, struct cv_handle *h);
/* Somebody in this process waits for the turn, and nobody elsewhere for the lease. */
bool cv_turn_is_wanted(struct cv_database *db);
void cv_turn_give_back(struct cv_database *db, struct cv_handle *h);
/* Sleeps up to `us`; returns early once the turn is reserved for the handle of this id. false: it
 * has not slept, since that handle is gone or is slept for already. */
bool cv_turn_sleep(struct cv_database *db, uint64_t handle_id, uint64_t us);
/* Leads the log (again) for the handle that has the turn. CO_ERR_AGAIN: the tip is not its snapshot
 * any more. */
CO_MUST_CHECK int cv_turn_lead(struct cv_database *db, struct cv_handle *h);
/* The lease has come while those who want it sleep: one is woken. Lock held. */
void cv_turn_won(struct cv_database *db);
/* Takes the handle out of queue and reservation. Lock held. */
void cv_turn_forget(struct cv_database *db, struct cv_handle *h);
void cv_keeper_stop(struct cv_database *db);

/* -- How fast (pacer.c) --------------------------------------------------------------------------
 */

/* The commit is durable, its connection has given the turn back: waits as long as it has to. */
void cv_pacer_commit(struct cv_database *db, const struct cv_ticket *ticket);
/* Before a write transaction asks for its turn: waits until one may begin. */
void cv_pacer_gate(struct cv_database *db);
void cv_pacer_stop(struct cv_database *db);

/* -- Outcomes (era.c) ----------------------------------------------------------------------------
 */

extern const struct cv_log_events cv_database_events; /* owner is to be filled in */

/* Leadership of the current term is over. Lock held. */
void cv_era_end(struct cv_database *db, bool give_up);
/* Waits until the commit is durable (or, with `received`, in the memory of a majority). timeout_ms
 * counts time without progress; when it ends the whole pipeline is given up (M8).
 * CO_ERR_LOST: surely not committed. CO_ERR_UNKNOWN. */
CO_MUST_CHECK int cv_era_wait(struct cv_database *db, const struct cv_ticket *ticket, bool received,
                              uint32_t timeout_ms);
/* COMMIT says OK without having waited. */
void cv_era_returns(struct cv_database *db, const struct cv_ticket *ticket);
/* Somebody is about to wait for commits that returned before they were durable. No lock held. */
void cv_era_hurry(struct cv_database *db);
/* Everything up to `lsn` of the current term is committed. Lock held. */
void cv_era_durable(struct cv_database *db, lsn_t lsn);

/* Absolute time `ms` from now for pthread_cond_timedwait on `changed`, and the wait itself: false
 * when the time has come. Lock held. */
bool cv_wait_until(struct cv_database *db, uint64_t until_us);
/* The same on a condition of one's own, made by co_condition_init. */
bool cv_wait_on(struct cv_database *db, pthread_cond_t *condition, uint64_t until_us);
/* Counts a wait that began at since_us. Lock held. */
void cv_waited(struct cv_database *db, enum cv_cause cause, uint64_t since_us);

#endif
