/* id.h - 128-bit identities: clusters, databases, timelines, nonces, commits, disks. */
#ifndef CORALLITE_COMMON_ID_H
#define CORALLITE_COMMON_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/error.h"

struct co_id {
    uint8_t b[16];
};

#define CO_ID_TEXT 33 /* 32 hex digits and the end */

static inline bool co_id_eq(const struct co_id *a, const struct co_id *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

static inline bool co_id_is_zero(const struct co_id *a)
{
    static const struct co_id zero;
    return co_id_eq(a, &zero);
}

/* Writes 32 lower-case hex digits and returns `text`. */
char *co_id_format(const struct co_id *id, char text[CO_ID_TEXT]);
/* CO_ERR_INVAL unless `text` is exactly 32 hex digits. */
CO_MUST_CHECK int co_id_parse(const char *text, struct co_id *out);

/* Value of one hex digit of either case, -1 for any other character. */
int co_hex_digit(char c);

#endif
