/*
 * exec_file.c - `corallite exec`: any program, with the VFS preloaded into its SQLite and plain
 * paths standing for databases; `corallite db name`: for which one. The rule is
 * proto/plain_path.h's.
 *
 * A program that got no database would go on with an empty one, or tell something of its own; so
 * what can be wrong here is looked at before it is started.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "cli/text.h"
#include "common/clock_file.h"
#include "proto/name.h"
#include "proto/plain_path.h"
#include "proto/when.h"

static int set(const char *name, const char *value)
{
    if (value && setenv(name, value, 1) != 0)
        return co_fail_errno(CO_ERR_NOMEM, errno, "the environment cannot be set");
    return 0;
}

/* In front of what is preloaded already: the loader takes spaces and colons for separators. */
static int preload(void)
{
    char path[PATH_MAX], *all;
    const char *others = getenv("LD_PRELOAD");
    int rc = process_find("corallite.so", path);
    if (!rc && path[strcspn(path, ": ")])
        rc = co_fail(CO_ERR_INVAL,
                     "the extension's path %s has a space or a colon in it, and LD_PRELOAD cannot "
                     "name it; move it elsewhere",
                     path);
    if (rc)
        return rc;
    bool more = others && *others;
    size_t size = strlen(path) + (more ? strlen(others) : 0) + 2;
    all = malloc(size);
    if (!all)
        return co_fail(CO_ERR_NOMEM, "there is no memory");
    snprintf(all, size, "%s%s%s", path, more ? ":" : "", more ? others : "");
    rc = set("LD_PRELOAD", all);
    free(all);
    return rc;
}

/* The server must answer now: the program could only say "unable to open database file". */
static int set_server(const struct cli_args *args)
{
    static struct client_target target;
    struct client c;
    char address[CLIENT_SERVERS_TEXT];
    int rc = client_target(args, &target);
    if (!rc)
        rc = client_open(&c, &target);
    if (rc)
        return rc;
    client_close(&c);
    client_servers(&target, address);
    return set("CORALLITE_SERVER", address);
}

static int check_options(const struct cli_args *args)
{
    const char *globs = cli_value(args, "--default"), *branch = cli_value(args, "--branch"),
               *at = cli_value(args, "--at");
    struct when when;
    int rc = 0;
    if (globs)
        rc = plain_path_check(globs);
    else if (branch || at)
        rc =
            co_fail(CO_ERR_INVAL, "--branch and --at say where plain paths lead; which paths those "
                                  "are is for --default, such as --default '*.db'");
    if (!rc && branch)
        rc = name_check(branch);
    if (!rc && at)
        rc = when_parse(at, co_wall_us(), &when);
    return rc;
}

int cli_exec(const struct cli_args *args)
{
    int rc = check_options(args);
    if (!rc)
        rc = set_server(args);
    if (!rc)
        rc = preload();
    if (!rc)
        rc = set("CORALLITE_DEFAULT", cli_value(args, "--default"));
    if (!rc)
        rc = set("CORALLITE_BRANCH", cli_value(args, "--branch"));
    if (!rc)
        rc = set("CORALLITE_AT", cli_value(args, "--at"));
    if (rc)
        return cli_report(rc);
    char **argv = calloc((size_t)args->n_words + 1, sizeof *argv);
    if (!argv)
        return cli_report(co_fail(CO_ERR_NOMEM, "there is no memory"));
    memcpy(argv, args->words, (size_t)args->n_words * sizeof *argv);
    execvp(argv[0], argv);
    rc = co_fail_errno(CO_ERR_NOT_FOUND, errno, "%s cannot be started", argv[0]);
    free(argv);
    return cli_report(rc);
}

int cli_db_name(const struct cli_args *args)
{
    char path[PATH_MAX], name[CO_NAME_MAX_BYTES + 1];
    sqlite3_vfs *vfs = sqlite3_initialize() == SQLITE_OK ? sqlite3_vfs_find(NULL) : NULL;
    /* As SQLite itself makes a path absolute: symbolic links are followed. */
    if (!vfs || (vfs->xFullPathname(vfs, args->words[0], sizeof path, path) & 0xff) != SQLITE_OK)
        return cli_report(co_fail(CO_ERR_INVAL, "%.200s is no path that SQLite can make absolute",
                                  args->words[0]));
    plain_path_database(path, name);
    if (cli_has(args, "--json"))
        return cli_report(cli_print_json(json_pack("{s:s,s:s}", "path", path, "database", name)));
    puts(name);
    return CLI_DONE;
}
