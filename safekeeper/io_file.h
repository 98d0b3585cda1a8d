/*
 * io_file.h - the few file operations that the safekeeper's storage is made of. Each either does
 * the whole of what it was asked for or fails with a sentence that names the file.
 *
 * A write or sync that failed is never tried again: after a failed fsync the kernel may hold pages
 * that look clean and are not on the disk. The caller gives the service up.
 *
 * Threads: any, one user a file.
 */
#ifndef CORALLITE_SAFEKEEPER_IO_FILE_H
#define CORALLITE_SAFEKEEPER_IO_FILE_H

#include <stdbool.h>

#include "common/bytes.h"

#define SK_PATH_MAX 4096

/* Joins into path[SK_PATH_MAX]; CO_ERR_INVAL when it does not fit. */
CO_MUST_CHECK int sk_io_path(char path[SK_PATH_MAX], const char *format, ...) CO_PRINTF(2, 3);

/* open(2) with close-on-exec, mode 0600. CO_ERR_NOT_FOUND when absent, CO_ERR_EXISTS with O_EXCL.
 */
CO_MUST_CHECK int sk_io_open(const char *path, int flags, int *out_fd);

/* All of it or an error; a file that ends before is CO_ERR_CORRUPT. */
CO_MUST_CHECK int sk_io_pread(int fd, void *out, size_t len, uint64_t offset, const char *path);
CO_MUST_CHECK int sk_io_pwrite(int fd, struct co_span bytes, uint64_t offset, const char *path);
CO_MUST_CHECK int sk_io_zero(int fd, uint64_t offset, uint64_t len, const char *path);

CO_MUST_CHECK int sk_io_sync(int fd, const char *path); /* fdatasync */
CO_MUST_CHECK int sk_io_sync_dir(const char *dir);

/* Makes a directory (0700); an existing one is fine. The parent is not synced. */
CO_MUST_CHECK int sk_io_mkdir(const char *dir);
bool sk_io_exists(const char *path);
/* Removes a directory of files and directories of files (two levels). */
CO_MUST_CHECK int sk_io_remove_tree(const char *dir);

/* Reads a whole file of at most max bytes. CO_ERR_NOT_FOUND when absent. */
CO_MUST_CHECK int sk_io_read_all(const char *path, uint64_t max, struct co_buf *out);
/* Replaces dir/name by these bytes, whole or not at all: temporary file, fsync, rename, fsync of
 * the directory. */
CO_MUST_CHECK int sk_io_replace(const char *dir, const char *name, struct co_span bytes);

#endif
