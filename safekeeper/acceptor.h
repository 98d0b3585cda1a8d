/*
 * acceptor.h - the safekeeper's side of the quorum log of one timeline: a voter with a log.
 *
 * A core: no I/O, no clock, no thread, no callback. One timestamped event in, an ordered list of
 * actions out. The daemon (timeline shell) and the simulator run the same object file.
 *
 * How a shell executes the actions of one step
 *   - strictly in order. PERSIST, FLUSH and TRUNCATE are finished (durable) before the next action
 * of the list begins; while that lasts no other event of this timeline is delivered. So a SEND that
 *     stands after a PERSIST relies on it, and a crash between two actions leaves the earlier ones
 *     done and the later ones undone.
 *   - APPEND only hands bytes to the log; they need not be durable when the next action begins.
 * When everything below an LSN is durable the shell says so with SK_EV_FLUSHED (one sync may cover
 *     many appends; only the newest is reported).
 *   - an APPEND with `fragment` stages: its bytes go behind the log's end, from fragment_at on of
 * the record that will begin at lsn; with `record` they are the last, and the log ends behind it.
 *     FLUSHED tells of staged bytes too: so many behind the end that it names are durable. A
 *     TRUNCATE at the end of the log drops them.
 *   - after a TRUNCATE, and after the rest of its list, SK_EV_TRUNCATED is the next event. A sync
 *     that was begun before a FLUSH or a TRUNCATE is not reported with SK_EV_FLUSHED after it.
 *   - SK_EV_CLOSED says `local` only when the other end of the connection went away. A connection
 *     that this daemon closed, or that timed out, is not local: its owner may live on and still
 *     read by its lease. A proposer stops reading by the lease before it closes a connection.
 *   - a REBASE makes `durable` durable, as PERSIST does, and with it where the log begins: at
 * durable->base. If that lies within the log, what lies below may go, and goes only then. If it
 * lies behind the log's end, all of the log goes, and it is empty and begins there: after a crash
 * one or the other holds. Like a TRUNCATE it makes an earlier sync's FLUSHED void when it empties.
 *   - an action that fails ends the service of this node (never retried, never acknowledged).
 *   - spans and histories in actions are borrowed until the next call on this acceptor, or, for
 * what came from an event's message, until the message is freed.
 *
 * Invariants (asserted): I2 term, commit_lsn never decrease. I3 start <= base <= commit <= flush <=
 * write.
 * I4 history ascends. I5 never truncated below commit_lsn (else HALT). I6 no ACK covers what is not
 * flushed. I7 by the order of actions. I9 records chain: begin == end of the previous, base ==
 * begin, digest of the previous.
 *
 * Members. The configuration in force is that of the last CONFIG record on the disk, committed or
 * not; such a record is synced with the step that takes it, so that flush_lsn and configuration
 * never disagree. A node that an earlier configuration named and the last one does not has left: it
 * gives no vote, and says who the members are (REJECT_CONFIG); all else it does as before. A node
 * that no configuration has named yet does vote: whoever asks it has a log that names it, and its
 * node id was never used by anybody else. A VOTE with an older configuration version is answered
 * with the newer record (S21); only a VOTE, because ELECTED has to reach a log with an uncommitted
 * newer record in order to cut it, and POS carries the configuration anyway.
 *
 * The kept start. Of a log that an archive has, the begin may go (SK_EV_TRIM): never above what is
 * committed here, is archived, and is on the disk of every pageserver that follows. From then on
 * this safekeeper knows the log from its *base* on: LSN, chain digest and configuration there. Who
 * asks for what lies below is told the base (DATA), and a leader that knows it to be committed
 * hands it on to whoever ends below it (APPEND with base_lsn): such a one drops all it has, which
 * is part of what is committed below the base or of nothing, and goes on from there. The history is
 * not cut by that, so S2 compares as before.
 *
 * A lease belongs to one compute: the last four bytes of a nonce count its campaigns, so two nonces
 * that agree in the first twelve are the same holder.
 *
 * Rules S1 to S6 of docs/ARCHITECTURE.md, "The quorum log", are named where they are carried out.
 */
#ifndef CORALLITE_SAFEKEEPER_ACCEPTOR_H
#define CORALLITE_SAFEKEEPER_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/qmsg.h"

/* A connection, named by its shell: a later one has a larger number. 0: none. */
typedef uint64_t sk_conn_t;

/* Where a log begins that is not kept from the timeline's start on. */
struct sk_base {
    lsn_t lsn; /* 0: the timeline's start */
    struct wal_digest digest;
    struct wal_config config; /* in force there */
    bool left;                /* and by it this node has left */
};

/* What a safekeeper keeps of a timeline in its control block and history file. */
struct sk_durable {
    term_t term;
    struct co_id voted_nonce;
    lsn_t commit_lsn; /* lazy lower bound */
    bool no_lease;    /* clean shutdown or birth: nobody holds a lease (else quiet_until) */
    lsn_t floor_lsn;  /* history is collapsed below */
    struct sk_base base;
    /* The log ended below this at a start, though it may have been acknowledged up to here, in
     * terms up to suspect_term; 0: no doubt. It ends when a leader has brought the log back. */
    lsn_t suspect_lsn;
    term_t suspect_term;
    struct q_term *history;
    uint32_t n_history;
};

/* What the storage found at start. */
struct sk_boot {
    struct co_id cluster, timeline;
    struct sk_durable durable; /* history borrowed for the call */
    lsn_t start_lsn;           /* of the timeline */
    struct wal_digest start_digest;
    lsn_t flush_lsn;          /* end of the live log */
    struct wal_digest digest; /* chain digest there */
    /* last CONFIG record of the log, else that of the base, else the timeline's birth config */
    struct wal_config config;
    uint32_t node;     /* our node id; 0: of no configuration */
    bool left;         /* an earlier one named us, the last one does not (q_left) */
    uint64_t now_us;   /* or any time since which it has promised no lease */
    uint64_t lease_us; /* L */
    /* So many history entries are kept even below the floor, so that old commits can be asked for;
     * 0: SK_HISTORY_KEEP. */
    uint32_t history_keep;
    /* acceptor_witness.h; 0 and none where the shell keeps no such thing. Borrowed for the call. */
    uint64_t starts, start_id;
    struct q_known_list known;
};

#define SK_HISTORY_KEEP 1024u
#define SK_WAITERS_MAX  64u /* connections that wait for a lease; more poll */
/* A vote keeps others out for so long, that its winner can be adopted (at most the lease). */
#define SK_VOTE_HOLD_US 250000u
/* Who has waited longest for the lease has so long to come for it. */
#define SK_TURN_US 50000u

enum sk_event_kind {
    SK_EV_MSG,       /* conn, msg */
    SK_EV_FLUSHED,   /* lsn: everything below is durable; staged: so much behind it */
    SK_EV_TRUNCATED, /* lsn, digest, config: the log now ends there */
    SK_EV_CLOSED,    /* conn is gone; `local`: it came from this host, so its lease ends with it */
    SK_EV_TIMER,     /* the time of SK_TIMER has come */
    SK_EV_SHUTDOWN,  /* clean stop: flush, note whether a lease is out */
    SK_EV_TRIM,      /* the log may begin at lsn (digest, config there): archived, followed */
};

struct sk_event {
    enum sk_event_kind kind;
    uint64_t now_us; /* BOOTTIME of this node */
    sk_conn_t conn;
    bool local;
    const struct q_msg *msg;
    lsn_t lsn;
    uint64_t staged;
    struct wal_digest digest;
    struct wal_config config;
    /* TRIM: so far an archive has the log; so far it is on the disk of every pageserver that
     * follows. 0: not known, or not at all. */
    lsn_t archived_lsn, followed_lsn;
};

enum sk_action_kind {
    SK_FLUSH,    /* make everything appended durable now (instead of a later FLUSHED) */
    SK_TRUNCATE, /* drop everything at or above lsn */
    SK_PERSIST,  /* write control block; and the history file when history_changed; atomic as a pair
                  */
    SK_REBASE,   /* the log begins at lsn: durable->base; see above */
    SK_APPEND,   /* write `bytes` (whole records, or a fragment) at lsn */
    SK_SEND,     /* msg to conn */
    SK_READ,     /* read whole records in [lsn, to_lsn), at most CO_BATCH_BYTES or one record, put
                    them in msg.payload (from_lsn == lsn) and send msg to conn; of a record that is
                    larger a fragment from fragment_at on, with msg.fragment and msg.to_lsn */
    SK_COMMIT,   /* commit_lsn moved to lsn: wake streams */
    SK_TIMER,    /* deliver SK_EV_TIMER at at_us; replaces the earlier one */
    SK_WITNESS,  /* known: to be on the disk soon; nobody waits for it */
    SK_REGRESSED, /* known: what proves that this disk went back in time; lsn: its log ends there.
                     The node takes no part any more, in no timeline, durably */
    SK_HALT,      /* this timeline's state contradicts itself: stop serving it, keep the files */
};

struct sk_action {
    enum sk_action_kind kind;
    lsn_t lsn, to_lsn;
    struct co_span bytes;
    bool fragment;
    uint64_t fragment_at;
    const struct wal_header *record; /* of a last fragment: what is whole now */
    const struct sk_durable *durable;
    bool history_changed;
    sk_conn_t conn;
    struct q_msg msg;
    uint64_t at_us;
    const char *reason;        /* HALT: a sentence */
    struct q_known_list known; /* borrowed until the next step */
};

struct sk_actions {
    struct sk_action *a;
    uint32_t n, cap;
};
void sk_actions_free(struct sk_actions *out);

struct sk_acceptor;

CO_MUST_CHECK int sk_acceptor_new(const struct sk_boot *boot, struct sk_acceptor **out);
void sk_acceptor_free(struct sk_acceptor *sk);

/* One step. *out is emptied first. 0, or CO_ERR_NOMEM (the event counts as not delivered). */
CO_MUST_CHECK int sk_step(struct sk_acceptor *sk, const struct sk_event *event,
                          struct sk_actions *out);

/* For status, streams, and the simulator's oracle. */
struct sk_view {
    term_t term, last_log_term;
    lsn_t start_lsn, write_lsn, flush_lsn, commit_lsn, floor_lsn;
    lsn_t base_lsn;           /* the log is kept from here on */
    struct wal_digest digest; /* at write_lsn */
    uint64_t staged;          /* bytes of a record in the making */
    lsn_t suspect_lsn;        /* 0: no doubt */
    bool lease_held, halted;
    struct co_id lease_nonce;
    uint64_t lease_until_us;
    uint32_t waiters;
    uint64_t refused; /* messages that a right proposer of this timeline would not have sent */
    struct q_history history; /* borrowed until the next step */
    struct wal_config config;
    bool left, regressed;
    struct q_known_list known; /* borrowed until the next step */
};
void sk_view(const struct sk_acceptor *sk, uint64_t now_us, struct sk_view *out);

#endif
