/*
 * fullsim.h - the deterministic simulator of the whole system (level B).
 *
 * The product's own object files, whole: SQLite with the VFS, its proposer and its sockets' code,
 * three safekeeper daemons, the pageserver daemon with LMDB. What is replaced lies below them: the
 * C library's threads, clocks, sockets and files (the linker's --wrap) and libuv. Each thread of a
 * virtual process is a coroutine on one real thread; each blocking call gives the turn to an event
 * heap ordered by (virtual time, sequence). README.md has the map.
 *
 *   sched.c     time, randomness, processes and their threads, the trace
 *   coroutine.c stacks that take turns
 *   threads.c   pthread_*, clocks, random sources
 *   net.c       TCP between virtual hosts, poll, eventfd
 *   loop.c      libuv
 *   disk.c      a file system a host, with what a crash may do to it
 *   vault.c     the directory of the archive; archive.c what must hold of what lies there
 *   drill.c     everything is lost but the archive
 *   atlas.c     disks that go back in time, lie, are lost: one at a time
 *   daemon.c    safekeepers as processes: start, kill, restart
 *   pages.c     pageservers: the same, and who owns the catalog
 *   member.c    safekeepers that are replaced, by the product's own tool
 *   client.c    virtual processes that use SQLite; work_*.c what they do
 *   oracle.c    what must hold; replay.c the plain file beside it
 *   nemesis.c   faults
 *   run.c       one seed; main.c the command line
 */
#ifndef CORALLITE_TESTS_FULLSIM_FULLSIM_H
#define CORALLITE_TESTS_FULLSIM_FULLSIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/id.h"
#include "common/mutation.h"
#include "proto/lsn.h"
#include "tests/fullsim/coroutine.h"

#define NEVER         UINT64_MAX
#define WALL_EPOCH_US 1800000000000000ull
#define N_KEEPERS     3u /* members at a time; hosts 1 to 3 to begin with */
#define MAX_KEEPERS   7u /* with those that take the place of others */
#define HOST_TOOL     8u
#define MAX_TASKS     32768u
#define MAX_PROCS     2048u
#define MAX_KEYS      32u
#define HOST_PAGES    9u  /* of a pageserver; of the second one the next */
#define HOST_USERS    20u /* the first compute's */
#define MAX_HOSTS     32u

/* ---- randomness: one stream a purpose, so that a draw more in one does not shift the others ----
 */
enum stream {
    R_NET,
    R_DISK,
    R_NEMESIS,
    R_WORK,
    R_SWARM,
    R_SCHED,
    R_ENTROPY,
    R_ARCHIVE,
    R_DROP,
    N_STREAMS
};
uint64_t draw(enum stream r);
uint32_t below(enum stream r, uint32_t n); /* 0 when n is 0 */
bool chance(enum stream r, uint32_t ppm);

/* ---- faults ------------------------------------------------------------------------------------
 */
#define FAULTS(X)                                                                                  \
    X(SPIKE, "delay-spike")                                                                        \
    X(SPLIT, "split-segment")                                                                      \
    X(RESET, "connection-reset")                                                                   \
    X(HALF_OPEN, "half-open")                                                                      \
    X(CORRUPT, "corrupt-byte")                                                                     \
    X(CUT, "partition")                                                                            \
    X(ASYM, "asymmetric-cut")                                                                      \
    X(CLOG, "clogged-link")                                                                        \
    X(KEEPER_KILL, "keeper-kill")                                                                  \
    X(KEEPER_POWER, "keeper-power-loss")                                                           \
    X(TORN, "torn-sector")                                                                         \
    X(EIO, "fsync-eio")                                                                            \
    X(DISK_FULL, "disk-full")                                                                      \
    X(KEEPER_STOP, "keeper-clean-restart")                                                         \
    X(PAGES_KILL, "pageserver-kill")                                                               \
    X(PAGES_STOP, "pageserver-clean-restart")                                                      \
    X(USER_KILL, "compute-kill")                                                                   \
    X(COMMIT_KILL, "compute-kill-in-commit")                                                       \
    X(PAUSE, "pause")                                                                              \
    X(SLOW_DISK, "slow-disk")                                                                      \
    X(OPEN_CUT, "compute-cut-off-in-transaction")                                                  \
    X(ROT, "rot")                                                                                  \
    X(MEMBER, "safekeeper-replacement")                                                            \
    X(TOOL_KILL, "tool-kill")                                                                      \
    X(DUEL, "writer-displaced")                                                                    \
    X(PAGES_LOST, "pageserver-disk-lost")                                                          \
    X(IMAGE, "safekeeper-older-image")                                                             \
    X(LYING, "safekeeper-lying-disk")                                                              \
    X(LOST, "safekeeper-disk-lost")                                                                \
    X(ARCHIVE, "archive-in-trouble")                                                               \
    X(ARCHIVE_POWER, "archive-power-loss")
enum fault {
#define X(name, text) F_##name,
    FAULTS(X)
#undef X
        N_FAULTS
};
extern const char *const fault_name[N_FAULTS];
/* true: it happens now (counted, hashed, and within what the shrinker allows). */
bool fault(enum fault f);
/* The same without a chance of its own: the caller has decided. */
bool fault_now(enum fault f);

/* ---- rare situations: each must be seen within a CI run -----------------------------------------
 */
#define PROBES(X)                                                                                  \
    X(OTHERS_COMMIT, "a commit whose writer was killed was kept by another")                       \
    X(KILLED_COMMIT_LOST, "a commit whose writer was killed was not kept")                         \
    X(UNKNOWN_KEPT, "an unknown outcome was resolved: committed")                                  \
    X(UNKNOWN_LOST, "an unknown outcome was resolved: not committed")                              \
    X(ASKED_ELSEWHERE, "a branch told the outcome of a commit of another one")                     \
    X(SURELY_NOT, "COMMIT failed and said: surely not")                                            \
    X(INGEST_WAIT, "a reader waited for ingest")                                                   \
    X(EPOCH_DROP, "the end of an epoch dropped cached pages")                                      \
    X(BUSY_SNAPSHOT, "a write on an old snapshot was refused")                                     \
    X(BUSY, "a writer met another's transaction")                                                  \
    X(SPECULATIVE_PIN, "a transaction was pinned on a commit in flight")                           \
    X(GAP_CLOSED, "a gap in what is known was closed by CHANGES_SINCE")                            \
    X(ALL_CHANGED, "CHANGES_SINCE answered: everything")                                           \
    X(PAST_READ, "a page of the past was read")                                                    \
    X(BRANCH_READ, "a branch read a page of its ancestor")                                         \
    X(BRANCH_WRITE, "a branch was written to")                                                     \
    X(CHAIN, "pages of a chain came along")                                                        \
    X(DELTA, "a page was committed as a delta")                                                    \
    X(DELTA_OF_ANCESTOR, "a delta was built on a version of the ancestor")                         \
    X(TWO_TERMS, "a commit followed one of an older term")                                         \
    X(VACUUM, "VACUUM was committed")                                                              \
    X(SHRUNK, "a commit made the database smaller")                                                \
    X(DDL, "a change of the schema was committed")                                                 \
    X(BIG, "a transaction of more than 100 pages was committed")                                   \
    X(SPILL, "a transaction spilled before its commit")                                            \
    X(SAVEPOINT, "a savepoint was rolled back in a transaction that committed")                    \
    X(PAGES_RESTART, "the pageserver was restarted")                                               \
    X(TORN_TAIL, "a safekeeper came back with a torn tail")                                        \
    X(FRAGMENTS, "a transaction was committed that had travelled in fragments")                    \
    X(LARGE, "a transaction of more than a batch was committed")                                   \
    X(SPILLED, "a transaction was committed that had been built in a file")                        \
    X(RESTORE, "a branch was restored")                                                            \
    X(RESTORE_AGAIN, "a restore whose answer was lost was asked for again")                        \
    X(RESTORE_MOVING, "a branch was restored while a safekeeper was replaced")                     \
    X(RESTORE_WRITER, "a writer met the restore of its branch")                                    \
    X(DROP, "a branch was dropped")                                                                \
    X(DROP_PARENT, "a branch was dropped that others had grown from")                              \
    X(DROP_AGAIN, "a drop whose answer was lost was asked for again")                              \
    X(DROP_MOVING, "a branch was dropped while a safekeeper was replaced")                         \
    X(DROP_WRITER, "a writer met the drop of its branch")                                          \
    X(SEALED_READ, "what a restore put aside was read")                                            \
    X(SEALED_END, "a log was sealed with an end that nobody knew, and it was found out")           \
    X(KEPT_ALIVE, "keep-alive found out that a connection was half-open")                          \
    X(UNANSWERED, "a half-open connection ended because nothing that was sent was answered")       \
    X(ROT, "a byte rotted in a segment of one safekeeper")                                         \
    X(ROT_FOUND, "a safekeeper found the rot and said so")                                         \
    X(MENDED, "the safekeeper with the rot was mended from the others")                            \
    X(JOINT, "a log had joint members")                                                            \
    X(JOINT_COMMIT, "a transaction was committed while its log had joint members")                 \
    X(REPLACED, "a safekeeper was replaced")                                                       \
    X(REPLACED_LOST, "a safekeeper was replaced that was away")                                    \
    X(RESUMED, "a replacement whose tool had been killed was finished by another")                 \
    X(CAME_BACK, "a safekeeper came back that had been replaced meanwhile")                        \
    X(DUEL, "a writer was displaced behind its back, and found out when it read")                  \
    X(SAME_LSN, "an LSN of a lost commit came again")                                              \
    X(DEAD_GROUND, "a transaction on a lost snapshot was told so")                                 \
    X(SECOND_READ, "the second pageserver served a page")                                          \
    X(OTHER_LOOP, "a loop that is not the main one read pages")                                    \
    X(FOLLOWER_READ, "a follower served a page while its owner was away")                          \
    X(TAKE_OVER, "a follower took over from an owner whose disk was lost")                         \
    X(REBUILT, "a pageserver whose disk was lost began with nothing")                              \
    X(DISK_READ, "a page came from a compute's disk")                                              \
    X(DISK_ASKED, "the pageserver was asked whether a page on a compute's disk is of this log")    \
    X(DISK_ROT, "a bit rotted on a compute's disk")                                                \
    X(DISK_TORN, "a compute was killed while it wrote a page to its disk")                         \
    X(IMAGE, "a safekeeper's disk went back to an older image")                                    \
    X(LIE, "a safekeeper lost power, and its disk had not kept what it said was synced")           \
    X(BY_WORD, "a disk went back, and of what it lost one other had nothing but a leader's word")  \
    X(REGRESSED, "a safekeeper found out that its disk went back in time, and takes no part")      \
    X(LOST, "a safekeeper's disk was lost for good")                                               \
    X(EMPTY, "a safekeeper whose disk was lost came back with an empty one, under its old name")   \
    X(ANEW, "a safekeeper whose disk went back or was lost was replaced by an empty one")          \
    X(ARCHIVED, "a manifest told of new log in the archive")                                       \
    X(ARCHIVE_FULL, "the archive took nothing more")                                               \
    X(ARCHIVE_POWER, "a loss of power took what was not synced in the archive")                    \
    X(UPLOAD_KILL, "a pageserver was killed while it wrote into the archive")                      \
    X(GENERATION, "a pageserver archived on where another one had")                                \
    X(SNAPSHOT, "a manifest told of a snapshot")                                                   \
    X(LOADED, "a pageserver whose disk was lost began with a snapshot")                            \
    X(PIN, "a pin was in the archive when it was told to be there")                                \
    X(TRIMMED, "a safekeeper dropped the begin of a log that was archived")                        \
    X(REFILLED, "a pageserver got from the archive what no safekeeper kept")                       \
    X(ARCHIVE_READ, "the archive was read back and compared")                                      \
    X(DRILL, "all but the archive was lost, and what was restored from it was compared")
enum probe {
#define X(name, text) P_##name,
    PROBES(X)
#undef X
        N_PROBES
};
extern const char *const probe_name[N_PROBES];
void probe(enum probe p);

/* ---- what a seed draws for itself ---------------------------------------------------------------
 */
struct swarm {
    uint32_t ppm[N_FAULTS];
    uint32_t delay_min_us, delay_max_us, spike_us;
    uint32_t sync_min_us, sync_max_us;
    uint32_t send_room; /* of a connection, bytes */
    uint32_t wake_us;   /* at most so late does a thread begin that may run */
    uint32_t preempt_ppm;
    uint32_t strokes_us; /* the nemesis comes so often, on average */
    uint32_t strokes_a_heavy;
    int rate_ppm[MAX_HOSTS];
    uint32_t n_users, threads, txns; /* computes; connections of each; transactions of the seed */
    uint32_t page_size, cache_pages, auto_vacuum, cache_mb;
    uint32_t staleness_ms, commit_timeout_ms, normal_ppm, think_us;
    uint32_t bank, append, mark, large, paged, branch, restore, past; /* weights of what is done */
    uint32_t loops;          /* of a pageserver that read pages */
    uint32_t follower;       /* pageservers beside the first: 0 or 1 */
    uint32_t archive_ms;     /* between rounds of archiving; 0: there is no archive */
    uint32_t snapshot_bytes; /* of log between two snapshots there; 0: none is made */
    uint32_t keep_log;       /* of what is archived, by each safekeeper; 0: all */
    uint32_t segment_bytes;  /* of their logs */
    uint32_t drop;           /* one of so many steps of a connection drops a branch; 0: none does */
    bool drill;              /* at the end everything but the archive is lost (drill.c) */
    uint32_t duels;     /* at most so often a writer is displaced behind its back (work_duel.c) */
    uint32_t busy_ms;   /* how long a connection waits for its turn */
    uint32_t linger_us; /* at most so long a transaction idles */
    uint32_t
        fragment_bytes;   /* larger records travel in fragments of so much; 0: as in the product */
    uint32_t spill_bytes; /* larger transactions are built in a file; 0: as in the product */
    uint64_t heal_us;
    uint32_t cache_dir; /* pages on the computes' disks: 0 none, 1 of each, 2 of all on one */
    uint32_t torn_ppm;  /* a write of such a page is in two parts */
};

/* ---- processes and their threads ----------------------------------------------------------------
 */
struct proc {
    uint32_t id, host;
    char name[24];
    bool alive, listened;
    uint64_t paused_until;
    uint64_t boot; /* counts the host's starts */
    int exit_code; /* of one that ended by itself */
    bool exited;
    void (*on_exit)(struct proc *p);
    void *data;
};

struct task {
    struct coroutine stand; /* where it stands while others have the turn */
    void *stack;
    struct proc *proc;
    uint32_t id;
    bool blocked, dead, ended, timed_out, waking;
    uint64_t gen, wait_seq;
    uint32_t looks; /* at the clock since it last waited */
    const void *wait_on;
    void *specific[MAX_KEYS];
    void *(*fn)(void *);
    void *arg, *result;
    struct txn *txn; /* of the workload (oracle.h), while this thread is in one */
    const struct timeline *pin_line;
    uint64_t pin;    /* the last snapshot that it was given, */
    bool pin_known;  /*   whether its process knew that to be committed, */
    uint64_t pin_us; /*   and when it asked for it */
};

struct sim {
    uint64_t seed, now, seq, hash, events, switches;
    struct swarm w;
    uint64_t fault_limit, faults, by_fault[N_FAULTS];
    uint32_t fault_mask;
    uint32_t txn_limit;
    bool trace, healed, over, restored; /* restored: from the archive, and nobody writes any more */
    uint64_t by_probe[N_PROBES];
    char why[600];
    struct task *current; /* NULL: the scheduler */
    struct proc proc[MAX_PROCS];
    uint32_t n_procs, n_tasks;
    bool cut[MAX_HOSTS][MAX_HOSTS];
    char dir[128]; /* of the pageserver's stores */
};
extern struct sim sim;

/* sched.c */
void sched_begin(uint64_t seed);
typedef void event_fn(void *a, uint64_t b);
void after(uint64_t delay_us, event_fn *fn, void *a, uint64_t b);
/* Runs events until there are none, sim.over, or virtual `until`. */
void sched_run(uint64_t until);
struct proc *proc_new(const char *name, uint32_t host);
/* Its threads stop where they are, its connections end. Does not return if the caller is of it. */
void proc_kill(struct proc *p);
struct task *task_new(struct proc *p, void *(*fn)(void *), void *arg);
/* Blocks the caller until woken or `until` (virtual); true: woken. */
bool task_block(const void *on, uint64_t until);
void task_sleep(uint64_t us);
void task_wake(struct task *t);
/* Wakes the one that has waited longest on `on`; false: nobody does. */
bool task_wake_one(const void *on);
void task_wake_all(const void *on);
bool task_gone(uint32_t id);                              /* its process was killed */
uint64_t local_us(const struct proc *p);                  /* its clock */
uint64_t global_us(const struct proc *p, uint64_t local); /* when its clock says `local` */
void fold(uint64_t v);
void fold_bytes(const void *data, size_t len);
__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);
/* The seed is over: something that must hold does not. */
__attribute__((noreturn, format(printf, 1, 2))) void violation(const char *format, ...);

/* threads.c */
struct proc *here(void); /* the current process; NULL: none */

/* net.c */
struct sock;
struct sock *sock_of(int fd);
struct sock *sock_listen(struct proc *p, uint16_t port);
struct sock *sock_connect(struct proc *p, uint32_t host, uint16_t port);
struct sock *sock_accept(struct sock *listener);              /* NULL: nobody */
long sock_send(struct sock *s, const void *data, size_t len); /* or -errno */
long sock_recv(struct sock *s, void *data, size_t len);
bool sock_readable(const struct sock *s), sock_writable(const struct sock *s);
bool sock_connecting(const struct sock *s);
int sock_error(struct sock *s);   /* and forgets it */
void sock_finish(struct sock *s); /* sends FIN */
void sock_close(struct sock *s);
int sock_fd(const struct sock *s);
void sock_name(const struct sock *s, bool remote, uint32_t *host, uint16_t *port);
void sock_watch(struct sock *s, struct task *t);
void net_proc_died(struct proc *p, bool silent);
void net_heal(void);
void net_cut(uint32_t a, uint32_t b, bool on);
void net_reset_one(bool half);
void net_corrupt_one(void);
void net_clog(uint32_t a, uint32_t b, uint64_t us);

/* loop.c */
void loop_signal(struct proc *p, int number); /* as kill(1) */
void loop_forget(struct proc *p);

/* disk.c */
void disk_crash(uint32_t host, bool power);
void disk_wipe(uint32_t host);
void disk_full(uint32_t host, bool full);
void disk_slow(uint32_t host, uint64_t until);
bool disk_rot(uint32_t host); /* one bit of a segment; false: there is none yet */
void disk_rot_cache(void);    /* one bit of the pages that some compute keeps */
void disk_eio(uint32_t host); /* the next sync fails, and what it was for is lost */
/* What would be there now if the power went and nothing was kept that is not synced. */
void disk_image_take(uint32_t host);
/* Of a host whose processes have ended: its disk is what it was then; or it has of what was synced
 * since some, none, parts. The image is gone. */
void disk_image_back(uint32_t host);
void disk_image_mix(uint32_t host);
bool disk_is_settled(const char *path); /* it is there, and synced */

/* daemon.c */
void daemons_start(void);
void daemons_restore(void); /* all of them end, and come back with what the archive has */
void daemon_keeper_end(uint32_t k, bool power); /* and restarts it later */
void daemon_keeper_stop(uint32_t k);

uint32_t daemon_keepers(void); /* that were ever started */
void daemon_keeper_add(void);  /* the next host's, empty */
/* Ends it now, if it runs; it does not come back for so long, but when all is healed. */
void daemon_keeper_away(uint32_t k, uint64_t us);
bool daemon_keeper_is_up(uint32_t k);
/* Its power is cut, and it is not started before that, healed or not; NEVER: it never is. */
void daemon_keeper_off(uint32_t k, uint64_t until);
void daemon_keeper_lose(uint32_t k, uint64_t until); /* the same, and its disk is empty then */
bool daemon_keeper_is_hopeless(uint32_t k);          /* it refused to start as damaged */
struct sk_server *daemon_server(uint32_t k);         /* NULL: it does not serve */
const struct sk_lives *daemon_lives(uint32_t k);     /* of its last start */
struct proc *daemon_proc(uint32_t host);
void daemon_look(void);               /* at what they refuse */
void daemons_heal(void);              /* from now on somebody gives --mend where it is wanted */
void daemon_rot(void);                /* always on the same safekeeper: two copies are left */
bool daemon_is_rotten(uint32_t host); /* a byte of its disk has rotted */
extern struct co_id cluster_id;

/* pages.c */
void pages_start(void);
struct proc *pages_proc(uint32_t host);
uint32_t pages_count(void);
uint32_t pages_owner(void);     /* its number, from 0 */
uint32_t pages_losses(void);    /* of disks, so far */
void pages_lose_all(void);      /* one takes over with an empty disk */
void pages_end_one(bool clean); /* and restarts it later */
void pages_lose_one(void);      /* it restarts without its disk; see there */
bool pages_owner_is_up(void);
/* How a compute names them, whose name for them is so numbered. */
void pages_uri(uint32_t server, char out[64]);

bool pages_is(const struct proc *p);                           /* it runs one of them */
__attribute__((noreturn)) void pages_end_this(bool owner_too); /* the caller's, as if killed */
void pages_archive_power_lost(void); /* of the archive's medium, and with it of who writes there */

/* archive.c */
/* An object gets its name. */
void archive_named(const char *name, const uint8_t *bytes, size_t len);
bool archive_has_pin(const char *name, uint64_t lsn); /* by the newest manifest that is durable */
void archive_check(void); /* all is healed: it gets everything, and what it has is read back */

/* drill.c */
bool drill_begin(void); /* the seed ends when it has; false: this one has none */

/* member.c */
void member_replace(void);              /* begins one, if none is under way */
void member_replace_one(uint32_t host); /* this one, by an operator who has to; none is under way */
bool member_kill_tool(void);
bool member_busy(void);
bool member_is(uint32_t host);  /* as far as the tool has said */
struct proc *member_tool(void); /* NULL: there is none */

/* atlas.c */
void atlas_stroke(enum fault f);
void atlas_members_change(void); /* one is replaced: what was only planned is off */
uint32_t atlas_victim(void);     /* the host whose disk has gone back or is lost; 0: none */
bool atlas_may_be_damaged(uint32_t host); /* its disk has lied */
void atlas_power_lost(uint32_t host);
void atlas_look(void); /* at who says that its disk went back */
void atlas_heal(void);
bool atlas_settled(void); /* whoever is to be replaced was */
void atlas_replaced(uint32_t host);
void atlas_end(void); /* what each safekeeper says of the others fits them */

/* sealed.c: a safekeeper stands there now */
struct sk_view;
void sealed_step(uint32_t host, const struct co_id *timeline, const struct sk_view *v);
/* So far every majority knows it to be committed: one of any two was told. */
lsn_t sealed_told(const struct timeline *t);

/* client.c */
void clients_start(void);
bool clients_check(void); /* the work is done, and what came of it is looked at */
bool clients_done(void);
void clients_end(void); /* for good */
bool client_kill_one(bool in_commit);
uint32_t client_in_transaction(void); /* the host of one; 0: there is none */
struct proc *client_proc(uint32_t host);

/* work_duel.c */
bool work_duel_is_on(void);

/* nemesis.c */
void swarm_draw(void);
void nemesis_start(void);
void nemesis_heal(void);

/* oracle.c */
void oracle_begin(void);
void oracle_end(void);
struct run_stats {
    uint64_t commits, begun, unknown, kept, lost, pages_checked, reads_checked, records, past_pages,
        branches, sums, appends_checked, strict_pins, replayed;
};
extern struct run_stats run_stats;

/* run.c */
struct outcome {
    bool failed, too_long; /* too_long: it failed by that alone */
    uint64_t seed, hash, faults, events, virtual_us;
    uint64_t by_fault[N_FAULTS], by_probe[N_PROBES];
    struct run_stats stats;
    char why[600];
};
struct run_options {
    uint64_t seed, fault_limit;
    uint32_t fault_mask, txn_limit;
    uint64_t until_us; /* the healing begins here at the latest */
    bool trace;
    enum co_mutation mutation;
};
/* In a child process of its own: what a killed virtual process leaves behind goes with it. */
void run_seed(const struct run_options *o, struct outcome *out);

#endif
