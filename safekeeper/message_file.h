/*
 * message_file.h - a small file that holds one packed message, replaced as a whole.
 *
 *      0   8  magic
 *      8   4  format version (1)
 *     12   4  length of the message
 *     16   4  CRC-32C of the message
 *     20   4  zero
 *     24      the message
 *
 * Threads: as io_file.h.
 */
#ifndef CORALLITE_SAFEKEEPER_MESSAGE_FILE_H
#define CORALLITE_SAFEKEEPER_MESSAGE_FILE_H

#include <protobuf-c/protobuf-c.h>

#include "safekeeper/io_file.h"

struct sk_message_file {
    const char *name;     /* below the data directory */
    const char *magic;    /* 8 bytes */
    const char *recovery; /* what to do about a damaged one, for the end of a sentence */
    const ProtobufCMessageDescriptor *type;
    size_t max_bytes; /* of the message */
};

/* *out is the caller's to free. CO_ERR_NOT_FOUND; CO_ERR_CORRUPT, CO_ERR_VERSION, CO_ERR_IO with a
 * sentence. */
CO_MUST_CHECK int sk_message_load(const struct sk_message_file *file, const char *dir,
                                  ProtobufCMessage **out);
/* Durable on return. The message has at most max_bytes. */
CO_MUST_CHECK int sk_message_save(const struct sk_message_file *file, const char *dir,
                                  const ProtobufCMessage *message);
/* CO_ERR_CORRUPT with a sentence: `what` is wrong with it. */
CO_MUST_CHECK int sk_message_damaged(const struct sk_message_file *file, const char *dir,
                                     const char *what);

#endif
