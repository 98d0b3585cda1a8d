/* archive_file.c - damage to an archive in a directory: DIR is that of one cluster in it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/names.h"
#include "common/error.h"
#include "tests/damage/damage.h"

#define PATH 1024

static int fail(const char *path, const char *what)
{
    return co_fail(CO_ERR_IO, "%s: %s", path, what);
}

/* The first or the last name in DIR/KIND[/TIMELINE] that has `part` in it. */
static int find(const struct damage_target *t, const char *kind, const char *part, bool last,
                char out[PATH])
{
    char dir[PATH - 256], id[CO_ID_TEXT], best[256] = "";
    bool of_timeline = strcmp(kind, "state") != 0;
    snprintf(dir, sizeof dir, "%s/%s%s%s", t->dir, kind, of_timeline ? "/" : "",
             of_timeline ? co_id_format(&t->timeline, id) : "");
    DIR *d = opendir(dir);
    if (!d)
        return fail(dir, "cannot be read");
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || !strstr(e->d_name, part))
            continue;
        int order = strcmp(e->d_name, best);
        if (!best[0] || (last ? order > 0 : order < 0))
            snprintf(best, sizeof best, "%s", e->d_name);
    }
    closedir(d);
    if (!best[0])
        return fail(dir, "there is no such object");
    snprintf(out, PATH, "%s/%s", dir, best);
    return 0;
}

static int log_object(const struct damage_target *t, char out[PATH])
{
    return find(t, "log", "", false, out);
}

static int snap_part(const struct damage_target *t, char out[PATH])
{
    return find(t, "snap", "-00000000-", true, out);
}

static int snap_index(const struct damage_target *t, char out[PATH])
{
    return find(t, "snap", "-ffffffff-", true, out);
}

static int manifest(const struct damage_target *t, char out[PATH])
{
    return find(t, "state", "", true, out);
}

/* -- Ways ---------------------------------------------------------------------------------------
 */

static int take_away(const char *path)
{
    return unlink(path) ? fail(path, "cannot be removed") : 0;
}

static int flip(const char *path)
{
    struct stat st;
    uint8_t byte;
    int fd = chmod(path, 0600) ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || st.st_size < 8)
        return fail(path, "cannot be opened, or is too small");
    bool ok = pread(fd, &byte, 1, st.st_size / 2) == 1;
    byte ^= 4;
    ok = ok && pwrite(fd, &byte, 1, st.st_size / 2) == 1;
    return close(fd) || !ok ? fail(path, "cannot be changed") : 0;
}

static int cut(const char *path)
{
    struct stat st;
    return chmod(path, 0600) || stat(path, &st) || truncate(path, st.st_size - 8)
               ? fail(path, "cannot be cut")
               : 0;
}

#define SEED(name, object, way)                                                                    \
    static int name(const struct damage_target *t)                                                 \
    {                                                                                              \
        char path[PATH];                                                                           \
        int rc = object(t, path);                                                                  \
        return rc ? rc : way(path);                                                                \
    }
SEED(log_missing, log_object, take_away)
SEED(log_bit, log_object, flip)
SEED(log_cut, log_object, cut)
SEED(part_missing, snap_part, take_away)
SEED(part_bit, snap_part, flip)
SEED(part_cut, snap_part, cut)
SEED(index_missing, snap_index, take_away)
SEED(index_bit, snap_index, flip)
SEED(manifest_bit, manifest, flip)
SEED(manifest_cut, manifest, cut)

static int manifests_missing(const struct damage_target *t)
{
    char path[PATH];
    int n = 0;
    for (; manifest(t, path) == 0; n++)
        if (take_away(path))
            return CO_ERR_IO;
    return n ? 0 : fail(t->dir, "there is no manifest");
}

/* An object whose name fits its bytes, as the store and a copy would find it sound. */
static int put(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    bool ok = fd >= 0 && write(fd, bytes, len) == (ssize_t)len;
    return (fd >= 0 && close(fd)) || !ok ? fail(path, "cannot be written") : 0;
}

/* Of the place of an object of this log; its bytes are of another one. */
static int log_foreign(const struct damage_target *t)
{
    char path[PATH], name[AR_NAME_TEXT];
    struct ar_chunk chunk;
    struct co_id id;
    int rc = log_object(t, path);
    const char *own = rc ? NULL : strstr(path, "/log/");
    snprintf(name, sizeof name, "%032x%s", 1u, own ? own : "");
    if (rc || !ar_parse_log(name, &id, &chunk))
        return rc ? rc : fail(path, "is no name of an object of log");
    size_t len = (size_t)(chunk.end - chunk.begin);
    uint8_t *bytes = malloc(len);
    if (!bytes)
        return CO_ERR_NOMEM;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    ar_sum(co_span_of(bytes, len), &chunk.sum);
    ar_name_log(&id, &t->timeline, &chunk, name);
    rc = take_away(path);
    snprintf(path, sizeof path, "%s%s", t->dir, strchr(name, '/'));
    if (!rc)
        rc = put(path, bytes, len);
    free(bytes);
    return rc;
}

/* Of a timeline that nobody knows. */
static int stray(const struct damage_target *t)
{
    struct co_id nobody = {{0xab, 0xcd}}, none = {{0}};
    struct ar_chunk chunk = {.begin = LSN_FIRST, .end = LSN_FIRST + 8};
    char name[AR_NAME_TEXT], path[PATH];
    ar_sum(co_span_of("nobody's", 8), &chunk.sum);
    ar_name_log(&none, &nobody, &chunk, name);
    snprintf(path, sizeof path, "%s%s", t->dir, strchr(name, '/'));
    char *slash = strrchr(path, '/');
    *slash = 0;
    if (mkdir(path, 0700))
        return fail(path, "cannot be made");
    *slash = '/';
    return put(path, (const uint8_t *)"nobody's", 8);
}

const struct damage_kind damage_archive[] = {
    {"archive-log-missing", "an object of log is gone", log_missing, true, false},
    {"archive-log-bit", "a bit of an object of log", log_bit, true, false},
    {"archive-log-cut", "an object of log is cut short", log_cut, true, false},
    {"archive-log-foreign", "an object of log is another log's", log_foreign, true, false},
    {"archive-part-missing", "a part of a snapshot is gone", part_missing, true, false},
    {"archive-part-bit", "a bit of a part of a snapshot", part_bit, true, false},
    {"archive-part-cut", "a part of a snapshot is cut short", part_cut, true, false},
    {"archive-index-missing", "the index of a snapshot is gone", index_missing, true, false},
    {"archive-index-bit", "a bit of the index of a snapshot", index_bit, true, false},
    {"archive-manifest-bit", "a bit of the newest manifest", manifest_bit, false, false},
    {"archive-manifest-cut", "the newest manifest is cut short", manifest_cut, false, false},
    {"archive-manifests-missing", "every manifest is gone", manifests_missing, false, false},
    {"archive-stray", "an object of a timeline that nobody knows", stray, false, false},
    {NULL, NULL, NULL, false, false},
};
