/*
 * lives_file.h - how often this safekeeper was started, and whether its disk is known to have gone
 * back in time.
 *
 * DIR/starts: magic "CORALSTA", u64 count of starts, u64 random number of the last one, u32
 * CRC-32C; replaced as a whole, before anybody is answered. A start that cannot be counted is
 * refused. A directory of an older build has none: it counts from here.
 *
 * DIR/regressed: a sentence. While it is there the node takes no part in anything, over restarts
 * too: a disk that lost what it had said to have is not asked a second time.
 *
 * Threads: any, one user a directory.
 */
#ifndef CORALLITE_SAFEKEEPER_LIVES_FILE_H
#define CORALLITE_SAFEKEEPER_LIVES_FILE_H

#include "safekeeper/io_file.h"

#define SK_REGRESSED_TEXT 1000

struct sk_lives {
    uint64_t starts, start_id;         /* of the start under way */
    char regressed[SK_REGRESSED_TEXT]; /* "": it is not */
};

/* Counts one more start with this random number (not 0), and reads the rest. CO_ERR_CORRUPT,
 * CO_ERR_IO, CO_ERR_FULL. */
CO_MUST_CHECK int sk_lives_begin(const char *dir, uint64_t random, struct sk_lives *out);
/* Notes the sentence; durable on return. */
CO_MUST_CHECK int sk_lives_regressed(const char *dir, const char *sentence);

#endif
