/*
 * flips.c - rot: every byte of every file, one at a time, on a disk that is at rest; and writes
 * that went to another place: every sector and page in the place of every other. A start must
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

#define EXTENTS 12u

struct file {
    char path[160];
    const char *name; /* what a refusal must name; NULL: there must be none */
};

/* What happened to a file: bits of one byte, or bytes that were meant for another place. */
struct damage {
    uint64_t off;
    uint8_t bits;
    const uint8_t *stray; /* NULL: bits */
    uint32_t n;
    const char *meant_for;
};

/* The newest `lost` writes of what is known of others count for nothing after it. */
static const char *damage_one(const struct life *l, const struct disk *d, const struct file *file,
                              const struct damage *m, uint64_t lost, struct flips *count)
{
    uint32_t dir;
    const char *name;
    struct expect x = l->x;
    const char *bad = NULL;
    the_disk = disk_copy(d);
    int ino = disk_lookup(the_disk, file->path, &dir, &name);
    co_assert(ino > 0);
    if (m->stray)
        disk_stray(the_disk, (uint32_t)ino, m->off, m->stray, m->n);
    else
        disk_rot(the_disk, (uint32_t)ino, m->off, m->bits);
    struct sk_files *f = NULL;
    lsn_t promised = x.promised;
    /* Rot at or above the seal: what was told there may be lost, which check_start must not mind.
     */
    x.promised = l->sealed < promised ? l->sealed : promised;
    x.known_lo = x.known_hi -= lost;
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
        else if (lost)
            count->older++;
        else
            count->same++;
        sk_files_close(f);
    }
    wrap_forget();
    if (bad && m->stray)
        snprintf(text, sizeof text, "%u bytes of %s at %llu of %s: %s", m->n, m->meant_for,
                 (unsigned long long)m->off, file->path, bad);
    else if (bad)
        snprintf(text, sizeof text, "byte %llu of %s xor %02x: %s", (unsigned long long)m->off,
                 file->path, m->bits, bad);
    disk_free(the_disk);
    the_disk = NULL;
    if (m->stray)
        count->strays++;
    else
        count->bytes++;
    return bad ? text : NULL;
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

static const char *flip_one(const struct life *l, const struct disk *d, const struct file *file,
                            uint64_t off, uint64_t lost, struct flips *count)
{
    struct damage m = {.off = off, .bits = off & 1 ? 0x10 : 0xff};
    return damage_one(l, d, file, &m, lost, count);
}

/* Every byte of [from, to) of the file. */
static const char *flip_range(const struct life *l, const struct disk *d, const char *name,
                              uint64_t from, uint64_t to, struct flips *count)
{
    struct file file = file_of(l, name);
    const char *bad = NULL;
    for (uint64_t off = from; off < to && !bad; off++)
        bad = flip_one(l, d, &file, off, 0, count);
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
        bad = flip_one(l, d, &file, off, newest, count);
    }
    return bad;
}

/* -- Misdirected writes --------------------------------------------------------------------------
 *
 * What a disk put where something else is: each sector, and each page, of all that is written, in
 * the place of each other one.
 */

#define PLACES 256u
#define BEHIND (2 * DISK_PAGE) /* bytes that nobody wrote */

struct place {
    struct file file;
    uint64_t off;
    uint64_t lost; /* what is known of others: writes that go with it */
};

struct places {
    struct place of[PLACES];
    uint32_t n;
};

static void add_places(const struct life *l, struct places *p, const char *name, uint64_t from,
                       uint64_t to, uint32_t step)
{
    struct file file = file_of(l, name);
    for (uint64_t off = from / step * step; off < to; off += step) {
        co_assert(p->n < PLACES);
        p->of[p->n++] = (struct place){.file = file, .off = off};
    }
}

/* A page has both slots in it. */
static void add_known(const struct life *l, struct places *p, uint32_t step)
{
    uint64_t newest = l->x.known_hi % 2 * SK_WITNESS_SLOT_BYTES;
    uint32_t first = p->n;
    add_places(l, p, "witness", 0, 2 * SK_WITNESS_SLOT_BYTES, step);
    for (uint32_t i = first; i < p->n; i++) {
        struct place *at = &p->of[i];
        bool hit = newest < at->off + step && at->off < newest + SK_WITNESS_SLOT_BYTES;
        at->file.name = NULL;
        at->lost = !hit ? 0 : step > SK_WITNESS_SLOT_BYTES ? l->x.known_hi : 1;
    }
}

static void read_place(const struct disk *d, const struct place *at, uint8_t *out, uint32_t n)
{
    uint32_t dir;
    const char *name;
    memset(out, 0, n);
    disk_read(d, (uint32_t)disk_lookup(d, at->file.path, &dir, &name), at->off, out, n);
}

static const char *stray_all(const struct life *l, const struct disk *d,
                             const struct places *places, uint32_t n, struct flips *count)
{
    uint8_t from[DISK_PAGE], to[DISK_PAGE];
    const char *bad = NULL;
    for (uint32_t i = 0; i < places->n && !bad; i++) {
        const struct place *src = &places->of[i];
        read_place(d, src, from, n);
        for (uint32_t k = 0; k < places->n && !bad; k++) {
            const struct place *dst = &places->of[k];
            struct damage m = {.off = dst->off, .stray = from, .n = n, .meant_for = src->file.path};
            read_place(d, dst, to, n);
            if (memcmp(from, to, n) != 0) /* else it is there already */
                bad = damage_one(l, d, &dst->file, &m, dst->lost, count);
        }
    }
    return bad;
}

/* -- All -----------------------------------------------------------------------------------------
 */

/* What is written: [from, to) of a file. */
struct extent {
    char name[64];
    uint64_t from, to;
};

static uint32_t extents(const struct life *l, const struct disk *d, struct extent out[EXTENTS])
{
    lsn_t end = l->made[l->x.tip].end;
    uint64_t copy = 64 + 16 * (uint64_t)(l->x.lo.n_history + 1);
    uint32_t dir, n = 0;
    const char *name;
    for (uint64_t seg = l->start / SK_SEGMENT_DATA; seg * SK_SEGMENT_DATA < end; seg++) {
        lsn_t first = seg * SK_SEGMENT_DATA, from = l->start > first ? l->start - first : 0;
        uint64_t to = end - first < SK_SEGMENT_DATA ? end - first : SK_SEGMENT_DATA;
        co_assert(n + 2 < EXTENTS);
        struct extent e = {.to = SK_SEGMENT_HEADER};
        snprintf(e.name, sizeof e.name, "log/%016llx.seg", (unsigned long long)first);
        out[n++] = e;
        e.from = SK_SEGMENT_HEADER + from;
        e.to = SK_SEGMENT_HEADER + to;
        out[n++] = e;
    }
    int ino = disk_lookup(d, DATA_DIR "/registry", &dir, &name);
    co_assert(ino > 0 && n + 4 <= EXTENTS);
    out[n++] = (struct extent){"control", 0, 2 * SK_CONTROL_SLOT_BYTES};
    out[n++] = (struct extent){"history", 0, copy};
    out[n++] = (struct extent){"history", SK_HISTORY_COPY_BYTES, SK_HISTORY_COPY_BYTES + copy};
    out[n++] = (struct extent){"registry", 0, d->inode[ino].cache.size};
    return n;
}

const char *flip_all(const struct life *l, const struct disk *d, struct flips *count)
{
    struct extent e[EXTENTS];
    uint32_t n = extents(l, d, e);
    const char *bad = NULL;
    for (uint32_t i = 0; i < n && !bad; i++)
        bad = flip_range(l, d, e[i].name, e[i].from, e[i].to, count);
    if (!bad && l->x.known_hi > 0)
        bad = flip_known(l, d, count);
    for (uint32_t step = SECTOR; step <= DISK_PAGE && !bad; step += DISK_PAGE - SECTOR) {
        struct places *p = calloc(1, sizeof *p);
        co_assert(p);
        for (uint32_t i = 0; i < n; i++)
            add_places(l, p, e[i].name, e[i].from, e[i].to + BEHIND, step);
        if (l->x.known_hi > 0)
            add_known(l, p, step);
        bad = stray_all(l, d, p, step, count);
        free(p);
    }
    return bad;
}
