/* segment_int.h - what segment_file.c and segment_dir_file.c share. Included by them only. */
#ifndef CORALLITE_SAFEKEEPER_SEGMENT_INT_H
#define CORALLITE_SAFEKEEPER_SEGMENT_INT_H

#include "safekeeper/segment_file.h"

static inline uint64_t sk_segment_number(lsn_t lsn)
{
    return lsn / SK_SEGMENT_DATA;
}

/* segment_file.c */

/* The path of its file. */
CO_MUST_CHECK int sk_segment_name(const struct sk_segments *s, uint64_t number,
                                  char path[SK_PATH_MAX]);
/* Which of s->open has the segment; opens it. */
CO_MUST_CHECK int sk_segment_slot(struct sk_segments *s, uint64_t number, unsigned *out);
void sk_segment_close_slot(struct sk_segments *s, unsigned i);

/* segment_dir_file.c */

/* An empty segment, durable under its name (L2). */
CO_MUST_CHECK int sk_segment_make(struct sk_segments *s, uint64_t number);

#endif
