/*
 * disk.c - a file system for each safekeeper, and for the pages that computes keep: what is written
 * lies in the page cache until it is synced; a loss of power keeps, drops or tears what was not,
 * sector by sector. A write of such pages may take its time, and be cut off in the middle. Paths
 * below /sim/ are here, all others are the machine's own (the pageserver's LMDB lies on a tmpfs).
 *
 * Names are durable at once: that a directory was not synced is level C's (crash points of the
 * storage code, one by one). A page that was only zeroed takes no memory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/assert.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/vault.h"
#include "tests/fullsim/wrap.h"

#define FD_BASE  200000
#define MAX_FDS  262144 /* ever opened in a run */
#define PAGE     4096u
#define SECTOR   512u
#define MAX_FILE 16384u
#define DIR_MARK 0x51f1d1f5u

static uint8_t zeros[PAGE];

struct file {
    char path[200];
    bool dir, gone;
    uint32_t host;
    uint8_t **page, **synced; /* NULL: a hole; synced only where dirty */
    uint8_t *dirty;
    uint32_t n_pages, dirty_from, dirty_to; /* no dirty page lies outside */
    uint64_t size, synced_size;
};

struct open_file {
    struct file *f;
    struct proc *owner;
    uint64_t at;
    bool open, locked;
};

struct dir_stream {
    uint32_t mark;
    int fd;
    uint32_t next;
    struct dirent entry;
};

static struct file *files[MAX_FILE];
static uint32_t n_files;
static struct open_file fds[MAX_FDS];
static uint32_t n_fds;
static bool full[MAX_HOSTS], eio[MAX_HOSTS];
static uint64_t slow_until[MAX_HOSTS];
static uint32_t writing[MAX_HOSTS]; /* writes of kept pages that are half done */

static bool is_ours(const char *path)
{
    return strncmp(path, "/sim/", 5) == 0 || strcmp(path, "/sim") == 0;
}

static struct file *find(const char *path)
{
    for (uint32_t i = 0; i < n_files; i++)
        if (!files[i]->gone && strcmp(files[i]->path, path) == 0)
            return files[i];
    return NULL;
}

static struct file *make(const char *path, bool dir)
{
    struct file *f = calloc(1, sizeof *f);
    co_assert(f && n_files < MAX_FILE && strlen(path) < sizeof f->path);
    snprintf(f->path, sizeof f->path, "%s", path);
    f->dir = dir;
    f->host = here() ? here()->host : 0;
    files[n_files++] = f;
    return f;
}

static bool parent_is_there(const char *path)
{
    char up[200];
    const char *slash = strrchr(path, '/');
    snprintf(up, sizeof up, "%.*s", (int)(slash - path), path);
    struct file *f = find(up);
    return strcmp(up, "/sim") == 0 || up[0] == 0 || (f && f->dir);
}

static int no(int error)
{
    errno = error;
    return -1;
}

static struct open_file *of(int fd)
{
    if (fd < FD_BASE || fd >= FD_BASE + (int)n_fds || !fds[fd - FD_BASE].open)
        return NULL;
    return &fds[fd - FD_BASE];
}

static int fd_new(struct file *f)
{
    co_assert(n_fds < MAX_FDS);
    fds[n_fds] = (struct open_file){.f = f, .open = true, .owner = here()};
    return FD_BASE + (int)n_fds++;
}

/* "." and names below an open directory. */
static const char *resolve(int dir, const char *path, char out[400])
{
    struct open_file *o = of(dir);
    if (path[0] == '/' || !o)
        return path;
    if (strcmp(path, ".") == 0)
        snprintf(out, 400, "%s", o->f->path);
    else
        snprintf(out, 400, "%s/%s", o->f->path, path);
    return out;
}

/* ---- contents ----------------------------------------------------------------------------------
 */

static void room_for(struct file *f, uint32_t pages)
{
    if (pages <= f->n_pages)
        return;
    f->page = realloc(f->page, pages * sizeof *f->page);
    f->synced = realloc(f->synced, pages * sizeof *f->synced);
    f->dirty = realloc(f->dirty, pages);
    co_assert(f->page && f->synced && f->dirty);
    memset(f->page + f->n_pages, 0, (pages - f->n_pages) * sizeof *f->page);
    memset(f->synced + f->n_pages, 0, (pages - f->n_pages) * sizeof *f->synced);
    memset(f->dirty + f->n_pages, 0, pages - f->n_pages);
    f->n_pages = pages;
}

static void page_free(uint8_t *p)
{
    if (p != zeros)
        free(p);
}

/* The page may change now; what a crash could bring back is kept. */
static void touch(struct file *f, uint32_t i)
{
    if (f->dirty[i])
        return;
    if (f->dirty_from == f->dirty_to) {
        f->dirty_from = i;
        f->dirty_to = i + 1;
    }
    f->dirty_from = i < f->dirty_from ? i : f->dirty_from;
    f->dirty_to = i >= f->dirty_to ? i + 1 : f->dirty_to;
    f->dirty[i] = 1;
    f->synced[i] = f->page[i];
    if (f->page[i] && f->page[i] != zeros) {
        uint8_t *copy = malloc(PAGE);
        co_assert(copy != NULL);
        memcpy(copy, f->page[i], PAGE);
        f->page[i] = copy;
    }
}

static void put(struct file *f, uint64_t at, const uint8_t *data, size_t len)
{
    room_for(f, (uint32_t)((at + len + PAGE - 1) / PAGE));
    while (len) {
        uint32_t i = (uint32_t)(at / PAGE), off = (uint32_t)(at % PAGE);
        size_t n = PAGE - off < len ? PAGE - off : len;
        touch(f, i);
        if (n == PAGE && memcmp(data, zeros, PAGE) == 0) {
            if (f->page[i] != f->synced[i])
                page_free(f->page[i]);
            f->page[i] = zeros;
        } else {
            if (!f->page[i] || f->page[i] == zeros) {
                f->page[i] = calloc(1, PAGE);
                co_assert(f->page[i] != NULL);
            }
            memcpy(f->page[i] + off, data, n);
        }
        at += n;
        data += n;
        len -= n;
    }
    if (at > f->size)
        f->size = at;
}

static size_t get(const struct file *f, uint64_t at, uint8_t *out, size_t len)
{
    size_t got = 0;
    if (at >= f->size)
        return 0;
    if (len > f->size - at)
        len = (size_t)(f->size - at);
    while (got < len) {
        uint64_t i = at / PAGE;
        uint32_t off = (uint32_t)(at % PAGE);
        size_t n = PAGE - off < len - got ? PAGE - off : len - got;
        const uint8_t *p = i < f->n_pages && f->page[i] ? f->page[i] : zeros;
        memcpy(out + got, p + off, n);
        got += n;
        at += n;
    }
    return got;
}

static void settle(struct file *f)
{
    for (uint32_t i = f->dirty_from; i < f->dirty_to; i++) {
        if (!f->dirty[i])
            continue;
        if (f->synced[i] != f->page[i])
            page_free(f->synced[i]);
        f->synced[i] = NULL;
        f->dirty[i] = 0;
    }
    f->dirty_from = f->dirty_to = 0;
    f->synced_size = f->size;
}

/* Each sector of what was not synced is there or not. */
static bool lose(struct file *f)
{
    bool any = false;
    uint32_t how = below(R_DISK, 3); /* all of it, none of it, some of it */
    bool torn = fault(F_TORN);
    for (uint32_t i = f->dirty_from; i < f->dirty_to; i++) {
        uint8_t kept[PAGE];
        if (!f->dirty[i])
            continue;
        const uint8_t *old = f->synced[i] ? f->synced[i] : zeros;
        const uint8_t *now = f->page[i] ? f->page[i] : zeros;
        bool whole = how == 0 || (how == 2 && below(R_DISK, 2));
        for (uint32_t s = 0; s < PAGE; s += SECTOR) {
            bool keep = torn ? below(R_DISK, 2) : whole;
            memcpy(kept + s, (keep ? now : old) + s, SECTOR);
        }
        any = any || memcmp(kept, now, PAGE) != 0;
        if (f->synced[i] != f->page[i])
            page_free(f->synced[i]);
        f->synced[i] = NULL;
        f->dirty[i] = 0;
        if (f->page[i] && f->page[i] != zeros) {
            memcpy(f->page[i], kept, PAGE);
        } else if (memcmp(kept, zeros, PAGE) != 0) {
            f->page[i] = malloc(PAGE);
            co_assert(f->page[i] != NULL);
            memcpy(f->page[i], kept, PAGE);
        }
    }
    f->dirty_from = f->dirty_to = 0;
    if (f->size != f->synced_size && below(R_DISK, 2)) {
        f->size = f->synced_size;
        any = true;
    }
    f->synced_size = f->size;
    return any;
}

/* ---- faults ------------------------------------------------------------------------------------
 */

void disk_crash(uint32_t host, bool power)
{
    for (uint32_t i = 0; i < n_fds; i++)
        if (fds[i].open && fds[i].owner && fds[i].owner->host == host)
            fds[i].open = fds[i].locked = false;
    if (writing[host])
        probe(P_DISK_TORN);
    writing[host] = 0;
    if (!power)
        return;
    eio[host] = false;
    for (uint32_t i = 0; i < n_files; i++)
        if (!files[i]->gone && !files[i]->dir && files[i]->host == host && lose(files[i]) &&
            host < HOST_PAGES)
            probe(P_TORN_TAIL);
}

void disk_wipe(uint32_t host)
{
    for (uint32_t i = 0; i < n_files; i++)
        if (files[i]->host == host)
            files[i]->gone = true;
}

void disk_full(uint32_t host, bool is_full)
{
    full[host] = is_full;
}

/* 0: it is well again, and nothing more fails. */
void disk_slow(uint32_t host, uint64_t until)
{
    eio[host] = eio[host] && until;
    slow_until[host] = until;
}

/* A bit of what lies there and is synced, anywhere in a segment. */
bool disk_rot(uint32_t host)
{
    uint32_t first = below(R_DISK, n_files);
    for (uint32_t i = 0; i < n_files; i++) {
        struct file *f = files[(first + i) % n_files];
        if (f->gone || f->dir || f->host != host || !strstr(f->path, "/log/"))
            continue;
        uint32_t begin = below(R_DISK, f->n_pages);
        for (uint32_t k = 0; k < f->n_pages; k++) {
            uint32_t p = (begin + k) % f->n_pages;
            if (!f->page[p] || f->page[p] == zeros || f->dirty[p])
                continue;
            f->page[p][below(R_DISK, PAGE)] ^= (uint8_t)(1u << below(R_DISK, 8));
            return true;
        }
    }
    return false;
}

/* ---- images: one at a time ---------------------------------------------------------------------
 */

static struct image {
    struct file *f;
    char path[200];
    uint8_t **page; /* NULL: a hole */
    uint32_t n_pages;
    uint64_t size;
} images[MAX_FILE];
static uint32_t n_images;

/* The kernel's own files are not on the disk. */
static bool is_on_disk(const struct file *f, uint32_t host)
{
    return !f->gone && f->host == host && strncmp(f->path, "/sim/boot.", 10) != 0;
}

static uint8_t *page_copy(const uint8_t *from)
{
    uint8_t *p = malloc(PAGE);
    co_assert(p != NULL);
    memcpy(p, from, PAGE);
    return p;
}

static const uint8_t *or_zeros(const uint8_t *page)
{
    return page ? page : zeros;
}

static void image_free(void)
{
    for (uint32_t i = 0; i < n_images; i++) {
        for (uint32_t k = 0; k < images[i].n_pages; k++)
            page_free(images[i].page[k]);
        free(images[i].page);
    }
    n_images = 0;
}

void disk_image_take(uint32_t host)
{
    image_free();
    for (uint32_t i = 0; i < n_files; i++) {
        struct file *f = files[i];
        struct image *im = &images[n_images];
        if (!is_on_disk(f, host))
            continue;
        n_images++;
        *im = (struct image){.f = f, .n_pages = f->n_pages, .size = f->synced_size};
        memcpy(im->path, f->path, sizeof im->path);
        im->page = calloc(f->n_pages + 1, sizeof *im->page);
        co_assert(im->page != NULL);
        for (uint32_t k = 0; k < f->n_pages; k++) {
            uint8_t *p = f->dirty[k] ? f->synced[k] : f->page[k];
            im->page[k] = p && p != zeros ? page_copy(p) : p;
        }
    }
}

void disk_image_back(uint32_t host)
{
    for (uint32_t i = 0; i < n_files; i++)
        if (is_on_disk(files[i], host))
            files[i]->gone = true;
    for (uint32_t i = 0; i < n_images; i++) {
        struct image *im = &images[i];
        struct file *f = make(im->path, im->f->dir);
        f->host = host;
        room_for(f, im->n_pages);
        memcpy(f->page, im->page, im->n_pages * sizeof *f->page);
        f->size = f->synced_size = im->size;
        free(im->page); /* the pages are the file's now */
    }
    n_images = 0;
}

static void put_page(struct file *f, uint32_t i, const uint8_t *bytes)
{
    if (memcmp(or_zeros(f->page[i]), bytes, PAGE) == 0)
        return;
    page_free(f->page[i]);
    f->page[i] = page_copy(bytes);
}

/* Of what was synced since the image each sector is there or not. */
static void forget(struct file *f, const struct image *im, bool nothing)
{
    uint32_t how = nothing ? 1 : below(R_DISK, 3); /* all of it, none of it, some of it */
    bool torn = !nothing && below(R_DISK, 2);
    uint64_t size = im ? im->size : 0;
    for (uint32_t i = 0; i < f->n_pages; i++) {
        uint8_t kept[PAGE];
        const uint8_t *old = or_zeros(im && i < im->n_pages ? im->page[i] : NULL);
        const uint8_t *now = or_zeros(f->page[i]);
        if (memcmp(old, now, PAGE) == 0)
            continue;
        bool whole = how == 0 || (how == 2 && below(R_DISK, 2));
        for (uint32_t s = 0; s < PAGE; s += SECTOR) {
            bool keep = torn ? below(R_DISK, 2) : whole;
            memcpy(kept + s, (keep ? now : old) + s, SECTOR);
        }
        put_page(f, i, kept);
    }
    if (f->size != size && (nothing || below(R_DISK, 2)))
        f->size = size;
    f->synced_size = f->size;
}

/* Names are what they are: what was renamed or removed meanwhile stays so. */
void disk_image_mix(uint32_t host)
{
    bool nothing = below(R_DISK, 2);
    for (uint32_t i = 0; i < n_files; i++) {
        struct file *f = files[i];
        const struct image *im = NULL;
        for (uint32_t k = 0; k < n_images && !im; k++)
            im = images[k].f == f ? &images[k] : NULL;
        if (is_on_disk(f, host) && !f->dir)
            forget(f, im, nothing);
    }
    image_free();
}

bool disk_is_settled(const char *path)
{
    const struct file *f = find(path);
    return f && f->dirty_from == f->dirty_to && f->size == f->synced_size;
}

static bool is_cache(const struct file *f)
{
    return strncmp(f->path, "/sim/pages.", 11) == 0 && !f->dir;
}

void disk_rot_cache(void)
{
    uint32_t first = below(R_DISK, n_files);
    for (uint32_t i = 0; i < n_files; i++) {
        struct file *f = files[(first + i) % n_files];
        uint32_t begin = below(R_DISK, f->n_pages);
        for (uint32_t k = 0; k < f->n_pages && is_cache(f) && !f->gone; k++) {
            uint32_t p = (begin + k) % f->n_pages;
            if (!f->page[p] || f->page[p] == zeros)
                continue;
            touch(f, p);
            f->page[p][below(R_DISK, PAGE)] ^= (uint8_t)(1u << below(R_DISK, 8));
            probe(P_DISK_ROT);
            return;
        }
    }
}

void disk_eio(uint32_t host)
{
    eio[host] = true;
}

/* ---- the C library's calls ---------------------------------------------------------------------
 */

static int open_ours(const char *path, int flags)
{
    struct file *f = find(path);
    if (!f && strcmp(path, "/sim") == 0)
        f = make(path, true);
    if (!f && !(flags & O_CREAT))
        return no(ENOENT);
    if (f && (flags & O_CREAT) && (flags & O_EXCL))
        return no(EEXIST);
    if (!f && !parent_is_there(path))
        return no(ENOENT);
    if (!f)
        f = make(path, false);
    if ((flags & O_DIRECTORY) && !f->dir)
        return no(ENOTDIR);
    if ((flags & O_TRUNC) && f->size) {
        for (uint32_t i = 0; i < f->n_pages; i++) {
            touch(f, i);
            if (f->page[i] != f->synced[i])
                page_free(f->page[i]);
            f->page[i] = NULL;
        }
        f->size = 0;
    }
    return fd_new(f);
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    /* A host that lost its power has another boot id; a process that was killed has the same. */
    if (here() && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {
        char at[64], text[40];
        snprintf(at, sizeof at, "/sim/boot.%u", here()->host);
        struct file *f = find(at) ? find(at) : make(at, false);
        int n = snprintf(text, sizeof text, "00000000-0000-0000-%04x-%012llx\n", here()->host,
                         (unsigned long long)here()->boot);
        put(f, 0, (uint8_t *)text, (size_t)n);
        settle(f);
        return fd_new(f);
    }
    if (vault_path(path))
        return vault_open(-1, path, flags);
    return is_ours(path) ? open_ours(path, flags) : __real_open(path, flags, mode);
}

int __wrap_openat(int dir, const char *path, int flags, ...)
{
    char full_path[400];
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if (vault_fd(dir))
        return vault_open(dir, path, flags);
    if (!of(dir))
        return __real_openat(dir, path, flags, mode);
    return open_ours(resolve(dir, path, full_path), flags);
}

int __wrap_close(int fd)
{
    struct open_file *o = of(fd);
    if (sock_of(fd)) {
        sock_close(sock_of(fd));
        return 0;
    }
    if (vault_fd(fd))
        return vault_close(fd);
    if (!o)
        return __real_close(fd);
    o->open = o->locked = false;
    return 0;
}

ssize_t __wrap_pread(int fd, void *out, size_t len, off_t at)
{
    struct open_file *o = of(fd);
    if (vault_fd(fd))
        return vault_pread(fd, out, len, at);
    return o ? (ssize_t)get(o->f, (uint64_t)at, out, len) : __real_pread(fd, out, len, at);
}

ssize_t __wrap_read(int fd, void *out, size_t len)
{
    struct open_file *o = of(fd);
    if (sock_of(fd))
        return net_read(sock_of(fd), out, len);
    if (!o)
        return __real_read(fd, out, len);
    size_t n = get(o->f, o->at, out, len);
    o->at += n;
    return (ssize_t)n;
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t at)
{
    struct open_file *o = of(fd);
    if (!o)
        return __real_pwrite(fd, data, len, at);
    if (!is_cache(o->f) || !sim.current || !chance(R_DISK, sim.w.torn_ppm)) {
        put(o->f, (uint64_t)at, data, len);
        return (ssize_t)len;
    }
    /* Somebody else may come between, or the process ends here. */
    size_t part = below(R_DISK, (uint32_t)len + 1);
    put(o->f, (uint64_t)at, data, part);
    writing[here()->host]++;
    task_sleep(1 + below(R_DISK, 100000));
    writing[here()->host]--;
    put(o->f, (uint64_t)at + part, (const uint8_t *)data + part, len - part);
    return (ssize_t)len;
}

ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    struct open_file *o = of(fd);
    if (sock_of(fd))
        return net_write(sock_of(fd), data, len);
    if (vault_fd(fd))
        return vault_write(fd, data, len);
    if (!o)
        return __real_write(fd, data, len);
    put(o->f, o->at, data, len);
    o->at += len;
    return (ssize_t)len;
}

static int sync_ours(struct open_file *o)
{
    uint32_t host = o->f->host;
    if (sim.current) {
        uint64_t us = sim.w.sync_min_us + below(R_DISK, sim.w.sync_max_us - sim.w.sync_min_us + 1);
        if (slow_until[host] > sim.now)
            us += below(R_DISK, 300000);
        task_sleep(us);
    }
    if (eio[host]) {
        eio[host] = false;
        if (!o->f->dir)
            (void)lose(o->f);
        return no(EIO);
    }
    if (!o->f->dir)
        settle(o->f);
    return 0;
}

int __wrap_fsync(int fd)
{
    struct open_file *o = of(fd);
    if (vault_fd(fd))
        return vault_fsync(fd);
    return o ? sync_ours(o) : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
    struct open_file *o = of(fd);
    return o ? sync_ours(o) : __real_fdatasync(fd);
}

int __wrap_ftruncate(int fd, off_t len)
{
    struct open_file *o = of(fd);
    if (!o)
        return __real_ftruncate(fd, len);
    room_for(o->f, (uint32_t)(((uint64_t)len + PAGE - 1) / PAGE));
    for (uint32_t i = (uint32_t)(((uint64_t)len + PAGE - 1) / PAGE); i < o->f->n_pages; i++) {
        touch(o->f, i);
        if (o->f->page[i] != o->f->synced[i])
            page_free(o->f->page[i]);
        o->f->page[i] = NULL;
    }
    o->f->size = (uint64_t)len;
    return 0;
}

off_t __wrap_lseek(int fd, off_t at, int whence)
{
    struct open_file *o = of(fd);
    if (!o)
        return __real_lseek(fd, at, whence);
    co_assert(whence == SEEK_HOLE || whence == SEEK_DATA);
    if ((uint64_t)at >= o->f->size)
        return no(ENXIO);
    for (uint64_t i = (uint64_t)at / PAGE;; i++) {
        bool data = i < o->f->n_pages && o->f->page[i];
        uint64_t begin = i * PAGE > (uint64_t)at ? i * PAGE : (uint64_t)at;
        if (begin >= o->f->size)
            return whence == SEEK_HOLE ? (off_t)o->f->size : no(ENXIO);
        if (data == (whence == SEEK_DATA))
            return (off_t)begin;
    }
}

int __wrap_flock(int fd, int op)
{
    struct open_file *o = of(fd);
    if (!o)
        return __real_flock(fd, op);
    for (uint32_t i = 0; i < n_fds; i++)
        if (fds[i].open && fds[i].locked && fds[i].f == o->f && &fds[i] != o)
            return no(EWOULDBLOCK);
    o->locked = true;
    return 0;
}

static int stat_of(const struct file *f, struct stat *out)
{
    if (!f)
        return no(ENOENT);
    memset(out, 0, sizeof *out);
    out->st_mode = f->dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    out->st_uid = geteuid();
    out->st_size = (off_t)f->size;
    for (uint32_t i = 0; i < f->n_pages; i++)
        out->st_blocks += f->page[i] ? PAGE / 512 : 0;
    return 0;
}

int __wrap_fstat(int fd, struct stat *out)
{
    struct open_file *o = of(fd);
    if (vault_fd(fd))
        return vault_fstat(fd, out);
    return o ? stat_of(o->f, out) : __real_fstat(fd, out);
}

int __wrap_stat(const char *path, struct stat *out)
{
    return is_ours(path) ? stat_of(find(path), out) : __real_stat(path, out);
}

int __wrap_fstatat(int dir, const char *path, struct stat *out, int flags)
{
    char full_path[400];
    if (vault_fd(dir))
        return vault_fstatat(dir, path, out);
    if (!of(dir))
        return __real_fstatat(dir, path, out, flags);
    return stat_of(find(resolve(dir, path, full_path)), out);
}

int __wrap_statvfs(const char *path, struct statvfs *out)
{
    if (!here())
        return __real_statvfs(path, out);
    memset(out, 0, sizeof *out);
    out->f_frsize = out->f_bsize = PAGE;
    out->f_blocks = 1u << 24;
    out->f_bavail = out->f_bfree = full[here()->host] ? 16 : 1u << 23;
    return 0;
}

int __wrap_mkdirat(int dir, const char *path, mode_t mode)
{
    return vault_fd(dir) ? vault_mkdirat(dir, path) : __real_mkdirat(dir, path, mode);
}

int __wrap_linkat(int a, const char *from, int b, const char *to, int flags)
{
    return vault_fd(a) ? vault_linkat(a, from, b, to) : __real_linkat(a, from, b, to, flags);
}

int __wrap_unlinkat(int dir, const char *path, int flags)
{
    return vault_fd(dir) ? vault_unlinkat(dir, path) : __real_unlinkat(dir, path, flags);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    if (vault_path(path))
        return vault_mkdirat(-1, path);
    if (!is_ours(path))
        return __real_mkdir(path, mode);
    if (strcmp(path, "/sim") == 0 || find(path))
        return no(EEXIST);
    if (!parent_is_there(path))
        return no(ENOENT);
    make(path, true);
    return 0;
}

static int remove_ours(const char *path, bool dir)
{
    struct file *f = find(path);
    if (!f)
        return no(ENOENT);
    if (f->dir != dir)
        return no(dir ? ENOTDIR : EISDIR);
    f->gone = true;
    return 0;
}

int __wrap_rmdir(const char *path)
{
    return is_ours(path) ? remove_ours(path, true) : __real_rmdir(path);
}

int __wrap_unlink(const char *path)
{
    return is_ours(path) ? remove_ours(path, false) : __real_unlink(path);
}

static int rename_ours(const char *from, const char *to)
{
    struct file *f = find(from), *there = find(to);
    size_t n = strlen(from);
    char path[400];
    if (!f)
        return no(ENOENT);
    if (there)
        there->gone = true;
    if (f->dir) {
        for (uint32_t i = 0; i < n_files; i++) {
            if (files[i]->gone || strncmp(files[i]->path, from, n) || files[i]->path[n] != '/')
                continue;
            snprintf(path, sizeof path, "%s%s", to, files[i]->path + n);
            snprintf(files[i]->path, sizeof files[i]->path, "%.*s", (int)sizeof files[i]->path - 1,
                     path);
        }
    }
    snprintf(f->path, sizeof f->path, "%s", to);
    return 0;
}

int __wrap_rename(const char *from, const char *to)
{
    return is_ours(from) ? rename_ours(from, to) : __real_rename(from, to);
}

int __wrap_renameat(int a, const char *from, int b, const char *to)
{
    char x[400], y[400];
    if (!of(a))
        return __real_renameat(a, from, b, to);
    return rename_ours(resolve(a, from, x), resolve(b, to, y));
}

DIR *__wrap_fdopendir(int fd)
{
    if (!of(fd) && !vault_fd(fd))
        return __real_fdopendir(fd);
    struct dir_stream *d = calloc(1, sizeof *d);
    co_assert(d != NULL);
    d->mark = DIR_MARK;
    d->fd = fd;
    return (DIR *)d;
}

DIR *__wrap_opendir(const char *path)
{
    if (!is_ours(path))
        return __real_opendir(path);
    int fd = open_ours(path, O_RDONLY | O_DIRECTORY);
    return fd < 0 ? NULL : __wrap_fdopendir(fd);
}

static struct dir_stream *stream_of(DIR *d)
{
    struct dir_stream *s = (struct dir_stream *)(void *)d;
    return s->mark == DIR_MARK ? s : NULL;
}

struct dirent *__wrap_readdir(DIR *d)
{
    struct dir_stream *s = stream_of(d);
    if (!s)
        return __real_readdir(d);
    if (vault_fd(s->fd))
        return vault_list(s->fd, &s->next, &s->entry) ? &s->entry : NULL;
    const char *dir = of(s->fd)->f->path;
    size_t n = strlen(dir);
    while (s->next < n_files) {
        struct file *f = files[s->next++];
        if (f->gone || strncmp(f->path, dir, n) || f->path[n] != '/' ||
            strchr(f->path + n + 1, '/'))
            continue;
        snprintf(s->entry.d_name, sizeof s->entry.d_name, "%s", f->path + n + 1);
        s->entry.d_type = f->dir ? DT_DIR : DT_REG;
        return &s->entry;
    }
    return NULL;
}

int __wrap_closedir(DIR *d)
{
    struct dir_stream *s = stream_of(d);
    if (!s)
        return __real_closedir(d);
    (void)__wrap_close(s->fd);
    free(s);
    return 0;
}

int __wrap_dirfd(DIR *d)
{
    struct dir_stream *s = stream_of(d);
    return s ? s->fd : __real_dirfd(d);
}
