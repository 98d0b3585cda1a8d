/*
 * when.h - moments as people write them. Pure: the clock comes as an argument.
 *
 *   "", latest, now         the head
 *   lsn:..., 16 hex digits, X/Y   an LSN (proto/lsn.h)
 *   time:..., RFC 3339      2026-01-02, 2026-01-02T03:04[:05[.678]][Z|+02:00]; a blank may stand
 * for the T; no zone means UTC -5m, -2h, -1d, -1 hour, 5 minutes ago, an hour ago   before now;
 * units s m h d w and their words pin:NAME                a named pin
 *
 * A bare number that could be an LSN as well as a time is refused with the two spellings "lsn:" and
 * "time:". A time in the future is refused, naming now.
 */
#ifndef CORALLITE_PROTO_WHEN_H
#define CORALLITE_PROTO_WHEN_H

#include <stdint.h>

#include "proto/lsn.h"
#include "proto/name.h"

enum when_kind { WHEN_HEAD, WHEN_LSN, WHEN_TIME, WHEN_PIN };

struct when {
    enum when_kind kind;
    lsn_t lsn;
    uint64_t time_us; /* since 1970 */
    char pin[CO_NAME_MAX_BYTES + 1];
};

/* CO_ERR_INVAL with a sentence that shows the spellings. */
CO_MUST_CHECK int when_parse(const char *text, uint64_t now_us, struct when *out);

/* RFC 3339 with microseconds and Z. */
#define WHEN_TEXT 32
char *when_format(uint64_t time_us, char text[WHEN_TEXT]);

/* A reference as the CLI takes it: DB[/BRANCH][@MOMENT]. `at` is "" when absent. */
#define WHEN_AT_MAX 64
CO_MUST_CHECK int when_split_ref(const char *ref, char db[CO_NAME_MAX_BYTES + 1],
                                 char branch[CO_NAME_MAX_BYTES + 1], char at[WHEN_AT_MAX]);

#endif
