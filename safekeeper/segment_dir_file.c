/*
 * segment_dir_file.c - which segment files there are (L1, L2): made, found and checked at the open,
 * put right by --mend, dropped from the front. Their bytes are segment_file.c's.
 */
#include "safekeeper/segment_int.h"

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

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'S', 'E', 'G'};

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
    if ((uint64_t)st.st_size != sk_segment_bytes)
        return co_fail(CO_ERR_CORRUPT,
                       "the log segment %s has %lld bytes instead of %llu. Start it once with "
                       "--mend, or bring the file back; nothing was changed",
                       path, (long long)st.st_size, sk_segment_bytes);
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
    if (!rc && ftruncate(fd, (off_t)sk_segment_bytes))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot extend %s", path);
    if (!rc && !co_mutated(RENAME_NOT_SYNCED) && fsync(fd))
        rc = co_fail_errno(CO_ERR_IO, errno, "%s could not be made durable", path);
    close(fd);
    return rc;
}

int sk_segment_make(struct sk_segments *s, uint64_t number)
{
    char path[SK_PATH_MAX], temporary[SK_PATH_MAX];
    int rc = sk_segment_name(s, number, path);
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
    int rc = sk_segment_name(s, s->first, path);
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
    out->first = out->last = sk_segment_number(start_lsn);
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
        if (kind < 0 || (kind == 1 && sk_segment_number(first) < s->first)) {
            rc = co_fail(CO_ERR_CORRUPT,
                         "%s/%s is not a segment of this log; move it away if it is yours", s->dir,
                         e->d_name);
        } else if (kind == 0) {
            rc = sk_io_path(path, "%s/%s", s->dir, e->d_name);
            if (!rc && unlink(path))
                rc = co_fail_errno(CO_ERR_IO, errno, "cannot remove %s", path);
        } else {
            ++*count;
            if (sk_segment_number(first) > s->last)
                s->last = sk_segment_number(first);
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
        if (parse_name(e->d_name, &first) != 1 || sk_segment_number(first) >= number)
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
    return remove_files(dir, sk_segment_number(lsn));
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
        rc = sk_segment_make(s, sk_segment_number(lsn));
    if (rc)
        return rc;
    s->first = s->last = sk_segment_number(lsn);
    s->prepared_lsn = lsn;
    return 0;
}

int sk_segments_drop(struct sk_segments *s, lsn_t lsn)
{
    co_assert(sk_segment_number(lsn) <= s->last);
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        if (s->open[i].fd >= 0 && s->open[i].number < sk_segment_number(lsn))
            sk_segment_close_slot(s, i);
    s->first = sk_segment_number(lsn);
    return remove_files(s->dir, s->first);
}

int sk_segments_open(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                     struct sk_segments *out)
{
    uint64_t count = 0;
    init(out, owner);
    out->first = out->last = sk_segment_number(start_lsn);
    int rc = sk_io_path(out->dir, "%s", dir);
    if (!rc)
        rc = list(out, &count);
    /* A segment that was made or removed just before a kill may not be so on the disk yet. */
    if (!rc)
        rc = sk_io_sync_dir(dir);
    for (uint64_t n = out->first; n <= out->last && !rc; n++) {
        char path[SK_PATH_MAX];
        unsigned i;
        rc = sk_segment_name(out, n, path);
        if (!rc && !sk_io_exists(path))
            rc = co_fail(CO_ERR_CORRUPT,
                         "the log segment %s is missing. Start it once with --mend, or bring the "
                         "file back; nothing was changed",
                         path);
        if (!rc)
            rc = sk_segment_slot(out, n, &i);
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
    int rc = sk_segment_name(s, number, path);
    if (rc)
        return rc;
    if (!sk_io_exists(path)) {
        rc = sk_segment_make(s, number);
        return rc ? rc : how->done(how->arg, path);
    }
    rc = sk_io_open(path, O_RDWR, &fd);
    if (rc)
        return rc;
    rc = check_header(s, number, fd, path);
    if (rc == CO_ERR_CORRUPT) {
        rc = how->aside(how->arg, path);
        encode_header(&s->owner, number, page);
        if (!rc && ftruncate(fd, (off_t)sk_segment_bytes))
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
    s.first = sk_segment_number(start_lsn);
    s.last = known_lsn > start_lsn ? sk_segment_number(known_lsn - 1) : s.first;
    int rc = sk_io_path(s.dir, "%s", dir);
    if (!rc)
        rc = list(&s, &count);
    for (uint64_t n = s.first; n <= s.last && !rc; n++)
        rc = mend_segment(&s, n, how);
    return rc;
}
