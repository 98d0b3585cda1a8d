/* v1_changes.h - which pages a change list names, each once, as JSON text. Pure. */
#ifndef CORALLITE_PAGESERVER_V1_CHANGES_H
#define CORALLITE_PAGESERVER_V1_CHANGES_H

#include <stdbool.h>

#include "common/bytes.h"
#include "proto/lsn.h"

/* Appends to *out "[1,2,9]": the pages of the change list (proto/changes.h) from `since` on that
 * are not beyond db_pages, ascending; *commits counts its commits. CO_ERR_PROTOCOL, CO_ERR_NOMEM;
 * memory is bounded by the length of the list. */
CO_MUST_CHECK int v1_changes_text(struct co_span list, lsn_t since, uint32_t db_pages,
                                  struct co_buf *out, uint32_t *commits);

#endif
