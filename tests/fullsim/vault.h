/* vault.h - the directory of the archive: its medium, and the calls of the C library that reach it
 * (disk.c sends them here). */
#ifndef CORALLITE_TESTS_FULLSIM_VAULT_H
#define CORALLITE_TESTS_FULLSIM_VAULT_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct proc;

/* ---- the medium --------------------------------------------------------------------------------
 */
void vault_trouble(uint64_t us); /* hangs, slow, full, gone: for so long; or one sync fails */
void vault_power_lost(void);
/* Whichever pageserver comes next dies within some calls, and the medium loses its power, too. */
void vault_kill_soon(bool power);
bool vault_failed_since(uint64_t us); /* or was slow */
void vault_heal(void);
bool vault_is_written_by(const struct proc *p); /* it has a file open that is not whole */

/* Calls fn with each object right below dir: the name as archive/names.h has it, the bytes.
 * Durable: as it would be if the power went now and nothing was kept that is not synced. */
typedef void vault_fn(void *arg, const char *name, const uint8_t *bytes, size_t len);
void vault_each(const char *dir, bool durable, vault_fn *fn, void *arg);

/* ---- calls: 0 or more, or -1 and errno ---------------------------------------------------------
 */
bool vault_path(const char *path);
bool vault_fd(int fd);
/* `dir`: a descriptor of a directory there, or none and an absolute path. */
int vault_open(int dir, const char *path, int flags);
int vault_close(int fd);
ssize_t vault_pread(int fd, void *out, size_t len, off_t at);
ssize_t vault_write(int fd, const void *data, size_t len);
int vault_fsync(int fd);
int vault_fstat(int fd, struct stat *out);
int vault_fstatat(int dir, const char *path, struct stat *out);
int vault_mkdirat(int dir, const char *path);
int vault_linkat(int from_dir, const char *from, int to_dir, const char *to);
int vault_unlinkat(int dir, const char *path);
bool vault_list(int fd, uint32_t *next, struct dirent *out); /* false: there is no more */

#endif
