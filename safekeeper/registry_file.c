#include "safekeeper/registry_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/mutation.h"
#include "proto/message.h"
#include "proto/unpack.h"

enum { HEADER = 32, ENTRY_HEADER = 8, CHANGE_HEADER = 16, AT_CRC = 24, ALIGN = 512, VERSION = 2 };
#define FILE_MAX_BYTES (CO_TIMELINES_MAX * 2048ull + SK_REWRITE_BYTES)

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'R', 'E', 'G'};

static uint64_t aligned(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* -- Writing ---------------------------------------------------------------------------------- */

static int encode_entry(const struct sk_entry *entry, struct co_buf *out)
{
    size_t len = corallite__timeline__get_packed_size(entry->message);
    int rc = co_buf_reserve(out, ENTRY_HEADER + len);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    corallite__timeline__pack(entry->message, p + ENTRY_HEADER);
    co_put32(p, (uint32_t)len);
    co_put32(p + 4, co_crc32c(co_crc32c(0, p, 4), p + ENTRY_HEADER, len));
    out->len += ENTRY_HEADER + len;
    return 0;
}

static int encode_base(const struct sk_registry *r, const struct sk_entry *entry,
                       struct co_buf *out)
{
    uint32_t count = 0;
    int rc = co_buf_append_zeros(out, HEADER);
    bool placed = !entry;
    for (uint32_t i = 0; i < r->n && !rc; i++) {
        int c = placed ? 1 : memcmp(entry->id.b, r->e[i].id.b, sizeof entry->id.b);
        if (!placed && c <= 0) {
            rc = encode_entry(entry, out);
            placed = true;
            count++;
        }
        if (!rc && c != 0) {
            rc = encode_entry(&r->e[i], out);
            count++;
        }
    }
    if (!rc && !placed) {
        rc = encode_entry(entry, out);
        count++;
    }
    if (!rc)
        rc = co_buf_append_zeros(out, aligned(out->len) - out->len);
    if (rc)
        return rc;
    memcpy(out->data, magic, 8);
    co_put32(out->data + 8, VERSION);
    co_put32(out->data + 12, count);
    co_put64(out->data + 16, r->sequence + (entry != NULL));
    co_put32(out->data + AT_CRC, co_crc32c(0, out->data, AT_CRC));
    return 0;
}

static uint32_t change_crc(const uint8_t *p, size_t len)
{
    return co_crc32c(co_crc32c(0, p, 4), p + 8, CHANGE_HEADER - 8 + len);
}

static int encode_change(const struct sk_entry *entry, uint64_t sequence, struct co_buf *out)
{
    size_t len = corallite__timeline__get_packed_size(entry->message);
    size_t copy = aligned(CHANGE_HEADER + len);
    int rc = co_buf_append_zeros(out, 2 * copy);
    if (rc)
        return rc;
    uint8_t *p = out->data;
    co_put32(p, (uint32_t)len);
    co_put64(p + 8, sequence);
    corallite__timeline__pack(entry->message, p + CHANGE_HEADER);
    co_put32(p + 4, change_crc(p, len));
    memcpy(p + copy, p, copy);
    return 0;
}

static bool outgrown(const struct sk_registry *r)
{
    uint64_t changes = r->end_bytes - r->base_bytes;
    uint64_t limit = r->rewrite_bytes ? r->rewrite_bytes : SK_REWRITE_BYTES;
    return !r->end_bytes || (changes >= limit && (r->rewrite_bytes || changes >= r->base_bytes));
}

int sk_registry_encode(const struct sk_registry *r, const struct sk_entry *entry,
                       struct sk_registry_bytes *out)
{
    out->buf.len = 0;
    out->at = entry && !outgrown(r) ? r->end_bytes : 0;
    return out->at ? encode_change(entry, r->sequence + 1, &out->buf)
                   : encode_base(r, entry, &out->buf);
}

static int append(const char *dir, const struct sk_registry_bytes *bytes)
{
    char path[SK_PATH_MAX];
    int fd = -1;
    int rc = sk_io_path(path, "%s/registry", dir);
    if (!rc)
        rc = sk_io_open(path, O_WRONLY, &fd);
    if (rc)
        return rc;
    rc = sk_io_pwrite(fd, co_buf_span(&bytes->buf), bytes->at, path);
    if (!rc && !co_mutated(REGISTRY_UNSYNCED))
        rc = sk_io_sync(fd, path);
    close(fd);
    return rc;
}

int sk_registry_write(const char *dir, const struct sk_registry_bytes *bytes)
{
    return bytes->at ? append(dir, bytes)
                     : sk_io_replace(dir, "registry", co_buf_span(&bytes->buf));
}

void sk_registry_written(struct sk_registry *r, const struct sk_registry_bytes *bytes)
{
    r->end_bytes = bytes->at + bytes->buf.len;
    if (!bytes->at)
        r->base_bytes = r->end_bytes;
}

/* -- Reading ---------------------------------------------------------------------------------- */

static int damaged(const char *dir, const char *what)
{
    return co_fail(
        CO_ERR_CORRUPT,
        "the registry %s/registry is damaged (%s). It is the list of the timelines that this "
        "safekeeper votes for, so it does not start without it. Bring the file back, or "
        "replace this safekeeper; the other members have the data",
        dir, what);
}

static int decode_entry(const char *dir, struct co_span bytes, struct sk_entry *out)
{
    Corallite__Timeline *m = message_unpack(&corallite__timeline__descriptor, bytes);
    int rc = m ? sk_entry_parse(m, out) : CO_ERR_CORRUPT;
    if (m)
        corallite__timeline__free_unpacked(m, NULL);
    return rc ? damaged(dir, "an entry does not decode") : 0;
}

/* *used: bytes of `rest` that the base's entries take. */
static int decode_base(const char *dir, struct co_span rest, uint32_t n, struct sk_registry *out,
                       size_t *used)
{
    *used = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rest.len < ENTRY_HEADER)
            return damaged(dir, "it ends early");
        size_t len = co_get32(rest.data);
        if (len > SK_ENTRY_MAX || len > rest.len - ENTRY_HEADER)
            return damaged(dir, "an entry is longer than the file");
        const uint8_t *p = rest.data + ENTRY_HEADER;
        if (co_get32(rest.data + 4) != co_crc32c(co_crc32c(0, rest.data, 4), p, len))
            return damaged(dir, "an entry's checksum is wrong");
        struct sk_entry entry;
        int rc = decode_entry(dir, co_span_of(p, len), &entry);
        if (rc)
            return rc;
        if (i && memcmp(out->e[out->n - 1].id.b, entry.id.b, sizeof entry.id.b) >= 0) {
            sk_entry_release(&entry);
            return damaged(dir, "its entries are out of order");
        }
        rc = sk_registry_put(out, &entry);
        sk_entry_release(&entry);
        if (rc)
            return rc;
        rest.data += ENTRY_HEADER + len;
        rest.len -= ENTRY_HEADER + len;
        *used += ENTRY_HEADER + len;
    }
    return 0;
}

/* A sound copy of a change at the begin of `bytes`: its aligned length, else 0. */
static size_t sound_copy(struct co_span bytes, uint64_t *sequence, struct co_span *message)
{
    if (bytes.len < CHANGE_HEADER)
        return 0;
    size_t len = co_get32(bytes.data);
    if (len == 0 || len > SK_ENTRY_MAX || len > bytes.len - CHANGE_HEADER ||
        co_get32(bytes.data + 4) != change_crc(bytes.data, len))
        return 0;
    *sequence = co_get64(bytes.data + 8);
    *message = co_span_of(bytes.data + CHANGE_HEADER, len);
    return aligned(CHANGE_HEADER + len);
}

static struct co_span behind(struct co_span bytes, size_t n)
{
    return n < bytes.len ? co_span_of(bytes.data + n, bytes.len - n) : co_span_of(NULL, 0);
}

/* The change `want` at the begin of `rest`, by either copy. Bytes that it takes there; 0: both are
 * unsound. */
static size_t find_change(struct co_span rest, uint64_t want, struct co_span *message)
{
    uint64_t sequence;
    size_t copy = sound_copy(rest, &sequence, message);
    if (copy && sequence == want)
        return 2 * copy;
    for (size_t at = ALIGN; at <= aligned(CHANGE_HEADER + SK_ENTRY_MAX) && at < rest.len;
         at += ALIGN) {
        copy = sound_copy(behind(rest, at), &sequence, message);
        if (copy == at && sequence == want && !co_mutated(REGISTRY_ONE_COPY))
            return 2 * copy;
    }
    return 0;
}

/* Is there a change anywhere in what seems to have been cut off? */
static bool has_later(struct co_span rest, uint64_t want)
{
    uint64_t sequence;
    struct co_span message;
    for (size_t at = 0; at < rest.len; at += ALIGN)
        if (sound_copy(behind(rest, at), &sequence, &message) && sequence > want)
            return true;
    return false;
}

static int decode_changes(const char *dir, struct co_span rest, struct sk_registry *out)
{
    struct co_span message = {0};
    for (size_t n; rest.len; rest = behind(rest, n)) {
        struct sk_entry entry;
        n = find_change(rest, out->sequence + 1, &message);
        if (!n && has_later(rest, out->sequence + 1))
            return damaged(dir, "both copies of a change are, and later ones are not");
        if (!n) /* what a crash cut off: nobody was told of it */
            return 0;
        int rc = decode_entry(dir, message, &entry);
        if (rc)
            return rc;
        rc = sk_registry_put(out, &entry);
        sk_entry_release(&entry);
        if (rc)
            return rc;
    }
    return 0;
}

static int decode(const char *dir, struct co_span file, struct sk_registry *out)
{
    const uint8_t *p = file.data;
    size_t used;
    if (file.len < HEADER || memcmp(p, magic, 8) || co_get32(p + AT_CRC) != co_crc32c(0, p, AT_CRC))
        return damaged(dir, "its first bytes are not those of a registry");
    uint32_t version = co_get32(p + 8);
    if (version < 1 || version > VERSION)
        return co_fail(CO_ERR_VERSION,
                       "%s/registry has format version %u, this build knows %u; start the newer "
                       "corallite-safekeeper that wrote it",
                       dir, version, VERSION);
    if (co_get32(p + 28) || co_get32(p + 12) > CO_TIMELINES_MAX)
        return damaged(dir, "its first bytes are not those of a registry");
    int rc = decode_base(dir, behind(file, HEADER), co_get32(p + 12), out, &used);
    if (rc)
        return rc;
    out->sequence = co_get64(p + 16);
    used += HEADER;
    if (version == 1)
        return used == file.len ? 0 : damaged(dir, "there is more than it says");
    out->base_bytes = out->end_bytes = aligned(used);
    if (out->base_bytes > file.len)
        return damaged(dir, "it ends early");
    for (; used < out->base_bytes; used++)
        if (p[used])
            return damaged(dir, "there is something between its base and its changes");
    return decode_changes(dir, behind(file, used), out);
}

/* The changes become a part of the base. */
static int gather_changes(const char *dir, struct sk_registry *r)
{
    struct sk_registry_bytes bytes = {0};
    int rc = sk_registry_encode(r, NULL, &bytes);
    if (!rc)
        rc = sk_registry_write(dir, &bytes);
    if (!rc)
        sk_registry_written(r, &bytes);
    co_buf_free(&bytes.buf);
    return rc;
}

int sk_registry_read(const char *dir, struct sk_registry *out)
{
    char path[SK_PATH_MAX];
    struct co_buf file = {0};
    *out = (struct sk_registry){0};
    int rc = sk_io_path(path, "%s/registry", dir);
    if (!rc)
        rc = sk_io_read_all(path, FILE_MAX_BYTES, &file);
    if (!rc) /* it may have been renamed just before a kill: what is answered from it must stay */
        rc = sk_io_sync_dir(dir);
    if (!rc)
        rc = decode(dir, co_buf_span(&file), out);
    if (!rc && out->end_bytes && file.len != out->base_bytes) {
        if (co_mutated(REGISTRY_FROM_CACHE))
            out->end_bytes = file.len;
        else
            rc = gather_changes(dir, out);
    }
    if (rc)
        sk_registry_free(out);
    co_buf_free(&file);
    return rc;
}
