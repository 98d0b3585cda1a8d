/*
 * sim.h - the deterministic simulator of the quorum log (level A): the product's own acceptor and
 * proposer objects, driven by an event heap instead of sockets, disks and clocks.
 *
 *   sim.h      this: the whole state
 *   world.c    time, randomness, faults, network and connections, nemesis
 *   node.c     a safekeeper: its simulated disk, crash, restart, execution of acceptor actions
 *   base.c     its log's begin goes, or is told to it; the archive; configurations
 *   client.c   a compute: workload, execution of proposer actions
 *   image.c    a disk that goes back in time
 *   oracle.c   what must hold (I1 to I17)
 *   run.c      one seed from birth to verdict
 *   main.c     command line, shrinking, mistakes
 *
 * Deterministic: one thread, one heap ordered by (time, sequence), one random stream per purpose.
 */
#ifndef CORALLITE_TESTS_SIM_SIM_H
#define CORALLITE_TESTS_SIM_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mutation.h"
#include "compute-vfs/proposer.h"
#include "proto/wal.h"
#include "safekeeper/acceptor.h"

#define N_SK      5u /* nodes; only three of them when members do not change */
#define N_MEMBERS 3u
#define N_CLIENTS 4u /* computes; of which a seed has two to four */
#define MAX_TXNS  16384u
#define MAX_TERMS 8192u
#define INFLIGHT  64u
#define MAX_OPEN  256u /* transactions of unknown outcome of one client */
#define MAX_READS 4u
#define NEVER     UINT64_MAX

/* ---- faults ---- */
#define FAULTS(X)                                                                                  \
    X(DROP, "drop")                                                                                \
    X(DUP, "dup")                                                                                  \
    X(DELAY, "delay")                                                                              \
    X(PARTITION, "partition")                                                                      \
    X(ASYM, "asymmetric-cut")                                                                      \
    X(SWIZZLE, "swizzle-clog")                                                                     \
    X(HALF_OPEN, "half-open")                                                                      \
    X(RESET, "connection-reset")                                                                   \
    X(SK_CRASH, "sk-crash")                                                                        \
    X(MID_CRASH, "crash-in-action-list")                                                           \
    X(EIO, "fsync-eio")                                                                            \
    X(TORN, "torn-tail")                                                                           \
    X(SK_PAUSE, "sk-pause")                                                                        \
    X(SK_STOP, "sk-clean-restart")                                                                 \
    X(CLIENT_CRASH, "client-crash")                                                                \
    X(CLIENT_PAUSE, "client-pause")                                                                \
    X(ROT, "rot")                                                                                  \
    X(ISOLATE, "isolate-new-leader")                                                               \
    X(ABANDON, "abandon")                                                                          \
    X(IMAGE, "older-image")                                                                        \
    X(LYING, "lying-disk")                                                                         \
    X(DISPLACED, "leader-displaced")

enum fault {
#define X(name, text) F_##name,
    FAULTS(X)
#undef X
        N_FAULTS
};
extern const char *const fault_name[N_FAULTS];

enum stream { R_NET, R_DISK, R_NEMESIS, R_WORK, R_SWARM, R_BASE, N_STREAMS };
struct rng {
    uint64_t s[2];
};

/* What a seed draws for itself before it begins. */
struct swarm {
    uint32_t ppm[N_FAULTS];
    uint32_t delay_min_us, delay_max_us;
    bool fifo, codec, no_floor, alternate, come_back;
    uint32_t trim_ppm;         /* how often a log's begin goes */
    uint32_t n_sk, change_ppm; /* nodes that there are; how often members change */
    uint32_t n_clients;        /* computes that there are */
    uint64_t lease_us, resend_us, progress_us, window_bytes, tail_bytes, sync_min_us, sync_max_us;
    uint32_t batch_bytes, fragment_bytes, history_keep, pipeline, tick_us;
    bool want_received;
    uint32_t read_ppm, release_ppm, settle_ppm;
    int drift[N_SK + N_CLIENTS];
    uint64_t heal_us;
};

/* ---- events ---- */
enum event_kind {
    E_TO_SK,
    E_TO_CLIENT,
    E_SYNCED,
    E_SK_TIMER,
    E_CLIENT_TIMER,
    E_SK_RESTART,
    E_CLIENT_RESTART,
    E_CONNECT,
    E_CLOSED,
    E_DOWN,
    E_TICK,
    E_NEMESIS,
};

/* A message on its way; shared by its duplicates. */
struct flight {
    uint32_t refs;
    uint32_t client, sk;
    uint64_t conn;
    struct q_msg m;
};

struct event {
    uint64_t t;
    enum event_kind kind;
    uint32_t a, b;
    uint64_t n, staged;
    bool flag;
    struct flight *flight;
};

/* One is at event[at]; the heap moves only this. */
struct due {
    uint64_t t;
    uint32_t seq, at;
};

/* ---- a safekeeper ---- */
struct rec {
    lsn_t begin, end;
    term_t term;
    struct wal_digest digest;
    uint64_t id, built_on; /* from the commit uuid */
    uint32_t config;       /* the number of its configuration, from 1 on; 0: none is in it */
    uint32_t named;        /* by a configuration: a bit a node id */
};

struct node {
    uint32_t id; /* index; the node id is one more */
    bool up, clean;
    uint64_t paused_until, busy_until;
    struct sk_acceptor *sk;
    struct sk_actions actions;
    /* disk */
    uint8_t *log; /* from LSN_FIRST */
    size_t log_cap;
    lsn_t written, synced;          /* whole records */
    uint64_t staged, staged_synced; /* of a record in the making, behind `written` */
    struct rec *recs;
    uint32_t n_recs, cap_recs;
    struct sk_durable ctl; /* history owned */
    uint32_t cap_history;
    uint64_t log_generation;
    bool sync_running;
    uint64_t timer_at, timer_queued;
    uint32_t agreed; /* so many of recs are in the oracle's log */
    lsn_t promised;  /* told to somebody as durable */
    uint64_t boots;
    uint32_t based; /* so often it was told where its log begins */
    /* what it knows of others, on its disk; what is on its way there since pending_at (0: nothing)
     */
    struct q_known witness[Q_KNOWN_MAX], pending[Q_KNOWN_MAX];
    uint32_t n_witness, n_pending;
    uint64_t pending_at;
    uint64_t starts, start_id; /* on its disk */
    uint64_t down_until;
    lsn_t had;          /* its log reached so far before its disk went back; 0: it did not */
    bool aged, refused; /* its disk went back; it was found out */
};

/* A copy of a node's disk, and a leader that the log goes on without meanwhile. */
struct image {
    uint32_t victim;
    bool taken;
    enum { NOBODY, CUT_OFF, STOPPED, IMAGE_THERE } displaced;
    uint32_t leader, keeper; /* a client; who alone has its last record */
    uint8_t *log;
    size_t cap;
    lsn_t end;
    struct sk_durable ctl; /* history owned */
    uint32_t cap_history;
    struct q_known witness[Q_KNOWN_MAX];
    uint32_t n_witness;
    uint64_t starts, start_id;
};

/* ---- a compute ---- */
enum txn_state { T_NONE, T_OPEN, T_ACKED, T_UNKNOWN, T_NOT_COMMITTED, T_COMMITTED, T_TOO_OLD };

struct txn {
    enum txn_state state;
    uint32_t client;
    term_t term;
    lsn_t begin, end;
    struct wal_digest digest;
    bool in_gold;
};

struct read {
    uint64_t req;
    lsn_t floor;
    uint64_t since;
};

struct client {
    uint32_t id;
    bool up, local;
    uint64_t paused_until;
    struct pr_proposer *pr;
    struct pr_actions actions;
    uint64_t conn[N_SK]; /* 0: down */
    struct co_id nonce;
    uint64_t incarnation;
    uint64_t timer_at, timer_queued;
    /* leadership as the core told it */
    bool wants, leads, releasing;
    bool contested; /* the last term was lost, perhaps to a minority; it ended at lost_tip */
    lsn_t lost_tip;
    term_t term;
    lsn_t tip, durable, snapshot;
    struct wal_digest digest;
    uint32_t plan; /* commits before it releases */
    uint64_t think_until, lead_since;
    uint64_t inflight[INFLIGHT]; /* txn ids, oldest first */
    uint32_t n_inflight;
    uint64_t oldest_since;
    /* outcomes to ask for: txn ids, and the request that asks (0: none yet) */
    uint64_t open[MAX_OPEN], open_req[MAX_OPEN];
    uint32_t n_open;
    struct read reads[MAX_READS];
    uint32_t n_reads;
    uint64_t next_req;
    uint64_t healed_reads;
    /* records that the core does not hold: see proposer.h, pr_spilled */
    struct spilled {
        uint64_t id;
        struct co_buf bytes;
    } * spilled;
    uint32_t n_spilled, cap_spilled;
};

/* ---- the oracle ---- */
struct leader_seen {
    bool seen;
    struct co_id nonce;
    lsn_t start;
};

struct stats {
    uint64_t seeds, faults, by_fault[N_FAULTS], acked, elections, strict_reads, lease_reads,
        unknown, committed, not_committed, too_old, failures, events, restarts, fetched,
        truncations, max_history, config_msgs, settled, txns, fragments, in_fragments, unstaged,
        changes, finished, refused_changes, contested, regained, trims, based, based_again, images,
        lies, words, displaced, refused_nodes;
};

struct sim {
    uint64_t seed, now, seq, hash, events;
    struct rng rng[N_STREAMS];
    struct swarm w;
    uint64_t fault_limit, faults, by_fault[N_FAULTS];
    uint32_t fault_mask;
    uint64_t until_us; /* the healing begins here at the latest */
    bool trace, healed, quiet;
    struct due *heap;
    uint32_t n_heap, cap_heap;
    struct event *event; /* where the heap says; those of no use for now are in idle */
    uint32_t *idle, n_idle;
    struct node node[N_SK];
    struct client client[N_CLIENTS];
    bool cut[N_SK + N_CLIENTS][N_SK + N_CLIENTS];
    /* What goes to or from it in this time arrives when it is over. */
    uint64_t clog_from[N_SK + N_CLIENTS], clog_until[N_SK + N_CLIENTS];
    uint64_t half_open[N_CLIENTS][N_SK]; /* connections that carry nothing any more */
    uint64_t fifo_at[N_CLIENTS][N_SK][2];
    uint64_t next_conn;
    uint64_t sk_closed[N_CLIENTS][N_SK]; /* connections up to here are gone at the safekeeper */
    struct wal_builder *builder;
    struct co_id cluster, timeline;
    struct wal_config config;
    struct wal_config *configs; /* all that were in a record, the first of each alike */
    uint32_t n_configs, cap_configs;
    lsn_t archived, followed; /* what the archive, what every pageserver has for sure */
    struct image image;
    struct q_msg decoded;
    struct qmsg_scratch scratch;
    struct co_buf wire;
    /* oracle */
    struct rec *gold;
    uint32_t n_gold, cap_gold;
    lsn_t acked_lsn;
    struct txn txn[MAX_TXNS];
    uint64_t n_txns;
    struct leader_seen leader[MAX_TERMS];
    struct ack_mark {
        term_t term;
        lsn_t lsn;
    } marks[1024]; /* the largest LSN that each term acknowledged */
    uint32_t n_marks;
    struct content *content; /* what was written where: (term, LSN) -> digest */
    uint32_t content_epoch;
    uint64_t acked, acked_after_heal;
    lsn_t healed_end,
        reached[N_SK]; /* longest log at the healing; how near each came to it since */
    struct stats *st;
    char why[400];
    sigjmp_buf bad;
};

#define CONTENT_SLOTS 32768u
struct content {
    uint32_t epoch;
    term_t term;
    lsn_t begin;
    struct wal_digest digest;
};

/* world.c */
uint64_t rnd(struct sim *s, enum stream r);
uint32_t below(struct sim *s, enum stream r, uint32_t n);
bool chance(struct sim *s, enum stream r, uint32_t ppm);
bool fault(struct sim *s, enum fault f);
void draw_swarm(struct sim *s);
void rng_init(struct sim *s);
void push(struct sim *s, struct event e);
struct event pop(struct sim *s);
uint64_t local_clock(const struct sim *s, uint32_t who);
uint64_t global_time(const struct sim *s, uint32_t who, uint64_t local);
void net_to_sk(struct sim *s, uint32_t c, uint32_t k, const struct q_msg *m);
void net_to_client(struct sim *s, uint32_t k, uint64_t conn, const struct q_msg *m,
                   uint64_t extra_us);
void flight_free(struct flight *f);
void conn_down(struct sim *s, uint32_t c, uint32_t k, uint64_t conn);
void conn_lost(struct sim *s, uint32_t c, uint32_t k, bool by_client_end);
void conn_try(struct sim *s, uint32_t c, uint32_t k);
void nemesis(struct sim *s);
void heal(struct sim *s);
void fold(struct sim *s, uint64_t v);
void isolate(struct sim *s, uint32_t c, uint32_t keep);
__attribute__((format(printf, 2, 3))) void trace(struct sim *s, const char *format, ...);

/* node.c */
void node_birth(struct sim *s, struct node *n);
void node_start(struct sim *s, struct node *n);
void node_crash(struct sim *s, struct node *n);
void node_stop(struct sim *s, struct node *n);
void node_free(struct node *n);
void node_event(struct sim *s, struct node *n, struct sk_event *e);
void node_synced(struct sim *s, struct node *n, const struct event *e);
void node_timer(struct sim *s, struct node *n);
void node_wipe(struct node *n);
void node_grow_recs(struct node *n, uint32_t room);
struct wal_digest node_digest_at(const struct node *n, uint32_t n_recs);
lsn_t node_doubt(const struct sim *s, const struct node *n);
uint32_t node_recs_below(const struct node *n, lsn_t lsn);

/* base.c */
struct wal_config config_at(struct sim *s, const struct node *n, uint32_t n_recs);
struct wal_config base_config(struct sim *s, const struct node *n);
uint32_t config_number(struct sim *s, const struct wal_config *config);
void base_tick(struct sim *s, struct node *n);
void base_move(struct sim *s, struct node *n, const struct sk_durable *d);

/* client.c */
void client_start(struct sim *s, struct client *c);
void client_crash(struct sim *s, struct client *c);
void client_free(struct client *c);
void client_event(struct sim *s, struct client *c, struct pr_event *e);
void client_tick(struct sim *s, struct client *c);
void client_timer(struct sim *s, struct client *c);
bool client_settled(const struct client *c);

/* image.c */
void witness_write(struct sim *s, struct node *n, const struct q_known_list *known);
void witness_settle(struct sim *s, struct node *n, bool all);
void witness_crash(struct sim *s, struct node *n);
void image_birth(struct sim *s);
void image_nemesis(struct sim *s);
void image_lie(struct sim *s, struct node *n);
void image_refused(struct sim *s, struct node *n);
bool image_aged(const struct node *n);
void image_free(struct sim *s);

/* oracle.c */
__attribute__((noreturn, format(printf, 2, 3))) void violation(struct sim *s, const char *format,
                                                               ...);
void see_record(struct sim *s, struct node *n, const struct rec *r);
void see_sk_commit(struct sim *s, struct node *n, lsn_t lsn);
void see_truncate(struct sim *s, struct node *n, lsn_t lsn, lsn_t commit);
void see_persist(struct sim *s, struct node *n, const struct sk_durable *d);
void see_elected(struct sim *s, struct client *c, const struct q_msg *m);
void see_ready(struct sim *s, struct client *c, term_t term, lsn_t lsn);
void see_durable(struct sim *s, struct client *c, term_t term, lsn_t lsn);
void see_ack(struct sim *s, uint64_t id);
void see_position(struct sim *s, lsn_t lsn, lsn_t floor, const char *what);
void see_verdict(struct sim *s, uint64_t id, enum pr_verdict v);
void see_config(struct sim *s, const struct node *n);
void see_gone(struct sim *s, struct node *n);
void see_end(struct sim *s);

/* run.c */
/* 0: all held; 1: s->why says what did not. */
int run(struct sim *s, uint64_t seed, uint64_t fault_limit, uint32_t fault_mask, uint64_t until_us);
void sim_free(struct sim *s);

#endif
