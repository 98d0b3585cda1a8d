/*
 * wal_stream.h - a transaction's record that comes in pieces: checked as it comes, never whole in
 * memory. Every byte is untrusted.
 *
 *   wal_stream_reset; for each piece: wal_stream_feed, then wal_stream_next until it wants MORE
 *
 * What wal_check and wal_check_digest say of a whole record is said here piece by piece: header,
 * lengths, entries in order, CRC, digest. Only END says that the record is sound: entries are
 * handed out before its CRC is known, so whoever uses them must be able to take that back.
 *
 * The first piece holds the whole header. Pieces end where the record ends: the caller cuts them
 * with wal_stream_left(). A configuration is never so large: it is refused.
 *
 * Pure. One user at a time. Memory: the longest entry there can be.
 */
#ifndef CORALLITE_PROTO_WAL_STREAM_H
#define CORALLITE_PROTO_WAL_STREAM_H

#include "proto/wal.h"

struct wal_stream;

enum wal_stream_step { WAL_STREAM_MORE, WAL_STREAM_ENTRY, WAL_STREAM_END };

CO_MUST_CHECK int wal_stream_new(struct wal_stream **out);
void wal_stream_free(struct wal_stream *s);
/* Forgets everything: the next piece begins a record. */
void wal_stream_reset(struct wal_stream *s);

/* Borrows the next piece until next() says MORE or END. Of the first one the header is looked at
 * here: CO_ERR_CORRUPT, CO_ERR_VERSION with a sentence. */
CO_MUST_CHECK int wal_stream_feed(struct wal_stream *s, struct co_span piece);
/* What comes next: an entry (borrowed until the next call), the wish for more, or the end: the
 * record is sound. CO_ERR_CORRUPT with a sentence; then reset. */
CO_MUST_CHECK int wal_stream_next(struct wal_stream *s, enum wal_stream_step *step,
                                  struct wal_entry *entry);

/* Of the record under way; the digest is known after END. Before the first piece: NULL. */
const struct wal_header *wal_stream_header(const struct wal_stream *s);
/* Bytes of the record that were fed. */
uint64_t wal_stream_got(const struct wal_stream *s);
/* Bytes of it that are still to come; before the first piece UINT64_MAX. */
uint64_t wal_stream_left(const struct wal_stream *s);

#endif
