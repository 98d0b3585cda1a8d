/* main.c - corallite-pageserver: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/main_file.h"
#include "common/process_file.h"
#include "common/program.h"
#include "pageserver/server_uv.h"

#define EXIT_USAGE        2
#define LOOPS_MAX         32u /* half of the reader slots of the store */
#define LOOPS_DEFAULT_MAX 8u

enum option_id {
    O_DIR = 1,
    O_SAFEKEEPERS,
    O_CLUSTER,
    O_LISTEN,
    O_HTTP,
    O_ADVERTISE,
    O_MAP_SIZE,
    O_LOOPS,
    O_TAKE_OVER,
    O_ARCHIVE,
    O_ARCHIVE_EVERY,
    O_SNAPSHOT_EVERY,
    O_FOLLOW,
    O_INSECURE,
    O_LOG_LEVEL,
    O_LOG_FORMAT,
    O_HELP,
    O_MAN,
    O_VERSION
};

static const struct co_option known_options[] = {
    {"dir", O_DIR, "DIR", "data directory; made when absent"},
    {"safekeepers", O_SAFEKEEPERS, "LIST",
     "ID=HOST:PORT of each safekeeper, comma between them; computes are told these addresses"},
    {"cluster", O_CLUSTER, "ID", "the cluster's id, 32 hex digits; needed for a new directory"},
    {"listen", O_LISTEN, "HOST:PORT",
     "where computes connect (default 127.0.0.1:6400; port 0: any)"},
    {"http", O_HTTP, "HOST:PORT",
     "/healthz, /readyz, /metrics and the API below /v1 (default: none)"},
    {"advertise", O_ADVERTISE, "HOST:PORT",
     "the address that others use for this pageserver, when it differs"},
    {"map-size", O_MAP_SIZE, "SIZE",
     "most that the page store may grow to (default 1T): address space, not disk"},
    {"loops", O_LOOPS, "N",
     "threads that serve pages, 1 to 32 (default: one a processor, at most 8)"},
    {"archive", O_ARCHIVE, "URL",
     "keep the log there as well, outside the cluster: dir:/path of a directory that is there, "
     "or s3://bucket/prefix (default: none). With --follow: the one that the owner keeps, to read "
     "what safekeepers have dropped"},
    {"archive-every", O_ARCHIVE_EVERY, "TIME", "how often what is new goes there (default 5s)"},
    {"snapshot-every", O_SNAPSHOT_EVERY, "SIZE",
     "put a snapshot of a branch there when its log has grown so much since the newest one, and by "
     "half of what that one takes (default 64M; 0: never)"},
    {"follow", O_FOLLOW, "HOST:PORT",
     "follow the pageserver there: serve the same pages, and leave every change of the catalog to "
     "it"},
    {"take-over", O_TAKE_OVER, NULL,
     "own the catalog from now on, in the place of a pageserver that is lost for good"},
    {"insecure-listen", O_INSECURE, NULL,
     "allow --listen and --http on addresses that other hosts reach: there is no access control "
     "yet"},
    {"log-level", O_LOG_LEVEL, "LEVEL", "debug, info (default), warn, error or off"},
    {"log-format", O_LOG_FORMAT, "FORMAT",
     "text (default) or json: one object a line on standard error"},
    {"help", O_HELP, NULL, "print this text"},
    {"man", O_MAN, NULL, "print the manual page"},
    {"version", O_VERSION, NULL, "print the version"},
    {0}};

static const struct co_program program = {
    .name = "corallite-pageserver",
    .summary = "serves every version of every page of a Corallite cluster",
    .synopsis = "--dir DIR --safekeepers 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT [options]",
    .details = "Serves every version of every page of the databases whose log the safekeepers "
               "keep, and their catalog. Its directory is a cache of the log and can be made "
               "again.\n\nIt writes one line an event on standard error, and runs in the "
               "foreground; `corallite up` starts one and three safekeepers.",
    .options = known_options,
    .examples = "corallite-pageserver --dir /srv/ps --cluster 0123456789abcdef0123456789abcdef "
                "--safekeepers 1=127.0.0.1:6410,2=127.0.0.1:6412,3=127.0.0.1:6414\n",
    .see_also = (const char *const[][2]){
        {"corallite", "1"}, {"corallite-up", "1"}, {"corallite-safekeeper", "8"}, {NULL, NULL}}};

static int usage(void)
{
    fprintf(stderr, "corallite-pageserver: %s; --help lists the options\n", co_sentence());
    return EXIT_USAGE;
}

static int add_node(struct ps_options *o, const char *text)
{
    char *end;
    unsigned long id = strtoul(text, &end, 10);
    if (end == text || *end != '=' || id == 0 || id > UINT16_MAX)
        return co_fail(CO_ERR_INVAL,
                       "--safekeepers wants ID=HOST:PORT with ids from 1; there is '%.80s'", text);
    if (o->n_nodes == CO_MEMBERS_MAX)
        return co_fail(CO_ERR_INVAL, "--safekeepers takes at most %d", CO_MEMBERS_MAX);
    uint32_t at = o->n_nodes;
    for (; at > 0 && o->nodes[at - 1].id >= id; at--) {
        if (o->nodes[at - 1].id == id)
            return co_fail(CO_ERR_INVAL, "--safekeepers has id %lu twice", id);
        o->nodes[at] = o->nodes[at - 1];
    }
    o->n_nodes++;
    o->nodes[at].id = (uint32_t)id;
    return co_parse_address("--safekeepers", end + 1, o->nodes[at].host, &o->nodes[at].port);
}

static int parse_nodes(struct ps_options *o, const char *text)
{
    char item[400];
    o->n_nodes = 0;
    for (;;) {
        size_t n = strcspn(text, ",");
        if (n >= sizeof item)
            return co_fail(CO_ERR_INVAL, "--safekeepers has an address that is too long");
        memcpy(item, text, n);
        item[n] = 0;
        int rc = add_node(o, item);
        if (rc)
            return rc;
        if (!text[n])
            break;
        text += n + 1;
    }
    if (o->n_nodes % 2 == 0)
        return co_fail(CO_ERR_INVAL, "--safekeepers wants an odd number of them; there are %u",
                       o->n_nodes);
    return 0;
}

static int parse_loops(const char *text, uint32_t *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end || n < 1 || n > LOOPS_MAX)
        return co_fail(CO_ERR_INVAL, "--loops wants a number from 1 to %u; there is '%.80s'",
                       LOOPS_MAX, text);
    *out = (uint32_t)n;
    return 0;
}

static uint32_t default_loops(void)
{
    uint32_t n = co_process_processors();
    return n < LOOPS_DEFAULT_MAX ? n : LOOPS_DEFAULT_MAX;
}

static int copy(const char *option, const char *text, char *out, size_t cap)
{
    if ((size_t)snprintf(out, cap, "%s", text) >= cap)
        return co_fail(CO_ERR_INVAL, "%s is longer than %zu characters", option, cap - 1);
    return 0;
}

static int take_option(int id, struct ps_options *o, bool *insecure)
{
    enum co_log_level level;
    enum co_log_format format;
    char host[256];
    uint16_t port;
    int rc = 0;
    switch (id) {
    case O_DIR:
        return copy("--dir", optarg, o->dir, sizeof o->dir);
    case O_SAFEKEEPERS:
        return parse_nodes(o, optarg);
    case O_CLUSTER:
        o->have_cluster = true;
        return co_id_parse(optarg, &o->cluster);
    case O_LISTEN:
        return co_parse_address("--listen", optarg, o->listen_host, &o->listen_port);
    case O_HTTP:
        o->http = true;
        return co_parse_address("--http", optarg, o->http_host, &o->http_port);
    case O_ADVERTISE:
        rc = co_parse_address("--advertise", optarg, host, &port);
        return rc ? rc : copy("--advertise", optarg, o->advertise, sizeof o->advertise);
    case O_MAP_SIZE:
        return co_parse_size("--map-size", optarg, &o->map_bytes);
    case O_LOOPS:
        return parse_loops(optarg, &o->loops);
    case O_TAKE_OVER:
        o->take_over = true;
        return 0;
    case O_ARCHIVE:
        return copy("--archive", optarg, o->archive, sizeof o->archive);
    case O_ARCHIVE_EVERY:
        return co_parse_duration("--archive-every", optarg, &o->archive_every_ms);
    case O_SNAPSHOT_EVERY:
        return co_parse_size("--snapshot-every", optarg, &o->snapshot_every);
    case O_FOLLOW:
        o->follow = true;
        return co_parse_address("--follow", optarg, o->follow_host, &o->follow_port);
    case O_INSECURE:
        *insecure = true;
        return 0;
    case O_LOG_LEVEL:
        rc = co_log_parse_level(optarg, &level);
        if (!rc)
            co_log_set_level(level);
        return rc;
    case O_LOG_FORMAT:
        rc = co_log_parse_format(optarg, &format);
        if (!rc)
            co_log_set_format(format);
        return rc;
    default:
        return co_fail(CO_ERR_INVAL, "an option is not known or lacks its value");
    }
}

static int check(const struct ps_options *o, bool insecure)
{
    if (!o->dir[0])
        return co_fail(CO_ERR_INVAL, "--dir DIR is needed");
    if (!o->n_nodes)
        return co_fail(CO_ERR_INVAL, "--safekeepers 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT is needed");
    if (o->follow && o->take_over)
        return co_fail(CO_ERR_INVAL,
                       "--follow and --take-over contradict each other: one of them says who owns "
                       "the catalog");
    if (o->map_bytes && o->map_bytes < 16 * CO_MIB)
        return co_fail(CO_ERR_INVAL, "--map-size wants at least 16M");
    if (!insecure && !co_is_loopback(o->listen_host))
        return co_fail(CO_ERR_INVAL,
                       "--listen %s is no loopback address: there is neither encryption nor "
                       "access control yet; --insecure-listen allows it",
                       o->listen_host);
    if (!insecure && o->http && !co_is_loopback(o->http_host))
        return co_fail(CO_ERR_INVAL,
                       "--http %s is no loopback address; --insecure-listen allows it",
                       o->http_host);
    return 0;
}

int main(int argc, char **argv)
{
    static struct ps_options o = {.listen_host = "127.0.0.1",
                                  .listen_port = 6400,
                                  .archive_every_ms = 5000,
                                  .snapshot_every = 64 * CO_MIB};
    struct option longs[CO_OPTIONS_MAX + 1];
    bool insecure = false;
    int id;
    opterr = 0;
    co_program_getopt(&program, longs);
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (id == O_HELP) {
            co_program_help(&program, stdout);
            return 0;
        }
        if (id == O_MAN) {
            co_program_man(&program, CO_BUILD_VERSION, stdout);
            return 0;
        }
        if (id == O_VERSION) {
            puts("corallite-pageserver " CO_BUILD_VERSION);
            return 0;
        }
        if (id == '?') {
            co_fail(CO_ERR_INVAL, "the option %s is not known or lacks its value",
                    argv[optind - 1]);
            return usage();
        }
        if (take_option(id, &o, &insecure))
            return usage();
    }
    if (optind < argc) {
        co_fail(CO_ERR_INVAL, "'%s' is no option", argv[optind]);
        return usage();
    }
    if (check(&o, insecure))
        return usage();
    if (!o.loops)
        o.loops = default_loops();
    co_process_raise_files();
    return ps_server_run(&o);
}
