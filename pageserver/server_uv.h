/*
 * server_uv.h - the pageserver as its *_uv.c files share it. Everything here lives on the main
 * loop's thread but for the jobs of the writer (writer_uv.h), the health text (health_http.c) and
 * what the other loops read with (loops_uv.c).
 */
#ifndef CORALLITE_PAGESERVER_SERVER_UV_H
#define CORALLITE_PAGESERVER_SERVER_UV_H

#include <uv.h>

#include "archive/state.h"
#include "common/daemon_http.h"
#include "common/identity_file.h"
#include "pageserver/answer_uv.h"
#include "pageserver/archiver.h"
#include "pageserver/gc_lmdb.h"
#include "pageserver/metrics.h"
#include "pageserver/registry.h"
#include "pageserver/writer_uv.h"
#include "proto/peer_loops_uv.h"
#include "proto/qmsg.h"
#include "proto/when.h"

struct ps_options {
    char dir[400];
    char listen_host[256], http_host[256];
    uint16_t listen_port, http_port;
    bool http;
    bool take_over;
    char archive[AR_URL_MAX_BYTES]; /* "": none */
    uint64_t archive_every_ms;
    uint64_t snapshot_every; /* bytes of log; 0: none */
    bool follow;             /* the pageserver there owns the catalog */
    char follow_host[256];
    uint16_t follow_port;
    uint64_t map_bytes;
    uint32_t loops; /* that read pages, the main one among them; 0: 1 */
    bool have_cluster;
    struct co_id cluster;
    char advertise[300]; /* HOST:PORT told to clients; "": the listening one */
    uint32_t n_nodes;
    struct {
        uint32_t id;
        char host[256];
        uint16_t port;
    } nodes[CO_MEMBERS_MAX]; /* ascending by id */
};

struct ps_server;

/* A safekeeper, and our one connection to it. */
struct ps_node {
    struct ps_server *s;
    uint32_t index, id;
    char host[256];
    uint16_t port;
    struct peer *peer; /* NULL: waiting to connect again */
    bool ready;        /* HelloOk came */
    bool tells;        /* which timelines have news */
    uint64_t list_request, nodes_request;
    uint64_t generation,
        next_generation;        /* of the list that is known, that is being told; 0: none */
    uint64_t round, round_told; /* a follower's: ps_fresh_round */
    bool told_new;              /* the list that is being told has something in it */
    uint64_t heard_ms;          /* of the last frame */
    unsigned failures;          /* in a row */
    int told;                   /* the kind of trouble that was logged last, CO_ERR_* */
    uv_timer_t timer;           /* to connect again */
};

enum ps_ask_kind {
    PS_ASK_OPEN,
    PS_ASK_CREATE,
    PS_ASK_DROP,
    PS_ASK_LIST,
    PS_ASK_RESOLVE, /* from here on: branch_uv.c, pin_uv.c */
    PS_ASK_BRANCH_CREATE,
    PS_ASK_BRANCH_CHANGE,
    PS_ASK_RESTORE,
    PS_ASK_BRANCH_LIST,
    PS_ASK_LOG,
    PS_ASK_PIN,
    PS_ASK_PIN_LIST,
    PS_ASK_GC,
};

/* A moment of a branch, on its way from words to an LSN (moment_uv.c). */
struct ps_moment {
    char at[WHEN_AT_MAX];
    bool begun;
    struct when when;
    struct co_id timeline; /* bound at the first look */
    /* the head, strictly: one round of READ_POS after the other */
    uint64_t round; /* read_id of the newest; 0: none yet */
    uint64_t round_ms, first_ms;
    struct {
        bool told;
        term_t last_log_term;
        lsn_t flush_lsn, commit_lsn;
        struct wal_config config;
    } pos[CO_MEMBERS_MAX];
    bool have_head;
    lsn_t head;
    lsn_t need; /* last-record LSN that the answer needs; 0: none yet */
    /* the answer */
    struct ps_timeline *tl;
    struct ps_commit commit; /* lsn 0: the database was empty then */
    bool rounded;
};

/* How far what came from the archive reaches: whole records up to `lsn`, and of the one there
 * `part` of its `part_total` bytes. */
struct ps_refilled {
    lsn_t lsn;
    uint64_t part, part_total;
};

/* Something that is to be in the archive, and since when (archive_uv.c). */
struct ps_archive_mark {
    uint64_t number, since_us; /* 0: nothing */
};

/* What BRANCH_CREATE, BRANCH_CHANGE, RESTORE, LOG and PIN ask for beside names and a moment. */
struct ps_branch_ask {
    struct co_id id;                  /* of the timeline that is made or changed; zero: none yet */
    char from[CO_NAME_MAX_BYTES + 1]; /* BRANCH_CREATE: from; RESTORE: to */
    char name[CO_NAME_MAX_BYTES + 1]; /* rename_to, keep_as, name of a pin; "": none */
    bool has_expires, has_protect, protect, drop, has_retention;
    uint64_t expires_us, retention_us;
    bool dry, purge;  /* GC; DROP */
    uint64_t version; /* of the change that is under way; 0: none yet */
    lsn_t before_lsn;
    uint32_t limit;
    struct ps_pin_job *pin;          /* PIN: under way in the store */
    struct ps_archive_mark archived; /*   and then on its way to the archive */
    struct ps_gc_work *gc;           /* GC: under way */
    struct ps_gc_found found;
    bool held;
    int rc; /* PIN, GC: how that ended */
    bool done;
};

/* A request about names or moments that waits for the registry or for the log. */
struct ps_ask {
    enum ps_ask_kind kind;
    struct ps_session *session;
    uint64_t request;
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    struct co_id database; /* CREATE: the caller's choice; DROP: what is being dropped; or zero */
    uint64_t fresh; /* a follower's: answered once this round of listings is done (connect_uv.c) */
    uint64_t deadline_ms;
    uint32_t patience_ms; /* how long that was */
    struct ps_moment moment;
    struct ps_branch_ask b;
    struct ps_ask *next;
};

struct ps_session {
    struct ps_server *s;
    struct peer *peer;
    struct ps_wait *waits;
    uint32_t n_waits, n_asks;
    uint32_t n_reads; /* requests for pages, until its loop is chosen */
    bool placed, at_home;
    struct ps_session *next, **prev;
};

/* A named moment. Kept in this pageserver's store only. */
struct ps_pin {
    struct ps_pin_row row;
    struct ps_pin *next;
};

struct ps_repair;
struct ps_load;
struct ps_settle;

struct ps_server {
    uv_loop_t loop;
    const struct ps_options *options;
    struct co_identity identity;
    struct ps_store *store;
    struct ps_txn *read;     /* the main loop's: reader.txn */
    struct ps_reader reader; /* its own */
    struct ps_writer *writer;
    struct ps_registry reg;
    tlno_t next_no;
    struct ps_node nodes[CO_MEMBERS_MAX];
    uint64_t list_waits_ms; /* loop time since when a newer list of safekeepers is not taken (R7),
                             * nor anything begun; 0: none waits */
    uint64_t feeding_bytes; /* of the log in memory: pending, and with the writer */
    uint64_t last_request;  /* of ours, to safekeepers */
    struct peer_server *listener;
    struct co_http *http;
    struct ps_health *health;
    struct ps_session *sessions;
    struct ps_view *view;   /* what the other loops know; NULL: there are none */
    struct ps_loops *loops; /* loops_uv.c */
    struct ps_ask *asks;
    struct ps_pin *pins;
    struct ps_pin_job *pin_jobs; /* changes of pins on their way to the store */
    uint32_t n_pins, n_unbased;  /* unbased: fed timelines whose ancestors are not here yet */
    bool moments;                /* some ask waits for the log */
    uint64_t last_round;         /* read_id given last */
    struct ps_settle *settle;    /* settle_uv.c; NULL: not begun, or at its end */
    uv_timer_t tick, purge, again;
    uv_signal_t sigterm, sigint;
    struct ps_archive *archive; /* NULL: none is configured */
    struct ps_refill *refill;   /* what is being read from it; NULL: nothing */
    struct ps_gc_work *gc;      /* the run that is under way, or NULL */
    struct ps_follow *follow;   /* what a follower has to do with the one that owns the catalog */
    uint64_t fresh;             /* newest round of listings that somebody wants */
    uint64_t synced_ms;         /* when the store was last made durable for its own sake */
    bool syncing;
    struct ps_repair *repairs;     /* under way (repair_uv.c) */
    struct ps_load *loads;         /* under way: the first one (load_uv.c) */
    struct ps_snapshots snapshots; /* of the archive, when a lost pageserver's place was taken */
    bool purging, ready, closing;
    bool map_alarm;
    int exit_code;
    uint64_t started_us;
};

/* -- server_uv.c: life ------------------------------------------------------------------------- */
/* Runs until SIGTERM or a fatal error; the exit code of the process. */
int ps_server_run(const struct ps_options *options);
/* Stops serving because of co_sentence(); exit code 1. */
void ps_server_fatal(struct ps_server *s);

/* -- catalog_uv.c: the timelines, as the registry decides ---------------------------------------
 */
CO_MUST_CHECK int ps_catalog_load(struct ps_server *s);
CO_MUST_CHECK int ps_catalog_start(struct ps_server *s);
/* How far the store is; in the loop's read transaction. */
CO_MUST_CHECK int ps_catalog_load_progress(struct ps_server *s, struct ps_timeline *tl);
void ps_catalog_tick(struct ps_server *s);
void ps_catalog_close(struct ps_server *s);
/* Does what is due for a timeline: sends it to those that lack it, stores it. */
void ps_catalog_drive(struct ps_server *s, struct ps_timeline *tl);
void ps_catalog_drive_all(struct ps_server *s);
/* What was hidden and is needed by nobody any more is dropped. */
void ps_catalog_sweep(struct ps_server *s);
/* Begins a creation: of this timeline (ids, names and origin are the caller's; state, version,
 * times and configuration are filled in), or of a new database. CO_ERR_AGAIN: not while a list of
 * safekeepers waits to be taken. */
CO_MUST_CHECK int ps_catalog_begin(struct ps_server *s, struct ps_meta *meta,
                                   struct ps_timeline **out);
CO_MUST_CHECK int ps_catalog_create(struct ps_server *s, const char *db, const char *branch,
                                    const struct co_id *database, struct ps_timeline **out);

/* -- connect_uv.c: connections to the safekeepers ------------------------------------------------
 */
void ps_node_connect(struct ps_node *node);
/* Gives up who is silent, asks the others. */
void ps_nodes_tick(struct ps_server *s);
void ps_nodes_close(struct ps_server *s);
uint32_t ps_nodes_ready(const struct ps_server *s);
bool ps_nodes_enough(const struct ps_server *s);
/* A follower hears of a change of the catalog when it asks the safekeepers (the owner asks again
 * when their list changes). A round of listings that begins now; and have a majority told what they
 * hold since that one began? */
uint64_t ps_fresh_round(struct ps_server *s);
bool ps_fresh(const struct ps_server *s, uint64_t round);

/* -- nodes_uv.c: slots of safekeepers follow what they tell of who they are (proto/nodes.h) -------
 */
extern uint32_t ps_list_wait_ms; /* a list waits no longer; tests set it */
void ps_nodes_start(struct ps_server *s);
void ps_nodes_ask(struct ps_node *node);
/* Hangs up on those that are not the disk that their number stands for (R10). */
void ps_nodes_refuse_others(struct ps_server *s);
CO_MUST_CHECK int ps_nodes_told(struct ps_node *node, const struct frame_header *frame,
                                struct co_span message);

/* -- lineage_uv.c: branches and their ancestors -------------------------------------------------
 */
/* A timeline's ancestors, nearest first, as they are told; the ids are the registry's own. */
struct ps_ancestors {
    Corallite__Resolved__Ancestor one[CO_BRANCH_DEPTH_MAX], *list[CO_BRANCH_DEPTH_MAX];
    size_t n;
};
/* False: not all of them are known here yet. */
bool ps_lineage_list(const struct ps_server *s, const struct ps_timeline *tl,
                     struct ps_ancestors *out);
/* Makes the timeline's line know its ancestor's, if that is in the registry. */
void ps_lineage_link(struct ps_server *s, struct ps_timeline *tl);
/* Begins to pull a timeline that was stored, if its ancestors are here as far as it needs them; and
 * then those that wait for it. */
void ps_lineage_open(struct ps_server *s, struct ps_timeline *tl);
/* The same for all: at the start, and when an ancestor that is waited for moved on. */
void ps_lineage_settle(struct ps_server *s);

/* -- puller_uv.c: records ---------------------------------------------------------------------- */
/* Pulls this timeline from now on, if it is not being pulled: until it has been at rest for a while
 * and the safekeepers tell when that changes. */
void ps_feed_open(struct ps_server *s, struct ps_timeline *tl);
/* The same of one that can be pulled now, else nothing: somebody will want more than there is. */
void ps_feed_ensure(struct ps_server *s, struct ps_timeline *tl);
/* A safekeeper tells how far a timeline is committed there; 0: it does not know. */
void ps_feed_news(struct ps_server *s, uint32_t node, struct ps_timeline *tl, lsn_t commit);
/* Is it to be pulled now? */
bool ps_feed_due(const struct ps_server *s, const struct ps_timeline *tl);
/* Ends it; a batch that is being ingested is finished first. */
void ps_feed_close(struct ps_timeline *tl);
/* A node came or went. */
void ps_feeds_node(struct ps_server *s, uint32_t node, bool ready);
/* Takes a STREAM_DATA. */
CO_MUST_CHECK int ps_feed_data(struct ps_server *s, uint32_t node, const struct frame_header *frame,
                               struct co_span body);
/* An Error with this request id came. False: it was no request of a feed. */
bool ps_feed_error(struct ps_server *s, uint32_t node, uint64_t request, int code);
/* Somebody waits for more than there is. */
void ps_feed_wanted(struct ps_server *s, struct ps_timeline *tl);

/* -- puller_archive_uv.c: from the archive, to a feed --------------------------------------------
 */
/* What follows what the feed has, and how far it is with that. 1: taken; 0: later, when some of
 * what it has was ingested (ps_refill_take); -1: it does not want it. tl may be NULL. */
int ps_feed_refilled(struct ps_timeline *tl, struct co_span bytes, const struct ps_refilled *end);
/* There is no more of it; rc and why: it could not be read to its end. `pruned`: the archive has
 * not that part either, but a snapshot that stands for it. tl may be NULL. */
void ps_feed_refill_end(struct ps_server *s, struct ps_timeline *tl, int rc, const char *why,
                        bool pruned);

/* -- puller_told_uv.c: what is told of the feeds -------------------------------------------------
 */
/* Grows while more of the timeline's log is ingested, also within a record. */
uint64_t ps_feed_progress(const struct ps_timeline *tl);
/* CO_ERR_HALTED with a sentence if the timeline is halted, else 0. */
CO_MUST_CHECK int ps_feed_check(const struct ps_timeline *tl);
/* How much of the log is known to be committed. */
lsn_t ps_feed_known(const struct ps_server *s, const struct ps_timeline *tl);
/* Committed bytes that some safekeeper has told of and that are not ingested. */
uint64_t ps_feed_lag(const struct ps_server *s, const struct ps_timeline *tl);
/* "safekeeper 2 at 127.0.0.1:6412", where the timeline is pulled from. */
const char *ps_feed_source(const struct ps_timeline *tl, char text[320]);
/* Metrics. */
void ps_feeds_tick(struct ps_server *s);

/* -- refill_uv.c: what the safekeepers keep no more, from the archive ---------------------------
 */
/* Reads the log from the timeline's last-record LSN on. CO_ERR_BUSY: another one is being read;
 * CO_ERR_TRUNCATED: there is no archive. */
CO_MUST_CHECK int ps_refill_begin(struct ps_server *s, const struct ps_timeline *tl);
/* Gives the feed what is ready. */
void ps_refill_take(struct ps_server *s);
void ps_refill_close(struct ps_server *s);

/* -- serve_uv.c: sessions and asks ------------------------------------------------------------- */
CO_MUST_CHECK int ps_serve_start(struct ps_server *s);
void ps_serve_close(struct ps_server *s);
/* How long a request about names waits; a variable for the tests. */
extern uint32_t ps_ask_ms;
/* The registry or a log that is waited for changed: answers the asks that can be answered, and
 * those whose time is over. */
void ps_serve_asks(struct ps_server *s);
/* Answers the ask (copied) now or later. deadline_ms 0: ps_ask_ms. */
void ps_serve_ask(struct ps_session *session, const struct ps_ask *ask, uint32_t deadline_ms);
/* Copies and checks a name of the wire; absent or empty: `otherwise`, or an error if that is NULL.
 */
CO_MUST_CHECK int ps_take_name(const char *what, const char *wire, const char *otherwise,
                               char out[CO_NAME_MAX_BYTES + 1]);
/* Answers with the error; true. */
bool ps_ask_refuse(const struct ps_ask *ask, int rc);

/* -- database_uv.c: databases by their names -----------------------------------------------------
 */
/* OPEN, CREATE, DROP, LIST: true when it was answered. */
bool ps_database_try(struct ps_server *s, struct ps_ask *ask);
void ps_status_send(struct ps_session *session, uint64_t request);

/* -- ask_uv.c: requests about moments and branches ----------------------------------------------
 */
/* Takes the frame, or returns false. */
bool ps_branch_frame(struct ps_session *session, const struct frame_header *frame,
                     struct co_span message);

/* -- branch_uv.c: RESOLVE, BRANCH_CREATE, BRANCH_CHANGE, RESTORE; expiry ------------------------
 */
/* Answers the ask and returns true, or false: not yet. */
bool ps_branch_try(struct ps_server *s, struct ps_ask *ask);
/* Drops what has expired. */
void ps_branch_tick(struct ps_server *s);
/* CO_ERR_NOT_FOUND: there is no such branch; the sentence names those there are. */
CO_MUST_CHECK int ps_no_branch(const struct ps_server *s, const char *db, const char *branch);

/* -- log_uv.c: LOG, BRANCH_LIST: answers from the store ---------------------------------------- */
CO_MUST_CHECK int ps_log_answer(struct ps_server *s, struct ps_ask *ask);
CO_MUST_CHECK int ps_branch_list_answer(struct ps_server *s, struct ps_ask *ask);

/* -- moment_uv.c: from words to an LSN --------------------------------------------------------- */
/* The head of a sealed branch waits no longer for what is found out of it; tests set it. */
extern uint32_t ps_sealed_wait_ms;
/* Looks again: 0 (the answer is in *m), CO_ERR_AGAIN (no sentence), or why there is none. */
CO_MUST_CHECK int ps_moment_poll(struct ps_server *s, struct ps_moment *m, const char *db,
                                 const char *branch);
/* What it waits for, as the sentence and code of an error. */
CO_MUST_CHECK int ps_moment_late(struct ps_server *s, const struct ps_moment *m,
                                 uint32_t patience_ms);
/* A POS came. */
void ps_moment_pos(struct ps_server *s, uint32_t node, const struct q_msg *msg);

/* -- settle_uv.c: where sealed logs end ----------------------------------------------------------
 */
CO_MUST_CHECK int ps_settle_start(struct ps_server *s);
void ps_settle_close(struct ps_server *s);
void ps_settle_tick(struct ps_server *s);
/* Begins with one that is due, if none is under way. */
void ps_settle_look(struct ps_server *s);
/* The same, with this one. */
void ps_settle_soon(struct ps_server *s, struct ps_timeline *tl);
/* A safekeeper sent a message of the quorum log. */
void ps_settle_heard(struct ps_server *s, uint32_t node, const struct q_msg *msg);
/* One came, and has listed what it holds; one is gone. */
void ps_settle_node(struct ps_server *s);
void ps_settle_node_gone(struct ps_server *s, uint32_t node);

/* -- pin_uv.c ---------------------------------------------------------------------------------- */
CO_MUST_CHECK int ps_pins_load(struct ps_server *s);
void ps_pins_free(struct ps_server *s);
const struct ps_pin_row *ps_pin_find(const struct ps_server *s, const struct co_id *database,
                                     const char *name);
/* How many pins a timeline has; *name is one of them. */
uint32_t ps_pins_of(const struct ps_server *s, const struct co_id *timeline, const char **name);
/* A change of a pin of the database (of this timeline; NULL: of any) is on its way to the store.
 * What depends on the pins waits until it is there: ps_serve_asks is called then. */
bool ps_pins_change(const struct ps_server *s, const struct co_id *database,
                    const struct co_id *timeline);
/* The row is gone from the store. */
void ps_pin_drop(struct ps_server *s, const struct ps_pin_row *row);
/* The database was dropped. */
void ps_pins_drop_database(struct ps_server *s, const struct co_id *database);
bool ps_pin_try(struct ps_server *s, struct ps_ask *ask);
/* The ask goes away: a job of its in the store ends without it. */
void ps_pin_forget(struct ps_ask *ask);

/* A follower: from now on the pins are these. A change that fails is made by the next call. */
void ps_pins_replace(struct ps_server *s, const struct ps_pin_row *rows, size_t n);

/* -- follow_uv.c: a follower and the one that owns the catalog ----------------------------------
 */
CO_MUST_CHECK int ps_follow_start(struct ps_server *s);
void ps_follow_tick(struct ps_server *s);
void ps_follow_close(struct ps_server *s);
/* "the pageserver at HOST:PORT owns the catalog": CO_ERR_FOLLOWER. */
CO_MUST_CHECK int ps_follow_refuse(const struct ps_server *s, const char *what);
/* When the owner answered last (co_now_us); 0: never. */
uint64_t ps_follow_heard_us(const struct ps_server *s);
/* The owner's side: a FOLLOW. */
CO_MUST_CHECK int ps_follow_asked(struct ps_session *session, uint64_t request,
                                  struct co_span message);

/* -- durable_uv.c ------------------------------------------------------------------------------ */
void ps_durable_tick(struct ps_server *s);
/* A connection to a safekeeper begins: it knows nothing. */
void ps_durable_forget(struct ps_server *s, uint32_t node);

/* -- gc_uv.c ----------------------------------------------------------------------------------- */
/* How long a moment that was read stays readable, and how long after a start nothing goes; how
 * often it is looked whether something may go. Variables for the tests. */
extern uint64_t ps_gc_ttl_us, ps_gc_every_us;
void ps_gc_tick(struct ps_server *s);
void ps_gc_close(struct ps_server *s);
bool ps_gc_try(struct ps_server *s, struct ps_ask *ask);
/* The ask goes away; its run goes on without it. */
void ps_gc_forget(struct ps_ask *ask);
/* CO_ERR_GONE with a sentence when this moment of the timeline is not kept. */
CO_MUST_CHECK int ps_gc_check(const struct ps_server *s, const struct ps_timeline *tl, lsn_t lsn);
/* The same of a time, to which the commit that ends at `found` belongs. */
CO_MUST_CHECK int ps_gc_check_time(const struct ps_server *s, const struct ps_timeline *tl,
                                   uint64_t time_us, lsn_t found);
/* Is every commit after `since` still listed? */
bool ps_gc_lists_all(const struct ps_server *s, const struct ps_timeline *tl, lsn_t since);
/* Is every timeline of the database ingested as far as its moments are kept? Before that (while it
 * is rebuilt) nothing is collected: a plan would not see what they need. */
bool ps_gc_whole(const struct ps_server *s, const struct co_id *database);
/* Somebody reads there. */
void ps_gc_note_read(struct ps_server *s, struct ps_timeline *tl, lsn_t lsn);
/* The oldest LSN that was read lately; PS_GC_END: none. */
lsn_t ps_gc_oldest_read(struct ps_server *s, struct ps_timeline *tl);
/* Are cuts being moved right now? Pins below them may still be on their way to the store. */
bool ps_gc_cutting(const struct ps_server *s);

/* -- owner_uv.c: who owns the catalog (S13) ------------------------------------------------------
 */
/* Once the registry is loaded, with the moments that the store has: that of a take-over is ours,
 * or, when we were told to take over, there is a new one; that of the last life is followed by that
 * of this one. Both are durable by this. Who follows has no word of before, and no life. Before the
 * writer begins. CO_ERR_IO, CO_ERR_FULL, CO_ERR_NOMEM with a sentence. */
CO_MUST_CHECK int ps_owner_note(struct ps_server *s, uint64_t taken_us, uint64_t life_us);
/* After anything was heard of the registries: takes over what is to be taken over. False: another
 * pageserver owns the catalog, or, for one that follows, this one; it ends. */
bool ps_owner_check(struct ps_server *s);

/* -- archive_uv.c: what the archiver (archiver.h) is told, and what is told of it ---------------
 */
/* Of a store that has nothing yet, whose pageserver is lost (--take-over): brings back what only
 * that one had. Before the writer begins. */
CO_MUST_CHECK int ps_archive_recover(struct ps_server *s);
CO_MUST_CHECK int ps_archive_start(struct ps_server *s);
void ps_archive_tick(struct ps_server *s);
/* Something changed that only this pageserver knows. */
void ps_archive_soon(struct ps_server *s, struct ps_archive_mark *mark);
/* A manifest has it; or there is no archive, or one that does not take it now. */
bool ps_archive_has(struct ps_server *s, const struct ps_archive_mark *mark);
/* May it be told that nothing is left of a dropped timeline? */
bool ps_archive_lets_go(const struct ps_server *s, const struct ps_timeline *tl);
/* Borrows from `s` until the next tick. */
void ps_archive_status(struct ps_server *s, Corallite__ServerStatus *out);
/* ARCHIVE_PRUNE: answers when it is done. */
void ps_archive_prune_frame(struct ps_session *session, uint64_t request, struct co_span message);
/* The session ends: what it asked for goes on without it. */
void ps_archive_forget(struct ps_session *session);
void ps_archive_close(struct ps_server *s);

/* -- verify_uv.c: VERIFY -------------------------------------------------------------------------
 */
/* One step: answers at once. */
void ps_verify_frame(struct ps_session *session, uint64_t request, struct co_span message);

/* -- repair_uv.c: REPAIR -------------------------------------------------------------------------
 */
/* Answers when it is durable. */
void ps_repair_frame(struct ps_session *session, uint64_t request, struct co_span message);
/* Goes on with the rebuilds that a crash cut off. */
void ps_repair_resume(struct ps_server *s);
/* The session ends: what it asked for goes on without it. */
void ps_repair_forget(struct ps_session *session);

/* Of a timeline that is stored for the first time, and has a snapshot in the archive: begins with
 * that. The timeline is marked (ps_rebuild_mark), and `rebuilding`. */
void ps_repair_load(struct ps_server *s, struct ps_timeline *tl);

/* The log that it would go on with is nowhere any more: its rows go, and it begins with the newest
 * snapshot of the archive. false: not now, ask again later. */
bool ps_repair_by_snapshot(struct ps_server *s, struct ps_timeline *tl);

/* -- load_uv.c: snapshots of the archive ---------------------------------------------------------
 */
/* Did the archive have one of it when this pageserver took over? */
bool ps_load_has(const struct ps_server *s, const struct co_id *timeline);
/* That one is not to be used any more: the next load takes what the newest manifest tells of. */
void ps_load_forget(struct ps_server *s, const struct co_id *timeline);
/* Writes the newest snapshot of a timeline that is marked and has no rows; then the mark is gone.
 * Calls `done` once, later; rc: 0, or nothing of what was written is visible. */
typedef void (*ps_load_fn)(void *owner, int rc, const char *why);
CO_MUST_CHECK int ps_load_begin(struct ps_server *s, struct ps_timeline *tl, ps_load_fn done,
                                void *owner);
/* The server is closing: ends them soon. */
void ps_loads_close(struct ps_server *s);

/* -- pages_uv.c: GET_PAGES, CHANGES_SINCE ------------------------------------------------------ */
/* Answers, or waits for the log with the request's deadline. */
void ps_pages_frame(struct ps_session *session, unsigned type, uint64_t request,
                    struct co_span message);
/* The log of a timeline moved on, was halted or dropped. */
void ps_pages_wake(struct ps_server *s, struct ps_timeline *tl);
/* The session ends: its waits go. */
void ps_pages_forget(struct ps_session *session);

/* -- loops_uv.c: the other loops that read pages -------------------------------------------------
 */
/* A connection is moved, or found to stay, once it has asked so often; so many stay at most.
 * Variables for the tests. */
extern uint32_t ps_loops_after, ps_loops_home_max;
/* What can be read of a timeline, now. */
void ps_readable_of(const struct ps_timeline *tl, struct ps_readable *out);
CO_MUST_CHECK int ps_loops_start(struct ps_server *s);
/* Tells the other loops what can be read of a timeline now, or that it cannot. To be called when
 * any of what they know of it (view.h) or its state has changed, and before what is not to be read
 * any more is taken from the store. */
void ps_loops_publish(struct ps_server *s, const struct ps_timeline *tl);
/* The session has asked for pages. */
void ps_loops_consider(struct ps_session *session);
void ps_loops_forget(struct ps_session *session);
/* After the sessions were closed: ends the loops soon, while the main loop runs. */
void ps_loops_close(struct ps_server *s);
void ps_loops_free(struct ps_server *s); /* when that has ended */

/* -- health_http.c ----------------------------------------------------------------------------- */
CO_MUST_CHECK int ps_health_start(struct ps_server *s);
/* Loop thread: what /healthz and /readyz say from now on. */
void ps_health_update(struct ps_server *s);
void ps_health_stop(struct ps_server *s);

#endif
