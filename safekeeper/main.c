/* main.c - corallite-safekeeper: options, signals, HTTP, exit codes. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "common/daemon_http.h"
#include "common/log.h"
#include "common/main_file.h"
#include "common/metrics.h"
#include "common/process_file.h"
#include "common/program.h"
#include "common/stop_uv.h"
#include "proto/limits.h"
#include "safekeeper/mend.h"
#include "safekeeper/restore_file.h"
#include "safekeeper/server_uv.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const struct co_option known_options[] = {
    {"dir", 'd', "DIR", "data directory; made when absent"},
    {"node", 'n', "N", "number of this safekeeper in its cluster, 1 or more"},
    {"listen", 'l', "HOST:PORT",
     "where computes and the pageserver connect (default 127.0.0.1:6410; port 0: any)"},
    {"http", 'h', "HOST:PORT", "/healthz and /metrics (default: none)"},
    {"advertise", 'a', "HOST:PORT",
     "the address that others reach it by, for the log (default: --listen)"},
    {"cluster", 'c', "ID",
     "32 hex digits; needed for a new data directory, checked for an old one"},
    {"restore", 'r', "URL",
     "make the new directory --dir of an archive, say what came back, and end: every other copy of "
     "the log is lost"},
    {"members", 'm', "LIST", "with --restore: the nodes of all safekeepers (default 1,2,3)"},
    {"mend", 'p', "LIST",
     "do not serve: fetch what is damaged below the seal of the logs from the safekeepers "
     "ID=HOST:PORT of LIST, comma between them, and end"},
    {"mend-archive", 'A', "URL", "with --mend: what none of them has is fetched from that archive"},
    {"open-timelines", 'o', "N",
     "so many idle branches stay open (default 128); others are opened when they are asked for"},
    {"keep-log", 'k', "SIZE",
     "so much of each log stays though an archive and every pageserver have it, 1M or more; all "
     "(default): nothing ever goes. Without an archive nothing goes"},
    {"log-level", 'v', "LEVEL", "debug, info (default), warn, error or off"},
    {"log-format", 'F', "FORMAT", "text (default) or json: one object a line on standard error"},
    {"insecure-listen", 'i', NULL,
     "allow --listen and --http on addresses that other hosts reach: there is no access control "
     "yet"},
    {"help", 'H', NULL, "print this text"},
    {"man", 'M', NULL, "print the manual page"},
    {"version", 'V', NULL, "print the version, and the protocol and format that it speaks"},
    {0}};

static const struct co_program program = {
    .name = "corallite-safekeeper",
    .summary = "keeps the logs of a Corallite cluster",
    .synopsis = "--dir DIR --node N [--cluster ID] [--listen HOST:PORT] [options]",
    .details =
        "Keeps the logs of a Corallite cluster: one of three, of which any two make a commit. What "
        "it has acknowledged is on its disk.\n\nIt writes one line an event on standard error, "
        "and runs in the foreground; `corallite up` starts three of them and a pageserver.",
    .options = known_options,
    .examples = "corallite-safekeeper --dir /srv/sk1 --node 1 --cluster "
                "0123456789abcdef0123456789abcdef --listen 127.0.0.1:6410\n",
    .see_also = (const char *const[][2]){
        {"corallite", "1"}, {"corallite-up", "1"}, {"corallite-pageserver", "8"}, {NULL, NULL}}};

struct options {
    const char *dir, *cluster_text, *restore, *mend_archive;
    struct sk_restore members; /* its members alone */
    uint32_t node, keep_open;
    uint64_t keep_log;
    char host[256], http_host[256], advertise_host[256];
    uint16_t port, http_port, advertise_port;
    bool http, advertise, insecure, has_cluster;
    struct co_id cluster;
    struct sk_mend_peer peers[CO_MEMBERS_MAX]; /* --mend */
    uint32_t n_peers;
};

struct daemon {
    uv_loop_t loop;
    uv_signal_t terminate, interrupt;
    struct co_http *http;
    struct sk_server *server;
    struct sk_lives lives;
    int exit_code;
};

static int parse_node(const char *text, uint32_t *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end || end == text || n < 1 || n > 65535)
        return co_fail(CO_ERR_INVAL, "--node is a number from 1 to 65535; '%.40s' is not", text);
    *out = (uint32_t)n;
    return 0;
}

/* "1=HOST:PORT,3=HOST:PORT" */
static int parse_peers(const char *text, struct options *o)
{
    char one[300];
    for (o->n_peers = 0; o->n_peers < CO_MEMBERS_MAX; o->n_peers++) {
        struct sk_mend_peer *p = &o->peers[o->n_peers];
        size_t n = strcspn(text, ",");
        char *end = one;
        snprintf(one, sizeof one, "%.*s", (int)(n < 299 ? n : 299), text);
        p->node = (uint32_t)strtoul(one, &end, 10);
        if (end == one || *end != '=' || !p->node || p->node > 65535)
            return co_fail(CO_ERR_INVAL,
                           "--mend wants ID=HOST:PORT of the others; there is '%.80s'", one);
        int rc = co_parse_address("--mend", end + 1, p->host, &p->port);
        if (rc)
            return rc;
        text += n + (text[n] == ',');
        if (!*text) {
            o->n_peers++;
            return 0;
        }
    }
    return co_fail(CO_ERR_INVAL, "--mend takes at most %d safekeepers", CO_MEMBERS_MAX);
}

static int parse_open(const char *text, uint32_t *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end || end == text || n < 1 || n > CO_TIMELINES_MAX)
        return co_fail(CO_ERR_INVAL, "--open-timelines is a number from 1 to %u; '%.40s' is not",
                       CO_TIMELINES_MAX, text);
    *out = (uint32_t)n;
    return 0;
}

static int parse_keep(const char *text, uint64_t *out)
{
    *out = 0;
    if (!strcmp(text, "all"))
        return 0;
    int rc = co_parse_size("--keep-log", text, out);
    if (!rc && *out < SK_KEEP_LOG_MIN)
        rc = co_fail(CO_ERR_INVAL, "--keep-log wants at least 1M, or all; '%.40s' is less", text);
    return rc;
}

static int set_level(const char *word)
{
    enum co_log_level level;
    int rc = co_log_parse_level(word, &level);
    if (!rc)
        co_log_set_level(level);
    return rc;
}

static int set_format(const char *word)
{
    enum co_log_format format;
    int rc = co_log_parse_format(word, &format);
    if (!rc)
        co_log_set_format(format);
    return rc;
}

static int parse_members(const char *text, struct sk_restore *out)
{
    out->n_members = 0;
    for (const char *at = text;; at++) {
        char *end;
        unsigned long n = strtoul(at, &end, 10);
        bool good = end != at && (*end == ',' || !*end) && n >= 1 && n <= 65535 &&
                    out->n_members < CO_MEMBERS_MAX &&
                    (!out->n_members || out->members[out->n_members - 1] < n);
        if (!good)
            return co_fail(CO_ERR_INVAL,
                           "--members takes node numbers, ascending, as in 1,2,3; '%.80s' are not "
                           "such",
                           text);
        out->members[out->n_members++] = (uint32_t)n;
        if (!*end)
            return 0;
        at = end;
    }
}

static int set_option(struct options *o, int which, const char *value)
{
    switch (which) {
    case 'd':
        o->dir = value;
        return 0;
    case 'n':
        return parse_node(value, &o->node);
    case 'l':
        return co_parse_address("--listen", value, o->host, &o->port);
    case 'h':
        o->http = true;
        return co_parse_address("--http", value, o->http_host, &o->http_port);
    case 'a':
        o->advertise = true;
        return co_parse_address("--advertise", value, o->advertise_host, &o->advertise_port);
    case 'c':
        o->has_cluster = true;
        return co_id_parse(value, &o->cluster)
                   ? co_fail(CO_ERR_INVAL, "--cluster takes 32 hex digits; '%.80s' are not", value)
                   : 0;
    case 'r':
        o->restore = value;
        return 0;
    case 'm':
        return parse_members(value, &o->members);
    case 'p':
        return parse_peers(value, o);
    case 'A':
        o->mend_archive = value;
        return 0;
    case 'o':
        return parse_open(value, &o->keep_open);
    case 'k':
        return parse_keep(value, &o->keep_log);
    case 'v':
        return set_level(value);
    case 'F':
        return set_format(value);
    default:
        o->insecure = true;
        return 0;
    }
}

static int check_options(const struct options *o)
{
    if (!o->dir || !*o->dir || !o->node)
        return co_fail(CO_ERR_INVAL,
                       "--dir and --node are needed, as in: corallite-safekeeper --dir "
                       "/var/lib/corallite/sk1 --node 1 --listen 127.0.0.1:6410");
    if (o->mend_archive && !o->n_peers)
        return co_fail(CO_ERR_INVAL, "--mend-archive goes with --mend: it names what --mend asks "
                                     "after the other safekeepers");
    const char *open = !co_is_loopback(o->host)                   ? o->host
                       : o->http && !co_is_loopback(o->http_host) ? o->http_host
                                                                  : NULL;
    if (open && !o->insecure)
        return co_fail(
            CO_ERR_INVAL,
            "listening on %s lets other hosts in and there is no access control yet; "
            "listen on 127.0.0.1, or add --insecure-listen if the network is yours alone",
            open);
    return 0;
}

/* 0: go on; else the exit code + 1. */
static int parse(int argc, char **argv, struct options *o)
{
    struct option known[CO_OPTIONS_MAX + 1];
    int which, rc = 0;
    *o = (struct options){.host = "127.0.0.1", .port = 6410};
    rc = parse_members("1,2,3", &o->members);
    co_program_getopt(&program, known);
    while (!rc && (which = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (which == 'H') {
            co_program_help(&program, stdout);
            return 1;
        }
        if (which == 'M') {
            co_program_man(&program, CO_BUILD_VERSION, stdout);
            return 1;
        }
        if (which == 'V') {
            printf("corallite-safekeeper %s (protocol %u, format %u)\n", CO_BUILD_VERSION,
                   CO_PROTOCOL_VERSION, CO_FORMAT_VERSION);
            return 1;
        }
        if (which == '?') {
            fputs("try: corallite-safekeeper --help\n", stderr);
            return EXIT_USAGE + 1;
        }
        rc = set_option(o, which, optarg);
    }
    if (!rc && optind < argc)
        rc = co_fail(CO_ERR_INVAL, "'%.80s' is not an option", argv[optind]);
    if (!rc)
        rc = check_options(o);
    if (!rc)
        return 0;
    fprintf(stderr, "corallite-safekeeper: %s\n", co_sentence());
    return EXIT_USAGE + 1;
}

/* -- Running
 * --------------------------------------------------------------------------------------- */

static void on_done(void *owner, int rc, const char *sentence)
{
    struct daemon *d = owner;
    if (rc) {
        co_error("safekeeper", "stopping: %s", sentence);
        /* Nothing may be acknowledged any more, whatever the loop still holds. */
        _Exit(EXIT_FAILED);
    }
    uv_close((uv_handle_t *)&d->terminate, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    d->exit_code = 0;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    co_info("safekeeper", "stopping signal=%d", number);
    sk_server_stop(d->server);
}

static int answer_http(void *owner, const char *path, struct co_buf *body,
                       const char **content_type)
{
    struct daemon *d = owner;
    if (strcmp(path, "/healthz"))
        return 404;
    bool good = sk_server_healthy(d->server);
    *content_type = "text/plain; charset=utf-8";
    return co_buf_append(body, good ? "ok\n" : "stopping\n", good ? 3 : 9) ? 500 : good ? 200 : 503;
}

static int count_start(const char *dir, struct sk_lives *out)
{
    uint64_t random;
    co_random_bytes(&random, sizeof random);
    return sk_lives_begin(dir, random | 1, out);
}

static int start(struct daemon *d, const struct options *o, struct co_identity *identity)
{
    int rc = co_identity_open(o->dir, "safekeeper", o->node, o->has_cluster ? &o->cluster : NULL,
                              identity);
    if (rc)
        return rc;
    rc = count_start(o->dir, &d->lives);
    if (rc)
        return rc;
    uv_loop_init(&d->loop);
    /* Before anybody can connect: who is answered may send SIGTERM, and means a clean stop. */
    uv_signal_init(&d->loop, &d->terminate);
    uv_signal_init(&d->loop, &d->interrupt);
    d->terminate.data = d->interrupt.data = d;
    uv_signal_start(&d->terminate, on_signal, SIGTERM);
    uv_signal_start(&d->interrupt, on_signal, SIGINT);
    co_stop_hold_signals();
    struct sk_server_options server = {.dir = o->dir,
                                       .identity = identity,
                                       .lives = &d->lives,
                                       .host = o->host,
                                       .port = o->port,
                                       .keep_open = o->keep_open,
                                       .keep_log = o->keep_log,
                                       .done = on_done,
                                       .owner = d};
    rc = sk_server_start(&d->loop, &server, &d->server);
    if (!rc && o->http)
        rc = co_http_start(o->http_host, o->http_port, answer_http, d, &d->http);
    if (rc)
        return rc;
    return 0;
}

static void say_ready(const struct daemon *d, const struct options *o,
                      const struct co_identity *identity)
{
    char cluster[CO_ID_TEXT], disk[CO_ID_TEXT], http[300] = "none";
    uint16_t port = sk_server_port(d->server);
    if (d->http)
        snprintf(http, sizeof http, "%s:%u", o->http_host, co_http_port(d->http));
    co_info("safekeeper",
            "ready node=%u addr=%s:%u http=%s advertise=%s:%u cluster=%s disk=%s dir=%s version=%s",
            identity->node, o->host, port, http, o->advertise ? o->advertise_host : o->host,
            o->advertise ? o->advertise_port : port, co_id_format(&identity->cluster, cluster),
            co_id_format(&identity->disk, disk), o->dir, CO_BUILD_VERSION);
}

static int restore(const struct options *o)
{
    struct sk_restore r = o->members;
    r.url = o->restore;
    r.dir = o->dir;
    r.node = o->node;
    r.cluster = o->has_cluster ? &o->cluster : NULL;
    bool among = false;
    for (uint32_t i = 0; i < r.n_members; i++)
        among |= r.members[i] == r.node;
    int rc =
        among ? sk_restore(&r)
              : co_fail(CO_ERR_INVAL, "--members does not name node %u, which --node is", o->node);
    if (!rc)
        return 0;
    fprintf(stderr, "corallite-safekeeper: %s\n", co_sentence());
    return EXIT_FAILED;
}

static int mend(const struct options *o)
{
    struct co_identity identity;
    int rc = co_identity_open(o->dir, "safekeeper", o->node, o->has_cluster ? &o->cluster : NULL,
                              &identity);
    if (!rc) {
        rc = sk_mend(o->dir, &identity, o->peers, o->n_peers, o->mend_archive);
        co_identity_close(&identity);
    }
    if (rc)
        fprintf(stderr, "corallite-safekeeper: %s\n", co_sentence());
    else
        puts("every log can be opened");
    return rc ? EXIT_FAILED : 0;
}

int main(int argc, char **argv)
{
    static struct options o;
    static struct daemon d;
    struct co_identity identity;
    int rc = parse(argc, argv, &o);
    if (rc)
        return rc - 1;
    if (o.restore)
        return restore(&o);
    signal(SIGPIPE, SIG_IGN);
    co_process_raise_files();
    if (o.n_peers)
        return mend(&o);
    d.exit_code = EXIT_FAILED;
    rc = start(&d, &o, &identity);
    if (rc) {
        if (co_log_format() == CO_LOG_JSON)
            co_error("safekeeper", "cannot start: %s", co_sentence());
        else
            fprintf(stderr, "corallite-safekeeper: %s\n", co_sentence());
        fflush(stderr);
        _Exit(EXIT_FAILED);
    }
    say_ready(&d, &o, &identity);
    uv_run(&d.loop, UV_RUN_DEFAULT);
    if (d.http)
        co_http_stop(d.http);
    co_identity_close(&identity);
    co_info("safekeeper", "stopped exit=%d", d.exit_code);
    return d.exit_code;
}
