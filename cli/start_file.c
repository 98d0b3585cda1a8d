/* start_file.c - see start_file.h. */
#include "cli/start_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/client_sock.h"
#include "cli/down_file.h"
#include "cli/process_file.h"
#include "common/clock_file.h"

#define ANSWER_TIMEOUT_MS 2000u
#define READY_TIMEOUT_US                                                                           \
    120000000ull /* a safekeeper syncs once a timeline: a thousand take a while */
#define STOP_TIMEOUT_MS  20000u
#define SAFEKEEPERS_TEXT (NODES_MAX * (CO_HOST_MAX_BYTES + 32))

struct command {
    char program[PATH_MAX], dir[PATH_MAX];
    char listen[32], http[32], node[16], cluster[CO_ID_TEXT], follow[32];
    char safekeepers[SAFEKEEPERS_TEXT];
    char *argv[20];
};

/* "1=HOST:PORT,...": as the list has them, which may be other hosts; else those of here. */
static void name_safekeepers(const struct cluster *c, const struct nodes *list,
                             char out[SAFEKEEPERS_TEXT])
{
    size_t at = 0;
    if (list && list->config.version)
        for (uint32_t i = 0; i < list->n; i++) {
            char address[CO_HOST_MAX_BYTES + 16];
            client_address(list->at[i].host, list->at[i].port, address);
            at += (size_t)snprintf(out + at, SAFEKEEPERS_TEXT - at, "%s%u=%s", i ? "," : "",
                                   list->at[i].node, address);
        }
    for (unsigned i = 0; i < c->n && !(list && list->config.version); i++)
        if (!c->at[i].pageserver && c->at[i].node <= CLUSTER_SAFEKEEPERS)
            at += (size_t)snprintf(out + at, SAFEKEEPERS_TEXT - at, "%s%u=" CLUSTER_HOST ":%u",
                                   at ? "," : "", c->at[i].node, (unsigned)cluster_port(c, i));
}

static int build_command(const struct cluster *c, unsigned index, const struct nodes *list,
                         bool take_over, struct command *cmd)
{
    const struct cluster_node *node = &c->at[index];
    bool pageserver = node->pageserver, owns = pageserver && node->node == c->owner;
    int rc =
        process_find(pageserver ? "corallite-pageserver" : "corallite-safekeeper", cmd->program);
    if (rc)
        return rc;
    snprintf(cmd->dir, sizeof cmd->dir, "%s/%s", c->dir, node->name);
    snprintf(cmd->listen, sizeof cmd->listen, CLUSTER_HOST ":%u", (unsigned)cluster_port(c, index));
    snprintf(cmd->http, sizeof cmd->http, CLUSTER_HOST ":%u", (unsigned)cluster_port(c, index) + 1);
    snprintf(cmd->node, sizeof cmd->node, "%u", (unsigned)node->node);
    co_id_format(&c->id, cmd->cluster);
    unsigned n = 0;
    char *const head[] = {cmd->program,        (char *)"--dir",  cmd->dir,
                          (char *)"--cluster", cmd->cluster,     (char *)"--listen",
                          cmd->listen,         (char *)"--http", cmd->http};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        cmd->argv[n++] = head[i];
    cmd->argv[n++] = pageserver ? (char *)"--safekeepers" : (char *)"--node";
    cmd->argv[n++] = pageserver ? cmd->safekeepers : cmd->node;
    if (owns && take_over)
        cmd->argv[n++] = (char *)"--take-over";
    if (pageserver && !owns) {
        snprintf(cmd->follow, sizeof cmd->follow, CLUSTER_HOST ":%u",
                 (unsigned)cluster_port(c, cluster_owner(c)));
        cmd->argv[n++] = (char *)"--follow";
        cmd->argv[n++] = cmd->follow;
    }
    if (!pageserver && c->archive[0]) {
        cmd->argv[n++] = (char *)"--keep-log";
        cmd->argv[n++] = c->keep_log[0] ? (char *)(uintptr_t)c->keep_log : (char *)CLUSTER_KEEP_LOG;
    }
    if (pageserver && c->archive[0]) { /* who follows reads it, where safekeepers keep no more */
        cmd->argv[n++] = (char *)"--archive";
        cmd->argv[n++] = (char *)(uintptr_t)c->archive;
    }
    cmd->argv[n] = NULL;
    name_safekeepers(c, list, cmd->safekeepers);
    return 0;
}

int start_node(const struct cluster *c, unsigned index, const struct nodes *list, bool take_over,
               struct started *s)
{
    static struct command cmd;
    if (process_alive(c, index))
        return 0;
    int rc = build_command(c, index, list, take_over, &cmd);
    return rc ? rc : process_start(c, index, cmd.argv, &s->pid, &s->log_offset);
}

static void progress(const char *name, uint64_t since_us)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kwaiting for %s, %.1f s", name,
                (double)(co_now_us() - since_us) / 1e6);
}

void end_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* It ended before it was ready: its own last sentence tells why. */
static int died(const struct cluster *c, unsigned index, const struct started *s)
{
    char words[512], log[PATH_MAX];
    const char *name = c->at[index].name;
    process_last_words(c, index, s->log_offset, words);
    cluster_path(c, "log", name, ".log", log);
    process_forget(c, index);
    if (words[0])
        return co_fail(CO_ERR_IO, "%s ended at its start: %s (its log: %s)", name, words, log);
    return co_fail(CO_ERR_IO, "%s ended at its start without a word; its log is %s", name, log);
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

int start_wait(const struct cluster *c, unsigned index, const struct started *s, uint64_t since_us)
{
    const struct cluster_node *node = &c->at[index];
    struct client client;
    for (;;) {
        int rc = client_connect(&client, CLUSTER_HOST, cluster_port(c, index), &c->id,
                                node->pageserver ? 0 : node->node, ANSWER_TIMEOUT_MS);
        if (!rc) {
            rc = node->pageserver ? ask_for_a_name(&client) : 0;
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
            return co_fail(CO_ERR_TIMEOUT, "%s runs but was not ready after %llu s: %s", node->name,
                           READY_TIMEOUT_US / 1000000, why);
        }
        progress(node->name, since_us);
        usleep(20000);
    }
}

void start_ask_list(const struct cluster *c, struct nodes *out)
{
    *out = (struct nodes){0};
    for (unsigned i = 0; i < c->n; i++) {
        Corallite__Nodes ask = CORALLITE__NODES__INIT, *m = NULL;
        struct nodes told;
        struct client client;
        if (c->at[i].pageserver || client_connect(&client, CLUSTER_HOST, cluster_port(c, i), &c->id,
                                                  c->at[i].node, ANSWER_TIMEOUT_MS))
            continue;
        if (client_call(&client, FRAME_NODES, &ask.base, FRAME_NODES_OK,
                        &corallite__nodes__descriptor, ANSWER_TIMEOUT_MS, &m) == 0) {
            if (nodes_read(m, &told) == 0 && told.config.version > out->config.version)
                *out = told;
            corallite__nodes__free_unpacked(m, NULL);
        }
        client_close(&client);
    }
}

bool start_has_left(const struct cluster *c, unsigned index, const struct nodes *list)
{
    uint32_t highest = 0;
    for (uint32_t i = 0; i < list->n; i++)
        highest = list->at[i].node > highest ? list->at[i].node : highest;
    return list->config.version > 0 && !c->at[index].pageserver && c->at[index].node < highest &&
           !nodes_find(list, c->at[index].node);
}

int start_let_go(struct cluster *c, unsigned index)
{
    bool which[CLUSTER_NODES_MAX] = {0};
    which[index] = true;
    int rc = down_stop(c, STOP_TIMEOUT_MS, which);
    if (rc)
        return rc;
    cluster_remove(c, index);
    return cluster_save(c);
}
