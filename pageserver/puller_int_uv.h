/* puller_int_uv.h - what the puller*_uv.c files share. Included by them only. */
#ifndef CORALLITE_PAGESERVER_PULLER_INT_UV_H
#define CORALLITE_PAGESERVER_PULLER_INT_UV_H

#include "pageserver/server_uv.h"

#define FEED_RETRY_MS     200u
#define FEED_RETRY_MAX_MS 10000u
#define FEED_PENDING_MAX  (16 * CO_MIB) /* as much as one transaction of the store may take */

struct ps_feed {
    struct ps_server *s;
    struct ps_timeline *tl;
    lsn_t received;            /* the end of a record, and behind it */
    uint64_t part, part_total; /* of the one that comes in fragments; total 0: not known */
    struct ps_partial partial; /* the writer's while `ingesting` */
    uint64_t progress;         /* the furthest that was taken in, also within a record */
    struct co_buf pending;
    bool ingesting, halted, closed, pausing;
    bool gathering;     /* pausing, but for nobody who waits */
    bool refilling;     /* the archive is being read */
    unsigned truncated; /* answers in a row that what is wanted is not kept there */
    uint32_t source;
    uint64_t request[CO_MEMBERS_MAX]; /* outstanding STREAM; 0: none */
    uint64_t asked_ms[CO_MEMBERS_MAX];
    lsn_t commit[CO_MEMBERS_MAX]; /* newest commit LSN each has told */
    unsigned failures;            /* in a row */
    char why[CO_SENTENCE_MAX];    /* halted */
    uv_timer_t timer;             /* stall of the source's poll, or the end of a pause */
    uv_timer_t hedge;
    unsigned handles;
};

/* -- puller_uv.c ------------------------------------------------------------------------------- */

/* More of the log, behind what the feed has. */
CO_MUST_CHECK int ps_feed_take_bytes(struct ps_feed *f, const uint8_t *bytes, size_t n);
/* Has this safekeeper the timeline, and is connected? */
bool ps_feed_usable(const struct ps_feed *f, uint32_t node);
/* The next usable safekeeper after the source; the source itself when it is the only one. */
bool ps_feed_turn(struct ps_feed *f);
/* Asks nobody for so long. */
void ps_feed_pause(struct ps_feed *f, uint64_t ms);
/* Asks the source, unless something stands against it. */
void ps_feed_poll(struct ps_feed *f);
/* What is pending goes to the writer. */
void ps_feed_submit(struct ps_feed *f);
/* What was received beyond the chain is asked for again, elsewhere, a little later. */
void ps_feed_start_over(struct ps_feed *f);

/* -- puller_archive_uv.c ----------------------------------------------------------------------- */

/* The source does not keep what comes next. */
void ps_feed_truncated(struct ps_feed *f);

#endif
