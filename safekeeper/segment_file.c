#include "safekeeper/segment_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/mutation.h"

enum { AT_CRC = 56, HEADER_USED = 60, NAME_BYTES = 20 /* 16 digits and ".seg" */ };
#define STEP_BYTES  CO_MIB
#define GRAIN_BYTES (16 * CO_KIB)

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'S', 'E', 'G'};

static uint64_t number_of(lsn_t lsn)
{
    return lsn / SK_SEGMENT_DATA;
}

static int path_of(const struct sk_segments *s, uint64_t number, char path[SK_PATH_MAX])
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
    return path_of(s, number_of(lsn), path);
}

/* -- Header ----------------------------------------------------------------------------------- */

static void encode_header(const struct sk_owner *owner, uint64_t number,
                          uint8_t page[SK_SEGMENT_HEADER])
{
    memset(page, 0, SK_SEGMENT_HEADER);
    memcpy(page, magic, 8);
    co_put32(page + 8, CO_FORMAT_VERSION);
    co_put32(page + 12, owner->node);
    memcpy(page + 16, owner->cluster.b, 16);
    memcpy(page + 32, owner->timeline.b, 16);
    co_put64(page + 48, number * SK_SEGMENT_DATA);
    co_put32(page + AT_CRC, co_crc32c(0, page, AT_CRC));
}

static int check_header(const struct sk_segments *s, uint64_t number, int fd, const char *path)
{
    uint8_t want[SK_SEGMENT_HEADER], have[SK_SEGMENT_HEADER];
    struct stat st;
    if (fstat(fd, &st))
        return co_fail_errno(CO_ERR_IO, errno, "cannot stat %s", path);
    if ((uint64_t)st.st_size != CO_SEGMENT_BYTES)
        return co_fail(CO_ERR_CORRUPT,
                       "the log segment %s has %lld bytes instead of %llu. Start it once with "
                       "--mend, or bring the file back; nothing was changed",
                       path, (long long)st.st_size, CO_SEGMENT_BYTES);
    int rc = sk_io_pread(fd, have, sizeof have, 0, path);
    if (rc)
        return rc;
    if (memcmp(have, magic, 8) == 0 && co_get32(have + 8) > CO_FORMAT_VERSION &&
        co_get32(have + AT_CRC) == co_crc32c(0, have, AT_CRC))
        return co_fail(CO_ERR_VERSION,
                       "the log segment %s has format version %u, this build knows %u; start the "
                       "newer corallite-safekeeper that wrote it",
                       path, co_get32(have + 8), CO_FORMAT_VERSION);
    encode_header(&s->owner, number, want);
    if (memcmp(have, want, sizeof want) == 0)
        return 0;
    bool sound = co_get32(have + AT_CRC) == co_crc32c(0, have, AT_CRC);
    return co_fail(
        CO_ERR_CORRUPT,
        "the first page of the log segment %s %s. Start it once with --mend, or bring the "
        "file back; nothing was changed",
        path,
        sound ? "is that of another timeline, node, cluster or place in the log" : "is damaged");
}

/* -- Descriptors ------------------------------------------------------------------------------ */

static int sync_slot(struct sk_segments *s, unsigned i)
{
    char path[SK_PATH_MAX];
    int rc = path_of(s, s->open[i].number, path);
    if (!rc)
        rc = sk_io_sync(s->open[i].fd, path);
    if (rc)
        return rc;
    s->open[i].dirty = false;
    s->syncs++;
    return 0;
}

static void close_slot(struct sk_segments *s, unsigned i)
{
    if (s->open[i].fd >= 0)
        close(s->open[i].fd);
    s->open[i].fd = -1;
    s->open[i].dirty = false;
}

/* A descriptor with unsynced writes is synced before it gives way: an error of the disk is reported
 * to the descriptor that wrote, not surely to a later one. */
static int slot_for(struct sk_segments *s, uint64_t number, unsigned *out)
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
    close_slot(s, victim);
    char path[SK_PATH_MAX];
    int rc = path_of(s, number, path);
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
            close_slot(s, i);
}

void sk_segments_close(struct sk_segments *s)
{
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        close_slot(s, i);
}

/* -- Files ------------------------------------------------------------------------------------ */

/* A durable, empty segment under a name of the caller's. */
static int write_segment(struct sk_segments *s, uint64_t number, const char *path)
{
    uint8_t page[SK_SEGMENT_HEADER];
    int fd = -1;
    int rc = sk_io_open(path, O_RDWR | O_CREAT | O_TRUNC, &fd);
    if (rc)
        return rc;
    encode_header(&s->owner, number, page);
    rc = sk_io_pwrite(fd, co_span_of(page, sizeof page), 0, path);
    if (!rc && ftruncate(fd, (off_t)CO_SEGMENT_BYTES))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot extend %s", path);
    if (!rc && !co_mutated(RENAME_NOT_SYNCED) && fsync(fd))
        rc = co_fail_errno(CO_ERR_IO, errno, "%s could not be made durable", path);
    close(fd);
    return rc;
}

static int make_segment(struct sk_segments *s, uint64_t number)
{
    char path[SK_PATH_MAX], temporary[SK_PATH_MAX];
    int rc = path_of(s, number, path);
    if (!rc)
        rc = sk_io_path(temporary, "%s/%016llx.tmp", s->dir, number * SK_SEGMENT_DATA);
    if (!rc)
        rc = write_segment(s, number, temporary);
    if (!rc && rename(temporary, path))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot rename %s to %s", temporary, path);
    if (!rc && !co_mutated(DIRECTORY_NOT_SYNCED))
        rc = sk_io_sync_dir(s->dir);
    return rc;
}

/* In a directory that nobody relies on yet there is no need to rename, which would cost a sync. */
static int make_first_segment(struct sk_segments *s)
{
    char path[SK_PATH_MAX];
    int rc = path_of(s, s->first, path);
    if (!rc)
        rc = write_segment(s, s->first, path);
    if (!rc)
        rc = sk_io_sync_dir(s->dir);
    return rc;
}

static void init(struct sk_segments *s, const struct sk_owner *owner)
{
    *s = (struct sk_segments){.owner = *owner};
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        s->open[i].fd = -1;
}

int sk_segments_create(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                       struct sk_segments *out)
{
    init(out, owner);
    out->first = out->last = number_of(start_lsn);
    out->prepared_lsn = start_lsn;
    int rc = sk_io_path(out->dir, "%s", dir);
    if (!rc)
        rc = sk_io_mkdir(dir);
    if (!rc)
        rc = make_first_segment(out);
    return rc;
}

/* 1: a segment's name; 0: a temporary file's, to be removed; -1: neither. */
static int parse_name(const char *name, lsn_t *first)
{
    char *end;
    if (strlen(name) != NAME_BYTES || strspn(name, "0123456789abcdef") < 16)
        return -1;
    *first = strtoull(name, &end, 16);
    if (strcmp(end, ".tmp") == 0)
        return 0;
    return strcmp(end, ".seg") == 0 && *first % SK_SEGMENT_DATA == 0 ? 1 : -1;
}

/* Counts the segments at or above `first` and finds the last; removes what a crash left half made.
 */
static int list(struct sk_segments *s, uint64_t *count)
{
    DIR *d = opendir(s->dir);
    if (!d)
        return co_fail_errno(errno == ENOENT ? CO_ERR_CORRUPT : CO_ERR_IO, errno,
                             "cannot list the log directory %s; bring it back or replace this "
                             "safekeeper",
                             s->dir);
    int rc = 0;
    *count = 0;
    for (struct dirent *e = readdir(d); e && !rc; e = readdir(d)) {
        lsn_t first = 0;
        char path[SK_PATH_MAX];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        int kind = parse_name(e->d_name, &first);
        if (kind < 0 || (kind == 1 && number_of(first) < s->first)) {
            rc = co_fail(CO_ERR_CORRUPT,
                         "%s/%s is not a segment of this log; move it away if it is yours", s->dir,
                         e->d_name);
        } else if (kind == 0) {
            rc = sk_io_path(path, "%s/%s", s->dir, e->d_name);
            if (!rc && unlink(path))
                rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove %s", path);
        } else {
            ++*count;
            if (number_of(first) > s->last)
                s->last = number_of(first);
        }
    }
    closedir(d);
    return rc;
}

/* Removes the segment files of a directory that are below `number`, durably. */
static int remove_files(const char *dir, uint64_t number)
{
    DIR *d = opendir(dir);
    if (!d)
        return co_fail_errno(errno == ENOENT ? CO_ERR_CORRUPT : CO_ERR_IO, errno,
                             "cannot list the log directory %s; bring it back or replace this "
                             "safekeeper",
                             dir);
    int rc = 0;
    bool some = false;
    for (struct dirent *e = readdir(d); e && !rc; e = readdir(d)) {
        lsn_t first = 0;
        char path[SK_PATH_MAX];
        if (parse_name(e->d_name, &first) != 1 || number_of(first) >= number)
            continue;
        some = true;
        rc = sk_io_path(path, "%s/%s", dir, e->d_name);
        if (!rc && unlink(path))
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove %s", path);
    }
    closedir(d);
    return rc || !some ? rc : sk_io_sync_dir(dir);
}

int sk_segments_sweep(const char *dir, lsn_t lsn)
{
    return remove_files(dir, number_of(lsn));
}

int sk_segments_restart(const char *dir, const struct sk_owner *owner, lsn_t lsn)
{
    struct sk_segments s;
    init(&s, owner);
    int rc = sk_io_path(s.dir, "%s", dir);
    return rc ? rc : sk_segments_empty(&s, lsn);
}

int sk_segments_empty(struct sk_segments *s, lsn_t lsn)
{
    sk_segments_close(s);
    int rc = remove_files(s->dir, UINT64_MAX);
    if (!rc)
        rc = make_segment(s, number_of(lsn));
    if (rc)
        return rc;
    s->first = s->last = number_of(lsn);
    s->prepared_lsn = lsn;
    return 0;
}

int sk_segments_drop(struct sk_segments *s, lsn_t lsn)
{
    co_assert(number_of(lsn) <= s->last);
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        if (s->open[i].fd >= 0 && s->open[i].number < number_of(lsn))
            close_slot(s, i);
    s->first = number_of(lsn);
    return remove_files(s->dir, s->first);
}

int sk_segments_set_end(struct sk_segments *s, lsn_t end_lsn)
{
    lsn_t from = end_lsn > s->last * SK_SEGMENT_DATA ? end_lsn : s->last * SK_SEGMENT_DATA;
    s->prepared_lsn = from;
    if (from >= sk_segments_end(s))
        return 0;
    unsigned i;
    int rc = slot_for(s, s->last, &i);
    if (rc)
        return rc;
    uint64_t at = SK_SEGMENT_HEADER + from % SK_SEGMENT_DATA;
    off_t hole = lseek(s->open[i].fd, (off_t)at, SEEK_HOLE);
    if (hole > (off_t)at)
        s->prepared_lsn += (uint64_t)hole - at;
    return 0;
}

int sk_segments_open(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                     struct sk_segments *out)
{
    uint64_t count = 0;
    init(out, owner);
    out->first = out->last = number_of(start_lsn);
    int rc = sk_io_path(out->dir, "%s", dir);
    if (!rc)
        rc = list(out, &count);
    /* A segment that was made or removed just before a kill may not be so on the disk yet. */
    if (!rc)
        rc = sk_io_sync_dir(dir);
    for (uint64_t n = out->first; n <= out->last && !rc; n++) {
        char path[SK_PATH_MAX];
        unsigned i;
        rc = path_of(out, n, path);
        if (!rc && !sk_io_exists(path))
            rc = co_fail(CO_ERR_CORRUPT,
                         "the log segment %s is missing. Start it once with --mend, or bring the "
                         "file back; nothing was changed",
                         path);
        if (!rc)
            rc = slot_for(out, n, &i);
        if (!rc)
            rc = check_header(out, n, out->open[i].fd, path);
    }
    out->prepared_lsn = sk_segments_end(out); /* until sk_segments_set_end knows better */
    if (rc)
        sk_segments_close(out);
    return rc;
}

/* One file, sound from outside: of its length, with its own first page. */
static int mend_segment(struct sk_segments *s, uint64_t number, const struct sk_mend_files *how)
{
    char path[SK_PATH_MAX];
    uint8_t page[SK_SEGMENT_HEADER];
    int fd = -1;
    int rc = path_of(s, number, path);
    if (rc)
        return rc;
    if (!sk_io_exists(path)) {
        rc = make_segment(s, number);
        return rc ? rc : how->done(how->arg, path);
    }
    rc = sk_io_open(path, O_RDWR, &fd);
    if (rc)
        return rc;
    rc = check_header(s, number, fd, path);
    if (rc == CO_ERR_CORRUPT) {
        rc = how->aside(how->arg, path);
        encode_header(&s->owner, number, page);
        if (!rc && ftruncate(fd, (off_t)CO_SEGMENT_BYTES))
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot extend %s", path);
        if (!rc)
            rc = sk_io_pwrite(fd, co_span_of(page, sizeof page), 0, path);
        if (!rc && fsync(fd))
            rc = co_fail_errno(CO_ERR_IO, errno, "%s could not be made durable", path);
        if (!rc)
            rc = how->done(how->arg, path);
    }
    close(fd);
    return rc;
}

int sk_segments_mend(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                     lsn_t known_lsn, const struct sk_mend_files *how)
{
    struct sk_segments s;
    uint64_t count = 0;
    init(&s, owner);
    s.first = number_of(start_lsn);
    s.last = known_lsn > start_lsn ? number_of(known_lsn - 1) : s.first;
    int rc = sk_io_path(s.dir, "%s", dir);
    if (!rc)
        rc = list(&s, &count);
    for (uint64_t n = s.first; n <= s.last && !rc; n++)
        rc = mend_segment(&s, n, how);
    return rc;
}

/* -- Bytes ------------------------------------------------------------------------------------ */

/* How much of [lsn, lsn + len) lies in the segment of lsn. */
static size_t part_of(lsn_t lsn, size_t len)
{
    uint64_t room = SK_SEGMENT_DATA - lsn % SK_SEGMENT_DATA;
    return len < room ? len : (size_t)room;
}

int sk_segments_next_data(struct sk_segments *s, lsn_t lsn, lsn_t *out)
{
    for (*out = lsn; *out < sk_segments_end(s);) {
        char path[SK_PATH_MAX];
        uint64_t offset, number = number_of(*out);
        unsigned i;
        int rc = sk_segments_path(s, *out, path, &offset);
        if (!rc)
            rc = slot_for(s, number, &i);
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
    co_assert(number_of(lsn) >= s->first && lsn + len <= sk_segments_end(s));
    while (len) {
        size_t n = part_of(lsn, len);
        char path[SK_PATH_MAX];
        uint64_t offset;
        unsigned i;
        int rc = sk_segments_path(s, lsn, path, &offset);
        if (!rc)
            rc = slot_for(s, number_of(lsn), &i);
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
    co_assert(number_of(lsn) >= s->first);
    while (bytes.len) {
        size_t n = part_of(lsn, bytes.len);
        char path[SK_PATH_MAX];
        uint64_t offset;
        unsigned i;
        int rc = 0;
        while (number_of(lsn) > s->last && !rc) {
            rc = make_segment(s, s->last + 1);
            if (!rc)
                s->prepared_lsn = ++s->last * SK_SEGMENT_DATA;
        }
        if (!rc)
            rc = sk_segments_path(s, lsn, path, &offset);
        if (!rc)
            rc = slot_for(s, number_of(lsn), &i);
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
    for (uint64_t n = number_of(lsn); n <= s->last; n++) {
        unsigned i;
        int rc = slot_for(s, n, &i);
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
                close_slot(s, i);
        rc = path_of(s, s->last, path);
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
    int rc = remove_behind(s, number_of(lsn));
    if (!rc)
        rc = sk_segments_path(s, lsn, path, &offset);
    if (!rc)
        rc = slot_for(s, number_of(lsn), &i);
    if (rc)
        return rc;
    /* Holes stay holes: only what was ever written is written over. */
    uint64_t at = offset;
    for (;;) {
        off_t data = lseek(s->open[i].fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            break;
        off_t hole = lseek(s->open[i].fd, data, SEEK_HOLE);
        uint64_t end = hole < 0 ? CO_SEGMENT_BYTES : (uint64_t)hole;
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
        rc = make_segment(s, s->last + 1);
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
            rc = slot_for(s, number_of(s->prepared_lsn), &i);
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
