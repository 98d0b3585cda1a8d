/*
 * names.h - the names of an archive's objects. Pure.
 *
 *   CLUSTER/writer/GENERATION                who archives since then (text, for people)
 *   CLUSTER/log/TIMELINE/BEGIN-END-SUM       bytes [BEGIN, END) of a timeline's log, as they are
 *   CLUSTER/snap/TIMELINE/LSN-GENERATION-NUMBER-SUM
 *                                            a part of a snapshot, or its index (snapshot.h)
 *   CLUSTER/state/GENERATION-SEQUENCE        a manifest (state.h); the greatest name counts
 *
 * Ids and sums are 32 hex digits, numbers 16 (NUMBER: 8), so that the order of the names is the
 * order of what they say. SUM is the first half of the SHA-256 of the object's bytes: an object
 * whose content is another is damaged. Chunks of a log may overlap (a crash while small ones were
 * merged), and need not end where a record does.
 */
#ifndef CORALLITE_ARCHIVE_NAMES_H
#define CORALLITE_ARCHIVE_NAMES_H

#include "archive/store.h"
#include "common/id.h"
#include "proto/wal.h"

#define AR_NAME_TEXT 160u /* of every name below */

struct ar_chunk {
    lsn_t begin, end;
    struct wal_digest sum;
};

/* An object of a snapshot. `generation` is the writer's, so that nobody takes away what a later
 * one has put. */
#define AR_SNAP_INDEX UINT32_MAX
struct ar_snap_name {
    lsn_t lsn;
    uint64_t generation;
    uint32_t number; /* of a part, from 0; AR_SNAP_INDEX */
    struct wal_digest sum;
};

struct ar_place {
    struct co_id cluster;
    uint64_t generation, sequence;
};

/* Each returns `name`. */
char *ar_name_log(const struct co_id *cluster, const struct co_id *timeline,
                  const struct ar_chunk *chunk, char name[AR_NAME_TEXT]);
/* What the names of all chunks of a timeline begin with; of all manifests; of all writers. */
char *ar_name_logs(const struct co_id *cluster, const struct co_id *timeline,
                   char name[AR_NAME_TEXT]);
char *ar_name_snap(const struct co_id *cluster, const struct co_id *timeline,
                   const struct ar_snap_name *snap, char name[AR_NAME_TEXT]);
/* What the names of all of a timeline's snapshots begin with. */
char *ar_name_snaps(const struct co_id *cluster, const struct co_id *timeline,
                    char name[AR_NAME_TEXT]);
char *ar_name_states(const struct co_id *cluster, char name[AR_NAME_TEXT]);
char *ar_name_writers(const struct co_id *cluster, char name[AR_NAME_TEXT]);
char *ar_name_state(const struct ar_place *place, char name[AR_NAME_TEXT]);
char *ar_name_writer(const struct co_id *cluster, uint64_t generation, char name[AR_NAME_TEXT]);

/* What a name says; false: it is no such name. */
bool ar_parse_log(const char *name, struct co_id *timeline, struct ar_chunk *out);
bool ar_parse_snap(const char *name, struct co_id *timeline, struct ar_snap_name *out);
bool ar_parse_state(const char *name, struct ar_place *out);
bool ar_parse_writer(const char *name, uint64_t *generation);
bool ar_parse_cluster(const char *name, struct co_id *cluster);

/* First half of the SHA-256. */
void ar_sum(struct co_span bytes, struct wal_digest *out);

#endif
