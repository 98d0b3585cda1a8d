/*
 * timeline_meta.h - what cannot be recomputed about a timeline, checked and in plain memory: the
 * message Timeline of corallite.proto. The safekeepers' registries hold it durably; the pageserver
 * keeps a copy. The higher version wins. Pure.
 */
#ifndef CORALLITE_PAGESERVER_TIMELINE_META_H
#define CORALLITE_PAGESERVER_TIMELINE_META_H

#include "common/id.h"
#include "proto/corallite.pb-c.h"
#include "proto/message.h"
#include "proto/name.h"
#include "proto/wal.h"

enum ps_state {
    PS_CREATING = 1,
    PS_ACTIVE = 2,
    PS_DROPPED = 3, /* for ever */
    PS_SEALED = 4,  /* readable, never written again; from ACTIVE, and on to DROPPED only */
};

struct ps_meta {
    struct co_id id, database;
    char database_name[CO_NAME_MAX_BYTES + 1];
    char branch[CO_NAME_MAX_BYTES + 1];
    struct co_id ancestor; /* zero: a root */
    lsn_t ancestor_lsn;
    struct wal_digest base_digest; /* of the ancestor at ancestor_lsn */
    term_t base_term;              /* of its newest record when this one was made; 0: not known */
    lsn_t start_lsn;
    struct wal_config config;
    enum ps_state state;
    uint64_t version;
    uint64_t created_us;
    term_t born_term;        /* its writers' terms are above it */
    struct co_id pageserver; /* disk of the one pageserver; zero: not told */
    uint64_t taken_us;       /* wall clock: when that one took over; 0: it never did */
    struct co_id replaces;   /* a restore: the timeline whose name this one takes; zero: none */
    char keep_as[CO_NAME_MAX_BYTES + 1]; /* what that one is called then */
    bool is_protected;                   /* not dropped, not restored */
    bool hidden;           /* SEALED: dropped but for the branches that grew from it */
    bool dropping;         /* it is to be dropped: an intent (registry.h, R11) */
    uint64_t expires_us;   /* wall clock; 0: never */
    uint64_t retention_us; /* how long its moments stay readable; 0: for ever */
    uint64_t erased_us;    /* wall clock: no moment before is readable; 0: none was erased */
    bool purged;           /* DROPPED, and safekeepers may remove its files */
};

/* A name that SQL, logs and messages can carry: "DB/BRANCH". Returns `text`. */
#define PS_META_NAME_TEXT (2 * CO_NAME_MAX_BYTES + 2)
char *ps_meta_name(const struct ps_meta *meta, char text[PS_META_NAME_TEXT]);

/* CO_ERR_PROTOCOL with a sentence when a field is missing or out of range. */
CO_MUST_CHECK int ps_meta_from_wire(const Corallite__Timeline *wire, struct ps_meta *out);
CO_MUST_CHECK int ps_meta_unpack(struct co_span bytes, struct ps_meta *out);

/* The message with all that it points to; `wire` borrows from `meta` and from this struct. */
struct ps_meta_wire {
    Corallite__Timeline wire;
    struct msg_config config;
};
void ps_meta_to_wire(const struct ps_meta *meta, struct ps_meta_wire *out);
/* Appends the packed message. */
CO_MUST_CHECK int ps_meta_pack(const struct ps_meta *meta, struct co_buf *out);

#endif
