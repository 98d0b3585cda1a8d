#include "compute-vfs/page_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX     ".pages"
#define NAME_BYTES (CO_ID_TEXT - 1 + sizeof SUFFIX - 1)
#define MANY_FILES 64 /* at most so many are put away at once */

_Static_assert(CV_PAGE_FILE_PATH >= CV_CACHE_DIR_MAX + NAME_BYTES + 2, "room for a name");

void cv_page_file_path(const char *dir, const struct co_id *timeline, char out[CV_PAGE_FILE_PATH])
{
    char id[CO_ID_TEXT];

    snprintf(out, CV_PAGE_FILE_PATH, "%s/%s" SUFFIX, dir, co_id_format(timeline, id));
}

/* -- whether it may be used ----------------------------------------------------------------------
 */

const char *cv_page_file_own(const struct stat *st)
{
    if (st->st_uid != geteuid())
        return "it belongs to another user";
    return st->st_mode & 022 ? "others may write it" : NULL;
}

const char *cv_page_dir_ready(const char *dir)
{
    struct stat st;

    if (mkdir(dir, 0700) && errno != EEXIST)
        return strerror(errno);
    if (stat(dir, &st))
        return strerror(errno);
    return S_ISDIR(st.st_mode) ? cv_page_file_own(&st) : "it is no directory";
}

const char *cv_page_file_limit(uint64_t bytes)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes
               ? "the limit for the size of a file (ulimit -f) is lower than cache_dir_mb"
               : NULL;
}

/* -- files of other timelines --------------------------------------------------------------------
 */

struct old_file {
    char name[NAME_BYTES + 1];
    struct timespec used;
    uint64_t bytes;
};

static bool is_one(const char *name)
{
    struct co_id id;
    char text[CO_ID_TEXT];

    if (strlen(name) != NAME_BYTES || strcmp(name + CO_ID_TEXT - 1, SUFFIX) != 0)
        return false;
    memcpy(text, name, CO_ID_TEXT - 1);
    text[CO_ID_TEXT - 1] = 0;
    return co_id_parse(text, &id) == 0;
}

static bool is_older(const struct old_file *a, const struct old_file *b)
{
    return a->used.tv_sec != b->used.tv_sec ? a->used.tv_sec < b->used.tv_sec
                                            : a->used.tv_nsec < b->used.tv_nsec;
}

/* The file that was opened longest ago, and the bytes of all; false: there is none. */
static bool look(const char *dir, struct old_file *oldest, uint64_t *bytes)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    bool found = false;

    *bytes = 0;
    while (d && (entry = readdir(d))) {
        struct old_file file = {.bytes = 0};
        char path[CV_PAGE_FILE_PATH];
        struct stat st;

        if (!is_one(entry->d_name))
            continue;
        memcpy(file.name, entry->d_name, NAME_BYTES + 1);
        snprintf(path, sizeof path, "%s/%s", dir, file.name);
        if (stat(path, &st))
            continue;
        file.used = st.st_mtim;
        file.bytes = (uint64_t)st.st_blocks * 512;
        *bytes += file.bytes;
        if (!found || is_older(&file, oldest))
            *oldest = file;
        found = true;
    }
    if (d)
        closedir(d);
    return found;
}

void cv_page_dir_make_room(const char *dir, uint64_t most)
{
    struct old_file oldest;
    uint64_t bytes;

    for (int i = 0; i < MANY_FILES && look(dir, &oldest, &bytes) && bytes > most; i++) {
        char path[CV_PAGE_FILE_PATH];

        snprintf(path, sizeof path, "%s/%s", dir, oldest.name);
        if (unlink(path))
            return;
    }
}
