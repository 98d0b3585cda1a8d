/*
 * lsn.h - log sequence numbers.
 *
 * An LSN is a byte position in a timeline's log. Records are 8-byte aligned and dense: the end of
 * one is the begin of the next. Every LSN that leaves a writer or is reported is a record boundary.
 * A page version and a snapshot carry the *end* LSN of their record. 0 means "none": a root
 * timeline begins at LSN_FIRST, a child at its ancestor LSN.
 *
 * Printed as 16 hex digits unbroken, so that text sorts as time does; "X/Y" (two hex halves) is
 * read too.
 */
#ifndef CORALLITE_PROTO_LSN_H
#define CORALLITE_PROTO_LSN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "proto/limits.h"

typedef uint64_t lsn_t;
typedef uint64_t term_t;
typedef uint32_t pgno_t; /* SQLite's: the first page is 1 */

#define LSN_NONE  ((lsn_t)0)
#define LSN_FIRST ((lsn_t)4096)
#define LSN_ALIGN 8u

#define LSN_TEXT  17
char *lsn_format(lsn_t lsn, char text[LSN_TEXT]);
/* Reads "0000000000001a40", "0/1A40" and "lsn:..." of either. CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int lsn_parse(const char *text, lsn_t *out);

/* So many terms are set aside for each timeline of a database: one a millisecond, for three years
 * (Timeline.born_term). */
#define TERMS_A_TIMELINE ((term_t)100000000000)
/* A cluster that is made of an archive does not know what the lost one did after it, nor what was
 * dropped there: its timelines are born so much later (safekeeper/restore_file.h). */
#define TERMS_A_CLUSTER ((term_t)CO_TIMELINES_MAX * TERMS_A_TIMELINE)
#define TERM_BORN_MAX   ((((term_t)1 << 63) / TERMS_A_TIMELINE - 1) * TERMS_A_TIMELINE)
/* Can a writer of the timeline that was born with `born` have had this term? Whoever opened it
 * before its cluster was made of an archive knows the `born` of then. */
bool term_is_of(term_t term, term_t born);

/* A commit id, "TERM:LSN": decimal term, begin LSN of the record as 16 hex digits. */
#define LSN_COMMIT_ID_TEXT 40
char *lsn_commit_id_format(term_t term, lsn_t begin, char text[LSN_COMMIT_ID_TEXT]);
CO_MUST_CHECK int lsn_commit_id_parse(const char *text, term_t *term, lsn_t *begin);

#endif
