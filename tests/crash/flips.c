/*
 * flips.c - rot: every byte of every file, one at a time, on a disk that is at rest. A start must
 * refuse with a sentence that names the file, or find exactly what was there. Bytes of the log at
 * and above the seal may be taken for a write that was cut off, and no others. What is known of
 * other safekeepers refuses no start: in the newer slot it is what was known one write before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/crash/life.h"

static char text[900];

struct file {
    char path[160];
    const char *name; /* what a refusal must name; NULL: there must be none */
};

static const char *flip_one(const struct life *l, const struct disk *d, const struct file *file,
                            uint64_t off, uint8_t bits, bool newest_known, struct flips *count)
{
    uint32_t dir;
    const char *name;
    struct expect x = l->x;
    const char *bad = NULL;
    the_disk = disk_copy(d);
    int ino = disk_lookup(the_disk, file->path, &dir, &name);
    co_assert(ino > 0);
    disk_rot(the_disk, (uint32_t)ino, off, bits);
    struct sk_files *f = NULL;
    lsn_t promised = x.promised;
    /* Rot at or above the seal: what was told there may be lost, which check_start must not mind.
     */
    x.promised = l->sealed < promised ? l->sealed : promised;
    if (newest_known)
        x.known_lo = --x.known_hi;
    const char *said = check_start(l, &x, &f, NULL);
    if (said) {
        if (strstr(said, "does not start") || strstr(said, "registry does not open")) {
            if (!file->name || !strstr(said, file->name))
                bad = said;
            count->refused++;
        } else {
            bad = said;
        }
    } else {
        bad = check_deep(l, f, &x);
        if (!bad && x.promised < promised)
            count->residual++; /* above the seal */
        else if (newest_known)
            count->older++;
        else
            count->same++;
        sk_files_close(f);
    }
    wrap_forget();
    if (bad) {
        snprintf(text, sizeof text, "byte %llu of %s xor %02x: %s", (unsigned long long)off,
                 file->path, bits, bad);
        bad = text;
    }
    disk_free(the_disk);
    the_disk = NULL;
    count->bytes++;
    return bad;
}

static struct file file_of(const struct life *l, const char *name)
{
    struct file file;
    char id[CO_ID_TEXT];
    struct sk_birth birth = life_owner(l);
    /* A record may lie in two segments; the one that it begins in is named. */
    file.name = strrchr(name, '/') ? ".seg" : name;
    if (!strcmp(name, "registry"))
        snprintf(file.path, sizeof file.path, DATA_DIR "/registry");
    else
        snprintf(file.path, sizeof file.path, DATA_DIR "/timelines/%s/%s",
                 co_id_format(&birth.owner.timeline, id), name);
    return file;
}

static uint8_t bits_of(uint64_t off)
{
    return off & 1 ? 0x10 : 0xff;
}

/* Every byte of [from, to) of the file. */
static const char *flip_range(const struct life *l, const struct disk *d, const char *name,
                              uint64_t from, uint64_t to, struct flips *count)
{
    struct file file = file_of(l, name);
    const char *bad = NULL;
    for (uint64_t off = from; off < to && !bad; off++)
        bad = flip_one(l, d, &file, off, bits_of(off), false, count);
    return bad;
}

/* Every byte of both slots of what is known of others. */
static const char *flip_known(const struct life *l, const struct disk *d, struct flips *count)
{
    struct file file = file_of(l, "witness");
    const char *bad = NULL;
    file.name = NULL;
    for (uint64_t off = 0; off < 2 * SK_WITNESS_SLOT_BYTES && !bad; off++) {
        bool newest = off / SK_WITNESS_SLOT_BYTES == l->x.known_hi % 2;
        bad = flip_one(l, d, &file, off, bits_of(off), newest, count);
    }
    return bad;
}

const char *flip_all(const struct life *l, const struct disk *d, struct flips *count)
{
    lsn_t end = l->made[l->x.tip].end;
    uint64_t copy = 64 + 16 * (uint64_t)(l->x.lo.n_history + 1);
    uint32_t dir;
    const char *name, *bad = NULL;
    for (uint64_t seg = l->start / SK_SEGMENT_DATA; seg * SK_SEGMENT_DATA < end && !bad; seg++) {
        char path[64];
        lsn_t first = seg * SK_SEGMENT_DATA, from = l->start > first ? l->start - first : 0;
        uint64_t to = end - first < SK_SEGMENT_DATA ? end - first : SK_SEGMENT_DATA;
        snprintf(path, sizeof path, "log/%016llx.seg", (unsigned long long)first);
        bad = flip_range(l, d, path, 0, SK_SEGMENT_HEADER, count);
        if (!bad)
            bad = flip_range(l, d, path, SK_SEGMENT_HEADER + from, SK_SEGMENT_HEADER + to, count);
    }
    if (!bad)
        bad = flip_range(l, d, "control", 0, 2 * SK_CONTROL_SLOT_BYTES, count);
    if (!bad)
        bad = flip_range(l, d, "history", 0, copy, count);
    if (!bad)
        bad =
            flip_range(l, d, "history", SK_HISTORY_COPY_BYTES, SK_HISTORY_COPY_BYTES + copy, count);
    int ino = disk_lookup(d, DATA_DIR "/registry", &dir, &name);
    co_assert(ino > 0);
    if (!bad)
        bad = flip_range(l, d, "registry", 0, d->inode[ino].cache.size, count);
    if (!bad && l->x.known_hi > 0)
        bad = flip_known(l, d, count);
    return bad;
}
