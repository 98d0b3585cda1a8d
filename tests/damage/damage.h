/*
 * damage.h - kinds of damage, by name: what a disk, a crash of a bad kind or a person can do to the
 * files of a daemon that is stopped. For tests: docs/damage.md says what is to be seen of each.
 */
#ifndef CORALLITE_TEST_DAMAGE_H
#define CORALLITE_TEST_DAMAGE_H

#include "common/id.h"

struct damage_target {
    const char *dir;       /* data directory of one daemon; of an archive, that of one cluster */
    const char *other;     /* a second one; NULL: none */
    struct co_id timeline; /* zero: none */
};

struct damage_kind {
    const char *name;
    const char *what;
    int (*seed)(const struct damage_target *t); /* 0, or CO_ERR_* with a sentence */
    bool needs_timeline, needs_other;
};

/* Each ends with a name of NULL. */
extern const struct damage_kind damage_store[], damage_log[], damage_archive[];

#endif
