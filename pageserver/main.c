/* main.c - corallite-pageserver: the command line. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/main_file.h"
#include "pageserver/server_uv.h"

#define EXIT_USAGE 2

static const char help[] =
    "Usage: corallite-pageserver --dir DIR --safekeepers 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT "
    "[options]\n"
    "\n"
    "Serves every version of every page of the databases whose log the safekeepers keep.\n"
    "\n"
    "  --dir DIR              data directory; made when absent\n"
    "  --safekeepers LIST     ID=HOST:PORT of each safekeeper, comma between them; computes are "
    "told\n"
    "                         these addresses\n"
    "  --cluster ID           the cluster's id, 32 hex digits; needed for a new directory\n"
    "  --listen HOST:PORT     where computes connect (default 127.0.0.1:6400; port 0: any)\n"
    "  --http HOST:PORT       /healthz, /readyz, /metrics and the API below /v1 (default: off)\n"
    "  --advertise HOST:PORT  the address that others use for this pageserver, when it differs\n"
    "  --map-size SIZE        most that the page store may grow to (default 1T): address space,\n"
    "                         not disk\n"
    "  --take-over            serve the timelines of a pageserver whose disk is lost\n"
    "  --insecure-listen      allow --listen and --http on other than loopback addresses\n"
    "  --log-level LEVEL      debug, info (default), warn, error, off\n"
    "  --help, --version\n";

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

enum option_id {
    O_DIR = 1,
    O_SAFEKEEPERS,
    O_CLUSTER,
    O_LISTEN,
    O_HTTP,
    O_ADVERTISE,
    O_MAP_SIZE,
    O_TAKE_OVER,
    O_INSECURE,
    O_LOG_LEVEL,
    O_HELP,
    O_VERSION
};

static const struct option longs[] = {{"dir", required_argument, NULL, O_DIR},
                                      {"safekeepers", required_argument, NULL, O_SAFEKEEPERS},
                                      {"cluster", required_argument, NULL, O_CLUSTER},
                                      {"listen", required_argument, NULL, O_LISTEN},
                                      {"http", required_argument, NULL, O_HTTP},
                                      {"advertise", required_argument, NULL, O_ADVERTISE},
                                      {"map-size", required_argument, NULL, O_MAP_SIZE},
                                      {"take-over", no_argument, NULL, O_TAKE_OVER},
                                      {"insecure-listen", no_argument, NULL, O_INSECURE},
                                      {"log-level", required_argument, NULL, O_LOG_LEVEL},
                                      {"help", no_argument, NULL, O_HELP},
                                      {"version", no_argument, NULL, O_VERSION},
                                      {NULL, 0, NULL, 0}};

static int copy(const char *option, const char *text, char *out, size_t cap)
{
    if ((size_t)snprintf(out, cap, "%s", text) >= cap)
        return co_fail(CO_ERR_INVAL, "%s is longer than %zu characters", option, cap - 1);
    return 0;
}

static int take_option(int id, struct ps_options *o, bool *insecure)
{
    enum co_log_level level;
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
    case O_TAKE_OVER:
        o->take_over = true;
        return 0;
    case O_INSECURE:
        *insecure = true;
        return 0;
    case O_LOG_LEVEL:
        rc = co_log_parse_level(optarg, &level);
        if (!rc)
            co_log_set_level(level);
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
    static struct ps_options o = {.listen_host = "127.0.0.1", .listen_port = 6400};
    bool insecure = false;
    int id;
    opterr = 0;
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (id == O_HELP) {
            fputs(help, stdout);
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
    return ps_server_run(&o);
}
