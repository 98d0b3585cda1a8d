/*
 * life.h - short lives of one timeline on the product's storage, and what a restart must find.
 *
 * A life is a list of steps; a step is what the store thread does for one action of the acceptor.
 * Before a step changes anything the expectation says what the step may leave (`hi` beside `lo`);
 * after it, what it has promised. expectation and disk are copied at every change of the disk:
 * these are the crash points.
 */
#ifndef CORALLITE_TESTS_CRASH_LIFE_H
#define CORALLITE_TESTS_CRASH_LIFE_H

#include "safekeeper/registry_file.h"
#include "safekeeper/timeline_file.h"
#include "tests/crash/disk.h"

#define STEPS(X)                                                                                   \
    X(APPEND, 'a', "a record of one sector or so")                                                 \
    X(LARGE, 'A', "a record of eight sectors")                                                     \
    X(BATCH, 'b',                                                                                  \
      "two records in one append; the writer knows the first to be committed by others")           \
    X(STAGE, 'f', "a fragment of a record; the third makes it whole")                              \
    X(SYNC, 's', "sync: what was appended is acknowledged")                                        \
    X(COMMIT, 'c', "sync, and the commit LSN follows")                                             \
    X(SEAL, 'S', "the seal under load")                                                            \
    X(IDLE, 'i', "one step of idle work: seal, second slot and copy, zeros, next segment")         \
    X(VOTE, 'v', "a vote for a higher term")                                                       \
    X(ELECT, 'e', "a new leader's history, nothing cut")                                           \
    X(CUT, 't', "a new leader's history that cuts the last records off")                           \
    X(FLOOR, 'l', "a new leader's history, collapsed to its last two terms")                       \
    X(RESTART, 'r', "clean stop and start")                                                        \
    X(KILL, 'k', "killed and started: the kernel keeps what was written")                          \
    X(TRIM, 'g', "the begin of the log goes, below what is committed")                             \
    X(BASE, 'n', "the log is told to begin anew, behind its end")                                  \
    X(PUT, 'p', "the registry gets a newer version of the timeline")                               \
    X(WITNESS, 'w', "what is known of other safekeepers, newer")                                   \
    X(HALT, 'h', "halted for good")

enum step {
#define X(name, letter, text) STEP_##name,
    STEPS(X)
#undef X
        N_STEPS
};
extern const char step_letter[N_STEPS];

#define HISTORY_SMALL 40u
#define RECORDS       200u
#define CHANGES_BYTES 2048u /* of the registry, before its base is written anew */

/* What a voter must not forget. */
struct state {
    term_t term;
    struct co_id nonce;
    uint32_t n_history;
    struct q_term history[HISTORY_SMALL];
    bool no_lease, halted;
    lsn_t floor, base;
};

struct expect {
    bool born;                   /* the registry lists it */
    struct state lo, hi;         /* before and after the step under way; the same between steps */
    int tip, cut_tip;            /* newest record written; the tip before a cut under way, or -1 */
    int base_tip;                /* where the log is about to begin anew, or -1 */
    lsn_t promised;              /* told to be durable: a restart's log ends here or later */
    lsn_t commit;                /* in the control block */
    uint64_t put_lo, put_hi;     /* version of the registry's entry */
    uint64_t known_lo, known_hi; /* what is known of other safekeepers: which (life_known) */
    lsn_t doubt;                 /* noted in the control block */
    lsn_t others; /* what writers that are known here know to be committed elsewhere */
};

/* Every record that was ever made; the parent is the one before it in the log. */
struct made {
    lsn_t begin, end;
    struct wal_digest digest;
    int parent; /* -1: a log begins here, with nothing */
    struct co_buf bytes;
};

struct life {
    struct expect x;
    struct sk_files *files; /* NULL: not open */
    struct made made[RECORDS];
    int n_made; /* 0 is the empty log */
    struct wal_builder *builder;
    struct co_buf staging; /* record that is being staged */
    struct made staging_made;
    size_t staged;
    uint64_t rng;
    lsn_t start;
    lsn_t sealed; /* when it was killed */
    struct sk_registry registry;
    bool listed;       /* `registry` is that of the process */
    const char *wrong; /* what a start within the life found */
};

#define DATA_DIR "/d"
void life_begin(struct life *l, uint64_t seed, lsn_t start);
void life_end(struct life *l);
/* 0; 1: the step makes no sense here, nothing was done; negative: the storage failed (an injected
 * error), and the process is gone. */
int life_step(struct life *l, enum step step);
/* Makes the timeline: directory, then registry. As life_step. */
int life_birth(struct life *l);
/* The process is gone, the kernel stays. */
void life_kill(struct life *l);
uint64_t life_random(struct life *l);
struct sk_birth life_owner(const struct life *l);
/* What is known of other safekeepers with the write `at`; 0: nothing. */
#define KNOWN_OF 2u
void life_known(uint64_t at, struct q_known out[KNOWN_OF]);
/* PUT of this version; CREATE if it is not listed. */
int life_put(const struct life *l, struct sk_registry *r, uint64_t version);

/* check.c: starts on the_disk with the product's start-up and compares. NULL, or what is wrong
 * (static). With `out` the files stay open, with
 * `registry` that too, and *x becomes what is promised from now on; else all is
 * closed. */
const char *check_start(const struct life *l, struct expect *x, struct sk_files **out,
                        struct sk_registry *registry);
/* Deeper: every record byte by byte, zeros behind the end, and life goes on. */
const char *check_deep(const struct life *l, struct sk_files *files, struct expect *x);

/* flips.c: rot of every byte of every file of a life's end, and writes that went to another place;
 * returns NULL or what is wrong. */
struct flips {
    uint64_t bytes, strays, refused, same, residual, older;
};
const char *flip_all(const struct life *l, const struct disk *d, struct flips *count);

#endif
