/*
 * wrap.c - the file system calls of the product's storage, led to the simulated disk.
 *
 * The linker does it (-Wl,--wrap=open and so on, Makefile): the product's objects are the very ones
 * of the daemon. tests/crash/calls lists the calls, and `make simc` fails when an object of the
 * storage makes one that is not in the list.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "tests/crash/disk.h"

#define FIRST_FD 1000
#define FDS      64

struct disk *the_disk;
void (*disk_changed)(void);

static struct {
    bool used;
    uint32_t inode;
} fds[FDS];

struct listing {
    struct entry *e; /* of the whole disk; removals go on while it is read */
    uint32_t n, at, dir;
    struct dirent entry;
};

static void changed(void)
{
    if (disk_changed)
        disk_changed();
}

static int result(long rc)
{
    if (rc >= 0)
        return (int)rc;
    errno = (int)-rc;
    return -1;
}

static uint32_t inode_of(int fd)
{
    co_assert(fd >= FIRST_FD && fd < FIRST_FD + FDS && fds[fd - FIRST_FD].used);
    return fds[fd - FIRST_FD].inode;
}

unsigned wrap_forget(void)
{
    unsigned n = 0;
    for (int i = 0; i < FDS; i++) {
        n += fds[i].used;
        fds[i].used = false;
    }
    return n;
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_read(int fd, void *out, size_t len);
ssize_t __wrap_pread(int fd, void *out, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t off);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_ftruncate(int fd, off_t size);
off_t __wrap_lseek(int fd, off_t off, int whence);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_rmdir(const char *path);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_stat(const char *path, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
DIR *__wrap_opendir(const char *path);
struct dirent *__wrap_readdir(DIR *dir);
int __wrap_closedir(DIR *dir);

int __wrap_open(const char *path, int flags, ...)
{
    uint32_t dir;
    const char *name;
    int ino = disk_lookup(the_disk, path, &dir, &name);
    if (ino >= 0 && (flags & O_EXCL) && (flags & O_CREAT))
        return result(-EEXIST);
    if (ino == -ENOENT && (flags & O_CREAT)) {
        ino = disk_create(the_disk, dir, name, false);
        changed();
    }
    if (ino < 0)
        return result(ino);
    if ((flags & O_TRUNC) && the_disk->inode[ino].cache.size) {
        disk_resize(the_disk, (uint32_t)ino, 0);
        changed();
    }
    for (int i = 0; i < FDS; i++)
        if (!fds[i].used) {
            fds[i].used = true;
            fds[i].inode = (uint32_t)ino;
            return FIRST_FD + i;
        }
    return result(-EMFILE);
}

int __wrap_close(int fd)
{
    (void)inode_of(fd);
    fds[fd - FIRST_FD].used = false;
    return 0;
}

/* Of the boot id only, which is not on this disk. */
ssize_t __wrap_read(int fd, void *out, size_t len)
{
    (void)fd, (void)out, (void)len;
    return result(-EINVAL);
}

ssize_t __wrap_pread(int fd, void *out, size_t len, off_t off)
{
    return (ssize_t)disk_read(the_disk, inode_of(fd), (uint64_t)off, out, len);
}

ssize_t __wrap_pwrite(int fd, const void *bytes, size_t len, off_t off)
{
    long n = disk_write(the_disk, inode_of(fd), (uint64_t)off, bytes, len);
    changed();
    return n < 0 ? result(n) : n;
}

int __wrap_fsync(int fd)
{
    int rc = disk_sync(the_disk, inode_of(fd));
    changed();
    return result(rc);
}

int __wrap_fdatasync(int fd)
{
    return __wrap_fsync(fd);
}

int __wrap_ftruncate(int fd, off_t size)
{
    int rc = disk_resize(the_disk, inode_of(fd), (uint64_t)size);
    changed();
    return result(rc);
}

off_t __wrap_lseek(int fd, off_t off, int whence)
{
    co_assert(whence == SEEK_DATA || whence == SEEK_HOLE);
    long at = disk_seek(the_disk, inode_of(fd), (uint64_t)off, whence == SEEK_DATA);
    return at < 0 ? result(at) : at;
}

int __wrap_rename(const char *from, const char *to)
{
    int rc = disk_rename(the_disk, from, to);
    changed();
    return result(rc);
}

int __wrap_unlink(const char *path)
{
    int rc = disk_unlink(the_disk, path, false);
    changed();
    return result(rc);
}

int __wrap_rmdir(const char *path)
{
    int rc = disk_unlink(the_disk, path, true);
    changed();
    return result(rc);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    uint32_t dir;
    const char *name;
    (void)mode;
    int ino = disk_lookup(the_disk, path, &dir, &name);
    if (ino >= 0)
        return result(-EEXIST);
    if (ino != -ENOENT)
        return result(ino);
    disk_create(the_disk, dir, name, true);
    changed();
    return 0;
}

static int fill(int ino, struct stat *st)
{
    if (ino < 0)
        return result(ino);
    memset(st, 0, sizeof *st);
    st->st_size = (off_t)the_disk->inode[ino].cache.size;
    st->st_mode = the_disk->inode[ino].dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    return 0;
}

int __wrap_stat(const char *path, struct stat *st)
{
    uint32_t dir;
    const char *name;
    return fill(disk_lookup(the_disk, path, &dir, &name), st);
}

int __wrap_fstat(int fd, struct stat *st)
{
    return fill((int)inode_of(fd), st);
}

DIR *__wrap_opendir(const char *path)
{
    uint32_t dir;
    const char *name;
    int ino = disk_lookup(the_disk, path, &dir, &name);
    struct listing *l = ino < 0 ? NULL : calloc(1, sizeof *l);
    if (!l) {
        errno = ino < 0 ? -ino : ENOMEM;
        return NULL;
    }
    l->n = the_disk->cache.n;
    l->e = malloc((l->n + 1) * sizeof *l->e);
    co_assert(l->e);
    memcpy(l->e, the_disk->cache.e, l->n * sizeof *l->e);
    l->dir = (uint32_t)ino;
    return (DIR *)l;
}

struct dirent *__wrap_readdir(DIR *dir)
{
    struct listing *l = (struct listing *)dir;
    while (l->at < l->n) {
        const struct entry *e = &l->e[l->at++];
        if (e->dir == l->dir) {
            strcpy(l->entry.d_name, e->name);
            return &l->entry;
        }
    }
    return NULL;
}

int __wrap_closedir(DIR *dir)
{
    struct listing *l = (struct listing *)dir;
    free(l->e);
    free(l);
    return 0;
}
