/*
 * when.h - moments as people write them. Pure: the clock comes as an argument.
 *
 *   "", latest, now        the head
 *   lsn:..., X/Y           an LSN (proto/lsn.h); so are 16 hex digits
 *   2026-01-02             start of a day; a time follows behind a T or a blank:
 *   2026-01-02T03:04       [:05[.678]] and a zone, Z or +02:00; none means UTC. Digits behind the
 *                          microseconds are cut
 *   -5m, -2h30m, -1 hour   before now; "5 minutes ago", "an hour ago" too. Units: s m h d w and
 *                          their words
 *   time:...               any of the two above, or seconds since 1970
 *   pin:NAME               a named pin
 *
 * Case does not matter, nor do blanks around it. A bare number that could be an LSN as well as a
 * time is refused with the two spellings "lsn:" and "time:"; "5m" without a direction is refused
 * with "-5m". A time in the future is refused, naming now.
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

/* CO_ERR_INVAL with a sentence that shows the spellings; CO_ERR_NAME for a pin's name. */
CO_MUST_CHECK int when_parse(const char *text, uint64_t now_us, struct when *out);

/* RFC 3339 with microseconds and Z. */
#define WHEN_TEXT 32
char *when_format(uint64_t time_us, char text[WHEN_TEXT]);

/* A reference as the CLI takes it: DB[/BRANCH][@MOMENT]. `at` is "" when absent. */
#define WHEN_AT_MAX 80
CO_MUST_CHECK int when_split_ref(const char *ref, char db[CO_NAME_MAX_BYTES + 1],
                                 char branch[CO_NAME_MAX_BYTES + 1], char at[WHEN_AT_MAX]);

#endif
