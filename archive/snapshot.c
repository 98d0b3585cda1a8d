#include "archive/snapshot.h"

#include <stdio.h>
#include <zstd.h>

#include "archive/framed.h"
#include "common/crc32c.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define PART_HEAD 56u
/* Most of the rows are compressed already, page by page. */
#define LEVEL 1

static const char part_magic[8] = {'C', 'O', 'R', 'A', 'L', 'S', 'N', 'P'};
static const char index_magic[8] = {'C', 'O', 'R', 'A', 'L', 'S', 'N', 'I'};

/* -- A part ------------------------------------------------------------------------------------ */

int ar_snap_pack(const struct co_id *timeline, const struct ar_snap_name *at, struct co_span rows,
                 struct co_buf *out)
{
    size_t begin = out->len, bound = ZSTD_compressBound(rows.len);
    int rc = co_buf_reserve(out, PART_HEAD + bound);
    if (rc)
        return rc;
    uint8_t *p = out->data + begin;
    size_t n = ZSTD_compress(p + PART_HEAD, bound, rows.data, rows.len, LEVEL);
    if (ZSTD_isError(n))
        return co_fail(CO_ERR_NOMEM, "a part of a snapshot cannot be compressed: %s",
                       ZSTD_getErrorName(n));
    memcpy(p, part_magic, sizeof part_magic);
    co_put32(p + 8, AR_SNAP_VERSION);
    co_put64(p + 16, rows.len);
    co_put64(p + 24, at->lsn);
    memcpy(p + 32, timeline->b, sizeof timeline->b);
    co_put32(p + 48, at->number);
    co_put32(p + 52, 0);
    co_put32(p + 12, co_crc32c(0, p + 16, PART_HEAD - 16 + n));
    out->len += PART_HEAD + n;
    return 0;
}

int ar_snap_unpack(struct co_span bytes, const char *name, const struct co_id *timeline,
                   const struct ar_snap_name *at, struct co_buf *rows)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < PART_HEAD || memcmp(p, part_magic, sizeof part_magic) != 0)
        return ar_damaged(name, "it is no part of a snapshot");
    if (co_get32(p + 8) != AR_SNAP_VERSION)
        return ar_other_version(name, co_get32(p + 8), AR_SNAP_VERSION);
    if (co_crc32c(0, p + 16, bytes.len - 16) != co_get32(p + 12))
        return ar_damaged(name, "its checksum is another");
    uint64_t len = co_get64(p + 16);
    if (memcmp(p + 32, timeline->b, sizeof timeline->b) != 0 || co_get64(p + 24) != at->lsn ||
        co_get32(p + 48) != at->number || len > AR_SNAP_ROWS_MAX)
        return ar_damaged(name, "it holds another one's content");
    int rc = co_buf_reserve(rows, len ? (size_t)len : 1);
    if (rc)
        return rc;
    size_t n =
        ZSTD_decompress(rows->data + rows->len, (size_t)len, p + PART_HEAD, bytes.len - PART_HEAD);
    if (ZSTD_isError(n) || n != len)
        return ar_damaged(name, "what was compressed in it cannot be read");
    rows->len += n;
    return 0;
}

/* -- An index ---------------------------------------------------------------------------------- */

int ar_snap_index_pack(const Corallite__ArchiveSnapshot *index, struct co_buf *out)
{
    size_t n = corallite__archive_snapshot__get_packed_size(index);
    if (n > AR_OBJECT_MAX_BYTES - AR_FRAMED_HEAD)
        return co_fail(CO_ERR_TOO_LARGE,
                       "an index of %zu bytes is larger than an archive's object may be", n);
    int rc = co_buf_reserve(out, AR_FRAMED_HEAD + n);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    corallite__archive_snapshot__pack(index, p + AR_FRAMED_HEAD);
    ar_framed_seal(p, n, index_magic, AR_SNAP_VERSION);
    out->len += AR_FRAMED_HEAD + n;
    return 0;
}

static bool is_index(const Corallite__ArchiveSnapshot *m)
{
    bool good = m->timeline.len == sizeof(struct co_id) && m->cluster.len == sizeof(struct co_id) &&
                m->digest.len == sizeof(struct co_id) && m->n_parts <= AR_SNAP_PARTS_MAX;
    for (size_t i = 0; good && i < m->n_parts; i++)
        good = m->parts[i]->sum.len == sizeof(struct co_id) &&
               m->parts[i]->bytes <= AR_OBJECT_MAX_BYTES;
    return good;
}

int ar_snap_index_unpack(struct co_span bytes, const char *name, Corallite__ArchiveSnapshot **out)
{
    struct co_span message;
    *out = NULL;
    int rc =
        ar_framed_open(bytes, name, index_magic, AR_SNAP_VERSION, "index of a snapshot", &message);
    if (rc)
        return rc;
    *out = message_unpack(&corallite__archive_snapshot__descriptor, message);
    if (*out && is_index(*out))
        return 0;
    if (*out)
        corallite__archive_snapshot__free_unpacked(*out, NULL);
    *out = NULL;
    return ar_damaged(name, "it is no message");
}

/* -- From the store ---------------------------------------------------------------------------- */

struct ar_snap_name ar_snap_object(const struct ar_snap *snap,
                                   const Corallite__ArchiveSnapshot *index, uint32_t number)
{
    struct ar_snap_name n = {.lsn = snap->lsn, .generation = snap->generation, .number = number};
    if (number == AR_SNAP_INDEX)
        n.sum = snap->sum;
    else
        memcpy(n.sum.b, index->parts[number]->sum.data, sizeof n.sum.b);
    return n;
}

/* An object of `bytes` (0: whatever it has), whose content its name was made of. */
static int get(struct ar_store *store, const char *name, const struct wal_digest *sum,
               uint64_t bytes, struct co_buf *out)
{
    struct wal_digest there;
    int rc = ar_get(store, name, 0, AR_OBJECT_MAX_BYTES, out, NULL);
    if (rc == CO_ERR_NOT_FOUND)
        return co_fail(rc, "the archive %s lacks a part of a snapshot: there is no object %s",
                       ar_url(store), name);
    if (rc)
        return rc;
    if (bytes && out->len != bytes)
        return co_fail(CO_ERR_CORRUPT,
                       "the archive's object %s is cut: it has %zu bytes where %llu were written",
                       name, out->len, (unsigned long long)bytes);
    ar_sum(co_buf_span(out), &there);
    if (memcmp(there.b, sum->b, sizeof there.b) != 0)
        return ar_damaged(name, "its bytes are not those that its name was made of");
    return 0;
}

int ar_snap_index_get(struct ar_store *store, const struct co_id *cluster,
                      const struct co_id *timeline, const struct ar_snap *snap,
                      Corallite__ArchiveSnapshot **out)
{
    char name[AR_NAME_TEXT];
    struct co_buf bytes = {0};
    struct ar_snap_name at = ar_snap_object(snap, NULL, AR_SNAP_INDEX);
    *out = NULL;
    ar_name_snap(cluster, timeline, &at, name);
    int rc = get(store, name, &at.sum, 0, &bytes);
    if (!rc)
        rc = ar_snap_index_unpack(co_buf_span(&bytes), name, out);
    co_buf_free(&bytes);
    if (rc)
        return rc;
    if (memcmp((*out)->cluster.data, cluster->b, sizeof cluster->b) == 0 &&
        memcmp((*out)->timeline.data, timeline->b, sizeof timeline->b) == 0 &&
        (*out)->lsn == snap->lsn && (*out)->generation == snap->generation)
        return 0;
    corallite__archive_snapshot__free_unpacked(*out, NULL);
    *out = NULL;
    return ar_damaged(name, "it holds another one's content");
}

int ar_snap_part_get(struct ar_store *store, const struct co_id *cluster,
                     const struct co_id *timeline, const struct ar_snap *snap,
                     const Corallite__ArchiveSnapshot *index, uint32_t number, struct co_buf *rows)
{
    char name[AR_NAME_TEXT];
    struct co_buf bytes = {0};
    struct ar_snap_name at = ar_snap_object(snap, index, number);
    ar_name_snap(cluster, timeline, &at, name);
    int rc = get(store, name, &at.sum, index->parts[number]->bytes, &bytes);
    if (!rc)
        rc = ar_snap_unpack(co_buf_span(&bytes), name, timeline, &at, rows);
    co_buf_free(&bytes);
    return rc;
}
