/* verbs.c - the table of verbs: what each takes, does and says of itself. --help, the man page and
 * the parser all come from here. */
#include "cli/cli.h"

#include <stddef.h>

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
    {"--pageservers", 0, "N", "1 or 2: a second one follows the first, and serves every read"},
    {"--take-over", 0, NULL, "the pageserver's disk is lost: fill a new one from the safekeepers"},
    {"--archive", 0, "URL",
     "keep the log outside the cluster too: dir:/path, s3://bucket/prefix; remembered; none: no "
     "longer"},
    {"--keep-log", 0, "SIZE",
     "with an archive: so much of each log stays at a safekeeper (256M), at least 1M; all; "
     "remembered"},
    {"--from-archive", 0, "URL", "everything is lost: a new cluster of what that archive has"},
    {"--cluster", 0, "ID", "with --from-archive: which, where it has several"},
    {"--foreground", 'f', NULL, "stay; Ctrl-C stops the cluster"},
    JSON_OPTION,
    END};
static const struct cli_option archive_options[] = {
    {"--cluster", 0, "ID", "which, where the archive has several"},
    {"--quick", 0, NULL, "only what the newest manifest says"},
    JSON_OPTION,
    END};
static const struct cli_option prune_options[] = {
    {"--dry-run", 'n', NULL, "only say what would go"},
    YES_OPTION,
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option down_options[] = {
    DIR_OPTION,
    {"--purge", 0, NULL, "remove the cluster with every database"},
    YES_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option local_options[] = {DIR_OPTION, JSON_OPTION, END};
static const struct cli_option target_options[] = {SERVER_OPTION, DIR_OPTION, JSON_OPTION, END};
static const struct cli_option check_options[] = {
    {"--deep", 0, NULL, "look through everything that the pageserver's store holds as well"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option repair_options[] = {
    {"--dry-run", 'n', NULL, "only say what would be done"},
    YES_OPTION,
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option drop_options[] = {SERVER_OPTION, DIR_OPTION, YES_OPTION, JSON_OPTION,
                                                 END};
static const struct cli_option create_options[] = {
    {"--from-file", 0, "FILE", "with the content of an SQLite file"},
    {"--from", 0, "REF", "with the content of another database, at any moment"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option branch_options[] = {
    {"--at", 'a', "MOMENT", "where it begins: a time, an LSN, -10m, pin:NAME (now)"},
    {"--from", 0, "BRANCH", "the branch that it grows from (main)"},
    {"--expires", 0, "TIME", "it is dropped after so long: 24h, 7d"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option protect_options[] = {
    {"--off", 0, NULL, "no longer: the same as branch unprotect"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option restore_options[] = {
    {"--to", 't', "REF", "which moment: -10m, a time, an LSN, pin:NAME, DB/BRANCH[@MOMENT]"},
    {"--keep-as", 'k', "NAME", "the branch that keeps what is replaced (BRANCH-before-TIME)"},
    YES_OPTION,
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option gc_options[] = {
    {"--dry-run", 'n', NULL, "only say how much would go"},
    {"--before", 0, "TIME", "erase what is older: -30d, or a time"},
    YES_OPTION,
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option db_drop_options[] = {
    {"--purge", 0, NULL, "wait until nothing is left of it on any disk"},
    SERVER_OPTION,
    DIR_OPTION,
    YES_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option log_options[] = {
    {"--lines", 'n', "N", "how many commits (all)"}, SERVER_OPTION, DIR_OPTION, JSON_OPTION, END};
static const struct cli_option export_options[] = {
    {"--output", 'o', "FILE", "a new file, or - for standard output"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option diff_options[] = {
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    {"--sql", 0, NULL, "print SQL that makes B of A"},
    {"--schema-only", 0, NULL, "definitions, no rows"},
    {"--summary", 0, NULL, "how many rows, not which"},
    {"--whole", 0, NULL, "read every row, and not only where pages changed"},
    END};
static const struct cli_option connect_options[] = {
    {"--lang", 'l', "LANGUAGE", "c, python, node, perl, php, ruby, tcl, go, java or env"},
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option plain_options[] = {SERVER_OPTION, DIR_OPTION, END};
static const struct cli_option logs_options[] = {
    DIR_OPTION,
    {"--follow", 'f', NULL, "go on with what is written from now on"},
    {"--lines", 'n', "N", "how many lines of each to begin with (20)"},
    JSON_OPTION,
    END};
static const struct cli_option help_options[] = {
    {"--man", 0, NULL, "print the manual page"},
    {"--man-dir", 0, "DIR", "write the manual pages of all verbs into a directory"},
    {"--json", 0, NULL, "print the table of verbs as JSON"},
    END};
static const struct cli_option completion_options[] = {
    {"--complete", 0, NULL, "what the scripts ask: candidates for the last WORD"}, END};
static const struct cli_option reset_options[] = {
    {"--keep-as", 'k', "NAME", "the branch that keeps what is replaced (BRANCH-before-TIME)"},
    YES_OPTION,
    SERVER_OPTION,
    DIR_OPTION,
    JSON_OPTION,
    END};
static const struct cli_option version_options[] = {JSON_OPTION, END};
static const struct cli_option exec_options[] = {
    {"--default", 0, "GLOB,...", "the paths that are databases: '*.db', '/srv/app/*.sqlite'"},
    {"--branch", 'b', "BRANCH", "of all of them (main)"},
    {"--at", 'a', "MOMENT", "all of them as they were: -10m, a time, pin:NAME; read-only"},
    SERVER_OPTION,
    DIR_OPTION,
    END};
static const struct cli_option name_options[] = {JSON_OPTION, END};
static const struct cli_option env_options[] = {SERVER_OPTION, DIR_OPTION, JSON_OPTION, END};

const struct cli_verb cli_verbs[] = {
    {.name = "up",
     .synopsis = "[--dir D] [--port-base P|auto] [--pageservers N] [--archive URL] "
                 "[--keep-log SIZE] [--take-over | --from-archive URL [--cluster ID]] "
                 "[--foreground] [--json]",
     .summary = "start a local cluster: three safekeepers and a pageserver",
     .details =
         "Makes the cluster at the first call; what runs already is left alone. The daemons "
         "are processes of their own and go on when this command has ended. Safekeepers that were "
         "replaced are let go of. --pageservers 2 adds a second pageserver for good; programs then "
         "are told both addresses.\n\nWith "
         "--from-archive the cluster is made of an archive, and what came back is said branch by "
         "branch, and what may be missing. A damaged archive is refused, with the name of the "
         "object.",
     .examples = "corallite up\n"
                 "corallite up --dir /srv/corallite --port-base 7400\n"
                 "corallite up --archive dir:/mnt/elsewhere/archive\n",
     .options = up_options,
     .run = cli_up},
    {.name = "archive check",
     .synopsis = "URL [--cluster ID] [--quick] [--json]",
     .summary = "read an archive, and say what it holds and whether it is sound",
     .details = "Says up to where each branch is archived. Every object is read, and checked as a "
                "restore would; the first that is damaged or missing is named.",
     .examples = "corallite archive check dir:/mnt/elsewhere/archive\n",
     .options = archive_options,
     .min_words = 1,
     .max_words = 1,
     .run = cli_archive_check},
    {.name = "archive prune",
     .synopsis = "[--dry-run] [--yes] [--server S | --dir D] [--json]",
     .summary = "remove from the archive what no kept moment needs",
     .details =
         "The pageserver that archives does it. Of each branch that has a snapshot the log below "
         "that goes, once every byte of both was read; every moment that is kept, pins and "
         "branch points included, stays readable and comes back from the archive. So do "
         "objects that no manifest tells of. From then on the snapshot is the only copy of "
         "old moments outside the pageserver's disk.",
     .examples = "corallite archive prune --dry-run\n",
     .options = prune_options,
     .run = cli_archive_prune},
    {.name = "down",
     .synopsis = "[--dir D] [--purge [--yes]] [--json]",
     .summary = "stop the local cluster",
     .details = "The data stays, and `corallite up` goes on with it; --purge removes it.",
     .examples = "corallite down\n"
                 "corallite down --dir /srv/corallite --purge --yes\n",
     .options = down_options,
     .run = cli_down},
    {.name = "status",
     .synopsis = "[DB[/BRANCH]] [--server HOST:PORT | --dir D] [--json]",
     .summary = "daemons, databases, log positions, lag and bytes",
     .details = "A daemon that does not answer is part of the answer.",
     .examples = "corallite status\n"
                 "corallite status shop --json\n",
     .options = target_options,
     .max_words = 1,
     .words = {"REF"},
     .exits = "0 every daemon answers, 1 one does not (or the database is not there), 2 wrong use",
     .run = cli_status},
    {.name = "db create",
     .synopsis = "NAME [--from-file FILE | --from REF] [--server HOST:PORT | --dir D] [--json]",
     .summary = "create a database, empty or a copy",
     .details =
         "Not needed before a first write, which creates the database as well. --from copies "
         "every page; `branch create` shares them instead.",
     .examples = "corallite db create shop\n"
                 "corallite db create shop-copy --from shop@-1h\n"
                 "corallite db create books --from-file books.db\n",
     .options = create_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"NAME"},
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
     .synopsis = "NAME [--purge] [--yes] [--server HOST:PORT | --dir D] [--json]",
     .summary = "drop a database with all its history",
     .details = "Its pages and its log are removed in the background; with --purge the command "
                "ends when that is done, by the pageserver and by every safekeeper. Asks at a "
                "terminal; elsewhere it needs --yes.",
     .examples = "corallite db drop shop --yes\n"
                 "corallite db drop shop --purge --yes\n",
     .options = db_drop_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB"},
     .run = cli_db_drop},
    {.name = "db name",
     .synopsis = "PATH [--json]",
     .summary = "the database that a plain path stands for",
     .details = "For programs under `corallite exec --default`, and extensions loaded with "
                "CORALLITE_DEFAULT set.",
     .examples = "corallite db name ~/notes.db\n"
                 "corallite import notes.db \"$(corallite db name notes.db)\"\n",
     .options = name_options,
     .min_words = 1,
     .max_words = 1,
     .run = cli_db_name},
    {.name = "branch create",
     .synopsis = "DB/NAME [--at MOMENT] [--from BRANCH] [--expires TIME] [--json]",
     .summary = "a branch: a database of its own that begins as another one",
     .details = "It shares the pages of its parent and costs nothing until it is written. Neither "
                "sees what is written to the other.",
     .examples = "corallite branch create shop/try\n"
                 "corallite branch create shop/yesterday --at -24h --expires 7d\n"
                 "corallite branch create shop/try2 --from try --at 2026-01-02T03:04:05Z\n",
     .options = branch_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB/BRANCH"},
     .run = cli_branch_create},
    {.name = "branch list",
     .synopsis = "DB [--server HOST:PORT | --dir D] [--json]",
     .summary = "the branches of a database, as a tree",
     .details = "",
     .examples = "corallite branch list shop\n"
                 "corallite branch list shop --json\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB"},
     .run = cli_branch_list},
    {.name = "branch rename",
     .synopsis = "DB/OLD NEW [--server HOST:PORT | --dir D] [--json]",
     .summary = "give a branch another name",
     .details = "",
     .examples = "corallite branch rename shop/try new-prices\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"DB/BRANCH", "NAME"},
     .run = cli_branch_rename},
    {.name = "branch drop",
     .synopsis = "DB/NAME [--yes] [--server HOST:PORT | --dir D] [--json]",
     .summary = "drop a branch; what grew from it stays as it is",
     .details = "Asks at a terminal; elsewhere it needs --yes.",
     .examples = "corallite branch drop shop/try --yes\n",
     .options = drop_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB/BRANCH"},
     .run = cli_branch_drop},
    {.name = "branch reset",
     .synopsis = "DB/NAME [--keep-as NAME] [--yes] [--server HOST:PORT | --dir D] [--json]",
     .summary = "make a branch what its parent is now",
     .details =
         "The same as `corallite restore DB/NAME --to DB/PARENT`, but that you need not know "
         "the parent: what the branch is now is kept, and the line that undoes it is "
         "printed. Asks at a terminal; elsewhere it needs --yes.",
     .examples = "corallite branch reset shop/try\n"
                 "corallite branch reset shop/try --keep-as first-try --yes\n",
     .options = reset_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB/BRANCH"},
     .run = cli_branch_reset},
    {.name = "branch protect",
     .synopsis = "DB[/NAME] [--off] [--server HOST:PORT | --dir D] [--json]",
     .summary = "refuse to drop or restore a branch from now on",
     .details = "It can be written as before.",
     .examples = "corallite branch protect shop\n",
     .options = protect_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_branch_protect},
    {.name = "branch unprotect",
     .synopsis = "DB[/NAME] [--server HOST:PORT | --dir D] [--json]",
     .summary = "allow to drop and restore a branch again",
     .details = "",
     .examples = "corallite branch unprotect shop\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_branch_unprotect},
    {.name = "pin create",
     .synopsis = "DB[/BRANCH][@MOMENT] NAME [--server HOST:PORT | --dir D] [--json]",
     .summary = "give a moment a name, which keeps it readable",
     .details = "Wherever a moment is wanted, pin:NAME is one.",
     .examples = "corallite pin create shop before-migration\n"
                 "corallite pin create shop@-1h good\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"REF", "NAME"},
     .run = cli_pin_create},
    {.name = "pin list",
     .synopsis = "DB [--server HOST:PORT | --dir D] [--json]",
     .summary = "the pins of a database",
     .details = "",
     .examples = "corallite pin list shop\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DB"},
     .run = cli_pin_list},
    {.name = "pin drop",
     .synopsis = "DB NAME [--server HOST:PORT | --dir D] [--json]",
     .summary = "forget a pin",
     .details = "The moment itself stays as long as the history that it lies in.",
     .examples = "corallite pin drop shop good\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"DB", "PIN"},
     .run = cli_pin_drop},
    {.name = "retention set",
     .synopsis = "DB[/BRANCH] TIME|forever [--server HOST:PORT | --dir D] [--json]",
     .summary = "how long a branch keeps its history",
     .details = "Moments that are older go, page by page, unless a pin, a branch point or somebody "
                "who reads there needs them. Without it everything is kept for ever. Branches "
                "made from then on begin with the same.",
     .examples = "corallite retention set shop 7d\n"
                 "corallite retention set shop/try forever\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"REF"},
     .run = cli_retention_set},
    {.name = "retention show",
     .synopsis = "DB[/BRANCH] [--server HOST:PORT | --dir D] [--json]",
     .summary = "how long branches keep their history, and from where on they are readable",
     .details = "",
     .examples = "corallite retention show shop\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_retention_show},
    {.name = "gc",
     .synopsis = "[DB] [--dry-run] [--before TIME] [--yes] [--json]",
     .summary = "collect now what no moment that is kept sees",
     .details = "The pageserver does it by itself, in small steps; this is for whoever wants to "
                "know, or not to wait. --before erases: no moment before that time is readable "
                "any more on any branch of DB, but for pins and branch points; drop those first "
                "where they must go too. Asks at a terminal; elsewhere it needs --yes.",
     .examples = "corallite gc --dry-run\n"
                 "corallite gc shop --before -30d --dry-run\n"
                 "corallite gc shop --before 2026-01-02T00:00:00Z --yes\n",
     .options = gc_options,
     .max_words = 1,
     .words = {"DB"},
     .run = cli_gc},
    {.name = "restore",
     .synopsis = "DB[/BRANCH] --to REF [--keep-as NAME] [--yes] [--json]",
     .summary = "make a branch what it was, and print the line that undoes it",
     .details =
         "What it is now is kept as a branch that can be read and no longer written. Programs "
         "that have the database open go on reading that; they see the restored one when "
         "they open it again. Asks at a terminal; elsewhere it needs --yes.",
     .examples = "corallite restore shop --to -10m\n"
                 "corallite restore shop --to 2026-01-02T03:04:05Z --keep-as mistake --yes\n"
                 "corallite restore shop --to shop/mistake\n",
     .options = restore_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_restore},
    {.name = "log",
     .synopsis = "DB[/BRANCH][@MOMENT] [-n N] [--server HOST:PORT | --dir D] [--json]",
     .summary = "the commits of a branch, newest first",
     .details = "Prints as it reads, so that a pager shows the first ones at once.",
     .examples = "corallite log shop -n 20\n"
                 "corallite log shop/try@-1h | less\n",
     .options = log_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_log},
    {.name = "export",
     .synopsis = "DB[/BRANCH][@MOMENT] -o FILE|- [--server HOST:PORT | --dir D] [--json]",
     .summary = "write a database, at any moment, as an ordinary SQLite file",
     .details = "Keeps page size, encoding, auto_vacuum and all ids. Overwrites nothing; the file "
                "has its name when it is whole.",
     .examples = "corallite export shop -o shop.db\n"
                 "corallite export shop@-24h -o - | gzip >yesterday.db.gz\n",
     .options = export_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_export},
    {.name = "import",
     .synopsis = "FILE DB [--server HOST:PORT | --dir D] [--json]",
     .summary = "make a database of an SQLite file",
     .details = "The file may be in use, with a WAL or without; it is checked, read in one "
                "transaction and not changed. The database appears whole or not at all.",
     .examples = "corallite import shop.db shop\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"FILE", "NAME"},
     .run = cli_import},
    {.name = "check",
     .synopsis = "[DB[/BRANCH][@MOMENT]] [--deep] [--server HOST:PORT | --dir D] [--json]",
     .summary = "read every page, look through the structure, compare the daemons",
     .details =
         "Of one branch at one moment, or without DB of every branch of every database: each page "
         "is read through the ordinary protocol and verified by number, LSN and CRC; then SQLite's "
         "own `PRAGMA integrity_check` runs at that moment, and foreign_key_check for information. "
         "The pageserver's catalog is compared with what each safekeeper has stored, and the last "
         "transaction of each branch is fetched from each safekeeper: its digest covers the whole "
         "log before it. --deep looks through the pageserver's store as well: each version of each "
         "page by its checksum, commits, times, counts, pins, and that every moment that is kept "
         "can be read; reads and ingest go on beside it. Nothing is changed.",
     .examples = "corallite check shop\n"
                 "corallite check shop@-24h --json\n"
                 "corallite check --deep\n",
     .options = check_options,
     .max_words = 1,
     .words = {"REF"},
     .exits = "0 sound, 1 not sound or not to be looked at, 2 wrong use",
     .run = cli_check},
    {.name = "repair",
     .synopsis = "[DB] [--dry-run] [--yes] [--server HOST:PORT | --dir D] [--json]",
     .summary = "give the pageserver's store back what the log still has",
     .details =
         "Looks through the store as `check --deep` does, of one database or of all. A timeline "
         "that is damaged is fetched from the log again, after a safekeeper has told that log from "
         "its first record to the newest and every record of it has been verified; reads of that "
         "timeline wait meanwhile. Counts are counted anew, pins that name nothing and rows that "
         "belong to nothing go. What cannot be mended so is said, with what to do. Asks at a "
         "terminal; elsewhere it needs --yes.",
     .examples = "corallite repair --dry-run\n"
                 "corallite repair shop --yes\n",
     .options = repair_options,
     .max_words = 1,
     .words = {"DB"},
     .exits = "0 sound (now, or all along), 1 something is damaged still, 2 wrong use",
     .run = cli_repair},
    {.name = "diff",
     .synopsis = "A B [--json | --sql] [--schema-only | --summary] [--whole] "
                 "[--server HOST:PORT | --dir D]",
     .summary = "tables and rows that differ between two databases, branches or moments",
     .details =
         "A and B are DB[/BRANCH][@MOMENT]. Rows are known by their primary key, or by the rowid "
         "where there is none: - only in A, + only in B, ~ changed. Between moments and branches "
         "of one database only what lies on pages that changed is read.",
     .examples = "corallite diff shop@-1h shop\n"
                 "corallite diff shop@-1h shop --summary\n"
                 "corallite diff shop shop/try --sql >try.sql\n",
     .options = diff_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"REF", "REF"},
     .exits =
         "0 nothing differs, 1 something does, 2 they cannot be compared (trouble, or wrong use)",
     .run = cli_diff},
    {.name = "connect",
     .synopsis = "DB[/BRANCH][@MOMENT] --lang LANGUAGE [--server HOST:PORT | --dir D] [--json]",
     .summary = "print a program that opens a database",
     .details = "LANGUAGE is c, python, node, perl, php, ruby, tcl, go, java, or env for a shell. "
                "Where the language's SQLite cannot load extensions, use `corallite exec`.",
     .examples = "corallite connect shop --lang python >try.py\n",
     .options = connect_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"REF"},
     .run = cli_connect},
    {.name = "sql",
     .synopsis = "[--server HOST:PORT | --dir D] DB[/BRANCH][@MOMENT] [sqlite3 arguments]",
     .summary = "the stock sqlite3 shell on a database",
     .details =
         "Everything after the name is passed on to sqlite3. A moment of the past can only be "
         "read.",
     .examples = "corallite sql shop\n"
                 "corallite sql shop 'SELECT count(*) FROM item'\n"
                 "corallite sql shop@-1h 'SELECT count(*) FROM item'\n"
                 "corallite sql shop -json <report.sql\n",
     .options = plain_options,
     .min_words = 1,
     .max_words = -1,
     .passes_on = true,
     .words = {"REF"},
     .exits = "those of sqlite3; 1 when it cannot be started, 2 wrong use",
     .run = cli_sql},
    {.name = "exec",
     .synopsis = "[--default GLOB,...] [--branch B] [--at MOMENT] [--server HOST:PORT | --dir D] "
                 "-- COMMAND [ARGUMENTS]",
     .summary = "any program, with its SQLite files in Corallite",
     .details =
         "Preloads the extension: the program may use file:DB?vfs=corallite without loading "
         "anything, and where --default is given each path that matches is a database (see "
         "`db name`) and never a file. A GLOB with a / in it is compared with the whole path, one "
         "without with its last part. It works for programs that use a shared libsqlite3.",
     .examples = "corallite exec --default '*/cache.db' -- newsboat -x reload\n"
                 "corallite exec --default '*.db' --at -1h -- sqlite3 notes.db .dump\n",
     .options = exec_options,
     .min_words = 1,
     .max_words = -1,
     .passes_on = true,
     .run = cli_exec},
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
     .synopsis = "[NAME] [--follow | --json] [--lines N] [--dir D]",
     .summary = "what the daemons of the local cluster said",
     .details =
         "NAME is safekeeper-1, safekeeper-2, safekeeper-3 or pageserver, or another one's that "
         "the cluster has; without it, all.",
     .examples = "corallite logs pageserver -f\n",
     .options = logs_options,
     .max_words = 1,
     .words = {"DAEMON"},
     .run = cli_logs},
    {.name = "safekeeper add",
     .synopsis = "[--dir D] [--json]",
     .summary = "start one more, empty safekeeper in a local cluster",
     .details = "A spare: it holds nothing and has no vote until `corallite safekeeper replace` "
                "puts it in the place of another. It has the next node id and a free port of the "
                "cluster's.",
     .examples = "corallite safekeeper add\n"
                 "corallite safekeeper replace 2 127.0.0.1:6404\n",
     .options = local_options,
     .run = cli_safekeeper_add},
    {.name = "safekeeper catch-up",
     .synopsis = "[--server HOST:PORT | --dir D] [--json]",
     .summary = "bring up safekeepers that were away, in logs that nobody writes",
     .details =
         "A safekeeper that comes back is brought up by whoever writes. Logs that nobody writes "
         "keep two copies of what it missed until somebody does, or until this command leads "
         "each of them for a moment. Nothing is written, applications go on. It ends with 1 and "
         "names what is left.",
     .examples = "corallite safekeeper catch-up\n",
     .options = target_options,
     .run = cli_safekeeper_catch_up},
    {.name = "safekeeper list",
     .synopsis = "[--server HOST:PORT | --dir D] [--json]",
     .summary = "the safekeepers of the cluster",
     .details = "For each its node id, address, disk, how many timelines it holds and how much of "
                "the logs that are in use it lacks. `corallite safekeeper replace` changes who "
                "they are.",
     .examples = "corallite safekeeper list\n",
     .options = target_options,
     .run = cli_safekeeper_list},
    {.name = "safekeeper replace",
     .synopsis = "OLD [ID=]HOST:PORT [--server HOST:PORT | --dir D] [--json]",
     .summary = "put a new, empty safekeeper in the place of another",
     .details =
         "OLD is the node id of a member, running or lost. The other is a safekeeper that runs "
         "with an empty directory and a node id above those of all members; it may have OLD's "
         "address, "
         "when OLD's disk was lost. Every log is copied to it and its members change in two "
         "steps, while applications go on committing. If the command is interrupted, the same one "
         "goes on from where it was; nothing has to be undone. OLD may come back at any time "
         "without harm, and can be stopped for good when the command is done; one that `corallite "
         "up` "
         "started is stopped by this command.",
     .examples = "corallite-safekeeper --dir /srv/sk4 --node 4 --cluster ID --listen "
                 "127.0.0.1:6420 &\n"
                 "corallite safekeeper replace 2 127.0.0.1:6420\n",
     .options = target_options,
     .min_words = 2,
     .max_words = 2,
     .words = {"NODE", "ADDRESS"},
     .run = cli_safekeeper_replace},
    {.name = "pageserver list",
     .synopsis = "[--server HOST:PORT | --dir D] [--json]",
     .summary = "the pageservers that follow the cluster's logs",
     .details = "As the safekeepers know them: the disk of each, where it serves, whether it owns "
                "the catalog, and to how many safekeepers it is connected. With --json also how "
                "much of each log is on its disk.",
     .examples = "corallite pageserver list\n",
     .options = target_options,
     .run = cli_pageserver_list},
    {.name = "pageserver promote",
     .synopsis = "[NAME] [--dir D] [--json]",
     .summary = "make the second pageserver of a local cluster the one that owns the catalog",
     .details = "The owner, if it runs, is stopped, and follows then. Reads go on at the other one "
                "meanwhile, or wait for a moment. Pins of the owner's last second may be lost when "
                "it was killed.",
     .examples = "corallite pageserver promote\n"
                 "corallite pageserver promote pageserver-2\n",
     .options = local_options,
     .max_words = 1,
     .words = {"DAEMON"},
     .run = cli_pageserver_promote},
    {.name = "pageserver remove",
     .synopsis = "[NAME] [--dir D] [--json]",
     .summary = "stop the second pageserver of a local cluster for good",
     .details =
         "Its directory stays, and can be removed. The safekeepers are told that they need not "
         "keep anything for it.",
     .examples = "corallite pageserver remove\n",
     .options = local_options,
     .max_words = 1,
     .words = {"DAEMON"},
     .run = cli_pageserver_remove},
    {.name = "pageserver forget",
     .synopsis = "DISK [--server HOST:PORT | --dir D] [--json]",
     .summary = "tell the safekeepers that a pageserver is gone for good",
     .details = "DISK is its id in `corallite pageserver list`. What safekeepers keep for those "
                "that follow is not kept for it any more. One that is connected is refused: stop "
                "it first. One that starts again follows again.",
     .examples = "corallite pageserver forget 0123456789abcdef0123456789abcdef\n",
     .options = target_options,
     .min_words = 1,
     .max_words = 1,
     .words = {"DISK"},
     .run = cli_pageserver_forget},
    {.name = "completion",
     .synopsis = "bash|zsh|fish",
     .summary = "print what lets a shell complete verbs, options and names",
     .details = "Names of databases, branches and pins are asked of the server, within half a "
                "second; when it is not there nothing is proposed. `make install` puts the scripts "
                "where bash, zsh and fish find them.",
     .examples = "source <(corallite completion bash)\n"
                 "corallite completion zsh >~/.zfunc/_corallite\n"
                 "corallite completion fish >~/.config/fish/completions/corallite.fish\n",
     .options = completion_options,
     .min_words = 1,
     .max_words = -1,
     .words = {"SHELL"},
     .run = cli_completion},
    {.name = "version",
     .synopsis = "[--json]",
     .summary = "print the version",
     .details = "",
     .examples = "corallite version\n",
     .options = version_options,
     .run = cli_version},
    {.name = "help",
     .synopsis = "[VERB] [--man | --json] | --man-dir DIR",
     .summary = "this text, or a verb's",
     .details = "",
     .examples = "corallite help db create\n"
                 "corallite help db create --man | man -l -\n",
     .options = help_options,
     .max_words = 2,
     .words = {"VERB"},
     .run = cli_help},
};
const size_t cli_n_verbs = sizeof cli_verbs / sizeof *cli_verbs;
