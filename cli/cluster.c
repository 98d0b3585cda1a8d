#include "cli/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "common/assert.h"

static const char *const names[CLUSTER_NODES] = {"safekeeper-1", "safekeeper-2", "safekeeper-3",
                                                 "pageserver"};

struct cluster_node cluster_node(uint16_t port_base, unsigned index)
{
    co_assert(index < CLUSTER_NODES);
    bool pageserver = index == CLUSTER_PAGESERVER;
    unsigned port = pageserver ? port_base : port_base + 10u + 2u * index;
    return (struct cluster_node){
        .name = names[index],
        .node = pageserver ? 0 : index + 1,
        .port = (uint16_t)port,
        .http_port = (uint16_t)(port + 1),
    };
}

int cluster_node_by_name(const char *name, unsigned *out)
{
    static const char *const shorts[CLUSTER_NODES][2] = {
        {"sk1", "1"}, {"sk2", "2"}, {"sk3", "3"}, {"ps", "0"}};
    for (unsigned i = 0; i < CLUSTER_NODES; i++)
        if (strcmp(name, names[i]) == 0 || strcmp(name, shorts[i][0]) == 0 ||
            strcmp(name, shorts[i][1]) == 0) {
            *out = i;
            return 0;
        }
    const char *near = cli_nearest(name, names, CLUSTER_NODES);
    return co_fail(CO_ERR_INVAL,
                   "there is no daemon '%.60s'%s%s%s; they are safekeeper-1, safekeeper-2, "
                   "safekeeper-3 and pageserver",
                   name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int cluster_parse_port_base(const char *text, uint16_t *out)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || port < 1024 || port > 65536 - CLUSTER_PORTS)
        return co_fail(
            CO_ERR_INVAL,
            "--port-base is a port from 1024 to %u (the %u ports from there on are used), "
            "or 'auto'; there is '%.40s'",
            65536u - CLUSTER_PORTS, CLUSTER_PORTS, text);
    *out = (uint16_t)port;
    return 0;
}

/* -- D/cluster -----------------------------------------------------------------------------------
 */

#define MAGIC   "corallite-cluster "
#define VERSION 1ul

unsigned cluster_format(const struct cluster *c, char out[CLUSTER_TEXT_MAX])
{
    char id[CO_ID_TEXT];
    int n = snprintf(out, CLUSTER_TEXT_MAX, MAGIC "%lu\nid %s\nport-base %u\n%s%s%s", VERSION,
                     co_id_format(&c->id, id), (unsigned)c->port_base,
                     c->archive[0] ? "archive " : "", c->archive, c->archive[0] ? "\n" : "");
    co_assert(n > 0 && (unsigned)n < CLUSTER_TEXT_MAX);
    return (unsigned)n;
}

static int damaged(const char *path, const char *what)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s is damaged: %s; restore it from a copy, or take another --dir", path, what);
}

int cluster_parse(const char *text, const char *path, struct cluster *out)
{
    unsigned long version;
    if (strncmp(text, MAGIC, strlen(MAGIC)) != 0 ||
        sscanf(text + strlen(MAGIC), "%lu", &version) != 1)
        return damaged(path, "its first line is not '" MAGIC "1'");
    if (version > VERSION)
        return co_fail(CO_ERR_VERSION,
                       "%s has format %lu and this corallite knows formats up to %lu; use a newer "
                       "corallite",
                       path, version, VERSION);
    char id[CO_ID_TEXT] = "";
    char port[8] = "";
    const char *line = strstr(text, "\nid ");
    if (!line || sscanf(line, "\nid %32s", id) != 1 || co_id_parse(id, &out->id) != 0)
        return damaged(path, "there is no line 'id' with 32 hex digits");
    line = strstr(text, "\nport-base ");
    if (!line || sscanf(line, "\nport-base %7s", port) != 1 ||
        cluster_parse_port_base(port, &out->port_base) != 0)
        return damaged(path, "there is no line 'port-base' with a port");
    out->archive[0] = 0;
    line = strstr(text, "\narchive ");
    if (line) {
        line += strlen("\narchive ");
        size_t len = strcspn(line, "\n");
        if (len == 0 || len >= sizeof out->archive)
            return damaged(path, "the line 'archive' has no URL");
        memcpy(out->archive, line, len);
        out->archive[len] = 0;
    }
    return 0;
}

/* -- Processes ------------------------------------------------------------------------------------
 */

bool cluster_parse_pid(const char *text, struct cluster_pid *out)
{
    unsigned long long ticks;
    *out = (struct cluster_pid){0};
    if (sscanf(text, "%d %llu %63s", &out->pid, &ticks, out->boot) != 3 || out->pid <= 1)
        return false;
    out->start_ticks = ticks;
    return true;
}

bool cluster_parse_stat(const char *stat, uint64_t *start_ticks)
{
    /* "PID (NAME) STATE ...": the name may hold anything, so count from its last parenthesis, after
     * which field 3 comes. */
    const char *at = strrchr(stat, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    unsigned long long ticks;
    if (!at || sscanf(at, " %llu", &ticks) != 1)
        return false;
    *start_ticks = ticks;
    return true;
}

const char *cluster_log_message(const char *line)
{
    char level[8];
    int message = 0;
    if (sscanf(line, "%*40s %7[a-z] %*[^ :]: %n", level, &message) == 1 && message > 0)
        return line + message;
    return line;
}
