/* places.h - the places that test_store.c runs over: one row an implementation of archive/store.h.
 * A new implementation adds a row in places.c; what is special to it has a file of its own. */
#ifndef CORALLITE_TESTS_UNIT_ARCHIVE_PLACES_H
#define CORALLITE_TESTS_UNIT_ARCHIVE_PLACES_H

#include "archive/store.h"

struct place {
    const char *name;
    /* Makes an empty place and tells its URL. Runs in the process of the test. */
    void (*up)(char url[AR_URL_MAX_BYTES]);
    void (*down)(void);
};

extern const struct place places[];
extern int places_n;

#endif
