/*
 * keys.h - the keys of the page store. Pure.
 *
 * Big-endian throughout, so that memcmp, which is LMDB's order, is the order of the lookups.
 *
 *   page    17  timeline no. u32 | page number u32 | ~LSN u64 | chunk u8
 *   commit  14  timeline no. u32 | LSN u64 | chunk u16
 *   time    20  timeline no. u32 | time us u64 | LSN u64
 *   line     4  timeline no. u32                    (table progress)
 *
 * The LSN of a page key is stored inverted: the first key at or after {timeline, page, ~s, 0} is
 * then chunk 0 of the newest version at or below s, if there is one.
 */
#ifndef CORALLITE_PAGESERVER_KEYS_H
#define CORALLITE_PAGESERVER_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "proto/lsn.h"

/* Number of a timeline in this store: short, given once, never used again. 0: none. */
typedef uint32_t tlno_t;

#define PS_PAGE_KEY_BYTES   17u
#define PS_COMMIT_KEY_BYTES 14u
#define PS_TIME_KEY_BYTES   20u
#define PS_LINE_KEY_BYTES   4u

struct ps_page_key {
    tlno_t no;
    pgno_t pgno;
    lsn_t lsn;
    uint8_t chunk;
};
void ps_page_key_put(uint8_t out[PS_PAGE_KEY_BYTES], const struct ps_page_key *key);
/* false: these bytes are no page key */
bool ps_page_key_get(struct co_span bytes, struct ps_page_key *out);

struct ps_commit_key {
    tlno_t no;
    lsn_t lsn;
    uint16_t chunk;
};
void ps_commit_key_put(uint8_t out[PS_COMMIT_KEY_BYTES], const struct ps_commit_key *key);
bool ps_commit_key_get(struct co_span bytes, struct ps_commit_key *out);

struct ps_time_key {
    tlno_t no;
    uint64_t time_us;
    lsn_t lsn;
};
void ps_time_key_put(uint8_t out[PS_TIME_KEY_BYTES], const struct ps_time_key *key);
bool ps_time_key_get(struct co_span bytes, struct ps_time_key *out);

#endif
