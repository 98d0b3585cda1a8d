/*
 * segment_file.c - see segment_file.h: the bytes of the log, and the few files that are open for
 * them. Which files there are is segment_dir_file.c's.
 */
#include "safekeeper/segment_int.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/assert.h"

#define STEP_BYTES  CO_MIB
#define GRAIN_BYTES (16 * CO_KIB)

unsigned long long sk_segment_bytes = CO_SEGMENT_BYTES;

int sk_segment_name(const struct sk_segments *s, uint64_t number, char path[SK_PATH_MAX])
{
    return sk_io_path(path, "%s/%016llx.seg", s->dir, number * SK_SEGMENT_DATA);
}

lsn_t sk_segments_end(const struct sk_segments *s)
{
    return (s->last + 1) * SK_SEGMENT_DATA;
}

int sk_segments_path(const struct sk_segments *s, lsn_t lsn, char path[SK_PATH_MAX],
                     uint64_t *offset)
{
    *offset = SK_SEGMENT_HEADER + lsn % SK_SEGMENT_DATA;
    return sk_segment_name(s, sk_segment_number(lsn), path);
}

/* -- Descriptors ------------------------------------------------------------------------------ */

static int sync_slot(struct sk_segments *s, unsigned i)
{
    char path[SK_PATH_MAX];
    int rc = sk_segment_name(s, s->open[i].number, path);
    if (!rc)
        rc = sk_io_sync(s->open[i].fd, path);
    if (rc)
        return rc;
    s->open[i].dirty = false;
    s->syncs++;
    return 0;
}

void sk_segment_close_slot(struct sk_segments *s, unsigned i)
{
    if (s->open[i].fd >= 0)
        close(s->open[i].fd);
    s->open[i].fd = -1;
    s->open[i].dirty = false;
}

/* A descriptor with unsynced writes is synced before it gives way: an error of the disk is reported
 * to the descriptor that wrote, not surely to a later one. */
int sk_segment_slot(struct sk_segments *s, uint64_t number, unsigned *out)
{
    unsigned victim = 0;
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++) {
        if (s->open[i].fd >= 0 && s->open[i].number == number) {
            s->open[i].used = ++s->tick;
            *out = i;
            return 0;
        }
        if (s->open[victim].fd >= 0 &&
            (s->open[i].fd < 0 || s->open[i].used < s->open[victim].used))
            victim = i;
    }
    if (s->open[victim].dirty) {
        int rc = sync_slot(s, victim);
        if (rc)
            return rc;
    }
    sk_segment_close_slot(s, victim);
    char path[SK_PATH_MAX];
    int rc = sk_segment_name(s, number, path);
    if (!rc)
        rc = sk_io_open(path, O_RDWR, &s->open[victim].fd);
    if (rc)
        return rc;
    s->open[victim].number = number;
    s->open[victim].used = ++s->tick;
    *out = victim;
    return 0;
}

void sk_segments_rest(struct sk_segments *s)
{
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        if (!s->open[i].dirty)
            sk_segment_close_slot(s, i);
}

void sk_segments_close(struct sk_segments *s)
{
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        sk_segment_close_slot(s, i);
}

/* -- Bytes ------------------------------------------------------------------------------------ */

/* How much of [lsn, lsn + len) lies in the segment of lsn. */
static size_t part_of(lsn_t lsn, size_t len)
{
    uint64_t room = SK_SEGMENT_DATA - lsn % SK_SEGMENT_DATA;
    return len < room ? len : (size_t)room;
}

int sk_segments_set_end(struct sk_segments *s, lsn_t end_lsn)
{
    lsn_t from = end_lsn > s->last * SK_SEGMENT_DATA ? end_lsn : s->last * SK_SEGMENT_DATA;
    s->prepared_lsn = from;
    if (from >= sk_segments_end(s))
        return 0;
    unsigned i;
    int rc = sk_segment_slot(s, s->last, &i);
    if (rc)
        return rc;
    uint64_t at = SK_SEGMENT_HEADER + from % SK_SEGMENT_DATA;
    off_t hole = lseek(s->open[i].fd, (off_t)at, SEEK_HOLE);
    if (hole > (off_t)at)
        s->prepared_lsn += (uint64_t)hole - at;
    return 0;
}

int sk_segments_next_data(struct sk_segments *s, lsn_t lsn, lsn_t *out)
{
    for (*out = lsn; *out < sk_segments_end(s);) {
        char path[SK_PATH_MAX];
        uint64_t offset, number = sk_segment_number(*out);
        unsigned i;
        int rc = sk_segments_path(s, *out, path, &offset);
        if (!rc)
            rc = sk_segment_slot(s, number, &i);
        if (rc)
            return rc;
        off_t data = lseek(s->open[i].fd, (off_t)offset, SEEK_DATA);
        if (data < 0 && errno != ENXIO)
            return 0; /* it cannot tell: then everything is data */
        if (data >= 0) {
            *out += (uint64_t)data - offset;
            return 0;
        }
        *out = (number + 1) * SK_SEGMENT_DATA;
    }
    return 0;
}

int sk_segments_read(struct sk_segments *s, lsn_t lsn, void *out, size_t len)
{
    uint8_t *p = out;
    co_assert(sk_segment_number(lsn) >= s->first && lsn + len <= sk_segments_end(s));
    while (len) {
        size_t n = part_of(lsn, len);
        char path[SK_PATH_MAX];
        uint64_t offset;
        unsigned i;
        int rc = sk_segments_path(s, lsn, path, &offset);
        if (!rc)
            rc = sk_segment_slot(s, sk_segment_number(lsn), &i);
        if (!rc)
            rc = sk_io_pread(s->open[i].fd, p, n, offset, path);
        if (rc)
            return rc;
        p += n;
        lsn += n;
        len -= n;
    }
    return 0;
}

int sk_segments_write(struct sk_segments *s, lsn_t lsn, struct co_span bytes)
{
    co_assert(sk_segment_number(lsn) >= s->first);
    while (bytes.len) {
        size_t n = part_of(lsn, bytes.len);
        char path[SK_PATH_MAX];
        uint64_t offset;
        unsigned i;
        int rc = 0;
        while (sk_segment_number(lsn) > s->last && !rc) {
            rc = sk_segment_make(s, s->last + 1);
            if (!rc)
                s->prepared_lsn = ++s->last * SK_SEGMENT_DATA;
        }
        if (!rc)
            rc = sk_segments_path(s, lsn, path, &offset);
        if (!rc)
            rc = sk_segment_slot(s, sk_segment_number(lsn), &i);
        if (rc)
            return rc;
        s->open[i].dirty = true;
        rc = sk_io_pwrite(s->open[i].fd, co_span_of(bytes.data, n), offset, path);
        if (rc)
            return rc;
        bytes.data += n;
        bytes.len -= n;
        lsn += n;
        if (lsn > s->prepared_lsn)
            s->prepared_lsn = lsn;
    }
    return 0;
}

int sk_segments_sync(struct sk_segments *s)
{
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++) {
        int rc = s->open[i].dirty ? sync_slot(s, i) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

int sk_segments_sync_from(struct sk_segments *s, lsn_t lsn)
{
    for (uint64_t n = sk_segment_number(lsn); n <= s->last; n++) {
        unsigned i;
        int rc = sk_segment_slot(s, n, &i);
        if (!rc)
            rc = sync_slot(s, i);
        if (rc)
            return rc;
    }
    return 0;
}

static int remove_behind(struct sk_segments *s, uint64_t keep)
{
    int rc = 0;
    bool removed = s->last > keep;
    while (s->last > keep && !rc) {
        char path[SK_PATH_MAX];
        for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
            if (s->open[i].fd >= 0 && s->open[i].number == s->last)
                sk_segment_close_slot(s, i);
        rc = sk_segment_name(s, s->last, path);
        if (!rc && unlink(path))
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove %s", path);
        /* One at a time, each durable, so that a crash never leaves a gap. */
        if (!rc)
            rc = sk_io_sync_dir(s->dir);
        if (!rc)
            s->last--;
    }
    if (removed && !rc)
        s->prepared_lsn = sk_segments_end(s);
    return rc;
}

int sk_segments_cut(struct sk_segments *s, lsn_t lsn)
{
    char path[SK_PATH_MAX];
    uint64_t offset;
    unsigned i;
    if (lsn >= sk_segments_end(s))
        return sk_segments_sync(s);
    int rc = remove_behind(s, sk_segment_number(lsn));
    if (!rc)
        rc = sk_segments_path(s, lsn, path, &offset);
    if (!rc)
        rc = sk_segment_slot(s, sk_segment_number(lsn), &i);
    if (rc)
        return rc;
    /* Holes stay holes: only what was ever written is written over. */
    uint64_t at = offset;
    for (;;) {
        off_t data = lseek(s->open[i].fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            break;
        off_t hole = lseek(s->open[i].fd, data, SEEK_HOLE);
        uint64_t end = hole < 0 ? sk_segment_bytes : (uint64_t)hole;
        s->open[i].dirty = true;
        rc = sk_io_zero(s->open[i].fd, (uint64_t)data, end - (uint64_t)data, path);
        if (rc)
            return rc;
        at = end;
    }
    return sk_segments_sync(s);
}

int sk_segments_prepare(struct sk_segments *s, lsn_t write_lsn, uint64_t ahead, bool *more)
{
    lsn_t want = write_lsn + ahead;
    *more = false;
    if (s->prepared_lsn >= want)
        return 0;
    co_assert(s->prepared_lsn >= write_lsn);
    int rc = 0;
    if (s->prepared_lsn == sk_segments_end(s)) {
        rc = sk_segment_make(s, s->last + 1);
        if (rc)
            return rc;
        s->last++;
    } else {
        char path[SK_PATH_MAX];
        uint64_t offset;
        unsigned i;
        uint64_t left = (want - s->prepared_lsn + GRAIN_BYTES - 1) / GRAIN_BYTES * GRAIN_BYTES;
        size_t n = part_of(s->prepared_lsn, left < STEP_BYTES ? (size_t)left : STEP_BYTES);
        rc = sk_segments_path(s, s->prepared_lsn, path, &offset);
        if (!rc)
            rc = sk_segment_slot(s, sk_segment_number(s->prepared_lsn), &i);
        if (!rc)
            rc = sk_io_zero(s->open[i].fd, offset, n, path);
        if (!rc)
            rc = sync_slot(s, i);
        if (rc)
            return rc;
        s->prepared_lsn += n;
    }
    *more = s->prepared_lsn < want;
    return 0;
}
