/*
 * up_file.c - `corallite up`: a local cluster of four real processes, or five.
 *
 * Idempotent: what runs already is left alone, what does not is started. Each start is waited for
 * until the daemon answers Hello as the one it should be; a daemon that ends before that gives its
 * last words. A minority of safekeepers may be lacking (exit code 1, and said so); otherwise what
 * this call had started is stopped again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "archive/report.h"
#include "cli/archive.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/down_file.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "cli/start_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

#define ANSWER_TIMEOUT_MS 2000u
#define STOP_TIMEOUT_MS   10000u
/* --port-base auto never takes the default ports, which belong to the user's own cluster. */
#define AUTO_PORT_BASE 7400u

/* -- Ports ---------------------------------------------------------------------------------------
 */

/* Every port of the nodes that do not run is free. */
static int check_ports(const struct cluster *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        if (process_alive(c, i))
            continue;
        int rc = process_port_free(c->at[i].name, cluster_port(c, i));
        if (!rc)
            rc = process_port_free(c->at[i].name, (uint16_t)(cluster_port(c, i) + 1));
        if (rc)
            return rc;
    }
    return 0;
}

/* The first base, from the given one on, where all ports are free. */
static int find_ports(struct cluster *c)
{
    for (unsigned base = c->port_base; base + CLUSTER_PORTS <= 65536; base += 20) {
        c->port_base = (uint16_t)base;
        if (check_ports(c) == 0)
            return 0;
    }
    return co_fail(CO_ERR_BUSY, "no %u free ports in a row were found; give --port-base",
                   CLUSTER_PORTS);
}

static bool anything_runs(const struct cluster *c)
{
    for (unsigned i = 0; i < c->n; i++)
        if (process_alive(c, i))
            return true;
    return false;
}

/* Takes --port-base into account and makes sure that the cluster can have its ports. */
static int settle_ports(struct cluster *c, const char *wanted, bool made)
{
    uint16_t base = c->port_base;
    int rc = 0;
    if (wanted && strcmp(wanted, "auto") == 0) {
        if (anything_runs(c) || (!made && check_ports(c) == 0))
            return check_ports(c);
        rc = find_ports(c);
    } else {
        if (wanted)
            rc = cluster_parse_port_base(wanted, &c->port_base);
        if (!rc && c->port_base != base && anything_runs(c))
            return co_fail(
                CO_ERR_BUSY,
                "the cluster in %s runs on port base %u; `corallite down --dir %s` first, "
                "then it can move to %u",
                c->dir, (unsigned)base, c->dir, (unsigned)c->port_base);
        if (!rc)
            rc = check_ports(c);
    }
    if (!rc && c->port_base != base)
        rc = cluster_save(c);
    return rc;
}

/* Takes --pageservers into account: a second one is added for good. */
static int settle_pageservers(struct cluster *c, const char *wanted)
{
    unsigned have = 0, index;
    for (unsigned i = 0; i < c->n; i++)
        have += c->at[i].pageserver;
    if (!wanted || (*wanted == (char)('0' + have) && !wanted[1]))
        return 0;
    if (strcmp(wanted, "2") != 0 && strcmp(wanted, "1") != 0)
        return co_fail(CO_ERR_INVAL, "--pageservers is 1 or 2; there is '%.40s'", wanted);
    if (have == 2)
        return co_fail(CO_ERR_INVAL,
                       "the cluster in %s has two pageservers; `corallite pageserver remove` takes "
                       "the one that follows away",
                       c->dir);
    int rc = cluster_add(c, true, cluster_find(c, true, 1) < c->n ? 2 : 1, &index);
    return rc ? rc : cluster_save(c);
}

/* -- Who the safekeepers are ---------------------------------------------------------------------
 */

/* A replacement may have been made from anywhere: who has left is stopped, and not known here any
 * more. */
static int let_go_of_those_who_left(struct cluster *c, const struct nodes *list,
                                    struct started started[CLUSTER_NODES_MAX])
{
    int rc = 0;
    for (unsigned i = 0; !rc && i < c->n;) {
        if (!start_has_left(c, i, list)) {
            i++;
            continue;
        }
        fprintf(stderr, "corallite: %s was replaced; it is stopped, and %s/%s can be removed\n",
                c->at[i].name, c->dir, c->at[i].name);
        rc = start_let_go(c, i);
        for (unsigned k = i; !rc && k < c->n; k++)
            started[k] = started[k + 1];
    }
    return rc;
}

/* A safekeeper that cannot be started is told at once; a minority of them may be lacking. */
static int lacks_one(unsigned *lacking, int rc)
{
    if (++*lacking > (CLUSTER_SAFEKEEPERS - 1) / 2)
        return rc;
    end_progress();
    fprintf(stderr, "corallite: %s\n", co_sentence());
    return 0;
}

/* The safekeepers at once, then the pageservers, which look for them first of all, the one that
 * owns the catalog before the one that follows. *lacking: how many safekeepers the cluster has to
 * do without. */
static int start_all(struct cluster *c, bool take_over, struct started started[CLUSTER_NODES_MAX],
                     unsigned *lacking)
{
    uint64_t since_us = co_now_us();
    struct nodes list;
    int rc = 0;
    for (unsigned i = 0; !rc && i < c->n; i++)
        if (!c->at[i].pageserver)
            rc = start_node(c, i, NULL, false, &started[i]);
    for (unsigned i = 0; !rc && i < c->n; i++) {
        rc = c->at[i].pageserver ? 0 : start_wait(c, i, &started[i], since_us);
        if (rc)
            rc = lacks_one(lacking, rc);
    }
    if (rc)
        return rc;
    start_ask_list(c, &list);
    rc = let_go_of_those_who_left(c, &list, started);
    unsigned owner = cluster_owner(c);
    if (!rc)
        rc = start_node(c, owner, &list, take_over, &started[owner]);
    if (!rc)
        rc = start_wait(c, owner, &started[owner], since_us);
    for (unsigned i = 0; !rc && i < c->n; i++) {
        if (!c->at[i].pageserver || i == owner)
            continue;
        rc = start_node(c, i, &list, false, &started[i]);
        if (!rc)
            rc = start_wait(c, i, &started[i], since_us);
    }
    return rc;
}

/* -- Telling -------------------------------------------------------------------------------------
 */

static void print_next(const struct cluster *c, const char *dir)
{
    char option[PATH_MAX] = "", quoted[PATH_MAX], own[PATH_MAX] = "";
    const char *command = "corallite";
    if (dir && text_shell_quote(c->dir, quoted, sizeof quoted))
        snprintf(option, sizeof option, " --dir %.4000s", quoted);
    /* Where it is not on the PATH, say what can be pasted. */
    if (process_own_dir(own) == 0) {
        const char *path = getenv("PATH");
        const char *at = path ? strstr(path, own) : NULL;
        size_t len = strlen(own);
        if (!at || (at[len] != ':' && at[len] != 0) || (at != path && at[-1] != ':')) {
            memcpy(own + len, "/corallite", sizeof "/corallite");
            command = own;
        }
    }
    printf(
        "\nNext:\n"
        "  %s sql%s shop           a SQL shell; the database comes into being at its first write\n"
        "  %s status%s\n"
        "  eval \"$(%s env%s)\"     then, from any program with SQLite, e.g. its own shell:\n"
        "  sqlite3 -cmd \".load $CORALLITE_EXTENSION\" -cmd '.open file:shop?vfs=corallite'\n"
        "  %s down%s\n",
        command, option, command, option, command, option, command, option);
}

static void print_cluster(const struct cluster *c, const struct started started[CLUSTER_NODES_MAX],
                          bool made)
{
    char id[CO_ID_TEXT];
    printf("%s %s in %s\n", made ? "new cluster" : "cluster", co_id_format(&c->id, id), c->dir);
    for (unsigned i = 0; i < c->n; i++) {
        unsigned port = cluster_port(c, i);
        int pid = process_alive(c, i);
        printf("  %-13s " CLUSTER_HOST ":%u  http://" CLUSTER_HOST ":%u  ", c->at[i].name, port,
               port + 1);
        if (pid)
            printf("%s, pid %d\n", started[i].pid ? "started" : "ran already", pid);
        else
            puts("does not run");
    }
}

static int print_cluster_json(const struct cluster *c,
                              const struct started started[CLUSTER_NODES_MAX], bool made)
{
    char id[CO_ID_TEXT], address[32], http[32];
    json_t *nodes = json_array();
    for (unsigned i = 0; i < c->n; i++) {
        unsigned port = cluster_port(c, i);
        snprintf(address, sizeof address, CLUSTER_HOST ":%u", port);
        snprintf(http, sizeof http, CLUSTER_HOST ":%u", port + 1);
        json_array_append_new(nodes,
                              json_pack("{s:s,s:s,s:s,s:i,s:b}", "name", c->at[i].name, "address",
                                        address, "http", http, "pid", process_alive(c, i),
                                        "started", started[i].pid != 0));
    }
    return cli_print_json(json_pack("{s:s,s:s,s:b,s:o}", "cluster", co_id_format(&c->id, id), "dir",
                                    c->dir, "new", (int)made, "daemons", nodes));
}

static int tell(const struct cluster *c, const struct started started[CLUSTER_NODES_MAX], bool made,
                unsigned lacking, const struct cli_args *args)
{
    if (cli_has(args, "--json"))
        return print_cluster_json(c, started, made);
    print_cluster(c, started, made);
    if (lacking)
        puts("The other safekeepers are a majority: it works, but must not lose another one.");
    print_next(c, cli_value(args, "--dir"));
    return 0;
}

/* -- Staying in the foreground -------------------------------------------------------------------
 */

static volatile sig_atomic_t stop_wanted;

static void on_signal(int number)
{
    (void)number;
    stop_wanted = 1;
}

/* Stays until a signal, or until every daemon has ended. One that ends is reported; the rest go on,
 * as a cluster does. */
static int stay(const struct cluster *c, const struct started started[CLUSTER_NODES_MAX])
{
    bool was[CLUSTER_NODES_MAX];
    struct sigaction on = {.sa_handler = on_signal};
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    for (unsigned i = 0; i < c->n; i++)
        was[i] = process_alive(c, i) != 0;
    fputs("\nIn the foreground: Ctrl-C stops the cluster.\n", stderr);
    fflush(stdout);
    for (unsigned running = c->n; !stop_wanted && running > 0; usleep(200000)) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        running = 0;
        for (unsigned i = 0; i < c->n; i++) {
            char words[512];
            bool now = process_alive(c, i) != 0;
            running += now;
            if (was[i] && !now) {
                process_last_words(c, i, started[i].log_offset, words);
                fprintf(stderr, "corallite: %s ended: %s\n", c->at[i].name, words);
            }
            was[i] = now;
        }
    }
    bool asked = stop_wanted;
    int rc = down_stop(c, STOP_TIMEOUT_MS, NULL);
    if (rc)
        return cli_report(rc);
    return asked ? CLI_DONE : CLI_FAILED;
}

/* -- The verb ------------------------------------------------------------------------------------
 */

/* What this call started is stopped again; the error stays as it is. */
static int undo(const struct cluster *c, const struct started started[CLUSTER_NODES_MAX], int rc)
{
    char sentence[CO_SENTENCE_MAX];
    bool mine[CLUSTER_NODES_MAX];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    for (unsigned i = 0; i < c->n; i++)
        mine[i] = started[i].pid != 0;
    int ignored = down_stop(c, STOP_TIMEOUT_MS, mine);
    (void)ignored;
    return co_fail(rc, "%s", sentence);
}

int cli_up(const struct cli_args *args)
{
    static struct cluster c;
    struct started started[CLUSTER_NODES_MAX] = {{0}};
    const char *dir = cli_value(args, "--dir"), *base = cli_value(args, "--port-base");
    uint16_t first_base = CLUSTER_PORT_BASE;
    const char *from = cli_value(args, "--from-archive");
    static char before[AR_URL_MAX_BYTES];
    Corallite__ArchiveState *restored = NULL;
    unsigned lacking = 0;
    bool made = false;
    int rc = 0;
    if (from && cli_value(args, "--archive"))
        rc = co_fail(CO_ERR_INVAL, "what is restored goes on archiving where it came from; another "
                                   "--archive can be given once it runs, after `corallite down`");
    if (!rc && base && strcmp(base, "auto") == 0)
        first_base = AUTO_PORT_BASE;
    else if (!rc && base)
        rc = cluster_parse_port_base(base, &first_base);
    if (!rc && from)
        rc = archive_restore(from, args, first_base, &c, &restored);
    if (!rc && !from)
        rc = cluster_open_or_make(dir, first_base, NULL, &c, &made);
    if (!rc)
        rc = settle_pageservers(&c, cli_value(args, "--pageservers"));
    if (!rc)
        rc = settle_ports(&c, base, made || from);
    if (!rc)
        rc = archive_settle_keep(&c, cli_value(args, "--keep-log"));
    snprintf(before, sizeof before, "%s", rc ? "" : c.archive);
    if (!rc && !from)
        rc = archive_settle(&c, cli_value(args, "--archive"));
    if (rc)
        return cli_report(rc);
    archive_warn(&c, before, cli_value(args, "--keep-log"));
    rc = start_all(&c, from || cli_has(args, "--take-over"), started, &lacking);
    end_progress();
    if (rc)
        return cli_report(undo(&c, started, rc));
    if (restored && !cli_has(args, "--json"))
        ar_report(restored, stdout);
    if (restored)
        corallite__archive_state__free_unpacked(restored, NULL);
    rc = tell(&c, started, made, lacking, args);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--foreground"))
        return stay(&c, started);
    return lacking ? CLI_FAILED : CLI_DONE;
}
