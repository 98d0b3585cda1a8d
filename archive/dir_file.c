/*
 * dir_file.c - an archive in a directory: an object is a file, the slashes of its name directories.
 *
 * A put writes a file of its own below .tmp, syncs it, and gives it its name by link(2), which
 * takes no name that is taken; then the directory is synced. So a file under an object's name is
 * whole. The root is opened anew for each call: a volume that was gone for a while is used again as
 * soon as it is back, and a root that is not there is never mistaken for an object that is not.
 */
#include "archive/store_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/id.h"

#define TMP_DIR        ".tmp"
#define TMP_OLD_S      3600
#define TMP_NAME_BYTES (sizeof TMP_DIR + CO_ID_TEXT + 1)

struct dir_store {
    struct ar_store base;
    char root[PATH_MAX];
};

static struct dir_store *of(struct ar_store *store)
{
    return (struct dir_store *)store;
}

static int fail_io(int err, const char *doing, const char *name, const struct dir_store *d)
{
    int code = err == ENOSPC || err == EDQUOT                  ? CO_ERR_FULL
               : err == EROFS || err == EACCES || err == EPERM ? CO_ERR_READONLY
                                                               : CO_ERR_IO;
    return co_fail_errno(code, err, "cannot %s %s in the archive dir:%s", doing, name, d->root);
}

/* A descriptor of the root. */
static int open_root(const struct dir_store *d, int *out)
{
    *out = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out < 0)
        return co_fail_errno(CO_ERR_IO, errno,
                             "the archive's directory %s cannot be opened; mount it or make it "
                             "again with what it had",
                             d->root);
    return 0;
}

/* -- Putting ----------------------------------------------------------------------------------- */

static int sync_dir_at(int root, const char *dir, const struct dir_store *d)
{
    int fd = openat(root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return err ? fail_io(err, "sync the directory", *dir ? dir : ".", d) : 0;
}

/* Where the last part of a path begins: its directory is path[0 .. that - 1), "" the root. */
static void parent_of(const char *path, char parent[AR_NAME_MAX_BYTES + 1])
{
    const char *slash = strrchr(path, '/');
    snprintf(parent, AR_NAME_MAX_BYTES + 1, "%.*s", slash ? (int)(slash - path) : 0, path);
}

/* Makes the directories above `name`, each durably. */
static int make_parents(int root, const char *name, const struct dir_store *d)
{
    char path[AR_NAME_MAX_BYTES + 1], above[AR_NAME_MAX_BYTES + 1];
    snprintf(path, sizeof path, "%s", name);
    for (char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        int rc = 0;
        if (mkdirat(root, path, 0700) == 0) {
            parent_of(path, above);
            rc = sync_dir_at(root, above, d);
        } else if (errno != EEXIST) {
            rc = fail_io(errno, "make the directory", path, d);
        }
        *p = '/';
        if (rc)
            return rc;
    }
    return 0;
}

/* Writes and syncs a file with a name of its own. */
static int write_tmp(int root, const char *name, struct co_span bytes, char tmp[TMP_NAME_BYTES],
                     const struct dir_store *d)
{
    char id_text[CO_ID_TEXT];
    struct co_id id = co_id_random();
    snprintf(tmp, TMP_NAME_BYTES, TMP_DIR "/%s", co_id_format(&id, id_text));
    if (mkdirat(root, TMP_DIR, 0700) && errno != EEXIST)
        return fail_io(errno, "make the directory", TMP_DIR, d);
    int fd = openat(root, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
    if (fd < 0)
        return fail_io(errno, "make a file for", name, d);
    int err = 0;
    for (size_t done = 0; done < bytes.len && !err;) {
        ssize_t n = write(fd, bytes.data + done, bytes.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            err = ENOSPC;
        else if (errno != EINTR)
            err = errno;
    }
    if (!err && fsync(fd))
        err = errno;
    if (close(fd) && !err)
        err = errno;
    if (err) {
        unlinkat(root, tmp, 0);
        return fail_io(err, "write", name, d);
    }
    return 0;
}

/* EEXIST: the name is taken. File systems without hard links have the other call. */
static int name_it(int root, const char *tmp, const char *name)
{
    if (linkat(root, tmp, root, name, 0) == 0)
        return 0;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    return renameat2(root, tmp, root, name, RENAME_NOREPLACE) ? errno : 0;
}

static int put_new(int root, const char *name, struct co_span bytes, const struct dir_store *d)
{
    char tmp[TMP_NAME_BYTES], parent[AR_NAME_MAX_BYTES + 1];
    int rc = write_tmp(root, name, bytes, tmp, d);
    if (rc)
        return rc;
    rc = make_parents(root, name, d);
    if (!rc) {
        int err = name_it(root, tmp, name);
        if (err == EEXIST)
            rc = co_fail(CO_ERR_EXISTS, "the archive dir:%s has an object %s already", d->root,
                         name);
        else if (err)
            rc = fail_io(err, "name", name, d);
    }
    unlinkat(root, tmp, 0); /* what was named has a link of its own */
    parent_of(name, parent);
    return rc ? rc : sync_dir_at(root, parent, d);
}

static int dir_put_if_absent(struct ar_store *store, const char *name, struct co_span bytes)
{
    struct dir_store *d = of(store);
    int root, rc = open_root(d, &root);
    if (rc)
        return rc;
    struct stat st;
    if (fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        rc = co_fail(CO_ERR_EXISTS, "the archive dir:%s has an object %s already", d->root, name);
    else
        rc = put_new(root, name, bytes, d);
    close(root);
    return rc;
}

/* -- Reading ----------------------------------------------------------------------------------- */

static int get_at(int root, const char *name, uint64_t offset, size_t length, struct co_buf *out,
                  uint64_t *size_bytes, const struct dir_store *d)
{
    int fd = openat(root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return co_fail(CO_ERR_NOT_FOUND, "the archive dir:%s has no object %s", d->root, name);
    if (fd < 0)
        return fail_io(errno, "open", name, d);
    struct stat st;
    if (fstat(fd, &st)) {
        rc = fail_io(errno, "look at", name, d);
        goto file;
    }
    uint64_t size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode)) {
        rc = co_fail(CO_ERR_NOT_FOUND, "the archive dir:%s has no object %s", d->root, name);
        goto file;
    }
    if (size_bytes)
        *size_bytes = size;
    uint64_t want = offset >= size ? 0 : size - offset < length ? size - offset : length;
    rc = want ? co_buf_reserve(out, (size_t)want) : 0;
    while (want && !rc) {
        ssize_t n = pread(fd, out->data + out->len, (size_t)want, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            rc = fail_io(n ? errno : EIO, "read", name, d);
            break;
        }
        out->len += (size_t)n;
        offset += (uint64_t)n;
        want -= (uint64_t)n;
    }
file:
    close(fd);
    return rc;
}

static int dir_get(struct ar_store *store, const char *name, uint64_t offset, size_t length,
                   struct co_buf *out, uint64_t *size_bytes)
{
    struct dir_store *d = of(store);
    int root, rc = open_root(d, &root);
    if (rc)
        return rc;
    size_t before = out->len;
    rc = get_at(root, name, offset, length, out, size_bytes, d);
    if (rc)
        out->len = before;
    close(root);
    return rc;
}

static int dir_put(struct ar_store *store, const char *name, struct co_span bytes)
{
    struct dir_store *d = of(store);
    struct co_buf have = {0};
    char parent[AR_NAME_MAX_BYTES + 1];
    uint64_t size = 0;
    int root, rc = open_root(d, &root);
    if (rc)
        return rc;
    rc = get_at(root, name, 0, bytes.len, &have, &size, d);
    if (rc == CO_ERR_NOT_FOUND) {
        rc = put_new(root, name, bytes, d);
        if (rc == CO_ERR_EXISTS) /* somebody put it in between */
            rc = get_at(root, name, 0, bytes.len, &have, &size, d);
        else
            goto done;
    }
    if (!rc && (size != bytes.len || (size && memcmp(have.data, bytes.data, bytes.len) != 0)))
        rc = co_fail(CO_ERR_EXISTS, "the archive dir:%s has an object %s already, with other bytes",
                     d->root, name);
    /* Whoever named it may have died before it synced the directory. */
    parent_of(name, parent);
    if (!rc)
        rc = sync_dir_at(root, parent, d);
done:
    co_buf_free(&have);
    close(root);
    return rc;
}

/* -- Listing ----------------------------------------------------------------------------------- */

/* An entry with '/' behind a directory's name: so sorted, a walk gives the names in their order. */
struct entries {
    char **names;
    size_t n, cap;
};

static void entries_free(struct entries *e)
{
    for (size_t i = 0; i < e->n; i++)
        free(e->names[i]);
    free(e->names);
}

static int entries_add(struct entries *e, const char *name, bool is_dir)
{
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 32;
        char **names = realloc(e->names, cap * sizeof *names);
        if (!names)
            return co_fail(CO_ERR_NOMEM, "there is no memory for a list of %zu objects", cap);
        e->names = names;
        e->cap = cap;
    }
    if (asprintf(&e->names[e->n], "%s%s", name, is_dir ? "/" : "") < 0)
        return co_fail(CO_ERR_NOMEM, "there is no memory for a list of %zu objects", e->cap);
    e->n++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries of the directory `path` ("" or "a/b/") below the root, in order. Whoever writes
 * builds on what it has listed, and who put that may have been killed before it was durable. */
static int read_entries(int root, const char *path, struct entries *out, const struct dir_store *d)
{
    int fd = openat(root, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : fail_io(errno, "list", *path ? path : "the root", d);
    DIR *list = fdopendir(fd);
    if (!list) {
        close(fd);
        return co_fail(CO_ERR_NOMEM, "there is no memory to list %s", d->root);
    }
    int rc = 0;
    errno = 0;
    for (struct dirent *e; !rc && (e = readdir(list)) != NULL; errno = 0) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(list), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
            rc = entries_add(out, e->d_name, S_ISDIR(st.st_mode));
    }
    if (!rc && errno)
        rc = fail_io(errno, "list", *path ? path : "the root", d);
    if (!rc && out->n && !d->base.options.read_only && fsync(fd))
        rc = fail_io(errno, "sync the directory", *path ? path : "the root", d);
    closedir(list);
    if (out->n)
        qsort(out->names, out->n, sizeof *out->names, by_name);
    return rc;
}

struct walk {
    const struct dir_store *d;
    int root;
    const char *prefix, *after;
    ar_list_fn fn;
    void *arg;
};

static bool wanted(const struct walk *w, const char *path, bool is_dir)
{
    size_t n = strlen(path), p = strlen(w->prefix);
    if (strncmp(path, w->prefix, n < p && is_dir ? n : p) != 0)
        return false;
    if (!w->after)
        return true;
    /* A directory is left out when all that it can have is not greater. */
    return is_dir ? strncmp(path, w->after, n) >= 0 : strcmp(path, w->after) > 0;
}

static int walk_dir(const struct walk *w, const char *dir) // NOLINT: as deep as a name has parts
{
    struct entries all = {0};
    int rc = read_entries(w->root, dir, &all, w->d);
    for (size_t i = 0; i < all.n && !rc; i++) {
        char path[AR_NAME_MAX_BYTES + 2];
        struct stat st;
        int n = snprintf(path, sizeof path, "%s%s", dir, all.names[i]);
        bool is_dir = all.names[i][strlen(all.names[i]) - 1] == '/';
        if (n < 0 || (size_t)n >= sizeof path || !wanted(w, path, is_dir))
            continue;
        if (is_dir)
            rc = walk_dir(w, path);
        else if (ar_name_check(path) == 0 && /* else it is not ours */
                 fstatat(w->root, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
            rc = w->fn(w->arg, path, (uint64_t)st.st_size);
    }
    entries_free(&all);
    return rc;
}

static int dir_list(struct ar_store *store, const char *prefix, const char *after, ar_list_fn fn,
                    void *arg)
{
    struct walk w = {of(store), -1, prefix, after, fn, arg};
    int rc = open_root(w.d, &w.root);
    if (rc)
        return rc;
    rc = walk_dir(&w, "");
    close(w.root);
    return rc;
}

/* -- Removing, opening ------------------------------------------------------------------------- */

static int dir_remove(struct ar_store *store, const char *name)
{
    struct dir_store *d = of(store);
    char parent[AR_NAME_MAX_BYTES + 1];
    int root, rc = open_root(d, &root);
    if (rc)
        return rc;
    parent_of(name, parent);
    if (unlinkat(root, name, 0) == 0)
        rc = sync_dir_at(root, parent, d);
    else if (errno != ENOENT && errno != ENOTDIR)
        rc = fail_io(errno, "remove", name, d);
    close(root);
    return rc;
}

/* What puts that died have left. Another process may be at one right now, so only old ones go. */
static void clear_tmp(int root)
{
    int fd = openat(root, TMP_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(list)) != NULL;) {
        struct stat st;
        if (e->d_name[0] != '.' && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            st.st_mtime < (time_t)(co_wall_us() / 1000000) - TMP_OLD_S)
            unlinkat(fd, e->d_name, 0);
    }
    closedir(list);
}

static void dir_close(struct ar_store *store)
{
    free(store);
}

static const struct ar_ops ops = {dir_close, dir_put,  dir_put_if_absent,
                                  dir_get,   dir_list, dir_remove};

int ar_dir_open(const char *rest, const struct ar_options *options, struct ar_store **out)
{
    if (rest[0] != '/' || strlen(rest) >= PATH_MAX)
        return co_fail(CO_ERR_INVAL,
                       "an archive in a directory is dir:/path with an absolute path, not "
                       "'dir:%.200s'",
                       rest);
    struct dir_store *d = calloc(1, sizeof *d);
    if (!d)
        return co_fail(CO_ERR_NOMEM, "there is no memory for an archive");
    d->base.ops = &ops;
    snprintf(d->root, sizeof d->root, "%s", rest);
    int rc = 0;
    if (options->make && !options->read_only && mkdir(d->root, 0700) && errno != EEXIST)
        rc = fail_io(errno, "make the directory of", "all objects", d);
    int root = rc ? -1 : open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!rc && root < 0)
        rc = errno == ENOENT ? co_fail(CO_ERR_NOT_FOUND,
                                       "there is no archive at dir:%s: no such directory", d->root)
                             : fail_io(errno, "open", "the directory", d);
    if (root >= 0) {
        if (!options->read_only)
            clear_tmp(root);
        close(root);
    }
    if (rc) {
        free(d);
        return rc;
    }
    *out = &d->base;
    return 0;
}
