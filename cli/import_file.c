/*
 * import_file.c - `corallite import FILE DB`, `db create NAME --from-file F` and `--from REF`: a
 * database made of another one.
 *
 * A file: the name is claimed (who else has it is told so), and its one branch is called
 * "importing" until all pages are there, in as many commits as it takes; then that branch becomes
 * main, in one step. Until then whoever opens the database sees it empty and cannot write. A
 * signal, or a failure before the first page, drops the name; after any other end the same command
 * goes on where it was. Another database: in one transaction of main.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/import_file.h"
#include "cli/import_pages_file.h"
#include "cli/moment_sock.h"
#include "cli/sqlite_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

/* -- the source ----------------------------------------------------------------------------------
 */

#define MAGIC "SQLite format 3"

static int look_at(const char *path)
{
    char head[16] = "";
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = co_fail_errno(errno == ENOENT ? CO_ERR_NOT_FOUND : CO_ERR_IO, errno,
                               "%s cannot be read", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    ssize_t n = S_ISREG(st.st_mode) ? pread(fd, head, sizeof head, 0) : 0;
    close(fd);
    if (!S_ISREG(st.st_mode))
        return co_fail(CO_ERR_INVAL, "%s is no regular file", path);
    if (n == 0)
        return co_fail(CO_ERR_CORRUPT,
                       "%s is empty; `corallite db create NAME` makes an empty database", path);
    if (n != sizeof head || memcmp(head, MAGIC, sizeof head) != 0)
        return co_fail(CO_ERR_CORRUPT,
                       "%s is not an SQLite database, or it is encrypted: it does not begin with "
                       "\"%s\"",
                       path, MAGIC);
    return 0;
}

static int damaged(const char *path, const char *what)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s is damaged (%s): `sqlite3 %s .recover` saves what can be saved", path, what,
                   path);
}

/* The states of a file that have a remedy. */
static int explain(sqlite3 *db, const char *path, int rc)
{
    int code = db ? sqlite3_extended_errcode(db) : 0;
    if (code == SQLITE_READONLY_ROLLBACK)
        return co_fail(
            CO_ERR_BUSY,
            "%s has a hot journal (%s-journal): the program that wrote it ended within a "
            "transaction. `sqlite3 %s 'SELECT 1 FROM sqlite_schema'` rolls it back; then "
            "import",
            path, path, path);
    if (code == SQLITE_READONLY_RECOVERY || code == SQLITE_READONLY_CANTINIT)
        return co_fail(
            CO_ERR_BUSY,
            "%s has a WAL that must be recovered, and may not be written here: import it "
            "as a user who may write it",
            path);
    if ((code & 0xff) == SQLITE_BUSY)
        return co_fail(CO_ERR_BUSY, "%s is locked by another program, for longer than 10 s", path);
    if ((code & 0xff) == SQLITE_NOTADB)
        return co_fail(CO_ERR_CORRUPT, "%s is not an SQLite database, or it is encrypted", path);
    if ((code & 0xff) == SQLITE_CORRUPT)
        return damaged(path, sqlite3_errmsg(db));
    return rc;
}

static int check_line(sqlite3 *db, const char *path)
{
    sqlite3_stmt *s = NULL;
    struct progress bar;
    int rc = 0;
    progress_begin(&bar, "checking the file");
    sqlite_watch(db, &bar);
    bool good = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL) == SQLITE_OK &&
                sqlite3_step(s) == SQLITE_ROW;
    sqlite_watch(db, NULL);
    progress_end(&bar);
    if (sqlite_interrupted()) {
        rc = co_fail(CO_ERR_CANCELED, "the import was interrupted; nothing was made");
    } else if (!good) {
        rc = explain(db, path, sqlite_failed(db, path));
    } else {
        /* "*** in database main ***", a line end, what is wrong. */
        const char *text = (const char *)sqlite3_column_text(s, 0);
        const char *end = text ? strrchr(text, '\n') : NULL;
        if (!text || strcmp(text, "ok") != 0)
            rc = damaged(path, end ? end + 1 : (text ? text : "?"));
    }
    sqlite3_finalize(s);
    return rc;
}

static int open_file(const char *path, sqlite3 **out)
{
    int rc = look_at(path);
    if (!rc)
        rc = sqlite_open(path, SQLITE_OPEN_READONLY, out);
    if (rc)
        return rc;
    rc = sqlite_hold(*out, path);
    if (rc)
        return explain(*out, path, rc);
    return check_line(*out, path);
}

static int open_ref(const struct cli_args *args, const struct ref *r, sqlite3 **out)
{
    char uri[REF_URI];
    Corallite__Resolved *m = NULL;
    int rc = moment_resolve(args, r, &m);
    if (rc)
        return rc;
    if (m->lsn == 0)
        rc = co_fail(CO_ERR_NOT_FOUND, "%s holds nothing at that moment", r->db);
    if (!rc)
        rc = sqlite_open(ref_uri(r, m->lsn, uri), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, out);
    if (!rc)
        rc = sqlite_hold(*out, uri);
    corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

/* -- the name ------------------------------------------------------------------------------------
 */

static int claim(const struct cli_args *args, const char *name, bool *mine)
{
    struct co_id id = co_id_random();
    Corallite__Create q = CORALLITE__CREATE__INIT;
    Corallite__Opened *m = NULL;
    q.database = (char *)name;
    q.has_database_id = 1;
    q.database_id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    int rc =
        client_ask(args, FRAME_CREATE, &q.base, FRAME_OPENED, &corallite__opened__descriptor, &m);
    if (rc)
        return rc;
    if (!m->timeline)
        rc = co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it created");
    else
        *mine = m->timeline->database.len == sizeof id.b &&
                memcmp(m->timeline->database.data, id.b, sizeof id.b) == 0;
    corallite__opened__free_unpacked(m, NULL);
    return rc;
}

static int refuse_taken(const char *name)
{
    return co_fail(CO_ERR_EXISTS,
                   "a database '%s' exists already; import makes a new one: give another name, or "
                   "`corallite db drop %s` first",
                   name, name);
}

/* Of a name that is not ours: had it ever a commit? */
static int check_unused(const struct cli_args *args, const char *name)
{
    struct ref r = {.branch = "main"};
    Corallite__Resolved *m = NULL;
    snprintf(r.db, sizeof r.db, "%s", name);
    int rc = moment_resolve(args, &r, &m);
    if (rc)
        return rc;
    if (m->lsn != 0)
        rc = refuse_taken(name);
    corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

static void give_up(const struct cli_args *args, const char *name)
{
    Corallite__Drop q = CORALLITE__DROP__INIT;
    char sentence[CO_SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    q.database = (char *)name;
    if (client_ask(args, FRAME_DROP, &q.base, FRAME_DROPPED, NULL, NULL) != 0)
        fprintf(stderr, "corallite: the empty database '%s' stays behind: %s\n", name,
                co_sentence());
    (void)co_fail(CO_ERR_IO, "%s", sentence);
}

/* -- both ----------------------------------------------------------------------------------------
 */

static int copy_into(sqlite3 *from, const char *name, uint64_t *bytes)
{
    char uri[REF_URI];
    int64_t page_size = 0;
    sqlite3 *to = NULL;
    int rc = sqlite_number(from, "PRAGMA page_size", name, &page_size);
    if (rc)
        return rc;
    snprintf(uri, sizeof uri, "file:%s?vfs=corallite&page_size=%d", name, (int)page_size);
    rc = sqlite_open(uri, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, &to);
    if (!rc)
        rc = sqlite_copy(from, to, "importing", bytes);
    sqlite3_close(to);
    if (rc == CO_ERR_FULL)
        return co_fail(
            rc,
            "the content of %s did not fit: a transaction may have 4 GiB of pages (a larger "
            "file is brought over in parts, by SQL), and takes as much room in $TMPDIR, "
            "else /var/tmp, while it is on its way",
            name);
    return rc;
}

/* -- a file: a branch of another name until it is whole ------------------------------------------
 */

#define UNDER_WAY "importing"

static int rename_branch(const struct cli_args *args, const char *name, const char *old,
                         const char *new)
{
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    Corallite__Branched *m = NULL;
    q.database = (char *)name;
    q.branch = (char *)old;
    q.rename_to = (char *)new;
    int rc = client_ask(args, FRAME_BRANCH_CHANGE, &q.base, FRAME_BRANCHED,
                        &corallite__branched__descriptor, &m);
    if (!rc)
        corallite__branched__free_unpacked(m, NULL);
    return rc;
}

/* Is there an import that was cut off? */
static bool was_begun(const struct cli_args *args, const char *name)
{
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    q.database = (char *)name;
    if (client_ask(args, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                   &corallite__branch_listed__descriptor, &m) != 0)
        return false;
    bool found = m->n_branches == 1 && m->branches[0]->timeline &&
                 m->branches[0]->timeline->branch &&
                 strcmp(m->branches[0]->timeline->branch, UNDER_WAY) == 0;
    corallite__branch_listed__free_unpacked(m, NULL);
    return found;
}

static int claim_hidden(const struct cli_args *args, const char *name, bool *mine)
{
    if (was_begun(args, name))
        return 0;
    int rc = claim(args, name, mine);
    if (!rc && !*mine)
        rc = check_unused(args, name);
    if (rc)
        return rc;
    rc = rename_branch(args, name, "main", UNDER_WAY);
    if (rc && *mine)
        give_up(args, name);
    return rc;
}

static int stays(int rc, const char *name)
{
    char why[CO_SENTENCE_MAX];
    snprintf(why, sizeof why, "%s", co_sentence());
    return co_fail(rc,
                   "%.700s; what was imported stays as %s/" UNDER_WAY ": the same command goes "
                   "on from there, `corallite db drop %s` takes it away",
                   why, name, name);
}

static int fill_from_file(const struct cli_args *args, sqlite3 *from, const char *path,
                          const char *name, struct import_pages *done)
{
    char uri[REF_URI];
    bool mine = false;
    int64_t page_size = 0;
    int rc = sqlite_number(from, "PRAGMA page_size", path, &page_size);
    if (!rc)
        rc = claim_hidden(args, name, &mine);
    if (rc)
        return rc;
    snprintf(uri, sizeof uri, "file:%s/" UNDER_WAY "?vfs=corallite&create=0&page_size=%d", name,
             (int)page_size);
    rc = import_pages(from, path, uri, done);
    if (rc == CO_ERR_CANCELED)
        give_up(args, name);
    else if (!rc)
        rc = rename_branch(args, name, UNDER_WAY, "main");
    if (rc && rc != CO_ERR_CANCELED)
        rc = stays(rc, name);
    return rc;
}

static int print_imported(const struct cli_args *args, const char *name, const char *source,
                          uint64_t bytes)
{
    char size[TEXT_MAX];
    if (cli_has(args, "--json"))
        return cli_print_json(
            json_pack("{s:s,s:s,s:I}", "name", name, "source", source, "bytes", (json_int_t)bytes));
    printf("imported %s as %s: %s\nopen it:  corallite sql %s\n", source, name,
           text_bytes(bytes, size), name);
    return 0;
}

/* `from` is open and held; the name is claimed, filled, or given back. */
static int fill(const struct cli_args *args, sqlite3 *from, const char *source, const char *name)
{
    bool mine = false;
    uint64_t bytes = 0;
    int rc = claim(args, name, &mine);
    if (!rc && !mine)
        rc = check_unused(args, name);
    if (rc)
        return rc;
    rc = copy_into(from, name, &bytes);
    if (rc && mine)
        give_up(args, name);
    return rc ? rc : print_imported(args, name, source, bytes);
}

static int fill_and_print(const struct cli_args *args, sqlite3 *from, const char *path,
                          const char *name)
{
    struct import_pages done;
    char size[TEXT_MAX];
    int rc = fill_from_file(args, from, path, name, &done);
    if (!rc && done.kept && !cli_has(args, "--json"))
        printf("%s of it were there already\n", text_bytes(done.kept, size));
    return rc ? rc : print_imported(args, name, path, done.bytes);
}

int import_database(const struct cli_args *args, const char *file, const char *reference,
                    const char *name)
{
    static struct client_target target;
    struct ref r;
    sqlite3 *from = NULL;
    int rc = name_check(name);
    if (!rc && reference)
        rc = ref_parse(reference, co_wall_us(), &r);
    if (!rc && file)
        rc = look_at(file);
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = sqlite_begin(&target);
    if (rc)
        return rc;
    sqlite_catch_signals();
    rc = file ? open_file(file, &from) : open_ref(args, &r, &from);
    if (!rc)
        rc = file ? fill_and_print(args, from, file, name) : fill(args, from, reference, name);
    sqlite3_close(from);
    return rc;
}

int cli_import(const struct cli_args *args)
{
    return cli_report(import_database(args, args->words[0], NULL, args->words[1]));
}
