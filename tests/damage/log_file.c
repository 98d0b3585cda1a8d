/* log_file.c - damage to the files of a safekeeper. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "safekeeper/control_file.h"
#include "safekeeper/history_file.h"
#include "safekeeper/registry_file.h"
#include "safekeeper/segment_file.h"
#include "tests/damage/damage.h"

#define PATH 1024

static int fail(const char *path, const char *what)
{
    return co_fail(CO_ERR_IO, "%s: %s", path, what);
}

static void in_timeline(const struct damage_target *t, const char *rest, char out[PATH])
{
    char id[CO_ID_TEXT];
    snprintf(out, PATH, "%s/timelines/%s/%s", t->dir, co_id_format(&t->timeline, id), rest);
}

/* Reads a whole file; *bytes is the caller's to free. */
static int slurp(const char *path, uint8_t **bytes, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return fail(path, "cannot be read");
    *len = (size_t)st.st_size;
    *bytes = malloc(*len + 1);
    ssize_t n = *bytes ? pread(fd, *bytes, *len, 0) : -1;
    close(fd);
    return n == (ssize_t)*len ? 0 : fail(path, "cannot be read whole");
}

static int write_at(const char *path, const void *bytes, size_t len, size_t at)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pwrite(fd, bytes, len, (off_t)at);
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)len ? 0 : fail(path, "cannot be written");
}

static int flip(const char *path, size_t at)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc = slurp(path, &bytes, &len);
    if (!rc && at >= len)
        rc = fail(path, "is too short");
    if (!rc) {
        bytes[at] ^= 0x20;
        rc = write_at(path, bytes + at, 1, at);
    }
    free(bytes);
    return rc;
}

/* -- The log --------------------------------------------------------------------------------------
 */

/* How many bytes of a segment are in use. */
static int used_bytes(const char *path, size_t *used)
{
    uint8_t *bytes = NULL;
    int rc = slurp(path, &bytes, used);
    while (!rc && *used && !bytes[*used - 1])
        --*used;
    free(bytes);
    return rc;
}

/* The first segment, or the last one that holds records; and how many bytes of it are in use. */
static int segment(const struct damage_target *t, bool last, char path[PATH], size_t *used)
{
    char dir[PATH], one[PATH];
    struct dirent *e;
    in_timeline(t, "log", dir);
    DIR *d = opendir(dir);
    if (!d)
        return fail(dir, "cannot be listed");
    int rc = 0;
    *path = 0;
    while (!rc && (e = readdir(d))) {
        size_t n = 0;
        snprintf(one, sizeof one, "%.900s/%.100s", dir, e->d_name);
        if (!strstr(e->d_name, ".seg") || (*path && (strcmp(one, path) < 0) == last))
            continue;
        rc = used_bytes(one, &n);
        if (rc || (last && n <= SK_SEGMENT_HEADER))
            continue;
        strcpy(path, one);
        *used = n;
    }
    closedir(d);
    return rc ? rc : *path ? 0 : fail(dir, "has no segment");
}

static int first_segment(const struct damage_target *t, char path[PATH], size_t *used)
{
    return segment(t, false, path, used);
}

/* Where the timeline's records begin in its first segment. */
#define RECORDS_AT (SK_SEGMENT_HEADER + 4096u)

static int log_bit(const struct damage_target *t)
{
    char path[PATH];
    size_t used = 0;
    int rc = first_segment(t, path, &used);
    if (!rc && used < RECORDS_AT + 600)
        rc = fail(path, "has no records");
    return rc ? rc : flip(path, RECORDS_AT + (used - RECORDS_AT) / 2);
}

static int log_hole(const struct damage_target *t)
{
    static const uint8_t zeros[4096];
    char path[PATH];
    size_t used = 0;
    int rc = first_segment(t, path, &used);
    if (!rc && used < RECORDS_AT + 2 * sizeof zeros)
        rc = fail(path, "has too few records");
    return rc ? rc : write_at(path, zeros, sizeof zeros, RECORDS_AT + (used - RECORDS_AT) / 3);
}

static int segment_missing(const struct damage_target *t)
{
    char path[PATH];
    size_t used = 0;
    int rc = first_segment(t, path, &used);
    return rc ? rc : unlink(path) ? fail(path, "cannot be removed") : 0;
}

static int segment_header(const struct damage_target *t)
{
    char path[PATH];
    size_t used = 0;
    int rc = first_segment(t, path, &used);
    return rc ? rc : flip(path, 20);
}

static int segment_short(const struct damage_target *t)
{
    char path[PATH];
    size_t used = 0;
    int rc = first_segment(t, path, &used);
    return rc ? rc : truncate(path, (off_t)(used / 2)) ? fail(path, "cannot be cut") : 0;
}

/* What a crash leaves of a write that nobody was told about. */
static int log_tail(const struct damage_target *t)
{
    uint8_t torn[300];
    char path[PATH];
    size_t used = 0;
    int rc = segment(t, true, path, &used);
    memset(torn, 0x77, sizeof torn);
    used = (used + 7) / 8 * 8;
    return rc ? rc : write_at(path, torn, sizeof torn, used);
}

/* -- Control block, history -----------------------------------------------------------------------
 */

static int control_newest(const struct damage_target *t)
{
    char path[PATH];
    uint8_t *bytes = NULL;
    size_t len;
    in_timeline(t, "control", path);
    int rc = slurp(path, &bytes, &len);
    if (!rc && len < 2 * SK_CONTROL_SLOT_BYTES)
        rc = fail(path, "is too short");
    size_t at = rc || co_get64(bytes + 16) > co_get64(bytes + SK_CONTROL_SLOT_BYTES + 16)
                    ? 0
                    : SK_CONTROL_SLOT_BYTES;
    free(bytes);
    return rc ? rc : flip(path, at + 80);
}

static int control_both(const struct damage_target *t)
{
    char path[PATH];
    in_timeline(t, "control", path);
    int rc = flip(path, 80);
    return rc ? rc : flip(path, SK_CONTROL_SLOT_BYTES + 80);
}

static int control_missing(const struct damage_target *t)
{
    char path[PATH];
    in_timeline(t, "control", path);
    return unlink(path) ? fail(path, "cannot be removed") : 0;
}

static int history_bit(const struct damage_target *t)
{
    char path[PATH];
    struct stat st;
    in_timeline(t, "history", path);
    int rc = stat(path, &st) ? fail(path, "is not there") : 0;
    for (size_t copy = 0; copy < 2 && !rc; copy++)
        if ((size_t)st.st_size > copy * SK_HISTORY_COPY_BYTES + 70)
            rc = flip(path, copy * SK_HISTORY_COPY_BYTES + 66);
    return rc;
}

/* -- The node -------------------------------------------------------------------------------------
 */

static int registry_bit(const struct damage_target *t)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/registry", t->dir);
    return flip(path, 50);
}

static int registry_lacks(const struct damage_target *t)
{
    struct sk_registry r = {0};
    struct sk_registry_bytes bytes = {0};
    int rc = sk_registry_read(t->dir, &r);
    uint32_t i = 0;
    while (!rc && i < r.n && !co_id_eq(&r.e[i].id, &t->timeline))
        i++;
    if (!rc && i == r.n)
        rc = fail(t->dir, "has no such timeline in its registry");
    if (!rc) {
        sk_entry_release(&r.e[i]);
        memmove(&r.e[i], &r.e[i + 1], (r.n - i - 1) * sizeof *r.e);
        r.n--;
        rc = sk_registry_encode(&r, NULL, &bytes);
    }
    if (!rc)
        rc = sk_registry_write(t->dir, &bytes);
    co_buf_free(&bytes.buf);
    sk_registry_free(&r);
    return rc;
}

static int timeline_lost(const struct damage_target *t)
{
    char path[PATH], gone[PATH];
    in_timeline(t, ".", path);
    snprintf(gone, sizeof gone, "%.900s/lost+found", t->dir);
    path[strlen(path) - 2] = 0;
    return rename(path, gone) ? fail(path, "cannot be moved away") : 0;
}

static int identity_swapped(const struct damage_target *t)
{
    char from[PATH], to[PATH];
    uint8_t *bytes = NULL;
    size_t len;
    snprintf(from, sizeof from, "%s/identity", t->other);
    snprintf(to, sizeof to, "%s/identity", t->dir);
    int rc = slurp(from, &bytes, &len);
    if (!rc)
        rc = write_at(to, bytes, len, 0);
    free(bytes);
    return rc;
}

const struct damage_kind damage_log[] = {
    {"log-bit", "a bit of a record below the seal", log_bit, true, false},
    {"log-hole", "a page of zeros below the seal", log_hole, true, false},
    {"segment-missing", "a file of the log is gone", segment_missing, true, false},
    {"segment-header", "a bit of the first page of a file of the log", segment_header, true, false},
    {"segment-short", "a file of the log is cut short", segment_short, true, false},
    {"log-tail", "a torn write behind the end of the log", log_tail, true, false},
    {"control-newest", "the newer slot of the control block", control_newest, true, false},
    {"control-both", "both slots of the control block", control_both, true, false},
    {"control-missing", "the control block is gone", control_missing, true, false},
    {"history-bit", "every copy of the term history", history_bit, true, false},
    {"registry-bit", "a bit of the registry", registry_bit, false, false},
    {"registry-lacks", "the registry lacks a timeline that has votes", registry_lacks, true, false},
    {"timeline-lost", "a timeline's directory is gone", timeline_lost, true, false},
    {"identity-swapped", "the identity of another node", identity_swapped, false, true},
    {NULL, NULL, NULL, false, false},
};
