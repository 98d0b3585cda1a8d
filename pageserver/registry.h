/*
 * registry.h - what this pageserver knows of the timelines: a cache of the safekeepers' registries.
 * Pure: messages in, decisions out; catalog_uv.c carries them out.
 *
 * Every timeline has metadata with a version; the higher version wins, everywhere. The registry
 * remembers the newest version it has heard of and, for each safekeeper, the version that it holds.
 * From that alone follows what is to be done (ps_reg_next):
 *
 *    CREATING --on a majority--> becomes ACTIVE, one version on
 *    CREATING with `replaces` (a restore) --on a majority--> the timeline that it replaces becomes
 *        SEALED under the name keep_as; when that is stored, ACTIVE as above
 *    ACTIVE, SEALED, DROPPED --on a majority--> the row is stored here; then it counts (it can be
 *        opened, or is gone)
 *    `dropping`, an intent --on a majority--> becomes DROPPED (R11)
 *    a safekeeper that lacks the newest version is sent it, whatever the state
 *
 * So a creation, a restore, a drop, the repair of a member that was away, and driving on what a
 * crash left half done are one thing.
 *
 * A branch that is dropped while others grew from it becomes SEALED and `hidden` instead: nobody
 * opens it and its name is free, but safekeepers still stream it and its pages stay. When the last
 * branch that needs it is gone it becomes DROPPED (ps_reg_sweep).
 *
 * Invariants
 *   R1 nothing is decided before a majority of the safekeepers has listed what it holds (`heard`):
 *      any majority has one member in common with the one that a change was made durable on.
 *   R2 a name has at most one timeline that is neither DROPPED nor hidden; during a restore the new
 *      one shares it with the one that it replaces. Of two that are CREATING under one name (a
 *      creation that a crash cut off and the one after it) the older stays, and ACTIVE stays before
 *      CREATING; the other is dropped, and before it is the one that stays is not ACTIVE. A
 *      timeline is opened by nobody before it is ACTIVE, so nothing is lost.
 *   R3 a timeline that was ACTIVE is dropped by a request or by its own expiry only.
 *   R4 a restore whose intent no majority knew at the start is dropped, not driven on: nobody was
 *      told that it happened, and by now it would take newer commits from their name.
 *   R5 DROPPED is for ever; SEALED is never ACTIVE again.
 *   R6 a pageserver that follows decides nothing: it makes no version and sends none, and of a
 *      timeline it stores what a majority holds.
 *   R7 what is made is born with the members that the list of safekeepers ends with, never with one
 *      that leaves (decision 67). A newer list is not taken while one is CREATING that has
 *      others from its birth: who changes the members looks at the registries once this pageserver
 *      has the list, and what comes later has the new members.
 *   R8 every version says which pageserver made it, and when that one took over (decision 69). Of
 *      two pageservers the one that took over later owns the catalog. What an earlier one made and
 *      only a minority knew, as a creation that was cut off, comes later and is lost with that
 *      minority: it is taken over when it comes. A version of a later one, or of the same moment,
 *      says that we are not the owner.
 *   R9 a timeline is born with a term above all that the database's other timelines have had or
 *      will have, DROPPED ones and those of an earlier database of that name included: names move,
 *      by a restore, a drop, a rename, and what was once answered by a commit id must not be
 *      answered by another commit (decision 74).
 *   R10 a number is one disk for ever. Who answers under it with another disk than the list of
 *      safekeepers, or any timeline, names is an empty directory in the place of a lost one: what
 *      was made durable under that number it does not know, so it counts for no majority, not even
 *      for one that begins (R1). A timeline that was born while a member was away names that one's
 *      disk from when it is back.
 *   R11 a safekeeper takes DROPPED and SEALED for final, so nothing becomes either before a
 *      majority knows the intent: whoever comes after a crash then knows it, too, and cannot decide
 *      otherwise (decision 78). Until then it has its name, and is not opened. An intent to drop
 *      that no majority knew at the start is taken back when it comes: nobody was told that the
 *      branch went, and it has newer commits by now. What is heard to be final is, whatever version
 *      has another state: that was decided before it was told to anybody. Of a restore the new
 *      timeline is the intent to seal the old one; what is hidden is meant to go from then on.
 *   R12 a version is above all that earlier lives of the pageserver made, those that only a
 *      minority knows included: the versions of a life begin at the moment that it began. And what
 *      a minority knows of an earlier life becomes a version of this one before others are told: a
 *      life between them, that did not know of it, may have decided otherwise.
 */
#ifndef CORALLITE_PAGESERVER_REGISTRY_H
#define CORALLITE_PAGESERVER_REGISTRY_H

#include "pageserver/ingest.h"

struct ps_timeline {
    struct ps_line line; /* what lookups see; line.no 0: not stored here yet */
    struct ps_meta meta; /* newest version known */
    uint64_t stored;     /* version in the store; 0: none */
    enum ps_state stored_state;
    uint64_t storing;   /* version on its way to the store; 0: none */
    bool purged;        /* DROPPED, and its pages are deleted */
    bool based;         /* its ancestors are here as far as it needs them (lineage_uv.c) */
    bool rebuilding;    /* what came from the log is being taken away (repair_uv.c): not fed */
    bool from_snapshot; /*   then a snapshot of the archive is written, and the log from there on */
    uint64_t unloaded_ms; /* loop time when a snapshot could not be loaded; 0: never */
    bool was_behind;      /* at the start there were commits above its last-record LSN */
    bool overruled;       /* what it is lost to a higher version, and gets a new one (R11) */
    bool news;            /* a safekeeper may have records that are not here (puller_uv.c) */
    lsn_t wanted;         /* somebody waits for this much of the log, besides `waits` */
    uint64_t held[CO_MEMBERS_MAX];  /* version each safekeeper holds; 0: lacks it */
    uint64_t asked[CO_MEMBERS_MAX]; /* request of the TIMELINE_PUT on its way there; 0: none */

    lsn_t cutoff;    /* its own log is read from here on, but for kept moments (gc_uv.c) */
    lsn_t owner_cut; /* a follower's: the cutoff of the pageserver that it follows (follow.h) */
    lsn_t read_now, read_before; /* oldest LSN read in this ttl and in the one before; 0: none */
    uint64_t reads_us;           /* when this ttl began */
    uint64_t gc_us;              /* when its garbage was collected last */
    uint32_t gc_at;              /* its place in the plan that is being made */

    lsn_t archived;       /* the archive has its log up to here (archive_uv.c) */
    lsn_t archive_told;   /* and a manifest that stands tells so: safekeepers may rely on it */
    lsn_t snapshot;       /*   and a snapshot at this LSN; 0: none */
    bool archive_removed; /* DROPPED, and the archive has nothing of it */

    struct {            /* of a SEALED one, since the start (settle_uv.c) */
        bool tried;     /* a reader need not wait for it any more, whatever came of it */
        bool settled;   /* nothing is committed behind `end`, and nothing ever will be */
        bool all_asked; /* and every safekeeper that has all of that knows it for good */
        lsn_t end;      /* so far safekeepers know it to be committed; 0: nothing was found out */
        uint32_t tries; /* in a row */
        uint64_t since_ms, next_ms; /* loop time: of the first, of the next */
    } seal;

    struct ps_chain chain; /* what is ingested */
    lsn_t durable;         /* so much of it is on disk for sure (durable_uv.c) */
    lsn_t to_be_durable, told[CO_MEMBERS_MAX]; /* by the sync under way; to each safekeeper */
    lsn_t told_archived[CO_MEMBERS_MAX];
    void *feed;  /* the puller's (puller_uv.c); NULL: nothing is to be pulled */
    void *waits; /* reads that wait for records (serve_uv.c) */

    struct ps_timeline *next_id, *next_name, *next_db, *next; /* hash chains; list of all */
};

#define PS_LIFE_VERSIONS 1000000u /* a life makes fewer of a timeline */

struct ps_registry {
    struct co_id cluster, self;        /* our disk id */
    uint64_t life_us;                  /* R12: our versions are not below it; 0: any */
    uint64_t taken_us;                 /* R8: when this one took over; 0: never */
    bool follows;                      /* R6 */
    uint32_t n_nodes;                  /* slots of safekeepers in use or free again */
    uint32_t node_id[CO_MEMBERS_MAX];  /* of each slot; 0: free */
    struct wal_config config;          /* who counts for a majority; joint: of both groups */
    struct co_id disk[CO_MEMBERS_MAX]; /* R10, of each slot: what is named; zero: nothing is */
    bool two_disks[CO_MEMBERS_MAX];    /*   and two are: it was exchanged before, unnoticed */
    struct co_id said[CO_MEMBERS_MAX]; /* the disk that answered last; zero: none */
    bool listed[CO_MEMBERS_MAX];       /* has told all it holds since this start */
    bool heard;                        /* a majority has: see R1 */
    uint32_t n;
    uint32_t n_buckets;
    struct ps_timeline **by_id, **by_name, **by_db; /* by_db: by the database's name */
    struct ps_timeline *all;
};

/* Safekeepers 1 to n_nodes, each in its slot, all members. */
CO_MUST_CHECK int ps_reg_init(struct ps_registry *reg, const struct co_id *cluster,
                              const struct co_id *self, uint32_t n_nodes);
void ps_reg_free(struct ps_registry *reg);

/* How many make a majority, for sentences. */
static inline uint32_t ps_reg_majority(const struct ps_registry *reg)
{
    return reg->config.n / 2 + 1;
}
/* A slot gets a node id (0: it is free), and knows nothing of who answers. */
void ps_reg_slot(struct ps_registry *reg, uint32_t node, uint32_t id);
/* The newest list of safekeepers. */
void ps_reg_members(struct ps_registry *reg, const struct wal_config *list);
/* The safekeeper in that slot answers, with this disk. */
void ps_reg_said(struct ps_registry *reg, uint32_t node, const struct co_id *disk);
/* What a configuration names of the disks is remembered; and fills in what it does not name, with
 * what is named elsewhere, else with who answers. */
void ps_reg_note_disks(struct ps_registry *reg, const struct wal_config *config);
void ps_reg_know_disks(const struct ps_registry *reg, struct wal_config *config);
/* R10: is who answers there another one? */
bool ps_reg_is_other(const struct ps_registry *reg, uint32_t node);
/* Are the slots for which `has` is true a majority? Others (R10) are none of it. */
bool ps_reg_quorum(const struct ps_registry *reg, const bool has[CO_MEMBERS_MAX]);

struct ps_timeline *ps_reg_find(const struct ps_registry *reg, const struct co_id *id);
/* It has its name: neither dropped nor hidden, nor to be dropped before it ever was ACTIVE. */
static inline bool ps_timeline_lives(const struct ps_timeline *tl)
{
    return tl->meta.state != PS_DROPPED && !tl->meta.hidden &&
           (tl->meta.state != PS_CREATING || !tl->meta.dropping);
}
/* And nobody has asked for its end. */
static inline bool ps_timeline_stays(const struct ps_timeline *tl)
{
    return ps_timeline_lives(tl) && !tl->meta.dropping;
}
/* The one of this name that lives, CREATING ones only when there is no other; NULL: none. */
struct ps_timeline *ps_reg_find_name(const struct ps_registry *reg, const char *db,
                                     const char *branch);
/* A timeline of this database that lives, "main" before others; NULL: none. */
struct ps_timeline *ps_reg_find_db(const struct ps_registry *reg, const char *db);
/* Is the name in use, or spoken for as the keep_as of a restore that is under way? */
bool ps_reg_name_taken(const struct ps_registry *reg, const char *db, const char *branch);
/* How many of the database stay. */
uint32_t ps_reg_branches(const struct ps_registry *reg, const struct co_id *database);
/* A restore of this timeline that is under way, or NULL. */
struct ps_timeline *ps_reg_restoring(const struct ps_registry *reg, const struct ps_timeline *tl);
/* How many ancestors a timeline has; CO_BRANCH_DEPTH_MAX + 1 for more than there may be. */
uint32_t ps_reg_depth(const struct ps_registry *reg, const struct ps_timeline *tl);
/* Does a timeline that is not DROPPED descend from it? */
bool ps_reg_has_children(const struct ps_registry *reg, const struct ps_timeline *tl);

/* A row of the store, at start. */
CO_MUST_CHECK int ps_reg_load(struct ps_registry *reg, tlno_t no, bool purged,
                              const struct ps_meta *meta, struct ps_timeline **out);
/* Safekeeper `node` (index) holds this. */
CO_MUST_CHECK int ps_reg_heard(struct ps_registry *reg, uint32_t node, const struct ps_meta *meta,
                               struct ps_timeline **out);
/* Safekeeper `node` begins to tell what it holds; what it held before counts no more. */
void ps_reg_list_begins(struct ps_registry *reg, uint32_t node);
/* It has told all. True when a majority has by this. */
bool ps_reg_list_done(struct ps_registry *reg, uint32_t node);

/* Names the disks of members that are not named in this timeline, in a new version (R10). */
void ps_reg_name_disks(struct ps_registry *reg, struct ps_timeline *tl);
/* The members that a new timeline is born with (R7), and as much as is known of their disks. */
void ps_reg_birth_config(const struct ps_registry *reg, struct wal_config *out);
/* Is one being made that has other members than this newer list ends with? (R7) */
bool ps_reg_holds_up(const struct ps_registry *reg, const struct wal_config *list);
/* A new timeline of ours, CREATING; it is given its born_term (R9) and its version (R12). */
CO_MUST_CHECK int ps_reg_create(struct ps_registry *reg, const struct ps_meta *meta,
                                struct ps_timeline **out);
/* A new version: another state, or the same with something else changed. */
void ps_reg_change(struct ps_registry *reg, struct ps_timeline *tl, enum ps_state state);
/* Another name; in the version that the caller makes with ps_reg_change. */
void ps_reg_rename(struct ps_registry *reg, struct ps_timeline *tl, const char *branch);
/* A new version: it is to be dropped (R11), or hidden while others grew from it. */
void ps_reg_drop(struct ps_registry *reg, struct ps_timeline *tl);
/* Makes one hidden timeline that nothing needs any more DROPPED; NULL: there is none. */
struct ps_timeline *ps_reg_sweep(struct ps_registry *reg);

/* S13: does another pageserver own it? */
bool ps_reg_is_foreign(const struct ps_registry *reg, const struct ps_timeline *tl);
/* A timeline that another pageserver owns, or NULL. To be asked once `heard`. */
struct ps_timeline *ps_reg_foreign(const struct ps_registry *reg);
/* Did another pageserver own it that took over before us? (R8) */
bool ps_reg_left_behind(const struct ps_registry *reg, const struct ps_timeline *tl);
/* Has another pageserver taken over after us? (R8) */
bool ps_reg_outdone(const struct ps_registry *reg);
/* We take over now: our moment is after that of every foreign one, should a clock be behind. That
 * is durable with the first version that is ours: ours tell our moment. */
void ps_reg_outdo(struct ps_registry *reg);
/* A new version of one that was left behind, that is ours. */
void ps_reg_take_over(struct ps_registry *reg, struct ps_timeline *tl);

enum ps_next {
    PS_NEXT_NOTHING,
    PS_NEXT_CHANGED, /* the state was advanced: send it to the safekeepers */
    PS_NEXT_STORE,   /* write meta's version to the store */
    PS_NEXT_SEALED,  /* a restore: the replaced timeline was sealed: send that to the safekeepers */
};
/* What a timeline is due for, besides being sent to the safekeepers that lack it. Advances
 * CREATING to ACTIVE itself, and what is to be dropped to DROPPED. */
enum ps_next ps_reg_next(struct ps_registry *reg, struct ps_timeline *tl);
/* Is safekeeper `node` to be sent this timeline now? */
static inline bool ps_reg_lacks(const struct ps_registry *reg, const struct ps_timeline *tl,
                                uint32_t node)
{
    return reg->heard && !reg->follows && reg->listed[node] && !tl->asked[node] &&
           tl->held[node] < tl->meta.version;
}
static inline bool ps_state_readable(enum ps_state state)
{
    return state == PS_ACTIVE || state == PS_SEALED;
}
/* Its records are wanted: for itself, or for branches that grew from it. */
static inline bool ps_timeline_fed(const struct ps_timeline *tl)
{
    return ps_state_readable(tl->stored_state) && ps_state_readable(tl->meta.state);
}
/* It can be opened: stored as ACTIVE or SEALED, and not being dropped. */
static inline bool ps_timeline_open(const struct ps_timeline *tl)
{
    return ps_timeline_fed(tl) && !tl->meta.hidden && !tl->meta.dropping;
}
/* How far it can be read: its last-record LSN, or nothing while its ancestors are not here. */
static inline lsn_t ps_timeline_reached(const struct ps_timeline *tl)
{
    return tl->based ? tl->chain.last_lsn : LSN_NONE;
}

#endif
