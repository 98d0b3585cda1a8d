/* disk.c - see disk.h. */
#include "tests/crash/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

/* -- Pages, shared between copies ---------------------------------------------------------------
 */

struct page {
    uint32_t refs;
    uint8_t b[DISK_PAGE];
};

static const uint8_t zeros[DISK_PAGE];
static struct page *spare[256];
static uint32_t n_spare;

static struct page *page_new(const uint8_t *bytes)
{
    struct page *p = n_spare ? spare[--n_spare] : malloc(sizeof *p);
    co_assert(p);
    p->refs = 1;
    memcpy(p->b, bytes, DISK_PAGE);
    return p;
}

static void page_drop(struct page *p)
{
    if (--p->refs)
        return;
    if (n_spare < sizeof spare / sizeof *spare)
        spare[n_spare++] = p;
    else
        free(p);
}

static uint32_t position(const struct content *c, uint32_t no)
{
    uint32_t lo = 0, hi = c->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (c->e[mid].no < no)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const uint8_t *page_at(const struct content *c, uint32_t no)
{
    uint32_t i = position(c, no);
    return i < c->n && c->e[i].no == no ? c->e[i].p->b : NULL;
}

static uint8_t *page_to_write(struct content *c, uint32_t no)
{
    uint32_t i = position(c, no);
    if (i < c->n && c->e[i].no == no) {
        struct page *p = c->e[i].p;
        if (p->refs > 1) {
            c->e[i].p = page_new(p->b);
            page_drop(p);
        }
        return c->e[i].p->b;
    }
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 8;
        c->e = realloc(c->e, c->cap * sizeof *c->e);
        co_assert(c->e);
    }
    memmove(&c->e[i + 1], &c->e[i], (c->n - i) * sizeof *c->e);
    c->n++;
    c->e[i].no = no;
    c->e[i].p = page_new(zeros);
    return c->e[i].p->b;
}

static void content_clear(struct content *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        page_drop(c->e[i].p);
    free(c->e);
    *c = (struct content){0};
}

static void content_copy(struct content *to, const struct content *from)
{
    *to = (struct content){.n = from->n, .cap = from->n, .size = from->size};
    if (!from->n)
        return;
    to->e = malloc(from->n * sizeof *to->e);
    co_assert(to->e);
    memcpy(to->e, from->e, from->n * sizeof *to->e);
    for (uint32_t i = 0; i < to->n; i++)
        to->e[i].p->refs++;
}

static void content_cut(struct content *c, uint64_t size)
{
    while (c->n && (uint64_t)c->e[c->n - 1].no * DISK_PAGE >= size)
        page_drop(c->e[--c->n].p);
    if (c->n && size % DISK_PAGE && c->e[c->n - 1].no == size / DISK_PAGE)
        memset(page_to_write(c, c->e[c->n - 1].no) + size % DISK_PAGE, 0,
               DISK_PAGE - size % DISK_PAGE);
}

static const uint8_t *sector_at(const struct content *c, uint64_t sector)
{
    const uint8_t *p = page_at(c, (uint32_t)(sector * SECTOR / DISK_PAGE));
    return p ? p + sector * SECTOR % DISK_PAGE : zeros;
}

static void set_sector(struct content *c, uint64_t sector, const uint8_t *bytes, size_t len)
{
    uint32_t no = (uint32_t)(sector * SECTOR / DISK_PAGE);
    if (!page_at(c, no) && !memcmp(bytes, zeros, len))
        return;
    memcpy(page_to_write(c, no) + sector * SECTOR % DISK_PAGE, bytes, len);
}

/* -- Names --------------------------------------------------------------------------------------
 */

static struct entry *find(const struct names *n, uint32_t dir, const char *name)
{
    for (uint32_t i = 0; i < n->n; i++)
        if (n->e[i].dir == dir && !strcmp(n->e[i].name, name))
            return &n->e[i];
    return NULL;
}

static void link_name(struct names *n, uint32_t dir, const char *name, uint32_t child)
{
    struct entry *e = find(n, dir, name);
    if (!e) {
        if (n->n == n->cap) {
            n->cap = n->cap ? 2 * n->cap : 16;
            n->e = realloc(n->e, n->cap * sizeof *n->e);
            co_assert(n->e);
        }
        e = &n->e[n->n++];
        e->dir = dir;
        strcpy(e->name, name);
    }
    e->child = child;
}

static void unlink_name(struct names *n, uint32_t dir, const char *name)
{
    struct entry *e = find(n, dir, name);
    if (e)
        *e = n->e[--n->n];
}

static void names_copy(struct names *to, const struct names *from)
{
    *to = (struct names){.n = from->n, .cap = from->n};
    if (!from->n)
        return;
    to->e = malloc(from->n * sizeof *to->e);
    co_assert(to->e);
    memcpy(to->e, from->e, from->n * sizeof *to->e);
}

/* -- Atoms --------------------------------------------------------------------------------------
 */

static struct atom *add(struct disk *d, enum atom_kind kind, uint32_t inode, uint64_t at)
{
    if (d->n_atoms == d->cap_atoms) {
        d->cap_atoms = d->cap_atoms ? 2 * d->cap_atoms : 16;
        d->atoms = realloc(d->atoms, d->cap_atoms * sizeof *d->atoms);
        co_assert(d->atoms);
    }
    struct atom *a = &d->atoms[d->n_atoms++];
    a->kind = kind;
    a->inode = inode;
    a->at = at;
    return a;
}

static void apply(struct disk *d, const struct atom *a, uint32_t bytes)
{
    struct inode *in = &d->inode[a->inode];
    switch (a->kind) {
    case ATOM_SECTOR:
        set_sector(&in->disk, a->at, a->data, bytes);
        return;
    case ATOM_SIZE:
        if (a->at < in->disk.size)
            content_cut(&in->disk, a->at);
        in->disk.size = a->at;
        return;
    case ATOM_LINK:
        link_name(&d->disk, a->inode, a->name, a->child);
        return;
    case ATOM_UNLINK:
        unlink_name(&d->disk, a->inode, a->name);
        return;
    case ATOM_RENAME:
        unlink_name(&d->disk, a->inode, a->name);
        link_name(&d->disk, a->inode, a->to, a->child);
        return;
    }
}

static uint64_t draw(struct disk *d)
{
    d->luck = d->luck * 6364136223846793005u + 1442695040888963407u;
    return d->luck >> 33;
}

/* -- Life ---------------------------------------------------------------------------------------
 */

struct disk *disk_new(void)
{
    struct disk *d = calloc(1, sizeof *d);
    co_assert(d);
    d->n_inodes = 1;
    d->inode[0].used = d->inode[0].dir = true;
    return d;
}

struct disk *disk_copy(const struct disk *from)
{
    struct disk *d = malloc(sizeof *d);
    co_assert(d);
    *d = *from;
    for (uint32_t i = 0; i < d->n_inodes; i++) {
        content_copy(&d->inode[i].cache, &from->inode[i].cache);
        content_copy(&d->inode[i].disk, &from->inode[i].disk);
    }
    names_copy(&d->cache, &from->cache);
    names_copy(&d->disk, &from->disk);
    d->cap_atoms = d->n_atoms;
    d->atoms = d->n_atoms ? malloc(d->n_atoms * sizeof *d->atoms) : NULL;
    co_assert(!d->n_atoms || d->atoms);
    if (d->n_atoms)
        memcpy(d->atoms, from->atoms, d->n_atoms * sizeof *d->atoms);
    return d;
}

void disk_free(struct disk *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->n_inodes; i++) {
        content_clear(&d->inode[i].cache);
        content_clear(&d->inode[i].disk);
    }
    free(d->cache.e);
    free(d->disk.e);
    free(d->atoms);
    free(d);
}

void disk_power_off(struct disk *d, const bool *keep, uint32_t torn, uint32_t torn_bytes)
{
    for (uint32_t i = 0; i < d->n_atoms; i++)
        if (keep[i])
            apply(d, &d->atoms[i], i == torn ? torn_bytes : SECTOR);
    d->n_atoms = 0;
    for (uint32_t i = 0; i < d->n_inodes; i++) {
        /* What was written to a file whose size did not arrive is behind its end. */
        content_cut(&d->inode[i].disk, d->inode[i].disk.size);
        content_clear(&d->inode[i].cache);
        content_copy(&d->inode[i].cache, &d->inode[i].disk);
    }
    free(d->cache.e);
    names_copy(&d->cache, &d->disk);
    d->fail_sync = d->fail_write = 0;
}

/* -- Calls --------------------------------------------------------------------------------------
 */

int disk_lookup(const struct disk *d, const char *path, uint32_t *dir, const char **name)
{
    static char part[NAME_MAX_];
    uint32_t at = 0;
    *dir = 0;
    *name = "";
    while (*path == '/') {
        path++;
        size_t n = strcspn(path, "/");
        if (!n)
            break; /* the root itself */
        if (n >= sizeof part)
            return -ENAMETOOLONG;
        if (!d->inode[at].dir)
            return -ENOTDIR;
        memcpy(part, path, n);
        part[n] = 0;
        path += n;
        const struct entry *e = find(&d->cache, at, part);
        *dir = at;
        *name = part;
        if (!e)
            return *path ? -ENOTDIR : -ENOENT;
        at = e->child;
    }
    return (int)at;
}

int disk_create(struct disk *d, uint32_t dir, const char *name, bool is_dir)
{
    co_assert(d->n_inodes < INODES);
    uint32_t ino = d->n_inodes++;
    d->inode[ino] = (struct inode){.used = true, .dir = is_dir};
    link_name(&d->cache, dir, name, ino);
    struct atom *a = add(d, ATOM_LINK, dir, 0);
    strcpy(a->name, name);
    a->child = ino;
    d->ops++;
    return (int)ino;
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
    uint32_t dir, to_dir;
    const char *name;
    char old[NAME_MAX_];
    int ino = disk_lookup(d, from, &dir, &name);
    if (ino < 0)
        return ino;
    strcpy(old, name);
    int there = disk_lookup(d, to, &to_dir, &name);
    if (there == -ENOTDIR)
        return there;
    co_assert(to_dir == dir); /* the product renames within a directory */
    unlink_name(&d->cache, dir, old);
    link_name(&d->cache, dir, name, (uint32_t)ino);
    struct atom *a = add(d, ATOM_RENAME, dir, 0);
    strcpy(a->name, old);
    strcpy(a->to, name);
    a->child = (uint32_t)ino;
    d->ops++;
    return 0;
}

int disk_unlink(struct disk *d, const char *path, bool is_dir)
{
    uint32_t dir;
    const char *name;
    int ino = disk_lookup(d, path, &dir, &name);
    if (ino < 0)
        return ino;
    if (d->inode[ino].dir != is_dir)
        return is_dir ? -ENOTDIR : -EISDIR;
    for (uint32_t i = 0; is_dir && i < d->cache.n; i++)
        if (d->cache.e[i].dir == (uint32_t)ino)
            return -ENOTEMPTY;
    struct atom *a = add(d, ATOM_UNLINK, dir, 0);
    strcpy(a->name, name);
    unlink_name(&d->cache, dir, a->name);
    d->ops++;
    return 0;
}

static bool is_pending(const struct disk *d, uint32_t inode, uint64_t sector)
{
    for (uint32_t i = d->n_atoms; i > 0; i--) {
        const struct atom *a = &d->atoms[i - 1];
        if (a->inode == inode &&
            (a->kind == ATOM_SIZE || (a->kind == ATOM_SECTOR && a->at == sector)))
            return true;
    }
    return false;
}

long disk_write(struct disk *d, uint32_t inode, uint64_t off, const void *bytes, size_t len)
{
    struct inode *in = &d->inode[inode];
    const uint8_t *p = bytes;
    long error = 0;
    if (d->fail_write && --d->fail_write == 0) {
        error = -ENOSPC;
        if (draw(d) & 1)
            return error;
        len = len > SECTOR ? (size_t)(draw(d) % len) : 0; /* a part of it arrives first */
        d->fail_write = 1;                                /* and the rest does not */
        if (!len)
            return error;
    }
    if (off + len > in->cache.size) {
        in->cache.size = off + len;
        add(d, ATOM_SIZE, inode, in->cache.size);
    }
    for (size_t done = 0; done < len;) {
        uint64_t at = off + done, sector = at / SECTOR;
        size_t skip = at % SECTOR, n = SECTOR - skip < len - done ? SECTOR - skip : len - done;
        if (at % DISK_PAGE == 0 && len - done >= DISK_PAGE &&
            !page_at(&in->cache, (uint32_t)(at / DISK_PAGE)) &&
            !page_at(&in->disk, (uint32_t)(at / DISK_PAGE)) &&
            !memcmp(p + done, zeros, DISK_PAGE)) {
            done += DISK_PAGE; /* zeros over zeros */
            continue;
        }
        uint8_t now[SECTOR];
        memcpy(now, sector_at(&in->cache, sector), SECTOR);
        memcpy(now + skip, p + done, n);
        set_sector(&in->cache, sector, now, SECTOR);
        if (memcmp(now, sector_at(&in->disk, sector), SECTOR) || is_pending(d, inode, sector))
            memcpy(add(d, ATOM_SECTOR, inode, sector)->data, now, SECTOR);
        done += n;
    }
    d->ops++;
    return (long)len;
}

size_t disk_read(const struct disk *d, uint32_t inode, uint64_t off, void *out, size_t len)
{
    const struct content *c = &d->inode[inode].cache;
    uint8_t *to = out;
    if (off >= c->size)
        return 0;
    if (len > c->size - off)
        len = (size_t)(c->size - off);
    memset(to, 0, len);
    for (uint32_t i = position(c, (uint32_t)(off / DISK_PAGE)); i < c->n; i++) {
        uint64_t begin = (uint64_t)c->e[i].no * DISK_PAGE, end = begin + DISK_PAGE;
        if (begin >= off + len)
            break;
        uint64_t a = begin < off ? off : begin, b = end > off + len ? off + len : end;
        memcpy(to + (a - off), c->e[i].p->b + (a - begin), (size_t)(b - a));
    }
    return len;
}

int disk_resize(struct disk *d, uint32_t inode, uint64_t size)
{
    struct inode *in = &d->inode[inode];
    if (size < in->cache.size)
        content_cut(&in->cache, size);
    if (size != in->cache.size)
        add(d, ATOM_SIZE, inode, size);
    in->cache.size = size;
    d->ops++;
    return 0;
}

int disk_sync(struct disk *d, uint32_t inode)
{
    bool fails = d->fail_sync && --d->fail_sync == 0;
    uint32_t left = 0;
    d->ops++;
    if (fails && d->inode[inode].dir)
        return -EIO;
    for (uint32_t i = 0; i < d->n_atoms; i++) {
        const struct atom *a = &d->atoms[i];
        if (a->inode != inode) {
            if (left != i)
                d->atoms[left] = *a;
            left++;
        } else if (!fails || draw(d) % 2) {
            apply(d, a, SECTOR);
        }
    }
    d->n_atoms = left;
    return fails ? -EIO : 0;
}

long disk_seek(const struct disk *d, uint32_t inode, uint64_t off, bool data)
{
    const struct content *c = &d->inode[inode].cache;
    if (off >= c->size)
        return -ENXIO;
    uint32_t i = position(c, (uint32_t)(off / DISK_PAGE));
    if (data) {
        if (i == c->n)
            return -ENXIO;
        uint64_t begin = (uint64_t)c->e[i].no * DISK_PAGE;
        return (long)(begin > off ? begin : off);
    }
    uint64_t at = off;
    for (; i < c->n && (uint64_t)c->e[i].no * DISK_PAGE <= at; i++)
        at = (uint64_t)(c->e[i].no + 1) * DISK_PAGE;
    return (long)(at < c->size ? at : c->size);
}

void disk_rot(struct disk *d, uint32_t inode, uint64_t off, uint8_t bits)
{
    struct inode *in = &d->inode[inode];
    page_to_write(&in->cache, (uint32_t)(off / DISK_PAGE))[off % DISK_PAGE] ^= bits;
    page_to_write(&in->disk, (uint32_t)(off / DISK_PAGE))[off % DISK_PAGE] ^= bits;
}

void disk_stray(struct disk *d, uint32_t inode, uint64_t off, const void *bytes, size_t n)
{
    struct inode *in = &d->inode[inode];
    co_assert(off % SECTOR == 0 && n % SECTOR == 0 && off % DISK_PAGE + n <= DISK_PAGE);
    memcpy(page_to_write(&in->cache, (uint32_t)(off / DISK_PAGE)) + off % DISK_PAGE, bytes, n);
    memcpy(page_to_write(&in->disk, (uint32_t)(off / DISK_PAGE)) + off % DISK_PAGE, bytes, n);
}
