/*
 * standin.c - which database a path stands for: "corallite stand-in NAME INODE END\n". Whoever
 * writes into it makes it somebody's bytes.
 *
 * The inode tells a copy, which would make two paths of one database, from a file that was renamed.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC    "corallite stand-in "
#define TEXT_MAX 512 /* some programs take a file for a database by its size only */

static void write_text(char text[TEXT_MAX + 1], const char *name, unsigned long long inode)
{
    int n = snprintf(text, TEXT_MAX + 1, MAGIC "%s %llu end", name, inode);

    memset(text + n, ' ', (size_t)(TEXT_MAX - 1 - n));
    text[TEXT_MAX - 1] = '\n';
    text[TEXT_MAX] = 0;
}

/* -- the file ------------------------------------------------------------------------------------
 */

static int open_file(const char *path, int *flags)
{
    int how = O_CLOEXEC | (*flags & SQLITE_OPEN_READWRITE ? O_RDWR : O_RDONLY);
    int fd;

    if (*flags & SQLITE_OPEN_CREATE)
        how |= O_CREAT;
    if (*flags & SQLITE_OPEN_EXCLUSIVE)
        how |= O_EXCL | O_NOFOLLOW;
    fd = open(path, how, 0644);
    if (fd < 0 && errno != EISDIR && (*flags & SQLITE_OPEN_READWRITE)) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            *flags =
                (*flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    return fd;
}

/* 1: a stand-in; 0: empty; -1: other bytes, or a copy. */
static int read_name(int fd, char name[STANDIN_NAME_MAX])
{
    char text[TEXT_MAX + 1], again[TEXT_MAX + 1];
    unsigned long long inode;
    struct stat st;
    ssize_t n = pread(fd, text, TEXT_MAX, 0);

    if (n <= 0)
        return n == 0 ? 0 : -1;
    text[n] = 0;
    if (sscanf(text, MAGIC "%127[A-Za-z0-9./-] %llu", name, &inode) != 2)
        return -1;
    write_text(again, name, inode);
    if (strcmp(text, again) != 0)
        return -1;
    if (fstat(fd, &st) || st.st_ino != inode) {
        count(COUNT_COPIED);
        return -1;
    }
    return 1;
}

static int make(const char *path, int fd, char name[STANDIN_NAME_MAX])
{
    const char *prefix = getenv("HARNESS_NAME");
    char text[TEXT_MAX + 1];
    struct stat st;
    int rc, rw = fd;

    if (fstat(fd, &st))
        return SQLITE_CANTOPEN;
    snprintf(name, STANDIN_NAME_MAX, "%.40s-%llu", prefix ? prefix : "harness",
             (unsigned long long)count(COUNT_CREATED));
    write_text(text, name, st.st_ino);
    if (pwrite(fd, text, TEXT_MAX, 0) == TEXT_MAX)
        return SQLITE_OK;
    rw = open(path, O_RDWR | O_CLOEXEC); /* opened for reading only, but it is ours to fill */
    if (rw < 0)
        return SQLITE_CANTOPEN;
    rc = pwrite(rw, text, TEXT_MAX, 0) == TEXT_MAX ? SQLITE_OK : SQLITE_CANTOPEN;
    close(rw);
    return rc;
}

int standin_open(const char *path, int *flags, char name[STANDIN_NAME_MAX])
{
    struct stat st;
    int fd = open_file(path, flags), found, rc = SQLITE_OK;

    if (fd < 0)
        return SQLITE_CANTOPEN;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return SQLITE_CANTOPEN;
    }
    flock(fd, LOCK_EX); /* two processes may find it empty at once */
    found = read_name(fd, name);
    if (found == 0)
        rc = make(path, fd, name);
    else if (found < 0)
        rc = SQLITE_NOTADB;
    close(fd);
    if (rc == SQLITE_NOTADB)
        count(COUNT_BYTES);
    return rc;
}

bool standin_is(const char *path)
{
    char name[STANDIN_NAME_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC), found;

    if (fd < 0)
        return false;
    found = read_name(fd, name);
    close(fd);
    return found > 0;
}

/* -- what this process has opened ----------------------------------------------------------------
 */

struct known {
    struct known *next;
    char name[STANDIN_NAME_MAX];
    const char *filename; /* SQLite's, of the newest handle */
    int fd;               /* tells a file that was deleted from one that was renamed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known *first;

void standin_opened(const char *path, const char *name, const char *filename)
{
    struct known *k;

    pthread_mutex_lock(&lock);
    for (k = first; k && strcmp(k->name, name) != 0; k = k->next)
        ;
    if (!k && (k = malloc(sizeof *k))) {
        snprintf(k->name, sizeof k->name, "%s", name);
        k->fd = open(path, O_RDONLY | O_CLOEXEC);
        k->next = first;
        first = k;
    }
    if (k)
        k->filename = filename;
    pthread_mutex_unlock(&lock);
}

static bool is_gone(const struct known *k)
{
    char name[STANDIN_NAME_MAX];
    struct stat st;

    if (k->fd < 0 || fstat(k->fd, &st) || st.st_nlink == 0)
        return true;
    return read_name(k->fd, name) <= 0 || strcmp(name, k->name) != 0;
}

void standin_sweep(void)
{
    struct known **at, *k;

    pthread_mutex_lock(&lock);
    for (at = &first; (k = *at);) {
        if (!backend()->is_open(k->filename) && is_gone(k)) {
            backend()->drop(k->name);
            count(COUNT_DROPPED);
            *at = k->next;
            if (k->fd >= 0)
                close(k->fd);
            free(k);
        } else {
            at = &k->next;
        }
    }
    pthread_mutex_unlock(&lock);
}
