/* acceptor_core.h - the state of an acceptor, shared by acceptor.c (the rules), acceptor_vote.c
 * (who leads), acceptor_log.c (the records of an APPEND), acceptor_stage.c (its fragments),
 * acceptor_base.c (where the log begins) and acceptor_lease.c (lease and turns). Nobody else
 * includes it. */
#ifndef CORALLITE_SAFEKEEPER_ACCEPTOR_CORE_H
#define CORALLITE_SAFEKEEPER_ACCEPTOR_CORE_H

#include "proto/wal_stream.h"
#include "safekeeper/acceptor.h"
#include "safekeeper/acceptor_witness.h"

/* The newest records, to notice one (term, LSN) with two contents. */
#define SK_SEEN_MAX 32u
struct sk_seen {
    lsn_t begin;
    term_t term;
    struct wal_digest digest;
};

/* A compute whose VOTE was refused because of a lease. */
struct sk_waiter {
    sk_conn_t conn;
    struct co_id nonce;
    uint64_t since_us;
};

struct sk_acceptor {
    struct co_id cluster, timeline;
    lsn_t start_lsn;
    uint64_t lease_us;
    uint32_t history_keep;

    /* What the disk holds once the actions of this step are done. */
    struct sk_durable d;
    struct sk_durable snapshot[2]; /* what the PERSISTs of this step show */
    uint32_t n_snapshots;
    struct q_term *retired; /* the history before this step's */

    lsn_t write_lsn, flush_lsn, commit_lsn;
    struct wal_digest digest; /* at write_lsn */
    bool digest_known;        /* false between TRUNCATE and TRUNCATED */
    struct wal_config config; /* in force at flush_lsn, and at write_lsn */
    uint32_t node;
    bool left; /* no configuration names us any more */
#ifdef CO_MUTATIONS
    struct wal_config config_before; /* of a mistake: the one before `config`, */
    lsn_t config_lsn;                /*   until this is committed */
#endif
    lsn_t told_lsn;      /* an ACK told that so much is written: a commit may count on it */
    lsn_t leader_commit; /* as its leader says, maybe above flush_lsn */
    lsn_t floor_hint;    /* M16: every member has flushed so far, */
    term_t floor_term;   /*   under the history of this term */

    struct co_id lease_nonce;
    uint64_t lease_until_us, quiet_until_us;
    sk_conn_t lease_conn;
    bool released;                            /* the leader of this term gave its lease back */
    struct sk_waiter waiters[SK_WAITERS_MAX]; /* the longest waiting first */
    uint32_t n_waiters;
    struct sk_waiter turn;  /* whose turn it is, */
    uint64_t turn_until_us; /* until then; 0: nobody's */
    uint64_t timer_us;

    bool ack_due; /* when something was flushed */
    sk_conn_t ack_conn;
    uint64_t ack_sent_us;
    struct co_id ack_nonce;
    term_t ack_term;

    struct wal_stream *staging;  /* checks the record in the making; made at the first */
    uint64_t staged;             /* so many of its bytes were handed to the log */
    uint64_t staged_flushed;     /* so many are durable */
    struct wal_header completed; /* what the last fragment of this step made whole */

    struct sk_seen seen[SK_SEEN_MAX]; /* a ring, newest at n_seen - 1 */
    uint64_t n_seen;
    bool halted;
    uint64_t refused;
    struct sk_witness witness;
};

/* acceptor.c */
struct sk_action *sk_emit(struct sk_actions *out, enum sk_action_kind kind);
struct q_msg *sk_emit_send(const struct sk_acceptor *sk, struct sk_actions *out, sk_conn_t conn,
                           enum frame_type type);
void sk_persist(struct sk_acceptor *sk, struct sk_actions *out, bool history_changed);
/* The same with the base, at which the log begins now. */
void sk_persist_base(struct sk_acceptor *sk, struct sk_actions *out);
void sk_halt(struct sk_acceptor *sk, struct sk_actions *out, const char *reason);
struct q_history sk_history(const struct sk_acceptor *sk);
term_t sk_history_term(const struct sk_acceptor *sk);
void sk_flushed(struct sk_acceptor *sk, lsn_t lsn, struct sk_actions *out);
/* Has doubt about our log ended? */
void sk_settle_doubt(struct sk_acceptor *sk);
/* The configuration in force. */
const struct wal_config *sk_config(const struct sk_acceptor *sk);
/* A CONFIG record that ends at `lsn` was appended. */
void sk_configure(struct sk_acceptor *sk, const struct wal_config *config, lsn_t lsn);
/* Everything that was appended becomes durable here and now. */
void sk_flush_now(struct sk_acceptor *sk, struct sk_actions *out);
void sk_commit(struct sk_acceptor *sk, lsn_t lsn, struct sk_actions *out);
void sk_send_ack(struct sk_acceptor *sk, sk_conn_t conn, const struct co_id *nonce,
                 uint64_t sent_us, struct sk_actions *out);

/* acceptor_vote.c */

/* S1: a VOTE. */
void sk_on_vote(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* S2: an ELECTED. CO_ERR_NOMEM: nothing was changed. */
CO_MUST_CHECK int sk_on_elected(struct sk_acceptor *sk, const struct sk_event *ev,
                                struct sk_actions *out);

/* acceptor_base.c */

/* Where the log begins. */
lsn_t sk_base_lsn(const struct sk_acceptor *sk);
/* The begin of the log may go. */
void sk_trim(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* An APPEND that says where the log is to begin. */
void sk_take_base(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* A FETCH of what is not kept. */
void sk_send_base(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);

/* acceptor_lease.c */

/* A lease is out, or may be out since before our restart (S7). */
bool sk_lease_runs(const struct sk_acceptor *sk, uint64_t now);
/* The same, or it is somebody's turn to have it. */
bool sk_lease_taken(const struct sk_acceptor *sk, uint64_t now);
/* The same for one candidate: does it stand against its VOTE? */
bool sk_lease_blocks(const struct sk_acceptor *sk, const struct co_id *nonce, uint64_t now);
/* The sender of the event's message has the lease. */
void sk_lease_extend(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* A vote was granted: its winner is to have time to be adopted. */
void sk_lease_hold_vote(struct sk_acceptor *sk, const struct sk_event *ev);
/* It was given back. */
void sk_lease_end(struct sk_acceptor *sk, uint64_t now, struct sk_actions *out);
/* The sender of a refused VOTE waits. */
void sk_lease_wait(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* Its holder has a write transaction open: those who wait hear it (M9). */
void sk_lease_writing(struct sk_acceptor *sk, struct sk_actions *out);
void sk_lease_closed(struct sk_acceptor *sk, const struct sk_event *ev, struct sk_actions *out);
/* At the end of each step: passes on what has run out, and sets the timer. */
void sk_lease_tick(struct sk_acceptor *sk, uint64_t now, struct sk_actions *out);

/* acceptor_log.c */

/* S3: checks every record of an APPEND that begins at or below write_lsn and hands the new ones to
 * the log. false: refused or halted as a whole, nothing was taken. */
bool sk_take_records(struct sk_acceptor *sk, const struct q_msg *m, struct sk_actions *out);
/* Forgets the newest records from `lsn` on. */
void sk_seen_cut(struct sk_acceptor *sk, lsn_t lsn);
void sk_seen_add(struct sk_acceptor *sk, const struct wal_header *r);

/* acceptor_stage.c */

/* S3: the fragment of an APPEND. *taken false: refused. CO_ERR_NOMEM: nothing was changed. */
CO_MUST_CHECK int sk_take_fragment(struct sk_acceptor *sk, const struct q_msg *m,
                                   struct sk_actions *out, bool *taken);
/* What is staged goes, also from the disk. */
void sk_drop_staged(struct sk_acceptor *sk, struct sk_actions *out);
/* It is gone. */
void sk_unstage(struct sk_acceptor *sk);

#endif
