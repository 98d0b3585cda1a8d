/*
 * proposer.h - the writer's side of the quorum log of one timeline: the brain that may vanish.
 *
 * It keeps nothing on disk. To lead, it borrows the log of the most advanced safekeeper it heard
 * from (the donor) and acts as if it were that voter: Raft with the leader's head cut off.
 *
 * A core: no I/O, no clock, no thread, no callback. One timestamped event in, an ordered list of
 * actions out; the shell (quorum_step_sock.c) and the simulator run the same object file. All
 * actions are asynchronous and executed in order. Messages in actions are borrowed until the next
 * step: the shell puts them on the wire (or copies them) before it.
 *
 * States: FOLLOW -> (LEAD) CAMPAIGN -> elected: RECOVER (adoption, own start not committed yet)
 *         -> READY -> (newer term, ABANDON, RELEASE, no progress) FOLLOW
 *
 * Invariants (asserted): I10 commit only within a quorum of the config in the log and >= own start.
 * R5 one (term, LSN), one content. R3 match counts only from an ACK in this term, after adoption.
 */
#ifndef CORALLITE_COMPUTE_VFS_PROPOSER_H
#define CORALLITE_COMPUTE_VFS_PROPOSER_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/qmsg.h"

struct pr_options {
    struct co_id cluster, timeline;
    struct co_id nonce;       /* fresh random; every campaign counts up its last 4 bytes */
    uint64_t seed;            /* of the jitter */
    struct wal_config config; /* what the pageserver told; only a bootstrap hint */
    uint64_t
        lease_us; /* L; counted from when the acknowledged message was sent, less 1 % and 2 ms */
    uint64_t renew_us;
    uint64_t resend_us;   /* no ACK for so long: send again from match_lsn (default 1 s) */
    uint64_t progress_us; /* R8: leader without any ACK progress for so long steps down; 0: never */
    uint32_t batch_bytes; /* of one APPEND; CO_BATCH_BYTES */
    uint32_t fragment_bytes; /* a larger record is sent in fragments of so much; CO_BATCH_BYTES */
    uint64_t window_bytes;   /* in flight to one safekeeper */
    uint64_t tail_bytes;     /* records kept in memory for safekeepers that lag; older ones are
                                FETCHed from a safekeeper that has them */
    bool want_received;      /* ask for ACKs before the sync with every record */
};

enum pr_event_kind {
    PR_EV_UP,      /* node: connected, Hello done */
    PR_EV_DOWN,    /* node: connection lost; what was in flight on it may be lost */
    PR_EV_MSG,     /* node, msg (borrowed for the call) */
    PR_EV_TIMER,   /* the time of PR_TIMER has come */
    PR_EV_LEAD,    /* become and stay leader until RELEASE or ABANDON; repeats campaigns by itself
                      while a lease of somebody else runs or there is no quorum */
    PR_EV_APPEND,  /* record (taken), or spilled: sealed at the tip in this term; only when READY */
    PR_EV_RELEASE, /* give the lease up, after what is in flight is committed; then FOLLOW */
    PR_EV_ABANDON, /* give up: stop campaigning, or leave the term with commits in flight */
    PR_EV_POSITION, /* req: where does the log end, strictly? (3-round: READ_POS to a quorum) */
    PR_EV_RESOLVE,  /* req, resolve_term, resolve_lsn: was the record that began there committed? */
    PR_EV_CHANGE,   /* config (n and members only): one step towards these members; when leading.
                       CONFIG follows when it is committed, or CHANGE_REFUSED. It moves the tip */
    PR_EV_CANCEL,   /* req: nobody waits for it any more */
    PR_EV_WRITING,  /* a write transaction is open: told to those who wait for the lease */
    PR_EV_HURRY,    /* somebody waits for what was appended with want_received to be durable */
};

/* A record that the shell keeps where it has room. Sends of it name it, FORGET gives it back. */
struct pr_spilled {
    uint64_t id;              /* the shell's name for it, not 0 */
    struct wal_header header; /* with the digest */
};

struct pr_event {
    enum pr_event_kind kind;
    uint64_t now_us;  /* BOOTTIME */
    uint64_t wall_us; /* for the time in a CONFIG record */
    uint32_t node;
    const struct q_msg *msg;
    struct co_buf *record;            /* APPEND: emptied by the proposer */
    const struct pr_spilled *spilled; /* APPEND: instead of `record` */
    bool want_received; /* APPEND of `record`: ask for ACKs before the sync, for synchronous=NORMAL
                         */
    uint64_t req;
    term_t resolve_term;
    lsn_t resolve_lsn;
    const struct wal_config *config; /* CHANGE */
};

enum pr_action_kind {
    PR_SEND,   /* msg to node; with spilled, the payload (its length is there) is read by the shell
                  from   that record, from byte msg.fragment_at on */
    PR_FORGET, /* spilled: not needed any more */
    PR_PROGRESS, /* bytes of a large record arrived somewhere; nothing is durable by that */
    PR_READY, /* term, lsn (the tip), digest there, config: own start is committed; APPEND may come
               */
    PR_DURABLE,  /* lsn: committed up to here in term */
    PR_RECEIVED, /* lsn: a majority has it in memory */
    PR_LOST,    /* term: no longer leader; reason. Outcome of records above the last DURABLE is open
                   until RESOLVED is asked for. contested: see pr_action */
    PR_REFUSED, /* a campaign failed; reason; another follows by itself */
    PR_POSITION, /* req, lsn: newest committed boundary; every commit acknowledged before is below
                  */
    PR_RESOLVED, /* req, verdict */
    PR_CONFIG,   /* term, lsn, config: this configuration is committed */
    PR_CHANGE_REFUSED, /* reason */
    PR_WAITER,         /* another compute waits for the lease; anew: it has just asked for it */
    PR_RELEASED,       /* RELEASE is done */
    PR_TIMER,          /* deliver PR_EV_TIMER at at_us; replaces the earlier one */
};

enum pr_verdict { PR_UNKNOWN, PR_COMMITTED, PR_NOT_COMMITTED };

struct pr_action {
    enum pr_action_kind kind;
    uint32_t node;
    struct q_msg msg;
    uint64_t spilled;
    term_t term;
    lsn_t lsn;
    struct wal_digest digest;
    struct wal_config config;
    uint64_t time_us; /* READY: time of the last record that is known, 0 if unknown */
    uint64_t req;
    enum pr_verdict verdict;
    uint64_t at_us;
    const char *reason;
    /* LOST: a higher term was seen, perhaps at a minority only. The lease was not given back, and a
     * campaign for it is under way as after LEAD; ABANDON ends both. */
    bool contested;
    bool anew; /* WAITER; else it is only that somebody waits still */
};

struct pr_actions {
    struct pr_action *a;
    uint32_t n, cap;
};
void pr_actions_free(struct pr_actions *out);

struct pr_proposer;

CO_MUST_CHECK int pr_new(const struct pr_options *options, struct pr_proposer **out);
void pr_free(struct pr_proposer *pr);

/* One step. *out is emptied first. 0, or CO_ERR_NOMEM (the event counts as not delivered). */
CO_MUST_CHECK int pr_step(struct pr_proposer *pr, const struct pr_event *event,
                          struct pr_actions *out);

enum pr_state { PR_FOLLOW, PR_CAMPAIGN, PR_RECOVER, PR_LEADER };

struct pr_view {
    enum pr_state state;
    term_t term;
    lsn_t start_lsn, tip_lsn, commit_lsn, received_lsn;
    struct wal_digest tip_digest;
    struct wal_config config;
    uint32_t untold; /* nodes that have left by the configuration in force and were not told yet */
    /* End of the lease as a quorum has granted it, margin taken off; a local read at commit_lsn is
     * strict while READY and now_us < lease_until_us. 0: none. */
    uint64_t lease_until_us;
    /* Campaigning: until then the newest word counts that whoever holds the lease has a write
     * transaction open. 0: none. */
    uint64_t in_use_until_us;
    struct {
        uint32_t node;
        bool up, adopted;
        lsn_t match_lsn;
    } member[2 * CO_MEMBERS_MAX];
    uint32_t n_members;
};
void pr_view(const struct pr_proposer *pr, struct pr_view *out);

#endif
