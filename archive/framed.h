/*
 * framed.h - what stands before the message in an object that is one message: a manifest, the index
 * of a snapshot.
 *
 *   offset size   little-endian
 *        0    8   magic: which kind of object
 *        8    4   format version
 *       12    4   CRC-32C of the message
 *       16    8   length of the message
 *       24        the message (proto/corallite.proto)
 *
 * No state: any thread may call these, on bytes of its own.
 */
#ifndef CORALLITE_ARCHIVE_FRAMED_H
#define CORALLITE_ARCHIVE_FRAMED_H

#include "common/bytes.h"
#include "common/error.h"

#define AR_FRAMED_HEAD 24u

/* Writes the head; `object` has room for it, and the message, of `len` bytes, behind it. */
void ar_framed_seal(uint8_t *object, size_t len, const char magic[8], uint32_t version);

/* *message: within `bytes`. `kind` ends the sentence "is damaged: it is no ..." where the magic is
 * another; `version` and those before it are known. CO_ERR_CORRUPT, CO_ERR_VERSION, with a sentence
 * that has `name`. */
CO_MUST_CHECK int ar_framed_open(struct co_span bytes, const char *name, const char magic[8],
                                 uint32_t version, const char *kind, struct co_span *message);

/* The sentences for an object of that name: CO_ERR_CORRUPT, CO_ERR_VERSION. */
int ar_damaged(const char *name, const char *what);
int ar_other_version(const char *name, uint32_t there, uint32_t known);

#endif
