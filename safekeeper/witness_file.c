#include "safekeeper/witness_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/mutation.h"

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'W', 'I', 'T'};
enum { FORMAT = 2, AT_ENTRIES = 40, ENTRY_BYTES = 56, AT_CRC = SK_WITNESS_SLOT_BYTES - 4 };
enum { FORMAT_1 = 1, ENTRY_BYTES_1 = 48 }; /* without the log's term */

_Static_assert(AT_ENTRIES + Q_KNOWN_MAX * ENTRY_BYTES <= AT_CRC, "the entries fit a slot");

static void encode(const struct sk_witness_file *f, const struct co_id *timeline,
                   uint8_t slot[SK_WITNESS_SLOT_BYTES])
{
    memset(slot, 0, SK_WITNESS_SLOT_BYTES);
    memcpy(slot, magic, 8);
    co_put32(slot + 8, FORMAT);
    co_put32(slot + 12, f->n);
    co_put64(slot + 16, f->sequence);
    memcpy(slot + 24, timeline->b, 16);
    for (uint32_t i = 0; i < f->n; i++) {
        const struct q_known *e = &f->known[i];
        const uint64_t numbers[] = {e->node,      e->starts,     e->start_id, e->term,
                                    e->flush_lsn, e->commit_lsn, e->log_term};
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            co_put64(slot + AT_ENTRIES + i * ENTRY_BYTES + 8 * k, numbers[k]);
    }
    co_put32(slot + AT_CRC, co_crc32c(0, slot, AT_CRC));
}

static bool decode(const uint8_t slot[SK_WITNESS_SLOT_BYTES], unsigned parity,
                   const struct co_id *timeline, struct sk_witness_file *f)
{
    uint32_t format = co_get32(slot + 8);
    size_t entry_bytes = format == FORMAT_1 ? ENTRY_BYTES_1 : ENTRY_BYTES;
    *f = (struct sk_witness_file){0};
    if (memcmp(slot, magic, 8) || co_get32(slot + AT_CRC) != co_crc32c(0, slot, AT_CRC) ||
        (format != FORMAT && format != FORMAT_1) || memcmp(slot + 24, timeline->b, 16))
        return false;
    f->n = co_get32(slot + 12);
    f->sequence = co_get64(slot + 16);
    if (f->n > Q_KNOWN_MAX || (f->sequence & 1) != parity || f->sequence == UINT64_MAX)
        return false;
    for (uint32_t i = 0; i < f->n; i++) {
        const uint8_t *p = slot + AT_ENTRIES + i * entry_bytes;
        f->known[i] = (struct q_known){.node = co_get64(p),
                                       .starts = co_get64(p + 8),
                                       .start_id = co_get64(p + 16),
                                       .term = co_get64(p + 24),
                                       .flush_lsn = co_get64(p + 32),
                                       .commit_lsn = co_get64(p + 40),
                                       .log_term = format == FORMAT_1 ? 0 : co_get64(p + 48)};
    }
    return true;
}

/* A file that ends before is no error: it has not that slot. What may stand behind the two is none
 * of theirs. */
static int read_slots(const char *path, uint8_t slots[2][SK_WITNESS_SLOT_BYTES], unsigned *n)
{
    int fd = -1;
    *n = 0;
    int rc = sk_io_open(path, O_RDONLY, &fd);
    if (rc)
        return rc == CO_ERR_NOT_FOUND ? 0 : rc;
    while (!rc && *n < 2) {
        rc = sk_io_pread(fd, slots[*n], SK_WITNESS_SLOT_BYTES, *n * SK_WITNESS_SLOT_BYTES, path);
        *n += rc == 0;
    }
    close(fd);
    return rc == CO_ERR_CORRUPT ? 0 : rc;
}

int sk_witness_read(const char *dir, const struct co_id *timeline, struct sk_witness_file *out)
{
    char path[SK_PATH_MAX];
    uint8_t bytes[2][SK_WITNESS_SLOT_BYTES];
    struct sk_witness_file slot;
    unsigned n = 0, sound = 0;
    *out = (struct sk_witness_file){0};
    int rc = sk_io_path(path, "%s/witness", dir);
    if (!rc)
        rc = read_slots(path, bytes, &n);
    for (unsigned i = 0; i < n; i++)
        if (decode(bytes[i], i, timeline, &slot)) {
            sound++;
            if (slot.sequence >= out->sequence)
                *out = slot;
        }
    out->unsure = out->sequence > 0;
    if (n && !sound)
        co_warn("safekeeper/witness",
                "nothing in it is sound; what is known of the other safekeepers is learnt anew "
                "path=%s",
                path);
    return rc;
}

static int put(const char *dir, const struct co_id *timeline, const struct sk_witness_file *f)
{
    uint8_t slot[SK_WITNESS_SLOT_BYTES];
    char path[SK_PATH_MAX];
    int fd = -1;
    int rc = sk_io_path(path, "%s/witness", dir);
    if (!rc)
        rc = sk_io_open(path, O_WRONLY | O_CREAT, &fd);
    if (rc)
        return rc;
    encode(f, timeline, slot);
    rc = sk_io_pwrite(fd, co_span_of(slot, sizeof slot), (f->sequence & 1) * SK_WITNESS_SLOT_BYTES,
                      path);
    if (!rc)
        rc = sk_io_sync(fd, path);
    close(fd);
    return !rc && f->sequence == 1 ? sk_io_sync_dir(dir) : rc; /* it was made */
}

/* Not into its place: where a sync has failed, the kernel may show a file that is longer than the
 * one on the disk, and no later sync makes that longer (decision 25). */
int sk_witness_renew(const char *dir, const struct co_id *timeline, struct sk_witness_file *f)
{
    uint8_t both[2][SK_WITNESS_SLOT_BYTES];
    struct sk_witness_file before = *f;
    co_assert(f->sequence > 0);
    before.sequence--;
    encode(f, timeline, both[f->sequence & 1]);
    encode(&before, timeline, both[before.sequence & 1]);
    int rc = sk_io_replace(dir, "witness", co_span_of(both[0], sizeof both));
    f->unsure = rc != 0;
    return rc;
}

int sk_witness_store(const char *dir, const struct co_id *timeline,
                     const struct q_known_list *known, struct sk_witness_file *f)
{
    int rc = f->unsure && !co_mutated(WITNESS_FROM_CACHE) ? sk_witness_renew(dir, timeline, f) : 0;
    if (rc)
        return rc;
    co_assert(known->n <= Q_KNOWN_MAX && f->sequence < UINT64_MAX);
    memmove(f->known, known->e, known->n * sizeof *known->e);
    f->n = known->n;
    f->sequence++;
    return put(dir, timeline, f);
}
