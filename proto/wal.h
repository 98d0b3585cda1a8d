/*
 * wal.h - the WAL record: one committed transaction, or one configuration.
 *
 * Byte table (little-endian; a record begins at an LSN that is a multiple of 8):
 *
 *   header, WAL_HEADER_BYTES
 *     0    4  magic "CWAL"
 *     4    2  format version: 1; 2 in a record of more than 1 GiB, which is otherwise the same
 *     6    2  header bytes (WAL_HEADER_BYTES)
 *     8    8  total bytes of the record: header, entries, padding, trailer; a multiple of 8
 *    16    1  kind: 1 TXN, 2 CONFIG
 *    17    3  zero
 *    20    4  page size in bytes (TXN; 0 in CONFIG)
 *    24   16  cluster id
 *    40   16  timeline id
 *    56    8  term
 *    64    8  begin LSN
 *    72    8  base LSN: the state that the transaction was built on (== begin LSN)
 *    80    8  end LSN (== begin + total)
 *    88    8  sealed LSN: the writer's commit LSN when it sealed this record
 *    96    8  time, us since 1970, never going back within a timeline
 *   104   16  commit uuid
 *   120   16  digest of the previous record of the timeline
 *   136    4  database size in pages after the commit (TXN)
 *   140    4  number of entries
 *   entries, back to back
 *     0    4  page number
 *     4    1  encoding: 0 image, 1 zstd image, 2 delta
 *     5    3  bytes of data that follow the entry header (u24)
 *     8    4  CRC-32C of the resulting page
 *   delta only:
 *    12    8  LSN of the base version (<= begin LSN)
 *    20    4  CRC-32C of the base page
 *   then the data.
 *   zero padding to a multiple of 8, then the trailer, WAL_TRAILER_BYTES
 *     0   16  digest: the first 16 bytes of SHA-256 over the previous digest, the header, and for
 *             each entry in order the page number and the CRC of the resulting page, 4 bytes each
 *             (CONFIG: all bytes of the entries)
 *    16    4  CRC-32C of everything before it
 *    20    4  magic "LAWC"
 *
 * Delta data: a run list {varint gap, varint length, bytes}, gap counted from the end of the run
 * before it, length >= 1; bytes outside the runs are the base's. No run: the page is as its base.
 * A CONFIG record has one entry a member, members before new members, each group with ascending
 * node ids: {u32 node id, u8 0 = member | 1 = new member, u24 16, u32 0}, then the 16-byte disk
 * uuid as data; its configuration version is in the size field (136).
 * Lengths that are bound to others: an image has page size bytes, zstd and delta data less.
 *
 * Invariants
 *   W1 begin == base; end == begin + total; all multiples of 8.
 *   W2 a page number appears once; page numbers ascend; 1 <= page number <= database size.
 *   W3 a delta names a base that was the version valid at base LSN; whoever applies it checks the
 *      base's CRC before and the result's CRC after.
 *   W4 a record never depends on pages newer than its own begin.
 *   W5 sealed <= begin: what its writer knew to be committed lies before it.
 *   There is one encoding of a record's meaning: what is zero is checked to be zero.
 *
 * Used by the writer (build), the safekeeper (check), the pageserver (check, entries, apply) and
 * the simulator. No I/O, no clock, no globals; one builder or decoder a thread.
 */
#ifndef CORALLITE_PROTO_WAL_H
#define CORALLITE_PROTO_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/id.h"
#include "proto/limits.h"
#include "proto/lsn.h"

#define WAL_HEADER_BYTES  144u
#define WAL_TRAILER_BYTES 24u

enum wal_kind { WAL_TXN = 1, WAL_CONFIG = 2 };
enum wal_encoding { WAL_IMAGE = 0, WAL_ZSTD = 1, WAL_DELTA = 2 };

struct wal_digest {
    uint8_t b[16];
};

/* A decoded header and trailer. */
struct wal_header {
    enum wal_kind kind;
    uint64_t total_bytes;
    uint32_t page_size;
    struct co_id cluster, timeline;
    term_t term;
    lsn_t begin_lsn, base_lsn, end_lsn, sealed_lsn;
    uint64_t time_us;
    struct co_id commit_uuid;
    struct wal_digest prev_digest, digest;
    uint32_t db_pages; /* of a CONFIG record: the configuration version */
    uint32_t n_entries;
};

/* A configuration: who votes. Static in version 1: n_new == 0. */
struct wal_member {
    uint32_t node_id;
    struct co_id disk_uuid; /* zero: not known yet, matches any */
};
struct wal_config {
    uint32_t version; /* 1 at birth; 0: none */
    uint32_t n, n_new;
    struct wal_member members[CO_MEMBERS_MAX];
    struct wal_member new_members[CO_MEMBERS_MAX];
};

/* 0 if `config` is one: version >= 1, 1 to CO_MEMBERS_MAX members, at most as many new members,
 * node ids from 1 on, ascending within each group. CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int wal_config_check(const struct wal_config *config);

/* -- Building ---------------------------------------------------------------------------------- */

/* Collects the pages of one transaction; reusable. Owns its zstd context and scratch memory. */
struct wal_builder;

CO_MUST_CHECK int wal_builder_new(struct wal_builder **out);
void wal_builder_free(struct wal_builder *b);

/* Begins a TXN record of this page size; forgets what was collected before. */
void wal_builder_reset(struct wal_builder *b, uint32_t page_size);

/* Adds page `pgno`; pages must come in ascending order, each once, and those beyond the database's
 * new size must be left out (W2, asserted by seal). `base` is the page's content at `base_lsn`, the
 * version valid where the transaction began, or NULL when it is not at hand: then, and when
 * base_lsn is none or no record's end, the entry is an image. The smallest of delta, zstd image and
 * image is taken. Both pages are borrowed for the call. CO_ERR_FULL with a sentence beyond
 * CO_TXN_MAX_BYTES, CO_ERR_NOMEM; the record is then as it was. */
CO_MUST_CHECK int wal_builder_page(struct wal_builder *b, pgno_t pgno, const uint8_t *page,
                                   const uint8_t *base, lsn_t base_lsn);

/* Bytes of entries in memory: collected and not drained. */
size_t wal_builder_held(const struct wal_builder *b);

/* What only the moment of publication knows. */
struct wal_stamp {
    struct co_id cluster, timeline;
    term_t term;
    lsn_t begin_lsn, sealed_lsn;
    uint64_t time_us;
    struct co_id commit_uuid;
    struct wal_digest prev_digest;
    uint32_t db_pages;
};

/* Number of bytes of the record as collected so far (header and trailer included). */
uint64_t wal_builder_bytes(const struct wal_builder *b);

/* Finishes the record: fills header, digest and CRC. It cannot fail: all memory was had before
 * (for a record without pages, by reset; that one asserts that there was memory).
 * *out is overwritten with the record, the caller's to free; *digest is its digest. The builder
 * must be reset before it is used again. */
void wal_builder_seal(struct wal_builder *b, const struct wal_stamp *stamp, struct co_buf *out,
                      struct wal_digest *digest);

/* A record that is too large for memory. drain: gives away what was collected since the last call;
 * the caller keeps it as the record's bytes from `*at` on (borrowed until the next call on the
 * builder). CO_ERR_NOMEM: nothing was given. seal_drained: the header, and the record's last bytes,
 * from `*at` on (*rest is overwritten, the caller's to free). Cannot fail, like seal. */
CO_MUST_CHECK int wal_builder_drain(struct wal_builder *b, struct co_span *bytes, uint64_t *at);
void wal_builder_seal_drained(struct wal_builder *b, const struct wal_stamp *stamp,
                              uint8_t head[WAL_HEADER_BYTES], struct co_buf *rest, uint64_t *at,
                              struct wal_digest *digest);

/* A whole CONFIG record; stamp->db_pages is ignored, *out is overwritten. CO_ERR_INVAL,
 * CO_ERR_NOMEM. */
CO_MUST_CHECK int wal_build_config(const struct wal_config *config, const struct wal_stamp *stamp,
                                   struct co_buf *out, struct wal_digest *digest);

/* -- Reading: every byte is untrusted ---------------------------------------------------------- */

/* Looks at the first record of `bytes`. 0: it is whole and sound (magic, version, lengths, entry
 * bounds W1 W2 W5, CRC), *out is filled and out->total_bytes are used. CO_ERR_AGAIN (no sentence):
 * `bytes` ends before the record does and what is there is plausible. CO_ERR_VERSION: a newer
 * format. CO_ERR_CORRUPT otherwise. The digest is taken as stored; wal_check_digest proves it. */
CO_MUST_CHECK int wal_check(struct co_span bytes, struct wal_header *out);

/* Recomputes the digest of a record that wal_check accepted. CO_ERR_CORRUPT if it differs. */
CO_MUST_CHECK int wal_check_digest(struct co_span record, const struct wal_header *header);

/* Decodes only the fixed header fields, without CRC: to learn a record's length before its bytes
 * are read. CO_ERR_AGAIN below WAL_HEADER_BYTES bytes; else the same errors. out->digest is zero.
 */
CO_MUST_CHECK int wal_peek(struct co_span bytes, struct wal_header *out);

struct wal_entry {
    pgno_t pgno;
    enum wal_encoding encoding;
    uint32_t page_crc;
    lsn_t base_lsn;      /* delta */
    uint32_t base_crc;   /* delta */
    struct co_span data; /* borrowed from the record */
};

/* Walks the entries of a record that wal_check accepted. */
struct wal_cursor {
    struct co_span rest;
    uint32_t left;
    enum wal_kind kind;
};
void wal_cursor_init(struct wal_cursor *c, struct co_span record, const struct wal_header *header);
/* false at the end */
bool wal_cursor_next(struct wal_cursor *c, struct wal_entry *out);

/* Makes the page of an entry in out[page_size]. `base` is the base version (NULL unless delta);
 * `base` and `out` may be the same memory. CO_ERR_CORRUPT with a sentence when the base's or the
 * result's CRC is not as the entry says, or the data does not decode; `out` is then rubbish, but
 * intact when it was the base's CRC. `dctx`: NULL, or a ZSTD_DCtx for reuse. */
CO_MUST_CHECK int wal_apply(const struct wal_entry *entry, uint32_t page_size, const uint8_t *base,
                            uint8_t *out, void *dctx);

/* The configuration of a CONFIG record that wal_check accepted. CO_ERR_CORRUPT of another kind. */
CO_MUST_CHECK int wal_read_config(struct co_span record, const struct wal_header *header,
                                  struct wal_config *out);

#endif
