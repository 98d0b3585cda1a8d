/*
 * disk.h - a simulated file system that knows what a loss of power may leave of it.
 *
 * Every byte exists twice: as the kernel shows it (cache) and as it would be found after the power
 * was gone (disk). What separates the two is a list of atoms in the order they were made: a sector
 * of 512 bytes, a file's size, an entry of a directory that came, went or was renamed. fsync of a
 * file moves its sectors and its size to the disk, fsync of a directory its entries. A loss of
 * power keeps any subset of the rest, in order; one sector may be torn.
 *
 * It is harsher than ext4: nothing but an fsync of the directory makes an entry durable, and a file
 * whose name arrived may have no content.
 *
 * A sync that is made to fail keeps a part of the atoms and forgets the others: the kernel still
 * shows them, and no later sync brings them to the disk. (A directory's entries wait on: they go
 * through a journal, whose failure ends the file system.)
 *
 * The product's storage reaches it through wrap.c. Copies share pages. One thread.
 */
#ifndef CORALLITE_TESTS_CRASH_DISK_H
#define CORALLITE_TESTS_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR    512u
#define DISK_PAGE 4096u
#define NAME_MAX_ 44u
#define INODES    64u

struct page;
struct content {
    struct {
        uint32_t no;
        struct page *p;
    } * e;
    uint32_t n, cap;
    uint64_t size;
};

struct inode {
    bool used, dir;
    struct content cache, disk;
};

enum atom_kind { ATOM_SECTOR, ATOM_SIZE, ATOM_LINK, ATOM_UNLINK, ATOM_RENAME };
struct atom {
    enum atom_kind kind;
    uint32_t inode; /* whose sync makes it durable */
    uint64_t at;    /* sector number, or size */
    uint32_t child;
    char name[NAME_MAX_], to[NAME_MAX_];
    uint8_t data[SECTOR];
};

struct entry {
    uint32_t dir, child;
    char name[NAME_MAX_];
};
struct names {
    struct entry *e;
    uint32_t n, cap;
};

struct disk {
    struct inode inode[INODES];
    uint32_t n_inodes;
    struct names cache, disk;
    struct atom *atoms;
    uint32_t n_atoms, cap_atoms;
    uint64_t ops; /* that changed something, or synced */
    /* faults: the so-manieth sync or write from now on; 0: none */
    uint32_t fail_sync, fail_write;
    uint64_t luck; /* what a failed sync and a short write draw from */
};

/* Inode 0 is the root directory. */
struct disk *disk_new(void);
struct disk *disk_copy(const struct disk *from);
void disk_free(struct disk *d);

/* The power goes: atom i stays if keep[i]; of atom `torn` (or none: UINT32_MAX) only the first
 * `torn_bytes`. */
void disk_power_off(struct disk *d, const bool *keep, uint32_t torn, uint32_t torn_bytes);

/* File system calls; negative: -errno. `path` is absolute. */
int disk_lookup(const struct disk *d, const char *path, uint32_t *dir, const char **name);
int disk_create(struct disk *d, uint32_t dir, const char *name, bool is_dir);
int disk_rename(struct disk *d, const char *from, const char *to);
int disk_unlink(struct disk *d, const char *path, bool is_dir);
long disk_write(struct disk *d, uint32_t inode, uint64_t off, const void *bytes, size_t len);
size_t disk_read(const struct disk *d, uint32_t inode, uint64_t off, void *out, size_t len);
int disk_resize(struct disk *d, uint32_t inode, uint64_t size);
int disk_sync(struct disk *d, uint32_t inode);
/* First byte at or behind off that is not in a hole (data) or is in one; -ENXIO. Zeros are holes.
 */
long disk_seek(const struct disk *d, uint32_t inode, uint64_t off, bool data);
/* Flips bits of the byte on both sides: rot. */
void disk_rot(struct disk *d, uint32_t inode, uint64_t off, uint8_t bits);
/* Puts bytes on both sides, where they were not meant to go: a misdirected write. `off` and `n` are
 * whole sectors of one page. */
void disk_stray(struct disk *d, uint32_t inode, uint64_t off, const void *bytes, size_t n);

/* wrap.c: the disk that the product sees, and what is told after each change. */
extern struct disk *the_disk;
extern void (*disk_changed)(void);
/* All descriptors are gone, as after a kill. How many were open. */
unsigned wrap_forget(void);

#endif
