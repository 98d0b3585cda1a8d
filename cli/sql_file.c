/*
 * sql_file.c - `corallite sql`: the stock sqlite3 shell on a database; `corallite env`: what other
 * programs need to know.
 *
 * The shell is started on :memory: (it would open a file: name before the extension is there),
 * loads the extension, opens the database, and then sees the caller's own arguments. Where .open
 * fails the shell goes on with an empty temporary database, and somebody would type into it; so the
 * server is asked, and the database opened here, before.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "cli/ref.h"
#include "cli/sqlite_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

/* Is the server there, and does it know the database? */
static int ask_server(const struct client_target *target, const char *db, const char *branch,
                      bool *exists)
{
    struct client c;
    Corallite__Open request = CORALLITE__OPEN__INIT;
    Corallite__Opened *m = NULL;
    int rc = client_open(&c, target);
    if (rc)
        return rc;
    request.database = (char *)db;
    request.branch = (char *)branch;
    rc = client_call(&c, FRAME_OPEN, &request.base, FRAME_OPENED, &corallite__opened__descriptor,
                     CLIENT_TIMEOUT_MS, &m);
    client_close(&c);
    if (rc)
        return rc; /* the database is there, and has no such branch: CO_ERR_NOT_FOUND */
    *exists = m->timeline != NULL;
    corallite__opened__free_unpacked(m, NULL);
    return 0;
}

/* A dot-command's argument in double quotes: the shell resolves backslashes there. */
static int load_command(const char *path, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, ".load \"");
    for (; *path && n + 4 < size; path++) {
        if (*path == '"' || *path == '\\')
            out[n++] = '\\';
        out[n++] = *path;
    }
    if (*path)
        return co_fail(CO_ERR_TOO_LARGE, "the path of the extension is too long");
    snprintf(out + n, size - n, "\"");
    return 0;
}

#define SHELL_URI (REF_TEXT + 3 * WHEN_AT_MAX + 40)

static char *shell_uri(const struct ref *r, char out[SHELL_URI])
{
    char at[3 * WHEN_AT_MAX], name[REF_TEXT];
    snprintf(out, SHELL_URI, "file:%s?vfs=corallite%s%s", ref_format(r->db, r->branch, name),
             r->at[0] ? "&at=" : "", text_percent(r->at, at, sizeof at));
    return out;
}

/* Opens it as the shell will, so that what cannot be opened is an exit code and a sentence. */
static int try_open(const struct client_target *target, const struct ref *r)
{
    char uri[SHELL_URI];
    const char *log = getenv("CORALLITE_LOG");
    char *kept = log ? strdup(log) : NULL;
    sqlite3 *db = NULL;
    int rc = sqlite_begin(target);
    if (!rc)
        rc = sqlite_open(shell_uri(r, uri),
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, &db);
    sqlite3_close(db);
    /* The shell is to say why something failed. */
    if (kept ? setenv("CORALLITE_LOG", kept, 1) : unsetenv("CORALLITE_LOG"))
        rc = co_fail_errno(CO_ERR_NOMEM, errno, "the environment cannot be set");
    free(kept);
    return rc;
}

static int run_shell(const struct cli_args *args, const struct ref *r)
{
    char path[PATH_MAX], load[2 * PATH_MAX], uri[SHELL_URI], open[SHELL_URI + 8];
    int rc = process_find("corallite.so", path);
    if (!rc)
        rc = load_command(path, load, sizeof load);
    if (rc)
        return rc;
    snprintf(open, sizeof open, ".open %s", shell_uri(r, uri));
    char **argv = calloc((size_t)args->n_words + 8, sizeof *argv);
    if (!argv)
        return co_fail(CO_ERR_NOMEM, "there is no memory");
    char *const head[] = {(char *)"sqlite3", (char *)"-cmd", load,
                          (char *)"-cmd",    open,           (char *)":memory:"};
    size_t n = sizeof head / sizeof *head;
    memcpy(argv, head, sizeof head);
    for (int i = 1; i < args->n_words; i++)
        argv[n++] = args->words[i];
    execvp(argv[0], argv);
    rc = errno == ENOENT ? co_fail(CO_ERR_NOT_FOUND, "there is no sqlite3 command on the PATH; "
                                                     "`apt-get install -y sqlite3` brings it")
                         : co_fail_errno(CO_ERR_IO, errno, "sqlite3 cannot be started");
    free(argv);
    return rc;
}

int cli_sql(const struct cli_args *args)
{
    static struct client_target target;
    struct ref r;
    const char *reference = args->words[0];
    bool exists = false;
    int rc = ref_parse(reference, co_wall_us(), &r);
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = ask_server(&target, r.db, r.branch, &exists);
    if (!rc && !exists && (r.at[0] || strcmp(r.branch, "main") != 0))
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "there is no database '%s'; `corallite db list` shows those there are", r.db);
    if (!rc && !exists && isatty(STDIN_FILENO))
        fprintf(stderr, "'%s' does not exist yet; the first write makes it.\n", reference);
    if (!rc)
        rc = try_open(&target, &r);
    if (!rc)
        rc = run_shell(args, &r);
    return cli_report(rc);
}

int cli_env(const struct cli_args *args)
{
    static struct client_target target;
    char address[CLIENT_SERVERS_TEXT], path[PATH_MAX], quoted[2 * PATH_MAX];
    int rc = client_target(args, &target);
    if (!rc)
        rc = process_find("corallite.so", path);
    if (rc)
        return cli_report(rc);
    client_servers(&target, address);
    path[strlen(path) - strlen(".so")] = 0; /* SQLite adds it */
    if (cli_has(args, "--json"))
        return cli_report(cli_print_json(
            json_pack("{s:s,s:s}", "CORALLITE_SERVER", address, "CORALLITE_EXTENSION", path)));
    if (!text_shell_quote(path, quoted, sizeof quoted))
        return cli_report(co_fail(CO_ERR_TOO_LARGE, "the path of the extension is too long"));
    printf("export CORALLITE_SERVER=%s\nexport CORALLITE_EXTENSION=%s\n", address, quoted);
    return CLI_DONE;
}
