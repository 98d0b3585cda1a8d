/*
 * wal_delta.h - the difference between two versions of a page, as a run list (format in wal.h).
 * Pure.
 */
#ifndef CORALLITE_PROTO_WAL_DELTA_H
#define CORALLITE_PROTO_WAL_DELTA_H

#include <stdbool.h>

#include "common/bytes.h"

#define WAL_DELTA_NONE SIZE_MAX

/* Writes the run list that turns `base` into `page` (both page_size bytes) to out[cap]. Returns its
 * length; WAL_DELTA_NONE when it would be longer than cap. */
size_t wal_delta_make(const uint8_t *base, const uint8_t *page, uint32_t page_size, uint8_t *out,
                      size_t cap);

/* Applies a run list to page[page_size], which holds the base. false when the list is malformed;
 * the page is then rubbish, but nothing beyond it was touched. */
bool wal_delta_apply(struct co_span runs, uint8_t *page, uint32_t page_size);

#endif
