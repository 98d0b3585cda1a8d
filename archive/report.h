/* report.h - what an archive holds, and what may be missing, in words and by name. */
#ifndef CORALLITE_ARCHIVE_REPORT_H
#define CORALLITE_ARCHIVE_REPORT_H

#include <stdio.h>

#include "archive/state.h"

/* The line of a timeline; false: the manifest has none. */
bool ar_line_find(const Corallite__ArchiveState *state, const struct co_id *id,
                  struct ar_line *out);
/* Can it be read with what is archived: are its ancestors there as far as it needs them? Else
 * `lacks` is the one that is not (its name "" when the manifest does not tell of it). */
bool ar_line_whole(const Corallite__ArchiveState *state, const struct ar_line *line,
                   struct ar_line *lacks);
/* Branch by branch up to where, and what may be missing. */
void ar_report(const Corallite__ArchiveState *state, FILE *out);

#endif
