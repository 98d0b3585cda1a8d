/*
 * completion_sock.c - `corallite completion SHELL`: the script for a shell; and with --complete
 * what those scripts ask. Nothing here says anything on standard error: somebody is typing.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/client_sock.h"
#include "cli/completion.h"
#include "proto/name.h"

#define PATIENCE_MS 500u /* for each of connecting and asking */

/* The words are those before the cursor. COMP_WORDS is no help: bash breaks words at `:` and `=`,
 * which our references hold, so the line is taken apart at blanks, and what bash holds to be done
 * is taken off the candidates again. */
static const char in_bash[] =
    "# bash completion for corallite; source <(corallite completion bash)\n"
    "_corallite()\n"
    "{\n"
    "    local line=${COMP_LINE:0:COMP_POINT} word head candidate\n"
    "    local -a words=()\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line == *[[:space:]] ]] && words+=('')\n"
    "    word=${words[${#words[@]} - 1]}\n"
    "    head=${word%\"${word##*[$COMP_WORDBREAKS]}\"}\n"
    "    head=${head%@} # which bash leaves in its word\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r candidate; do\n"
    "        case $candidate in\n"
    "        :files) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$word\") ;;\n"
    "        :dirs) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$word\") ;;\n"
    "        */ | *@ | *:) compopt -o nospace; COMPREPLY+=(\"${candidate#\"$head\"}\") ;;\n"
    "        *) COMPREPLY+=(\"${candidate#\"$head\"}\") ;;\n"
    "        esac\n"
    "    done < <(\"${words[0]}\" completion --complete -- \"${words[@]:1}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _corallite corallite\n";
static const char in_zsh[] =
    "#compdef corallite\n"
    "# zsh completion for corallite: a file _corallite in a directory of $fpath\n"
    "_corallite() {\n"
    "    local -a candidates plain\n"
    "    local candidate\n"
    "    candidates=(${(f)\"$(${words[1]} completion --complete -- "
    "\"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
    "    for candidate in $candidates; do\n"
    "        case $candidate in\n"
    "        :files) _files ;;\n"
    "        :dirs) _files -/ ;;\n"
    "        */|*@|*:) compadd -S '' -- $candidate ;;\n"
    "        *) plain+=($candidate) ;;\n"
    "        esac\n"
    "    done\n"
    "    (( $#plain )) && compadd -- $plain\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _corallite ]; then _corallite \"$@\"; "
    "else compdef _corallite corallite; fi\n";
static const char in_fish[] =
    "# fish completion for corallite: ~/.config/fish/completions/corallite.fish\n"
    "function __corallite\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    for candidate in ($words[1] completion --complete -- $words[2..-1] 2>/dev/null)\n"
    "        switch $candidate\n"
    "            case ':files' ':dirs'\n"
    "                __fish_complete_path (commandline -ct)\n"
    "            case '*'\n"
    "                echo $candidate\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c corallite -f -a '(__corallite)'\n";

/* -- names ---------------------------------------------------------------------------------------
 */

static void offer_names(const struct completion *c, const Corallite__DbListed__Db *d, bool branches)
{
    char text[3 * CO_NAME_MAX_BYTES];
    size_t n = strlen(d->name);
    bool within = strncmp(c->begin, d->name, n) == 0 && c->begin[n] == '/';
    bool needs_branch = strcmp(c->kind, "DB/BRANCH") == 0;
    if (!within && !needs_branch)
        completion_offer(c, d->name);
    if (!within && branches && (needs_branch || d->n_branches > 1)) {
        snprintf(text, sizeof text, "%s/", d->name);
        completion_offer(c, text);
    }
    for (size_t i = 0; within && branches && i < d->n_branches; i++) {
        snprintf(text, sizeof text, "%s/%s", d->name, d->branches[i]);
        completion_offer(c, text);
    }
}

static void offer_databases(const struct completion *c, struct client *server, bool branches)
{
    Corallite__DbList q = CORALLITE__DB_LIST__INIT;
    Corallite__DbListed *m = NULL;
    if (client_call(server, FRAME_DB_LIST, &q.base, FRAME_DB_LISTED,
                    &corallite__db_listed__descriptor, PATIENCE_MS, &m) != 0)
        return;
    for (size_t i = 0; i < m->n_databases; i++)
        if (m->databases[i]->name)
            offer_names(c, m->databases[i], branches);
    corallite__db_listed__free_unpacked(m, NULL);
}

/* "before" is what stands before a pin's name: "shop@pin:". */
static void offer_pins(const struct completion *c, struct client *server, const char *database,
                       const char *before)
{
    Corallite__PinList q = CORALLITE__PIN_LIST__INIT;
    Corallite__Pins *m = NULL;
    char text[4 * CO_NAME_MAX_BYTES];
    q.database = (char *)database;
    if (client_call(server, FRAME_PIN_LIST, &q.base, FRAME_PINS, &corallite__pins__descriptor,
                    PATIENCE_MS, &m) != 0)
        return;
    for (size_t i = 0; i < m->n_pins; i++) {
        snprintf(text, sizeof text, "%s%s", before, m->pins[i]->name ? m->pins[i]->name : "");
        completion_offer(c, text);
    }
    corallite__pins__free_unpacked(m, NULL);
}

static void offer_moments(const struct completion *c, struct client *server)
{
    static const char *const usual[] = {"latest", "-5m", "-1h", "-24h"};
    char database[CO_NAME_MAX_BYTES + 1], before[3 * CO_NAME_MAX_BYTES],
        text[4 * CO_NAME_MAX_BYTES];
    int name = (int)(strchr(c->begin, '@') - c->begin);
    snprintf(database, sizeof database, "%.*s", (int)strcspn(c->begin, "/@"), c->begin);
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        snprintf(text, sizeof text, "%.*s@%s", name, c->begin, usual[i]);
        completion_offer(c, text);
    }
    snprintf(before, sizeof before, "%.*s@pin:", name, c->begin);
    offer_pins(c, server, database, before);
}

/* The first argument of the line: of whose pins or branches the rest speaks. */
static const char *first_argument(const struct cli_args *args, char out[CO_NAME_MAX_BYTES + 1])
{
    out[0] = 0;
    if (args->n_words > 0)
        snprintf(out, CO_NAME_MAX_BYTES + 1, "%.*s", (int)strcspn(args->words[0], "/@"),
                 args->words[0]);
    return out;
}

static void offer_branches_of(const struct completion *c, struct client *server, const char *db)
{
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    q.database = (char *)db;
    if (client_call(server, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                    &corallite__branch_listed__descriptor, PATIENCE_MS, &m) != 0)
        return;
    for (size_t i = 0; i < m->n_branches; i++)
        if (m->branches[i]->timeline && m->branches[i]->timeline->branch)
            completion_offer(c, m->branches[i]->timeline->branch);
    corallite__branch_listed__free_unpacked(m, NULL);
}

static void offer_from(const struct completion *c, struct client *server,
                       const struct cli_args *args)
{
    char db[CO_NAME_MAX_BYTES + 1];
    first_argument(args, db);
    if (strcmp(c->kind, "BRANCH") == 0)
        offer_branches_of(c, server, db);
    else if (strcmp(c->kind, "PIN") == 0)
        offer_pins(c, server, db, "");
    else if (strcmp(c->kind, "MOMENT") == 0 || (strcmp(c->kind, "REF") == 0 && c->begin[0] == 'p'))
        offer_pins(c, server, db, "pin:");
    if (strcmp(c->kind, "REF") == 0 && strchr(c->begin, '@'))
        offer_moments(c, server);
    else if (strcmp(c->kind, "REF") == 0 || strcmp(c->kind, "DB/BRANCH") == 0)
        offer_databases(c, server, true);
    else if (strcmp(c->kind, "DB") == 0)
        offer_databases(c, server, false);
}

static bool asks_server(const struct completion *c)
{
    static const char *const kinds[] = {"REF", "DB", "DB/BRANCH", "BRANCH", "PIN", "MOMENT"};
    for (size_t i = 0; c->verb && c->kind && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(c->kind, kinds[i]) == 0)
            return true;
    return false;
}

void completion_names(const struct completion *c, int n, char *words[])
{
    static struct client_target target;
    struct cli_args args;
    struct client server;
    int used = 0;
    if (!asks_server(c) || !cli_find_verb(n - 1, words, &used))
        return;
    const struct cli_grammar lenient = {.verb = c->verb->name,
                                        .options = c->verb->options,
                                        .max_words = -1,
                                        .passes_on = c->verb->passes_on};
    /* The option whose value is being written has none yet: it is not among the words. */
    if (cli_parse(&lenient, n - 1 - used, words + used, &args) != 0 &&
        (n - 2 < used || cli_parse(&lenient, n - 2 - used, words + used, &args) != 0))
        return;
    if (client_target(&args, &target) != 0 ||
        client_connect(&server, target.host, target.port, target.local ? &target.cluster.id : NULL,
                       0, PATIENCE_MS) != 0)
        return;
    offer_from(c, &server, &args);
    client_close(&server);
}

/* -- the verb ------------------------------------------------------------------------------------
 */

static int print_script(const char *shell)
{
    static const char *const names[] = {"bash", "zsh", "fish"};
    static const char *const texts[] = {in_bash, in_zsh, in_fish};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(shell, names[i]) == 0) {
            fputs(texts[i], stdout);
            return 0;
        }
    const char *near = cli_nearest(shell, names, 3);
    return co_fail(CO_ERR_INVAL,
                   "there is no completion for '%.40s'%s%s%s; there is one for bash, "
                   "zsh and fish",
                   shell, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

int cli_completion(const struct cli_args *args)
{
    struct completion c;
    if (!cli_has(args, "--complete")) {
        if (args->n_words > 1)
            return cli_report(co_fail(CO_ERR_INVAL,
                                      "'%s' is too much for 'corallite completion'; see: corallite "
                                      "completion --help",
                                      args->words[1]));
        return cli_report(print_script(args->words[0]));
    }
    completion_read(args->n_words, args->words, &c);
    completion_names(&c, args->n_words, args->words);
    return CLI_DONE;
}
