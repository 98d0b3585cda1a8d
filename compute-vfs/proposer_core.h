/*
 * proposer_core.h - the state of a proposer, shared by its eight files and nobody else:
 *
 *   proposer.c        events, timers, life; calls the others
 *   proposer_elect.c  R1, R2: campaign, donor, adoption, end of a leadership
 *   proposer_tail.c   R5: the tail in memory
 *   proposer_log.c    R8: APPEND and catch-up
 *   proposer_commit.c  R3: acknowledgements, commit, lease
 *   proposer_members.c  CONFIG records: the members change in two steps
 *   proposer_known.c  what safekeepers have said: disks that went back in time
 *   proposer_ask.c    strict positions and "was it committed?" (3 rules), settling an open tail
 */
#ifndef CORALLITE_COMPUTE_VFS_PROPOSER_CORE_H
#define CORALLITE_COMPUTE_VFS_PROPOSER_CORE_H

#include "compute-vfs/proposer.h"
#include "proto/qhist.h"

#define PR_NEVER UINT64_MAX
/* What a safekeeper said about its lease counts for so long before a campaign asks again. */
#define PR_FRESH_US 200000u
/* A holder repeats every 100 ms that its transaction is open; one that stops has ended it, or its
 * machine is very busy. */
#define PR_IN_USE_US 500000u
#define PR_TURN_US   50000u /* how long a safekeeper keeps the lease for whom it has told FREE */
#define PR_NODES_MAX (2u * CO_MEMBERS_MAX)
/* An idle commit is told to the safekeepers at the latest after so long (S5). */
#define PR_TELL_US 1000u
/* Less than this is gathered while two APPENDs are on their way (proposer_log.c). */
#define PR_GATHER_BYTES 65536u
#define PR_CHUNK_MIN    4096u
#define PR_CHUNK_MAX    (256u * 1024u)
/* A position is asked of the quorum that was fastest lately; after so long of the others, too. */
#define PR_REST_US 5000u
/* A writer that began its last PR_CALM commits so long after the one before was durable is in no
 * hurry: it tells an idle commit at once (S5), before its COMMIT returns, so that who reads next
 * need not wait for PR_TELL_US. In a loop of commits the next record tells; one pause makes no
 * calm. */
#define PR_CALM    2u
#define PR_CALM_US 100u
/* Asking again, while a tail is open. */
#define PR_REASK_US     1000u
#define PR_REASK_MAX_US 20000u

/* A history that we own. */
struct pr_history {
    struct q_term *e;
    uint32_t n, cap;
};

/* What a VOTED said of a safekeeper's log. */
struct pr_state_seen {
    lsn_t flush_lsn, commit_lsn, start_lsn;
    lsn_t base_lsn;    /* it keeps its log from here on; 0: from its start */
    lsn_t suspect_lsn; /* its log may have reached so far, in suspect_term; 0: no doubt */
    term_t suspect_term;
    struct wal_digest digest;
    struct wal_config config;
    struct pr_history history;
};

/* What a POS said. */
struct pr_pos {
    bool known;
    uint64_t round; /* the newest round that it answers */
    term_t term, last_log_term;
    lsn_t flush_lsn, commit_lsn;
    bool lease_held, with_history;
    struct wal_config config;
    struct pr_history history;
    lsn_t known_commit;   /* as it has heard; beyond commit_lsn */
    uint64_t doubt_round; /* the newest round that it answered with its log in doubt */
};

struct pr_node {
    uint32_t node;
    bool up;
    uint64_t up_us; /* when it came up last */

    /* campaign */
    uint64_t lease_info_us; /* when lease_held was learnt; 0: never */
    bool lease_held;
    uint64_t vote_us; /* the first VOTE in (term, nonce) was sent; 0: not yet */
    bool granted;     /* a vote in it */
    bool answered;    /* granted or not */
    bool fresh;       /* it has followed no leader since its start */
    bool state_known; /* `state` is of this term */
    struct pr_state_seen state;

    /* leadership; match counts only after adoption, on this connection (R3) */
    bool adopted;
    bool broken; /* its log ends within a record of ours: nothing of it counts in this term */
    lsn_t match_lsn, written_lsn, sent_lsn;
    uint64_t acked_us; /* when we sent the newest message that it acknowledged; 0: none */
    lsn_t base_lsn;    /* it keeps its log from here on, as it said last; 0: from its start */
    /* of a record that goes in fragments: so much of the one at sent_lsn was sent; so much of the
     * one at match_lsn is staged there */
    uint64_t part_sent, part_have;
    lsn_t newest_end, before_end; /* where the records of the last two APPENDs end */
    lsn_t told_commit;            /* the newest commit_lsn sent */
    uint64_t elected_us;          /* ELECTED was sent; 0: not yet */
    uint64_t sent_us;             /* the newest APPEND */
    uint64_t progress_us;         /* an ACK moved, or something went in flight */
    uint64_t lease_until_us;

    /* catch-up from another safekeeper's log, below the tail that is in memory */
    uint32_t fetch_node; /* 0: nothing under way */
    uint64_t fetch_us;

    bool asked; /* in the round under way, */
    uint64_t asked_us;
    uint64_t answer_us;        /* how long it took to answer lately */
    uint64_t starts, start_id; /* as it told with its newest vote; 0: it does not tell */
    uint64_t known_us;         /* what is known was told to it last; 0: not on this connection */

    struct pr_pos pos;
};

/* A piece of the tail: whole records, contiguous; its memory never moves. Or one record that the
 * shell keeps: `data` is NULL. */
struct pr_chunk {
    uint8_t *data;
    size_t len, cap;
    lsn_t begin;
    uint64_t spilled; /* 0: in `data` */
};

struct pr_ask {
    uint64_t req;
    bool resolve;
    term_t term; /* resolve */
    lsn_t lsn;
    uint64_t since_us;
    uint64_t min_round; /* only rounds that began after the question */
    bool have_p;        /* position: a quorum has told how far the log may reach */
    lsn_t p;
    lsn_t max_commit;
};

enum pr_phase { PR_PHASE_WAIT, PR_PHASE_ASK, PR_PHASE_VOTE };

struct pr_proposer {
    struct pr_options o;
    uint64_t random;
    enum pr_state state;
    bool want_lead; /* the owner asked for it */
    bool settling;  /* an open question asks for it */
    bool announced; /* READY was told: the end of this leadership is the owner's business */
    bool releasing, tell_released;
    term_t max_term;
    struct wal_config hint; /* the newest configuration heard of */
    struct pr_node nodes[PR_NODES_MAX];
    uint32_t n_nodes;
    uint64_t up_us; /* when one of them came up last */

    /* campaign and leadership */
    enum pr_phase phase;
    uint64_t phase_until_us;
    uint64_t voting_us;         /* when VOTE was sent */
    uint64_t votes_since_us;    /* votes that were asked for before do not count (try_elect) */
    uint64_t grace_until_us;    /* see hears_others; 0: nothing is waited for */
    uint64_t campaign_since_us; /* the first of those that followed each other */
    uint64_t in_use_until_us;   /* the lease's holder has a transaction open; 0: not heard of */
    uint32_t unheard;           /* campaigns in a row that were over before a quorum had answered */
    term_t term;
    struct co_id nonce;
    term_t held_term; /* the lease of this term was kept when it was lost (R6); 0: none */
    struct co_id held_nonce;
    bool candidate_used; /* (term, nonce) was put in a VOTE: never again for another campaign */
    struct pr_history history;
    lsn_t start_lsn, tip_lsn, commit_lsn, received_lsn;
    lsn_t want_received_lsn; /* below it ACKs before the sync are wanted */
    struct wal_digest tip_digest;
    struct wal_config config;        /* in force at the tip */
    lsn_t config_lsn;                /* its record ends at or below this */
    struct wal_config config_before; /* the one before, */
    struct wal_config gone;          /* and whom it named: who has left is told (n 0: nobody) */
    bool config_told;                /* its owner knows that it is committed */
    bool finish_due;                 /* see pr_members_due */
    lsn_t ready_lsn;                 /* own start, and CONFIG records that come before READY */
    lsn_t quorum_lsn;                /* a quorum has adopted our history and flushed so far */
    uint64_t stale_lease_us;         /* of a mistake; see common/mutation.h */
    uint64_t time_us;
    uint64_t moved_us; /* R8 */
    uint64_t commit_moved_us;
    uint32_t calm; /* commits in a row; PR_CALM_US */

    struct pr_chunk *chunks; /* ascending, gapless, up to the tip */
    uint32_t n_chunks, cap_chunks;
    uint64_t tail_bytes;
    struct co_buf fetched; /* DATA that is passed on in this step */

    struct q_known known[Q_KNOWN_MAX]; /* what safekeepers have said */
    uint32_t n_known;

    struct pr_ask *asks;
    uint32_t n_asks, cap_asks;
    uint64_t round;        /* read_id of the newest READ_POS round; 0: none yet */
    uint64_t closed_round; /* a quorum has answered; only later rounds tell anything new */
    bool round_open, round_histories;
    bool round_rest; /* some were left out, and are asked when the others take long */
    uint64_t round_us, reask_us, next_round_us;

    uint64_t timer_us;
    struct pr_actions *out; /* of the step under way */
};

/* proposer.c */
struct pr_action *pr_emit(struct pr_proposer *pr, enum pr_action_kind kind);
/* A message to `node`; NULL when there is no memory: it counts as lost, and timers repeat it. */
struct q_msg *pr_send(struct pr_proposer *pr, const struct pr_node *node, enum frame_type type);
struct pr_node *pr_node_of(struct pr_proposer *pr, uint32_t node);
void pr_know_config(struct pr_proposer *pr, const struct wal_config *config);
uint64_t pr_random(struct pr_proposer *pr, uint64_t below);
CO_MUST_CHECK int pr_history_set(struct pr_history *to, const struct q_history *from,
                                 uint32_t room);
/* Is the set of nodes for which `has` holds a quorum of `config`? */
bool pr_quorum(const struct pr_proposer *pr, const struct wal_config *config,
               bool (*has)(const struct pr_proposer *, const struct pr_node *, uint64_t),
               uint64_t arg);

/* proposer_elect.c */
void pr_campaign(struct pr_proposer *pr, uint64_t now, uint64_t delay_us);
void pr_campaign_tick(struct pr_proposer *pr, uint64_t now, uint64_t wall_us);
CO_MUST_CHECK int pr_on_voted(struct pr_proposer *pr, struct pr_node *node, const struct q_msg *m,
                              uint64_t now, uint64_t wall_us);
void pr_send_vote(struct pr_proposer *pr, struct pr_node *node, uint64_t now);
/* A VOTE of ours named an old configuration: the newer one is known now. */
void pr_on_reject_config(struct pr_proposer *pr, uint64_t now);
void pr_on_free(struct pr_proposer *pr, struct pr_node *node, uint64_t now);
void pr_send_elected(struct pr_proposer *pr, struct pr_node *node, uint64_t now);
/* A term above ours was seen. */
void pr_on_newer_term(struct pr_proposer *pr, term_t term, uint64_t now);
/* Ends campaign or leadership; `lost` says why if the owner had the log. */
void pr_step_down(struct pr_proposer *pr, const char *reason);
void pr_try_release(struct pr_proposer *pr, uint64_t now);
bool pr_leads(const struct pr_proposer *pr);

/* proposer_tail.c */
CO_MUST_CHECK int pr_tail_add(struct pr_proposer *pr, struct co_buf *record, bool want_received,
                              uint64_t now);
CO_MUST_CHECK int pr_tail_add_spilled(struct pr_proposer *pr, const struct pr_spilled *record,
                                      uint64_t now);
void pr_tail_clear(struct pr_proposer *pr);
void pr_tail_trim(struct pr_proposer *pr);
/* Where it begins; the chunk that holds an LSN within it. */
lsn_t pr_tail_begin(const struct pr_proposer *pr);
const struct pr_chunk *pr_tail_chunk(const struct pr_proposer *pr, lsn_t lsn);
/* Of the record that begins at `lsn`; 0: none does. */
uint64_t pr_tail_record_bytes(const struct pr_chunk *c, lsn_t lsn);
/* Does the record at `at` have to go in fragments? */
bool pr_tail_is_large(const struct pr_proposer *pr, const uint8_t *at);
/* As many from `lsn` on as go into one APPEND. */
struct co_span pr_tail_records(const struct pr_proposer *pr, const struct pr_chunk *c, lsn_t lsn);

/* proposer_log.c */
/* Nothing is on its way to this safekeeper any more, as far as we know. */
void pr_rewind(struct pr_node *n, bool forget);
CO_MUST_CHECK int pr_on_data(struct pr_proposer *pr, struct pr_node *node, const struct q_msg *m,
                             uint64_t now);
/* Is this node a member, or one again should the newest configuration come to nothing? */
bool pr_may_be_member(const struct pr_proposer *pr, const struct pr_node *n);
/* A write transaction is open here. */
void pr_tell_writing(struct pr_proposer *pr, uint64_t now);
/* Who has not flushed all that it was sent is asked, by a heartbeat, to do so at once. */
void pr_hurry(struct pr_proposer *pr, uint64_t now);
void pr_drive(struct pr_proposer *pr, uint64_t now);
uint64_t pr_log_deadline(const struct pr_proposer *pr);

/* proposer_commit.c */
static inline uint64_t pr_larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
void pr_on_ack(struct pr_proposer *pr, struct pr_node *node, const struct q_msg *m, uint64_t now);
void pr_advance(struct pr_proposer *pr, uint64_t now); /* R3 */
void pr_announce(struct pr_proposer *pr);              /* READY, once, to an owner that wants it */
uint64_t pr_lease_until(const struct pr_proposer *pr);

/* proposer_members.c */
/* Puts a configuration in the log, at the tip. */
CO_MUST_CHECK int pr_config_append(struct pr_proposer *pr, const struct wal_config *config,
                                   uint64_t now, uint64_t wall_us);
CO_MUST_CHECK int pr_change(struct pr_proposer *pr, const struct wal_config *target, uint64_t now,
                            uint64_t wall_us);
/* Before READY: is the second step of a change to be taken, and taking it. */
bool pr_members_due(const struct pr_proposer *pr);
void pr_members_finish(struct pr_proposer *pr, uint64_t now, uint64_t wall_us);
/* Tells the owner, once, that the configuration is committed. */
void pr_members_committed(struct pr_proposer *pr);
/* Is this node being told that it has left? */
bool pr_is_told(const struct pr_proposer *pr, const struct pr_node *n);
/* Does it get our log? */
bool pr_is_driven(const struct pr_proposer *pr, const struct pr_node *n);

/* proposer_known.c */

/* What comes with a message of `n`. */
void pr_known_hear(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m);
/* While leading, before that is over: what was acknowledged is remembered. */
void pr_known_collect(struct pr_proposer *pr);
/* Puts all in a message to `n`; in an APPEND when it is time. */
void pr_known_tell(struct pr_proposer *pr, struct pr_node *n, struct q_msg *m, uint64_t now);
void pr_known_append(struct pr_proposer *pr, struct pr_node *n, struct q_msg *m, uint64_t now);
/* Is the state that it told with its vote less than what it has said before? */
bool pr_known_denies(const struct pr_proposer *pr, const struct pr_node *n);
/* Does a log that ends at lsn have all that is known to be committed? */
bool pr_known_reaches(const struct pr_proposer *pr, lsn_t lsn);
/* Has the log of whoever is to give it all that is known to be committed? */
bool pr_known_donor(const struct pr_proposer *pr, const struct pr_node *donor);
void pr_on_regressed(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m);

/* proposer_ask.c */
CO_MUST_CHECK int pr_ask_add(struct pr_proposer *pr, const struct pr_event *event);
void pr_ask_cancel(struct pr_proposer *pr, uint64_t req);
CO_MUST_CHECK int pr_on_pos(struct pr_proposer *pr, struct pr_node *node, const struct q_msg *m,
                            uint64_t now);
/* READ_POS of the round under way. */
void pr_ask_node(struct pr_proposer *pr, struct pr_node *node, uint64_t now);
void pr_ask_tick(struct pr_proposer *pr, uint64_t now);
uint64_t pr_ask_deadline(const struct pr_proposer *pr);

#endif
