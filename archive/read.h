/*
 * read.h - what an archive holds, read back and checked. Nothing that is damaged, cut or missing is
 * passed over: the first such thing is an error that names the object.
 *
 * Blocking, as store.h.
 */
#ifndef CORALLITE_ARCHIVE_READ_H
#define CORALLITE_ARCHIVE_READ_H

#include "archive/state.h"
#include "archive/walk.h"

#define AR_CLUSTERS_MAX 64u

/* The clusters that have objects there, ascending. CO_ERR_NOT_FOUND: none. */
CO_MUST_CHECK int ar_clusters(struct ar_store *store, struct co_id out[AR_CLUSTERS_MAX],
                              uint32_t *n);
/* The generation claimed last; 0: none. */
CO_MUST_CHECK int ar_newest_writer(struct ar_store *store, const struct co_id *cluster,
                                   uint64_t *generation);
/* The newest manifest, the caller's to free; `place` (may be NULL) tells which. CO_ERR_NOT_FOUND:
 * there is none. A damaged one is not replaced by the one before: that would forget commits. */
CO_MUST_CHECK int ar_newest_state(struct ar_store *store, const struct co_id *cluster,
                                  struct ar_place *place, Corallite__ArchiveState **out);

/* The chunks of a timeline's log, ascending by begin, then end; *out is the caller's to free. */
CO_MUST_CHECK int ar_chunks(struct ar_store *store, const struct co_id *cluster,
                            const struct co_id *timeline, struct ar_chunk **out, uint32_t *n);
/* A chunk's bytes, checked. */
CO_MUST_CHECK int ar_chunk_get(struct ar_store *store, const struct co_id *cluster,
                               const struct co_id *timeline, const struct ar_chunk *chunk,
                               struct co_buf *out);
/* A walk that stands where the line's log begins in the archive. */
void ar_walk_line(struct ar_walk *walk, const struct co_id *cluster, const struct ar_line *line);
/* Feeds the walk, which stands at or above that, up to line->end, and compares the digest there. */
CO_MUST_CHECK int ar_read_log(struct ar_store *store, const struct co_id *cluster,
                              const struct ar_line *line, struct ar_walk *walk,
                              const struct ar_sink *sink);

#endif
