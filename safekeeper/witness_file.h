/*
 * witness_file.h - what this node knows of other safekeepers of a timeline, beside their disks
 * (acceptor_witness.h).
 *
 * DIR/timelines/<id>/witness, two slots of 1024 bytes. A write with sequence s goes to slot s % 2.
 *
 *   slot (little-endian)
 *      0   8  magic "CORALWIT"
 *      8   4  format version: 2; 1 is read too, whose entries end with the commit LSN
 *     12   4  number of entries, at most 14
 *     16   8  sequence
 *     24  16  timeline id
 *     40      the entries, 56 bytes each: node, starts, start id, term, flush LSN, commit LSN, log
 *             term
 *   1020   4  CRC-32C of the bytes before
 *
 * It is made by the first write; a timeline of an older build has none, and knows nothing. Nothing
 * that is answered relies on it (W1), so it may be behind, and a file that is damaged is as one
 * that is missing: what others know is only ever more than nothing. An entry is never believed from
 * an unsound slot.
 *
 * Threads: those of the timeline's files.
 */
#ifndef CORALLITE_SAFEKEEPER_WITNESS_FILE_H
#define CORALLITE_SAFEKEEPER_WITNESS_FILE_H

#include "common/id.h"
#include "proto/known.h"
#include "safekeeper/io_file.h"

#define SK_WITNESS_SLOT_BYTES 1024u

struct sk_witness_file {
    struct q_known known[Q_KNOWN_MAX]; /* as read, then as written */
    uint32_t n;
    bool unsure; /* as it was read: it may be in the page cache only (decision 25) */
    uint64_t sequence;
};

/* dir: of the timeline. CO_ERR_IO; what is missing or damaged is empty, with a word in the log. */
CO_MUST_CHECK int sk_witness_read(const char *dir, const struct co_id *timeline,
                                  struct sk_witness_file *out);
/* Writes the file anew, with what was read in both slots. Only of what is unsure. */
CO_MUST_CHECK int sk_witness_renew(const char *dir, const struct co_id *timeline,
                                   struct sk_witness_file *file);
/* The next sequence; what was read is renewed before, so that a crash in this write leaves it.
 * Durable on return. */
CO_MUST_CHECK int sk_witness_store(const char *dir, const struct co_id *timeline,
                                   const struct q_known_list *known, struct sk_witness_file *file);

#endif
