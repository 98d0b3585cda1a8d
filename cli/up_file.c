/*
 * up_file.c - `corallite up`: a local cluster of four real processes.
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
#include "cli/text.h"
#include "common/clock_file.h"

#define ANSWER_TIMEOUT_MS 2000u
#define READY_TIMEOUT_US                                                                           \
    120000000ull /* a safekeeper syncs once a timeline: a thousand take a while */
#define STOP_TIMEOUT_MS 10000u
/* --port-base auto never takes the default ports, which belong to the user's own cluster. */
#define AUTO_PORT_BASE 7400u

struct started {
    int pid; /* 0: it ran already */
    long long log_offset;
};

/* -- Ports ---------------------------------------------------------------------------------------
 */

/* Every port of the nodes that do not run is free. */
static int check_ports(const struct cluster *c)
{
    for (unsigned i = 0; i < CLUSTER_NODES; i++) {
        struct cluster_node node = cluster_node(c->port_base, i);
        if (process_alive(c, i))
            continue;
        int rc = process_port_free(node.name, node.port);
        if (!rc)
            rc = process_port_free(node.name, node.http_port);
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
    for (unsigned i = 0; i < CLUSTER_NODES; i++)
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

/* -- Starting ------------------------------------------------------------------------------------
 */

struct command {
    char program[PATH_MAX], dir[PATH_MAX];
    char listen[32], http[32], node[16], cluster[CO_ID_TEXT], safekeepers[128];
    char *argv[20];
};

static int build_command(const struct cluster *c, unsigned index, bool take_over,
                         struct command *cmd)
{
    struct cluster_node node = cluster_node(c->port_base, index);
    bool pageserver = index == CLUSTER_PAGESERVER;
    int rc =
        process_find(pageserver ? "corallite-pageserver" : "corallite-safekeeper", cmd->program);
    if (rc)
        return rc;
    snprintf(cmd->dir, sizeof cmd->dir, "%s/%s", c->dir, node.name);
    snprintf(cmd->listen, sizeof cmd->listen, CLUSTER_HOST ":%u", (unsigned)node.port);
    snprintf(cmd->http, sizeof cmd->http, CLUSTER_HOST ":%u", (unsigned)node.http_port);
    snprintf(cmd->node, sizeof cmd->node, "%u", (unsigned)node.node);
    co_id_format(&c->id, cmd->cluster);
    unsigned n = 0;
    char *const head[] = {cmd->program,        (char *)"--dir",  cmd->dir,
                          (char *)"--cluster", cmd->cluster,     (char *)"--listen",
                          cmd->listen,         (char *)"--http", cmd->http};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        cmd->argv[n++] = head[i];
    cmd->argv[n++] = pageserver ? (char *)"--safekeepers" : (char *)"--node";
    cmd->argv[n++] = pageserver ? cmd->safekeepers : cmd->node;
    if (pageserver && take_over)
        cmd->argv[n++] = (char *)"--take-over";
    if (pageserver && c->archive[0]) {
        cmd->argv[n++] = (char *)"--archive";
        cmd->argv[n++] = (char *)(uintptr_t)c->archive;
    }
    cmd->argv[n] = NULL;
    size_t at = 0;
    for (unsigned i = 0; i < CLUSTER_SAFEKEEPERS; i++) {
        struct cluster_node k = cluster_node(c->port_base, i);
        at += (size_t)snprintf(cmd->safekeepers + at, sizeof cmd->safekeepers - at,
                               "%s%u=" CLUSTER_HOST ":%u", i ? "," : "", (unsigned)k.node,
                               (unsigned)k.port);
    }
    return 0;
}

/* Starts node `index` unless it runs. */
static int start_node(const struct cluster *c, unsigned index, bool take_over, struct started *s)
{
    static struct command cmd;
    if (process_alive(c, index))
        return 0;
    int rc = build_command(c, index, take_over, &cmd);
    return rc ? rc : process_start(c, index, cmd.argv, &s->pid, &s->log_offset);
}

static void progress(const char *name, uint64_t since_us)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kwaiting for %s, %.1f s", name,
                (double)(co_now_us() - since_us) / 1e6);
}

static void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* It ended before it was ready: its own last sentence tells why. */
static int died(const struct cluster *c, unsigned index, const struct started *s)
{
    char words[512], log[PATH_MAX];
    struct cluster_node node = cluster_node(c->port_base, index);
    process_last_words(c, index, s->log_offset, words);
    cluster_path(c, "log", node.name, ".log", log);
    process_forget(c, index);
    if (words[0])
        return co_fail(CO_ERR_IO, "%s ended at its start: %s (its log: %s)", node.name, words, log);
    return co_fail(CO_ERR_IO, "%s ended at its start without a word; its log is %s", node.name,
                   log);
}

/* A pageserver listens before it knows what the safekeepers hold, and may yet find that it is not
 * theirs. Whether a name is free it can say only afterwards. */
static int ask_for_a_name(struct client *c)
{
    Corallite__Open q = CORALLITE__OPEN__INIT;
    Corallite__Opened *m = NULL;
    q.database = (char *)"is-anybody-there";
    q.branch = (char *)"main";
    int rc = client_call(c, FRAME_OPEN, &q.base, FRAME_OPENED, &corallite__opened__descriptor,
                         ANSWER_TIMEOUT_MS, &m);
    if (m)
        corallite__opened__free_unpacked(m, NULL);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static int wait_ready(const struct cluster *c, unsigned index, const struct started *s,
                      uint64_t since_us)
{
    struct cluster_node node = cluster_node(c->port_base, index);
    struct client client;
    for (;;) {
        int rc =
            client_connect(&client, CLUSTER_HOST, node.port, &c->id, node.node, ANSWER_TIMEOUT_MS);
        if (!rc) {
            rc = index == CLUSTER_PAGESERVER ? ask_for_a_name(&client) : 0;
            client_close(&client);
        }
        if (!rc)
            return 0;
        if (!process_alive(c, index))
            return died(c, index, s);
        if (co_error_class(rc) != CO_CLASS_RETRY)
            return rc; /* somebody else answers there */
        if (co_now_us() - since_us > READY_TIMEOUT_US) {
            char why[400];
            snprintf(why, sizeof why, "%s", co_sentence());
            return co_fail(CO_ERR_TIMEOUT, "%s runs but was not ready after %llu s: %s", node.name,
                           READY_TIMEOUT_US / 1000000, why);
        }
        progress(node.name, since_us);
        usleep(20000);
    }
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

/* The safekeepers at once, then the pageserver, which looks for them first of all. *lacking: how
 * many safekeepers the cluster has to do without. */
static int start_all(const struct cluster *c, bool take_over, struct started started[CLUSTER_NODES],
                     unsigned *lacking)
{
    uint64_t since_us = co_now_us();
    int rc = 0;
    for (unsigned i = 0; !rc && i < CLUSTER_SAFEKEEPERS; i++)
        rc = start_node(c, i, false, &started[i]);
    for (unsigned i = 0; !rc && i < CLUSTER_SAFEKEEPERS; i++) {
        rc = wait_ready(c, i, &started[i], since_us);
        if (rc)
            rc = lacks_one(lacking, rc);
    }
    if (!rc)
        rc = start_node(c, CLUSTER_PAGESERVER, take_over, &started[CLUSTER_PAGESERVER]);
    if (!rc)
        rc = wait_ready(c, CLUSTER_PAGESERVER, &started[CLUSTER_PAGESERVER], since_us);
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

static void print_cluster(const struct cluster *c, const struct started started[CLUSTER_NODES],
                          bool made)
{
    char id[CO_ID_TEXT];
    printf("%s %s in %s\n", made ? "new cluster" : "cluster", co_id_format(&c->id, id), c->dir);
    for (unsigned i = 0; i < CLUSTER_NODES; i++) {
        struct cluster_node node = cluster_node(c->port_base, i);
        int pid = process_alive(c, i);
        printf("  %-13s " CLUSTER_HOST ":%u  http://" CLUSTER_HOST ":%u  ", node.name,
               (unsigned)node.port, (unsigned)node.http_port);
        if (pid)
            printf("%s, pid %d\n", started[i].pid ? "started" : "ran already", pid);
        else
            puts("does not run");
    }
}

static int print_cluster_json(const struct cluster *c, const struct started started[CLUSTER_NODES],
                              bool made)
{
    char id[CO_ID_TEXT], address[32], http[32];
    json_t *nodes = json_array();
    for (unsigned i = 0; i < CLUSTER_NODES; i++) {
        struct cluster_node node = cluster_node(c->port_base, i);
        snprintf(address, sizeof address, CLUSTER_HOST ":%u", (unsigned)node.port);
        snprintf(http, sizeof http, CLUSTER_HOST ":%u", (unsigned)node.http_port);
        json_array_append_new(
            nodes, json_pack("{s:s,s:s,s:s,s:i,s:b}", "name", node.name, "address", address, "http",
                             http, "pid", process_alive(c, i), "started", started[i].pid != 0));
    }
    return cli_print_json(json_pack("{s:s,s:s,s:b,s:o}", "cluster", co_id_format(&c->id, id), "dir",
                                    c->dir, "new", (int)made, "daemons", nodes));
}

static int tell(const struct cluster *c, const struct started started[CLUSTER_NODES], bool made,
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
static int stay(const struct cluster *c, const struct started started[CLUSTER_NODES])
{
    bool was[CLUSTER_NODES];
    struct sigaction on = {.sa_handler = on_signal};
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    for (unsigned i = 0; i < CLUSTER_NODES; i++)
        was[i] = process_alive(c, i) != 0;
    fputs("\nIn the foreground: Ctrl-C stops the cluster.\n", stderr);
    fflush(stdout);
    for (unsigned running = CLUSTER_NODES; !stop_wanted && running > 0; usleep(200000)) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        running = 0;
        for (unsigned i = 0; i < CLUSTER_NODES; i++) {
            char words[512];
            bool now = process_alive(c, i) != 0;
            running += now;
            if (was[i] && !now) {
                process_last_words(c, i, started[i].log_offset, words);
                fprintf(stderr, "corallite: %s ended: %s\n", cluster_node(c->port_base, i).name,
                        words);
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
static int undo(const struct cluster *c, const struct started started[CLUSTER_NODES], int rc)
{
    char sentence[CO_SENTENCE_MAX];
    bool mine[CLUSTER_NODES];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    for (unsigned i = 0; i < CLUSTER_NODES; i++)
        mine[i] = started[i].pid != 0;
    int ignored = down_stop(c, STOP_TIMEOUT_MS, mine);
    (void)ignored;
    return co_fail(rc, "%s", sentence);
}

int cli_up(const struct cli_args *args)
{
    static struct cluster c;
    struct started started[CLUSTER_NODES] = {{0}};
    const char *dir = cli_value(args, "--dir"), *base = cli_value(args, "--port-base");
    uint16_t first_base = CLUSTER_PORT_BASE;
    const char *from = cli_value(args, "--from-archive");
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
        rc = settle_ports(&c, base, made || from);
    if (!rc && !from)
        rc = archive_settle(&c, cli_value(args, "--archive"));
    if (rc)
        return cli_report(rc);
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
