/*
 * export_file.c - `corallite export`: a moment as an ordinary SQLite file.
 *
 * Written beside its final name under a temporary one, synced, then linked into place, which fails
 * where the name exists: half a file never has the name, and nothing is overwritten.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/moment_sock.h"
#include "cli/sqlite_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

static int refuse_existing(const char *path)
{
    return co_fail(CO_ERR_EXISTS,
                   "%s exists already, and export overwrites nothing: give another name, or remove "
                   "it first",
                   path);
}

/* -- copying -------------------------------------------------------------------------------------
 */

/* Bytes 18 and 19 of a database say WAL (2) or rollback journal (1). Ours say WAL; a file that is
 * given away is one file, readable where nothing may be written. */
static int set_rollback_mode(const char *path)
{
    static const unsigned char one_one[2] = {1, 1};
    int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;
    if (fd < 0 || pwrite(fd, one_one, sizeof one_one, 18) != sizeof one_one)
        rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be written", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int write_pages(const struct ref *r, lsn_t lsn, const char *path, uint64_t *bytes)
{
    char uri[REF_URI];
    sqlite3 *from = NULL, *to = NULL;
    int rc = sqlite_open(ref_uri(r, lsn, uri), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, &from);
    if (!rc)
        rc = sqlite_hold(from, uri);
    if (!rc)
        rc = sqlite_open(path, SQLITE_OPEN_READWRITE, &to);
    /* Nobody else knows this file yet, and it is synced at the end. */
    if (!rc)
        rc = sqlite_exec(to, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", path);
    if (!rc)
        rc = sqlite_copy(from, to, "exporting", bytes);
    sqlite3_close(from);
    sqlite3_close(to);
    return rc ? rc : set_rollback_mode(path);
}

static int make_temporary(const char *directory, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, "%s/.corallite-export-XXXXXX", directory) >= PATH_MAX)
        return co_fail(CO_ERR_TOO_LARGE, "the path %s is too long", directory);
    int fd = mkstemp(path);
    if (fd < 0)
        return co_fail_errno(CO_ERR_IO, errno, "no file can be made in %s", directory);
    close(fd);
    return 0;
}

/* -- to a file -----------------------------------------------------------------------------------
 */

static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC), rc = 0;
    if (fd < 0 || fsync(fd) != 0)
        rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be synced", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* link() refuses an existing name; a filesystem without hard links is asked first, then renamed. */
static int put_in_place(const char *temporary, const char *path)
{
    mode_t mask = umask(0);
    umask(mask);
    if (chmod(temporary, 0666 & ~mask) != 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be given its mode", temporary);
    if (link(temporary, path) == 0)
        return unlink(temporary) == 0
                   ? 0
                   : co_fail_errno(CO_ERR_IO, errno, "%s cannot be removed", temporary);
    if (errno == EEXIST || access(path, F_OK) == 0)
        return refuse_existing(path);
    if (rename(temporary, path) != 0)
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be given its name", path);
    return 0;
}

static int to_file(const struct ref *r, lsn_t lsn, const char *path, uint64_t *bytes)
{
    char copy[PATH_MAX], temporary[PATH_MAX];
    struct stat st;
    if (lstat(path, &st) == 0)
        return refuse_existing(path);
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return co_fail(CO_ERR_TOO_LARGE, "the path is too long");
    const char *directory = dirname(copy);
    int rc = make_temporary(directory, temporary);
    if (rc)
        return rc;
    rc = write_pages(r, lsn, temporary, bytes);
    if (!rc)
        rc = sync_path(temporary, O_RDWR);
    if (!rc)
        rc = put_in_place(temporary, path);
    if (rc)
        unlink(temporary);
    return rc ? rc : sync_path(directory, O_RDONLY | O_DIRECTORY);
}

/* -- to standard output --------------------------------------------------------------------------
 */

static int pour(int fd)
{
    char buffer[65536];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0)
            return 0;
        if (n < 0)
            return co_fail_errno(CO_ERR_IO, errno, "the temporary file cannot be read");
        if (fwrite(buffer, 1, (size_t)n, stdout) != (size_t)n)
            return co_fail_errno(CO_ERR_IO, errno, "standard output cannot be written");
    }
}

/* SQLite writes a file and not a stream, so it goes through one in $TMPDIR. */
static int to_stdout(const struct ref *r, lsn_t lsn, uint64_t *bytes)
{
    char temporary[PATH_MAX];
    const char *directory = getenv("TMPDIR");
    if (isatty(STDOUT_FILENO))
        return co_fail(CO_ERR_INVAL, "a database is nothing for a terminal: send it to a file or a "
                                     "program, or name one with -o FILE");
    int rc = make_temporary(directory && directory[0] ? directory : "/tmp", temporary);
    if (rc)
        return rc;
    rc = write_pages(r, lsn, temporary, bytes);
    int fd = rc ? -1 : open(temporary, O_RDONLY | O_CLOEXEC);
    if (!rc && fd < 0)
        rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be read", temporary);
    unlink(temporary);
    if (!rc)
        rc = pour(fd);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* -- the verb ------------------------------------------------------------------------------------
 */

static int print_exported(const struct cli_args *args, const struct ref *r,
                          const Corallite__Resolved *m, const char *path, uint64_t bytes)
{
    char name[REF_TEXT], time[WHEN_TEXT], lsn[LSN_TEXT], size[TEXT_MAX];
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack("{s:s,s:s,s:s,s:o,s:o,s:I}", "database", r->db, "branch",
                                        r->branch, "file", path, "lsn", answer_lsn(m->lsn), "time",
                                        answer_moment(m->time_us), "bytes", (json_int_t)bytes));
    printf("exported %s at %s (lsn %s) to %s: %s\n", ref_format(r->db, r->branch, name),
           answer_time(m->time_us, time), lsn_format(m->lsn, lsn), path, text_bytes(bytes, size));
    return 0;
}

int cli_export(const struct cli_args *args)
{
    static struct client_target target;
    struct ref r;
    const char *path = cli_value(args, "--output");
    Corallite__Resolved *m = NULL;
    uint64_t bytes = 0;
    int rc = ref_parse(args->words[0], co_wall_us(), &r);
    if (!rc && (!path || !path[0]))
        rc = co_fail(CO_ERR_INVAL,
                     "to where? corallite export %s -o FILE, or -o - for standard "
                     "output",
                     args->words[0]);
    bool stream = !rc && strcmp(path, "-") == 0;
    if (stream && cli_has(args, "--json"))
        rc = co_fail(CO_ERR_INVAL, "-o - and --json both want standard output; give one of them");
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = moment_resolve(args, &r, &m);
    if (!rc && m->lsn == 0)
        rc = co_fail(CO_ERR_NOT_FOUND, "%s holds nothing at that moment: there is no transaction",
                     args->words[0]);
    if (!rc)
        rc = sqlite_begin(&target);
    if (!rc) {
        sqlite_catch_signals();
        rc = stream ? to_stdout(&r, m->lsn, &bytes) : to_file(&r, m->lsn, path, &bytes);
    }
    if (!rc && !stream)
        rc = print_exported(args, &r, m, path, bytes);
    if (m)
        corallite__resolved__free_unpacked(m, NULL);
    return cli_report(rc);
}
