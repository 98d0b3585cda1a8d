/*
 * vault.c - the directory that the archive lies in, /sim/archive: a file system on a medium of its
 * own, which outlives the pageservers' disks. As much of it as archive/dir_file.c uses.
 *
 * A file has the bytes that were synced, a name is there when its directory was synced: a loss of
 * power keeps, drops or cuts whatever was not, and the medium hangs, is slow, full, or gone for a
 * while. A call takes its time, so that a kill may come between any two of them, and one can be
 * aimed there (vault_kill_soon).
 *
 * A path has one entry. `now` is what is found under it, `kept` what would be if the power went and
 * nothing was kept that is not synced; NULL: nothing.
 */
#include "tests/fullsim/vault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

#define ROOT      "/sim/archive"
#define PATH_TEXT 220u
#define FD_BASE   600000
#define MAX_OPEN  256u
#define SLOTS     4096u

struct node {
    uint8_t *data;
    size_t len, synced, cap;
    uint64_t born_us;
    uint32_t refs; /* entries and descriptors */
    bool dir;
};

struct entry {
    char path[PATH_TEXT];
    struct node *now, *kept;
    struct entry *up, *first, *next_sibling, *next_of_slot;
};

static struct entry *slots[SLOTS];

static struct open_node {
    struct node *n; /* NULL: free */
    struct entry *dir;
    struct proc *owner;
    bool writing;
} fds[MAX_OPEN];

enum trouble { NONE, GONE, UNMOUNTED, HANGS, SLOW, FULL };
static enum trouble trouble;
static uint64_t trouble_until;
static bool sync_fails;
static uint64_t failed_us; /* when a call failed last */
static uint32_t kill_in;   /* so many calls from now; 0: nobody is killed */
static bool power_too;

static int no(int error)
{
    errno = error;
    return -1;
}

/* ---- nodes and entries -------------------------------------------------------------------------
 */

static struct node *hold(struct node *n)
{
    if (n)
        n->refs++;
    return n;
}

static void release(struct node *n)
{
    if (!n || --n->refs > 0)
        return;
    free(n->data);
    free(n);
}

static void set(struct node **at, struct node *n)
{
    hold(n);
    release(*at);
    *at = n;
}

static struct node *node_new(bool dir)
{
    struct node *n = calloc(1, sizeof *n);
    co_assert(n != NULL);
    n->dir = dir;
    n->born_us = sim.now;
    return n;
}

static struct entry **slot_of(const char *path)
{
    uint64_t h = 14695981039346656037ull;
    for (const char *p = path; *p; p++)
        h = (h ^ (uint8_t)*p) * 1099511628211ull;
    return &slots[(h >> 20) % SLOTS];
}

static struct entry *find(const char *path)
{
    struct entry *e = *slot_of(path);
    while (e && strcmp(e->path, path) != 0)
        e = e->next_of_slot;
    return e;
}

static struct entry *parent_of(const char *path)
{
    char up[PATH_TEXT];
    snprintf(up, sizeof up, "%.*s", (int)(strrchr(path, '/') - path), path);
    return find(up);
}

/* Also of what is not there yet: then its directory is. */
static struct entry *entry_for(const char *path)
{
    struct entry *e = find(path), **at = slot_of(path);
    if (e)
        return e;
    e = calloc(1, sizeof *e);
    co_assert(e && strlen(path) < sizeof e->path);
    snprintf(e->path, sizeof e->path, "%s", path);
    e->next_of_slot = *at;
    *at = e;
    e->up = parent_of(path);
    co_assert(e->up && e->up->now);
    e->next_sibling = e->up->first;
    e->up->first = e;
    return e;
}

static void unlist(struct entry *e)
{
    struct entry **at = slot_of(e->path);
    while (*at != e)
        at = &(*at)->next_of_slot;
    *at = e->next_of_slot;
    at = &e->up->first;
    while (*at != e)
        at = &(*at)->next_sibling;
    *at = e->next_sibling;
    free(e);
}

/* Nothing is left of it, now or after a loss of power. */
static void forget_if_nothing(struct entry *e)
{
    if (!e->now && !e->kept && !e->first)
        unlist(e);
}

static struct entry *root(void)
{
    struct entry *e = find(ROOT);
    if (e)
        return e;
    e = calloc(1, sizeof *e);
    co_assert(e != NULL);
    snprintf(e->path, sizeof e->path, "%s", ROOT);
    *slot_of(ROOT) = e;
    set(&e->now, node_new(true));
    set(&e->kept, e->now);
    return e;
}

/* ---- descriptors -------------------------------------------------------------------------------
 */

static struct open_node *of(int fd)
{
    if (fd < FD_BASE || fd >= FD_BASE + (int)MAX_OPEN || !fds[fd - FD_BASE].n)
        return NULL;
    return &fds[fd - FD_BASE];
}

bool vault_fd(int fd)
{
    return of(fd) != NULL;
}

static int fd_new(struct entry *e, bool writing)
{
    for (uint32_t i = 0; i < MAX_OPEN; i++) {
        struct open_node *o = &fds[i];
        if (o->n && o->owner && !o->owner->alive)
            set(&o->n, NULL); /* it was killed */
        if (o->n)
            continue;
        *o = (struct open_node){.dir = e->now->dir ? e : NULL, .owner = here(), .writing = writing};
        set(&o->n, e->now);
        return FD_BASE + (int)i;
    }
    violation("more than %u files of the archive are open at once", MAX_OPEN);
}

bool vault_path(const char *path)
{
    size_t n = sizeof ROOT - 1;
    return strncmp(path, ROOT, n) == 0 && (path[n] == 0 || path[n] == '/');
}

static void resolve(int dir, const char *path, char out[2 * PATH_TEXT])
{
    const struct open_node *o = of(dir);
    if (!o)
        snprintf(out, 2 * PATH_TEXT, "%s", path);
    else if (strcmp(path, ".") == 0)
        snprintf(out, 2 * PATH_TEXT, "%s", o->dir->path);
    else
        snprintf(out, 2 * PATH_TEXT, "%s/%s", o->dir->path, path);
    size_t n = strlen(out);
    co_assert(n < PATH_TEXT);
    if (out[n - 1] == '/')
        out[n - 1] = 0;
}

/* ---- the medium --------------------------------------------------------------------------------
 */

bool vault_is_written_by(const struct proc *p)
{
    for (uint32_t i = 0; i < MAX_OPEN; i++)
        if (fds[i].n && fds[i].writing && fds[i].owner == p)
            return true;
    return false;
}

static void wait_here(uint64_t us)
{
    if (sim.current)
        task_sleep(us);
}

/* Each call goes through here; 0, or what it fails with. */
static int reach(void)
{
    if (kill_in && here() && pages_is(here()) && --kill_in == 0) {
        if (power_too)
            vault_power_lost();
        pages_end_this(power_too); /* does not return */
    }
    if (sim.now >= trouble_until)
        return 0;
    failed_us = sim.now;
    switch (trouble) {
    case HANGS:
        wait_here(trouble_until - sim.now);
        return 0;
    case SLOW:
        wait_here(1 + below(R_ARCHIVE, 30000));
        return 0;
    case GONE:
        return EIO;
    case UNMOUNTED:
        return ENOENT;
    default:
        return 0;
    }
}

static bool is_full(void)
{
    return trouble == FULL && sim.now < trouble_until;
}

void vault_trouble(uint64_t us)
{
    static const enum trouble kinds[] = {GONE, UNMOUNTED, HANGS, SLOW, FULL, FULL};
    if (below(R_ARCHIVE, 6) == 0) {
        sync_fails = true;
        return;
    }
    trouble = kinds[below(R_ARCHIVE, 6)];
    trouble_until = sim.now + (trouble == FULL ? 8 * us : us); /* somebody has to make room */
    trace("the archive's medium is in trouble: %u", trouble);
}

void vault_kill_soon(bool power)
{
    kill_in = 1 + below(R_ARCHIVE, 60);
    power_too = power;
}

bool vault_failed_since(uint64_t us)
{
    return failed_us >= us;
}

void vault_heal(void)
{
    trouble = NONE;
    trouble_until = 0;
    sync_fails = false;
    kill_in = 0;
}

/* What was synced, and of what was written behind some. */
static void cut(struct node *n)
{
    if (n->len > n->synced)
        n->len = n->synced + below(R_ARCHIVE, (uint32_t)(n->len - n->synced) + 1);
    n->synced = n->len;
}

static bool drop_below(struct entry *dir)
{
    bool any = false;
    for (struct entry *e = dir->first, *next; e; e = next) {
        next = e->next_sibling;
        bool lost = !dir->now;
        struct node *stays = lost ? NULL : below(R_ARCHIVE, 2) ? e->now : e->kept;
        any |= stays != e->now;
        set(&e->now, stays);
        set(&e->kept, stays);
        if (stays)
            cut(stays);
        any |= drop_below(e);
        forget_if_nothing(e);
    }
    return any;
}

void vault_power_lost(void)
{
    if (drop_below(root()))
        probe(P_ARCHIVE_POWER);
}

/* ---- calls -------------------------------------------------------------------------------------
 */

int vault_open(int dir, const char *path, int flags)
{
    char full[2 * PATH_TEXT];
    int error = reach();
    resolve(dir, path, full);
    (void)root();
    struct entry *e = find(full), *up = strcmp(full, ROOT) == 0 ? NULL : parent_of(full);
    bool there = e && e->now;
    if (error)
        return no(error);
    if (!there && !(flags & O_CREAT))
        return no(ENOENT);
    if (there && (flags & O_CREAT) && (flags & O_EXCL))
        return no(EEXIST);
    if (!there && (!up || !up->now))
        return no(ENOENT);
    if (there && (flags & O_DIRECTORY) && !e->now->dir)
        return no(ENOTDIR);
    if (!there) {
        e = entry_for(full);
        set(&e->now, node_new(false));
    }
    return fd_new(e, (flags & O_ACCMODE) != O_RDONLY);
}

int vault_close(int fd)
{
    set(&of(fd)->n, NULL);
    return 0;
}

ssize_t vault_pread(int fd, void *out, size_t len, off_t at)
{
    int error = reach();
    const struct node *n = of(fd)->n;
    size_t left = (uint64_t)at < n->len ? n->len - (size_t)at : 0;
    if (error)
        return no(error);
    len = len < left ? len : left;
    if (len)
        memcpy(out, n->data + at, len);
    return (ssize_t)len;
}

ssize_t vault_write(int fd, const void *data, size_t len)
{
    int error = reach();
    struct node *n = of(fd)->n;
    if (error)
        return no(error);
    if (is_full()) {
        probe(P_ARCHIVE_FULL);
        if (len < 2)
            return no(ENOSPC);
        len /= 2;
        if (below(R_ARCHIVE, 2))
            return no(ENOSPC);
    }
    if (n->len + len > n->cap) {
        n->cap = 2 * n->cap > n->len + len ? 2 * n->cap : n->len + len;
        n->data = realloc(n->data, n->cap);
        co_assert(n->data != NULL);
    }
    memcpy(n->data + n->len, data, len);
    n->len += len;
    return (ssize_t)len;
}

static void sync_names(struct entry *dir)
{
    for (struct entry *e = dir->first, *next; e; e = next) {
        next = e->next_sibling;
        if (e->kept != e->now)
            set(&e->kept, e->now);
        forget_if_nothing(e);
    }
}

int vault_fsync(int fd)
{
    uint64_t us = sim.w.sync_min_us + below(R_ARCHIVE, sim.w.sync_max_us - sim.w.sync_min_us + 1);
    wait_here(us);
    int error = reach();
    struct open_node *o = of(fd);
    if (!error && sync_fails) {
        sync_fails = false;
        error = EIO;
        failed_us = sim.now;
        cut(o->n);
    }
    if (error)
        return no(error);
    if (o->dir)
        sync_names(o->dir);
    else
        o->n->synced = o->n->len;
    return 0;
}

static int stat_of(const struct node *n, struct stat *out)
{
    if (!n)
        return no(ENOENT);
    memset(out, 0, sizeof *out);
    out->st_mode = n->dir ? S_IFDIR | 0700 : S_IFREG | 0400;
    out->st_size = (off_t)n->len;
    out->st_mtime = (time_t)(WALL_EPOCH_US / 1000000u + n->born_us / 1000000u);
    return 0;
}

int vault_fstat(int fd, struct stat *out)
{
    return stat_of(of(fd)->n, out);
}

int vault_fstatat(int dir, const char *path, struct stat *out)
{
    char full[2 * PATH_TEXT];
    resolve(dir, path, full);
    struct entry *e = find(full);
    return stat_of(e ? e->now : NULL, out);
}

int vault_mkdirat(int dir, const char *path)
{
    char full[2 * PATH_TEXT];
    int error = reach();
    resolve(dir, path, full);
    struct entry *e = find(full), *up = strcmp(full, ROOT) == 0 ? root() : parent_of(full);
    if (error)
        return no(error);
    if (up == root() && strcmp(full, ROOT) == 0)
        return no(EEXIST);
    if (e && e->now)
        return no(EEXIST);
    if (!up || !up->now)
        return no(ENOENT);
    if (is_full())
        return no(ENOSPC);
    set(&entry_for(full)->now, node_new(true));
    return 0;
}

int vault_linkat(int from_dir, const char *from, int to_dir, const char *to)
{
    char a[2 * PATH_TEXT], b[2 * PATH_TEXT];
    int error = reach();
    resolve(from_dir, from, a);
    resolve(to_dir, to, b);
    struct entry *old = find(a), *e = find(b), *up = parent_of(b);
    if (error)
        return no(error);
    if (!old || !old->now || !up || !up->now)
        return no(ENOENT);
    if (e && e->now)
        return no(EEXIST);
    if (is_full() && below(R_ARCHIVE, 2))
        return no(ENOSPC);
    e = entry_for(b);
    set(&e->now, old->now);
    archive_named(b + sizeof ROOT, e->now->data, e->now->len);
    return 0;
}

int vault_unlinkat(int dir, const char *path)
{
    char full[2 * PATH_TEXT];
    int error = reach();
    resolve(dir, path, full);
    struct entry *e = find(full);
    if (error)
        return no(error);
    if (!e || !e->now)
        return no(ENOENT);
    set(&e->now, NULL);
    forget_if_nothing(e);
    return 0;
}

/* An entry that is added while somebody lists is before what is listed next. */
bool vault_list(int fd, uint32_t *next, struct dirent *out)
{
    struct open_node *o = of(fd);
    uint32_t i = 0;
    for (struct entry *e = o->dir->first; e; e = e->next_sibling) {
        if (!e->now || i++ < *next)
            continue;
        *next = i;
        snprintf(out->d_name, sizeof out->d_name, "%s", strrchr(e->path, '/') + 1);
        out->d_type = e->now->dir ? DT_DIR : DT_REG;
        return true;
    }
    return false;
}

/* ---- for the oracle ----------------------------------------------------------------------------
 */

void vault_each(const char *dir, bool durable, vault_fn *fn, void *arg)
{
    char path[PATH_TEXT];
    snprintf(path, sizeof path, ROOT "/%s", dir);
    const struct entry *d = find(path);
    for (const struct entry *e = d ? d->first : NULL; e; e = e->next_sibling) {
        const struct node *n = durable ? e->kept : e->now;
        if (n && !n->dir)
            fn(arg, e->path + sizeof ROOT, n->data, durable ? n->synced : n->len);
    }
}
