/*
 * members.h - what the safekeeper verbs know of a cluster's safekeepers, and how they talk to them.
 *
 *   member_plan.h       which members a log gets next
 *   members_sock.c      finding them, their list of who they are (proto/nodes.h), their registries
 *   member_log_sock.c   one timeline: the tool as its proposer, one step towards other members
 *   member_sealed_sock.c  one that is sealed: who lacks some of what is committed is filled with it
 *                       (proto/sealed_end.h: what that is)
 *   catch_up_sock.c     `safekeeper catch-up`
 *   safekeeper_sock.c   the other verbs
 *
 * The tool drives the proposer core of the compute (the one part of compute-vfs that the command
 * may include). It keeps nothing on its own disk: how far a replacement is stands in the list that
 * the safekeepers keep, and in each log.
 */
#ifndef CORALLITE_CLI_MEMBERS_H
#define CORALLITE_CLI_MEMBERS_H

#include "cli/client_sock.h"
#include "proto/nodes.h"
#include "proto/qmsg.h"
#include "proto/sealed_end.h"

/* A safekeeper and our two connections to it: requests, and the log's messages. */
struct member {
    uint32_t node;
    char host[CO_HOST_MAX_BYTES + 1];
    uint16_t port;
    struct co_id disk;  /* as it said; zero: not reached yet */
    struct co_id named; /* its number's, by the pageserver or the list; zero: not known */
    struct client admin, log;
    bool up;              /* `admin` stands */
    bool other;           /* who answers there is another one, and counts for nothing */
    bool regressed;       /* it answers, and takes no part: its disk went back in time */
    bool heard;           /* on `log`, in this step of a timeline */
    uint64_t heard_us;    /* on `log`, ever */
    uint64_t retry_at_us; /* of `log` */
    char why[CO_SENTENCE_MAX];
};

/* How the one that a timeline's new member is fed with gets on; a place is taken from the one that
 * was used longest ago. */
struct member_feed {
    struct co_id timeline;
    lsn_t has;          /* the new member, when it was fed last (several: their sum) */
    uint32_t fruitless; /* times that it got nothing, less those that it got something */
    uint64_t used_us;
};
#define MEMBER_FEEDS 16u

struct members {
    struct client_target target; /* the pageserver */
    struct co_id cluster;
    struct nodes book; /* the newest that anybody keeps; version 1: as the pageserver has it */
    struct member at[NODES_MAX];
    uint32_t n;
    struct member_feed feed[MEMBER_FEEDS];
    bool watch; /* lists tell how far each timeline is committed, and go on telling */
    struct qmsg_scratch scratch;
    struct co_buf frame;
};

/* A timeline, as the registries of the safekeepers have it. */
struct member_timeline {
    struct co_id id;
    char name[2 * (CO_NAME_MAX_BYTES + 1)]; /* DB/BRANCH */
    int state;                              /* Corallite__TimelineState */
    uint64_t version;
    struct wal_config config;  /* at birth */
    Corallite__Timeline *wire; /* owned */
    bool done;
    uint32_t sealed_by[NODES_MAX], n_sealed_by; /* nodes whose registry says SEALED */
    struct sealed_word read; /* where a branch grew from it (proto/sealed_end.h) */
    lsn_t commit[NODES_MAX]; /* as members.at[] tell it, where `watch`; 0: not known there */
};
struct member_timelines {
    struct member_timeline *e; /* ascending by id */
    uint32_t n, cap;
};

/* Asks the pageserver for the safekeepers, and each of those that can be reached for the list of
 * them. An error only when the pageserver cannot be asked. */
CO_MUST_CHECK int members_open(struct members *m, const struct cli_args *args);
void members_close(struct members *m);
/* NULL: it is not known. */
struct member *members_find(struct members *m, uint32_t node);
/* What is said of one that is missing, behind its name; "": nothing. */
const char *member_note(const struct member *x);
#define MEMBER_RETRY_US 2000000u /* between two tries to connect a member's `log` */
/* x->log, for this log: it stands, or is made, not more often than that. A disk that is not the one
 * that its number stands for, as the log's birth names it, else the list, is hung up on and counts
 * for nothing: an empty directory in the place of a lost one knows nothing of what that had
 * acknowledged. CO_ERR_CONNECT: there is none now. */
CO_MUST_CHECK int member_connect(struct members *m, const struct member_timeline *t,
                                 struct member *x);
/* Connects to a safekeeper that is not in the list. CO_ERR_CONNECT, CO_ERR_CLUSTER,... */
CO_MUST_CHECK int members_add(struct members *m, const char *host, uint16_t port,
                              struct member **out);
/* Are those that can be reached enough for this configuration? A sentence names the missing. */
CO_MUST_CHECK int members_enough(const struct members *m, const struct wal_config *config);
/* Stores the list at all that can be reached; a majority (of both groups) must have it.
 * CO_ERR_BUSY: somebody stored another one meanwhile. */
CO_MUST_CHECK int members_put(struct members *m, const struct nodes *nodes);
/* The list that is known once more, for who goes on with a change that was broken off. Where
 * another change that was broken off left its list of the same version, this one takes its place.
 */
CO_MUST_CHECK int members_put_again(struct members *m);
/* Does the pageserver connect to exactly those that the list names? CO_ERR_AGAIN: not yet. */
CO_MUST_CHECK int members_pageserver_follows(struct members *m);

/* All that one safekeeper holds, merged into *out: the higher version stays. */
CO_MUST_CHECK int members_list(struct members *m, struct member *of, struct member_timelines *out);
/* All that a majority holds, and where branches grew. */
CO_MUST_CHECK int members_list_all(struct members *m, struct member_timelines *out);
void member_timelines_free(struct member_timelines *t);
CO_MUST_CHECK int members_put_timeline(struct member *on, const struct member_timeline *t);

/* member_log_sock.c */

enum member_step { MEMBER_DONE, MEMBER_JOINT, MEMBER_BUSY, MEMBER_SEALED };

/* Takes the lease of a timeline for a moment and takes it as far as it can towards the members that
 * the list (m->book) ends with, from whatever it has (member_plan.h): joint, and when `node`, the
 * new one, has all of it, alone. *state: DONE; JOINT: a new one lags (*behind bytes), come again;
 * BUSY: the lease or a majority was not to be had (co_sentence() says why); SEALED: it takes no
 * records any more, or was dropped. */
CO_MUST_CHECK int member_log_step(struct members *m, const struct member_timeline *t, uint32_t node,
                                  enum member_step *state, uint64_t *behind);

/* Takes the lease of a timeline for a moment and brings up every member that told how far it is, to
 * `upto` (not 0), which is committed. What is committed after it comes to them by who commits it.
 * *state: DONE; JOINT: one lags still (*behind bytes), come again; BUSY and SEALED as above. */
CO_MUST_CHECK int member_log_feed(struct members *m, const struct member_timeline *t, lsn_t upto,
                                  enum member_step *state, uint64_t *behind);

/* member_sealed_sock.c */

/* Fills `new` with what is committed of a sealed timeline. *state: DONE; JOINT: some is left, come
 * again (*behind bytes); BUSY: not now (co_sentence() says why). */
CO_MUST_CHECK int member_sealed_step(struct members *m, const struct member_timeline *t,
                                     struct member *new, enum member_step *state, uint64_t *behind);

/* Brings all keepers of a sealed timeline to where it is committed, those too that have all of it
 * and were not told. *state as above; *lag: so many bytes they lacked or did not know of. */
CO_MUST_CHECK int member_sealed_settle(struct members *m, const struct member_timeline *t,
                                       enum member_step *state, uint64_t *behind, uint64_t *lag);

#endif
