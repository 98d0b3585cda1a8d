/*
 * wal_digest.c - the chain digest of a record: SHA-256 over what it says, not over how it says it.
 *
 * It is computed for every record, by the writer at a moment that must not fail, and inside
 * programs that are not ours. So OpenSSL's plain SHA-256 functions are used, not its EVP ones: they
 * take no memory, cannot fail, depend on no configuration file, and go on working in a process
 * that is exiting and has cleaned OpenSSL up. They are marked as deprecated since 3.0 in favour of
 * EVP; this file is the only one that would change.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "proto/wal_format.h"

#define CHUNK 64 /* entries hashed at once */

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct wal_hash), "its state has room");
_Static_assert(_Alignof(SHA256_CTX) <= _Alignof(struct wal_hash), "its state is aligned");

void wal_hash_begin(struct wal_hash *h, const uint8_t header[WAL_HEADER_BYTES])
{
    SHA256_CTX *sha = (SHA256_CTX *)(void *)h->state;
    SHA256_Init(sha);
    SHA256_Update(sha, header + WH_PREV_DIGEST, sizeof(struct wal_digest));
    SHA256_Update(sha, header, WAL_HEADER_BYTES);
}

void wal_hash_entry(struct wal_hash *h, const struct wal_entry *e)
{
    uint8_t said[8];
    co_put32(said, e->pgno);
    co_put32(said + 4, e->page_crc);
    wal_hash_said(h, co_span_of(said, sizeof said));
}

void wal_hash_said(struct wal_hash *h, struct co_span said)
{
    SHA256_Update((SHA256_CTX *)(void *)h->state, said.data, said.len);
}

void wal_hash_end(struct wal_hash *h, struct wal_digest *out)
{
    uint8_t full[SHA256_DIGEST_LENGTH];
    SHA256_Final(full, (SHA256_CTX *)(void *)h->state);
    memcpy(out->b, full, sizeof out->b);
}

void wal_digest_of(const uint8_t header[WAL_HEADER_BYTES], enum wal_kind kind, uint32_t n_entries,
                   struct co_span entries, struct wal_digest *out)
{
    uint8_t said[8 * CHUNK], full[SHA256_DIGEST_LENGTH];
    struct wal_entry entry;
    SHA256_CTX sha;
    size_t n = 0;
    const uint8_t *start = entries.data;

    SHA256_Init(&sha);
    SHA256_Update(&sha, header + WH_PREV_DIGEST, sizeof out->b);
    SHA256_Update(&sha, header, WAL_HEADER_BYTES);
    for (; n_entries && wal_take_entry(&entries, kind, &entry); n_entries--) {
        if (kind == WAL_CONFIG)
            continue;
        co_put32(said + n, entry.pgno);
        co_put32(said + n + 4, entry.page_crc);
        n += 8;
        if (n == sizeof said) {
            SHA256_Update(&sha, said, n);
            n = 0;
        }
    }
    if (kind == WAL_CONFIG)
        SHA256_Update(&sha, start, (size_t)(entries.data - start));
    else
        SHA256_Update(&sha, said, n);
    SHA256_Final(full, &sha);
    memcpy(out->b, full, sizeof out->b);
}
