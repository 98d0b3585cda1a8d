/*
 * changes.h - which pages changed in which commit: the payload of CHANGES, and the value of the
 * pageserver's commit table.
 *
 * A page list: varint count, then the ascending page numbers as varint differences (the first from
 * 0). A change list: for each commit, oldest first: varint (LSN - the LSN before it, the first from
 * `since`), varint database size in pages, page list.
 */
#ifndef CORALLITE_PROTO_CHANGES_H
#define CORALLITE_PROTO_CHANGES_H

#include <stdint.h>

#include "common/bytes.h"
#include "proto/lsn.h"

/* Appends a page list; pgnos ascending (asserted), n may be 0. CO_ERR_NOMEM leaves *out as it was.
 */
CO_MUST_CHECK int changes_put_pages(struct co_buf *out, const pgno_t *pgnos, uint32_t n);
/* Appends one commit to a change list whose last LSN is `prev` (< lsn). CO_ERR_NOMEM as above. */
CO_MUST_CHECK int changes_put_commit(struct co_buf *out, lsn_t prev, lsn_t lsn, uint32_t db_pages,
                                     const pgno_t *pgnos, uint32_t n);

/* Decodes a page list at the front of *rest and moves *rest past it. The array is malloc'ed and
 * the caller's to free; NULL when n is 0. CO_ERR_PROTOCOL on any malformed input, CO_ERR_NOMEM:
 * then nothing was written and *rest did not move. Counts are checked against the bytes left before
 * memory is taken. */
CO_MUST_CHECK int changes_get_pages(struct co_span *rest, pgno_t **pgnos, uint32_t *n);
/* Decodes the next commit, likewise. CO_ERR_AGAIN (no sentence) at the end of the list. */
CO_MUST_CHECK int changes_get_commit(struct co_span *rest, lsn_t prev, lsn_t *lsn,
                                     uint32_t *db_pages, pgno_t **pgnos, uint32_t *n);

#endif
