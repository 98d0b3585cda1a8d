/*
 * status.h - what `corallite status` knows of a cluster, and how it is shown.
 *
 * status_sock.c fills it from the daemons (NODE_STATUS, SERVER_STATUS, DB_LIST); status.c, pure,
 * turns it into text or JSON.
 */
#ifndef CORALLITE_CLI_STATUS_H
#define CORALLITE_CLI_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/id.h"
#include "proto/limits.h"
#include "proto/lsn.h"

struct status_node {
    char name[32]; /* "safekeeper-1", "pageserver" */
    char address[CO_HOST_MAX_BYTES + 16];
    uint32_t node;
    struct co_id disk;             /* that a safekeeper's number stands for; zero: not known */
    int pid;                       /* of a local daemon that lives; 0: none, or not known here */
    bool local;                    /* pid means something */
    bool up;                       /* it answered */
    char trouble[CO_SENTENCE_MAX]; /* why it did not */
    uint64_t uptime_us, disk_bytes, records, syncs, pages_served, bytes_in, bytes_out;
    uint32_t timelines;
    char http[CO_HOST_MAX_BYTES + 16];
    /* of a pageserver */
    char follows[CO_HOST_MAX_BYTES + 16]; /* the one that owns the catalog; "": this one does */
    uint64_t lag_bytes;                   /* of the timeline furthest behind */
    uint64_t owner_silent_us;             /* since that one answered; UINT64_MAX: never */
};

#define STATUS_MORE_MAX 8u

/* One timeline as one safekeeper sees it. */
struct status_copy {
    bool known;
    term_t term;
    lsn_t flush_lsn, commit_lsn;
    bool lease_held;
    uint64_t bytes_in, records;
    char refused[CO_SENTENCE_MAX]; /* why it is halted there; "": it is not */
};

struct status_timeline {
    char name[2 * CO_NAME_MAX_BYTES + 2]; /* DB/BRANCH */
    struct co_id id;
    bool at_pageserver;
    lsn_t last_record_lsn; /* of the pageserver */
    uint32_t db_pages, page_size;
    /* what it has of its own in the page store; bytes are those of keys and values */
    uint64_t versions, images, version_bytes, commits, commit_bytes;
    struct status_copy copy[CO_MEMBERS_MAX]; /* by position in status.safekeepers */
};

struct status {
    struct co_id cluster;
    char dir[4096]; /* "" when the cluster is not a local one */
    struct status_node pageserver;
    struct status_node more[STATUS_MORE_MAX]; /* further pageservers */
    uint32_t n_more;
    struct status_node safekeepers[CO_MEMBERS_MAX];
    uint32_t n_safekeepers;
    struct status_timeline *timelines; /* malloc'ed, freed by status_free */
    uint32_t n_timelines;
    struct {
        char url[1024]; /* "": none */
        uint64_t lag_bytes, behind_us, archived_us;
        char trouble[CO_SENTENCE_MAX];
    } archive;
};

/* Newest commit LSN that any safekeeper reports; 0: none. */
lsn_t status_commit_lsn(const struct status *s, const struct status_timeline *t);
/* How far the pageserver is behind that, in bytes of log. */
uint64_t status_lag_bytes(const struct status *s, const struct status_timeline *t);
/* What the pageserver has not read yet is not in the archive either, though that one says it has
 * all that it knows of: counted to archive.lag_bytes, and archive.behind_us is not 0 then. */
void status_count_unread(struct status *s);
/* Every daemon answered. */
bool status_all_up(const struct status *s);

void status_print(const struct status *s, FILE *out);
/* CO_ERR_NOMEM, CO_ERR_IO. */
CO_MUST_CHECK int status_print_json(const struct status *s, FILE *out);
void status_free(struct status *s);

#endif
