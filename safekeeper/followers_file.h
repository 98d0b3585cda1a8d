/*
 * followers_file.h - who follows (followers.h), durably.
 *
 * DIR/followers, replaced as a whole; absent: nobody ever did.
 * As message_file.h: magic "CORALFOL", a packed Pageservers message: disks and addresses.
 *
 * Threads: the opener, then any one at a time.
 */
#ifndef CORALLITE_SAFEKEEPER_FOLLOWERS_FILE_H
#define CORALLITE_SAFEKEEPER_FOLLOWERS_FILE_H

#include "safekeeper/followers.h"
#include "safekeeper/io_file.h"

/* *out is empty when there is no file. CO_ERR_CORRUPT, CO_ERR_VERSION, CO_ERR_IO. */
CO_MUST_CHECK int sk_followers_load(const char *dir, struct sk_followers *out);
CO_MUST_CHECK int sk_followers_save(const char *dir, const struct sk_followers *followers);

#endif
