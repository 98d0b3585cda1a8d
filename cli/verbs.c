/* verbs.c - the table of verbs: what each takes, does and says of itself. --help, the man page and
 * the parser all come from here. */
#include "cli/cli.h"

#include <string.h>

#define DIR_OPTION                                                                                 \
    {                                                                                              \
        "--dir", 'd', "D",                                                                         \
            "the cluster's directory ($CORALLITE_DIR, else ~/.local/share/corallite)"              \
    }
#define SERVER_OPTION                                                                              \
    {                                                                                              \
        "--server", 's', "HOST:PORT",                                                              \
            "the pageserver ($CORALLITE_SERVER, else the local cluster's)"                         \
    }
#define JSON_OPTION                                                                                \
    {                                                                                              \
        "--json", 0, NULL, "print JSON"                                                            \
    }
#define YES_OPTION                                                                                 \
    {                                                                                              \
        "--yes", 'y', NULL, "do not ask"                                                           \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL, NULL                                                                        \
    }

static const struct cli_option up_options[] = {
    DIR_OPTION,
    {"--port-base", 'p', "P", "first of the 16 ports it uses (6400), or auto: a free range"},
    {"--take-over", 0, NULL, "the pageserver's disk is lost: fill a new one from the safekeepers"},
    {"--foreground", 'f', NULL, "stay; Ctrl-C stops the cluster"},
    JSON_OPTION,
    END};
static const struct cli_option down_options[] = {
    DIR_OPTION, {"--purge", 0, NULL, "remove the cluster with every database"}, YES_OPTION, END};
static const struct cli_option target_options[] = {SERVER_OPTION, DIR_OPTION, JSON_OPTION, END};
static const struct cli_option drop_options[] = {SERVER_OPTION, DIR_OPTION, YES_OPTION, JSON_OPTION,
                                                 END};
static const struct cli_option plain_options[] = {SERVER_OPTION, DIR_OPTION, END};
static const struct cli_option logs_options[] = {
    DIR_OPTION,
    {"--follow", 'f', NULL, "go on with what is written from now on"},
    {"--lines", 'n', "N", "how many lines of each to begin with (20)"},
    END};
static const struct cli_option help_options[] = {{"--man", 0, NULL, "print the manual page"}, END};
static const struct cli_option version_options[] = {JSON_OPTION, END};
static const struct cli_option env_options[] = {SERVER_OPTION, DIR_OPTION, JSON_OPTION, END};

const struct cli_verb cli_verbs[] = {
    {.name = "up",
     .synopsis = "[--dir D] [--port-base P|auto] [--take-over] [--foreground] [--json]",
     .summary = "start a local cluster: three safekeepers and a pageserver",
     .details = "Makes the cluster at the first call; what runs already is left alone. The daemons "
                "are processes of their own and go on when this command has ended.",
     .examples = "corallite up\n"
                 "corallite up --dir /srv/corallite --port-base 7400\n",
     .options = up_options,
     .run = cli_up},
    {.name = "down",
     .synopsis = "[--dir D] [--purge [--yes]]",
     .summary = "stop the local cluster",
     .details = "The data stays, and `corallite up` goes on with it; --purge removes it.",
     .examples = "corallite down\n"
                 "corallite down --dir /srv/corallite --purge --yes\n",
     .options = down_options,
     .run = cli_down},
    {.name = "status",
     .synopsis = "[DB[/BRANCH]] [--server HOST:PORT | --dir D] [--json]",
     .summary = "daemons, databases, log positions, lag and bytes",
     .details = "Ends with 0 when every daemon answers, with 1 when one does not.",
     .examples = "corallite status\n"
                 "corallite status shop --json\n",
     .options = target_options,
     .max_words = 1,
     .run = cli_status},
    {.name = "db create",
     .synopsis = "NAME [--server HOST:PORT | --dir D] [--json]",
     .summary = "create an empty database",
     .details = "Not needed before a first write, which creates the database as well.",
     .examples = "corallite db create shop\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .run = cli_db_create},
    {.name = "db list",
     .synopsis = "[--server HOST:PORT | --dir D] [--json]",
     .summary = "list the databases",
     .details = "",
     .examples = "corallite db list\n"
                 "corallite db list --json\n",
     .options = target_options,
     .run = cli_db_list},
    {.name = "db drop",
     .synopsis = "NAME [--yes] [--server HOST:PORT | --dir D] [--json]",
     .summary = "drop a database with all its history",
     .details = "Asks at a terminal; elsewhere it needs --yes.",
     .examples = "corallite db drop shop --yes\n",
     .options = drop_options,
     .min_words = 1,
     .max_words = 1,
     .run = cli_db_drop},
    {.name = "sql",
     .synopsis = "[--server HOST:PORT | --dir D] DB[/BRANCH] [sqlite3 arguments]",
     .summary = "the stock sqlite3 shell on a database",
     .details = "Everything after the name is passed on to sqlite3.",
     .examples = "corallite sql shop\n"
                 "corallite sql shop 'SELECT count(*) FROM item'\n"
                 "corallite sql shop -json <report.sql\n",
     .options = plain_options,
     .min_words = 1,
     .max_words = -1,
     .passes_on = true,
     .run = cli_sql},
    {.name = "env",
     .synopsis = "[--server HOST:PORT | --dir D] [--json]",
     .summary = "print what other programs need, as export lines",
     .details = "CORALLITE_SERVER is the pageserver's address, CORALLITE_EXTENSION the loadable "
                "extension.",
     .examples = "eval \"$(corallite env)\"\n"
                 "sqlite3 -cmd \".load $CORALLITE_EXTENSION\" -cmd '.open "
                 "file:shop?vfs=corallite'\n",
     .options = env_options,
     .run = cli_env},
    {.name = "logs",
     .synopsis = "[NAME] [--follow] [--lines N] [--dir D]",
     .summary = "what the daemons of the local cluster said",
     .details = "NAME is safekeeper-1, safekeeper-2, safekeeper-3 or pageserver; without it, all.",
     .examples = "corallite logs pageserver -f\n",
     .options = logs_options,
     .max_words = 1,
     .run = cli_logs},
    {.name = "version",
     .synopsis = "[--json]",
     .summary = "print the version",
     .details = "",
     .examples = "corallite version\n",
     .options = version_options,
     .run = cli_version},
    {.name = "help",
     .synopsis = "[VERB] [--man]",
     .summary = "this text, or a verb's",
     .details = "",
     .examples = "corallite help db create\n",
     .options = help_options,
     .max_words = 2,
     .run = cli_help},
};
const size_t cli_n_verbs = sizeof cli_verbs / sizeof *cli_verbs;

const struct cli_verb *cli_find_verb(int argc, char *const argv[], int *used)
{
    for (size_t i = 0; i < cli_n_verbs; i++) {
        const char *name = cli_verbs[i].name, *space = strchr(name, ' ');
        size_t first = space ? (size_t)(space - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], name, first) != 0)
            continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
            continue;
        *used = space ? 2 : 1;
        return &cli_verbs[i];
    }
    return NULL;
}

/* Second words of the verbs that begin with `first` ("db"); their number. */
static size_t second_words(const char *first, const char *out[], size_t cap)
{
    size_t n = 0, len = strlen(first);
    for (size_t i = 0; i < cli_n_verbs && n < cap; i++)
        if (strncmp(cli_verbs[i].name, first, len) == 0 && cli_verbs[i].name[len] == ' ')
            out[n++] = cli_verbs[i].name + len + 1;
    return n;
}

int cli_unknown_verb(int argc, char *const argv[])
{
    const char *words[16] = {0};
    size_t n = argc >= 1 ? second_words(argv[0], words, 16) : 0;
    if (n > 0) {
        const char *near = argc >= 2 ? cli_nearest(argv[1], words, n) : NULL;
        if (near)
            return co_fail(CO_ERR_INVAL,
                           "'corallite %s' has no '%s'; did you mean 'corallite %s %s'?", argv[0],
                           argv[1], argv[0], near);
        return co_fail(CO_ERR_INVAL, "'corallite %s' is followed by one of: %s %s %s", argv[0],
                       words[0], n > 1 ? words[1] : "", n > 2 ? words[2] : "");
    }
    n = 0;
    for (size_t i = 0; i < cli_n_verbs && n < 15; i++)
        words[n++] = cli_verbs[i].name;
    words[n++] = "db";
    const char *near = argc >= 1 ? cli_nearest(argv[0], words, n) : NULL;
    if (near)
        return co_fail(CO_ERR_INVAL, "there is no verb '%.60s'; did you mean 'corallite %s'?",
                       argv[0], near);
    return co_fail(CO_ERR_INVAL, "there is no verb '%.60s'; `corallite help` names them",
                   argc >= 1 ? argv[0] : "");
}
