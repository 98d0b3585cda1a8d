#include "safekeeper/history_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/mutation.h"

enum { HEADER = 64, ENTRY = 16, AT_CRC = 40 };
static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'H', 'I', 'S'};

_Static_assert(HEADER + CO_HISTORY_MAX * ENTRY <= SK_HISTORY_COPY_BYTES, "a copy holds them all");

static int digest_of(struct co_span entries, struct wal_digest *out)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    static const uint8_t none[1];
    if (!EVP_Digest(entries.len ? entries.data : none, entries.len, sum, &len, EVP_sha256(), NULL))
        return co_fail(CO_ERR_NOMEM, "the digest of a term history could not be computed");
    memcpy(out->b, sum, sizeof out->b);
    return 0;
}

static uint32_t crc_of(const uint8_t *copy, size_t len)
{
    static const uint8_t zero[4];
    uint32_t crc = co_crc32c(0, copy, AT_CRC);
    crc = co_crc32c(crc, zero, 4);
    return co_crc32c(crc, copy + AT_CRC + 4, len - AT_CRC - 4);
}

int sk_history_open(const char *path, const struct co_id *timeline, bool create,
                    struct sk_history_file *file)
{
    *file = (struct sk_history_file){.fd = -1, .timeline = *timeline};
    int rc = sk_io_path(file->path, "%s", path);
    if (!rc)
        rc = sk_io_open(path, O_RDWR | (create ? O_CREAT : 0), &file->fd);
    return rc;
}

void sk_history_close(struct sk_history_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int sk_history_write(struct sk_history_file *file, uint64_t sequence,
                     const struct q_history *history, struct wal_digest *digest)
{
    co_assert(history->n <= CO_HISTORY_MAX && q_history_valid(history));
    size_t len = HEADER + (size_t)history->n * ENTRY;
    uint8_t *copy = calloc(1, len);
    if (!copy)
        return co_fail(CO_ERR_NOMEM, "no memory to write a term history of %u entries", history->n);
    memcpy(copy, magic, 8);
    co_put32(copy + 8, CO_FORMAT_VERSION);
    co_put32(copy + 12, history->n);
    co_put64(copy + 16, sequence);
    memcpy(copy + 24, file->timeline.b, 16);
    for (uint32_t i = 0; i < history->n; i++) {
        co_put64(copy + HEADER + i * ENTRY, history->e[i].term);
        co_put64(copy + HEADER + i * ENTRY + 8, history->e[i].start);
    }
    co_put32(copy + AT_CRC, crc_of(copy, len));
    int rc = digest_of(co_span_of(copy + HEADER, len - HEADER), digest);
    if (!rc)
        rc = sk_io_pwrite(file->fd, co_span_of(copy, len), (sequence & 1) * SK_HISTORY_COPY_BYTES,
                          file->path);
    if (!rc && !co_mutated(HISTORY_AFTER_BLOCK))
        rc = sk_io_sync(file->fd, file->path);
    free(copy);
    return rc;
}

/* One copy, if it is sound and holds just these entries. CO_ERR_VERSION: sound and newer. */
static int read_copy(struct sk_history_file *file, unsigned which, uint32_t n,
                     const struct wal_digest *digest, uint8_t *copy)
{
    size_t len = HEADER + (size_t)n * ENTRY;
    struct wal_digest have;
    int rc = sk_io_pread(file->fd, copy, len, which * SK_HISTORY_COPY_BYTES, file->path);
    if (rc)
        return rc;
    if (memcmp(copy, magic, 8) || co_get32(copy + 12) != n ||
        memcmp(copy + 24, file->timeline.b, 16) || co_get32(copy + AT_CRC) != crc_of(copy, len))
        return CO_ERR_CORRUPT;
    if (co_get32(copy + 8) != CO_FORMAT_VERSION)
        return CO_ERR_VERSION;
    rc = digest_of(co_span_of(copy + HEADER, len - HEADER), &have);
    if (!rc && memcmp(have.b, digest->b, sizeof have.b))
        rc = CO_ERR_CORRUPT;
    return rc;
}

int sk_history_read(struct sk_history_file *file, uint64_t sequence, uint32_t n,
                    const struct wal_digest *digest, struct q_term **terms)
{
    *terms = NULL;
    if (!n)
        return 0;
    uint8_t *copy = malloc(HEADER + (size_t)n * ENTRY);
    struct q_term *e = malloc(n * sizeof *e);
    int rc = 0;
    if (!copy || !e) {
        rc = co_fail(CO_ERR_NOMEM, "no memory for a term history of %u entries", n);
        goto out;
    }
    unsigned named = sequence & 1;
    rc = read_copy(file, named, n, digest, copy);
    if (rc == CO_ERR_CORRUPT && read_copy(file, !named, n, digest, copy) == 0) {
        co_warn("safekeeper/history", "one copy is damaged, the other holds the same path=%s",
                file->path);
        rc = 0;
    }
    for (uint32_t i = 0; i < n && !rc; i++)
        e[i] = (struct q_term){co_get64(copy + HEADER + i * ENTRY),
                               co_get64(copy + HEADER + i * ENTRY + 8)};
    struct q_history h = {.n = n, .e = e};
    if (rc == CO_ERR_VERSION)
        co_fail(rc, "%s has a newer format than this build knows (%u)", file->path,
                CO_FORMAT_VERSION);
    else if (rc == CO_ERR_CORRUPT || (!rc && !q_history_valid(&h)))
        rc = co_fail(CO_ERR_CORRUPT,
                     "the term history %s is damaged: neither copy is the one that the control "
                     "block names. Replace this safekeeper; the other members have the data",
                     file->path);
    if (!rc) {
        *terms = e;
        e = NULL;
    }
out:
    free(e);
    free(copy);
    return rc;
}
