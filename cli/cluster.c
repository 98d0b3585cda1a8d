#include "cli/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "common/assert.h"

/* Where a daemon's port may lie above port_base. The first three safekeepers always had theirs. */
static const uint16_t safekeeper_offsets[CLUSTER_SAFEKEEPERS_MAX] = {4, 6, 8, 10, 12, 14};
static const uint16_t pageserver_offsets[CLUSTER_PAGESERVERS_MAX] = {0, 2};

static struct cluster_node make_node(bool pageserver, uint32_t node, uint16_t offset)
{
    struct cluster_node x = {.pageserver = pageserver, .node = node, .offset = offset};
    if (pageserver && node == 1)
        snprintf(x.name, sizeof x.name, "pageserver");
    else
        snprintf(x.name, sizeof x.name, "%s-%u", pageserver ? "pageserver" : "safekeeper", node);
    return x;
}

/* In its place: safekeepers by number, then pageservers. */
static unsigned insert(struct cluster *c, const struct cluster_node *x)
{
    unsigned at = c->n++;
    for (; at > 0 && (c->at[at - 1].pageserver > x->pageserver ||
                      (c->at[at - 1].pageserver == x->pageserver && c->at[at - 1].node > x->node));
         at--)
        c->at[at] = c->at[at - 1];
    c->at[at] = *x;
    return at;
}

void cluster_default(struct cluster *c)
{
    c->n = 0;
    c->owner = 1;
    for (uint32_t i = 1; i <= CLUSTER_SAFEKEEPERS; i++) {
        struct cluster_node x = make_node(false, i, (uint16_t)(10 + 2 * (i - 1)));
        insert(c, &x);
    }
    struct cluster_node x = make_node(true, 1, 0);
    insert(c, &x);
}

static bool is_default(const struct cluster *c)
{
    static struct cluster first;
    cluster_default(&first);
    bool same = c->n == first.n && c->owner == first.owner;
    for (unsigned i = 0; same && i < c->n; i++)
        same = c->at[i].node == first.at[i].node && c->at[i].offset == first.at[i].offset &&
               c->at[i].pageserver == first.at[i].pageserver;
    return same;
}

unsigned cluster_find(const struct cluster *c, bool pageserver, uint32_t node)
{
    unsigned i = 0;
    while (i < c->n && (c->at[i].pageserver != pageserver || c->at[i].node != node))
        i++;
    return i;
}

unsigned cluster_owner(const struct cluster *c)
{
    unsigned i = cluster_find(c, true, c->owner);
    co_assert(i < c->n);
    return i;
}

int cluster_add(struct cluster *c, bool pageserver, uint32_t node, unsigned *index)
{
    const uint16_t *offsets = pageserver ? pageserver_offsets : safekeeper_offsets;
    unsigned n = pageserver ? CLUSTER_PAGESERVERS_MAX : CLUSTER_SAFEKEEPERS_MAX;
    for (unsigned k = 0; k < n; k++) {
        bool taken = false;
        for (unsigned i = 0; i < c->n; i++)
            taken |= c->at[i].offset == offsets[k];
        if (taken)
            continue;
        struct cluster_node x = make_node(pageserver, node, offsets[k]);
        *index = insert(c, &x);
        return 0;
    }
    return co_fail(CO_ERR_FULL, "the cluster in %s has %u %ss already, and that is the most",
                   c->dir, n, pageserver ? "pageserver" : "safekeeper");
}

void cluster_remove(struct cluster *c, unsigned index)
{
    co_assert(index < c->n);
    c->n--;
    for (unsigned i = index; i < c->n; i++)
        c->at[i] = c->at[i + 1];
    c->at[c->n] = (struct cluster_node){0};
}

static bool is_called(const struct cluster_node *x, const char *name)
{
    char shorter[16], number[16];
    snprintf(shorter, sizeof shorter, x->pageserver ? "ps%u" : "sk%u", x->node);
    snprintf(number, sizeof number, "%u", x->node);
    return strcmp(name, x->name) == 0 || strcmp(name, shorter) == 0 ||
           (!x->pageserver && strcmp(name, number) == 0) ||
           (x->pageserver && x->node == 1 && (!strcmp(name, "ps") || !strcmp(name, "0")));
}

int cluster_node_by_name(const struct cluster *c, const char *name, unsigned *out)
{
    const char *names[CLUSTER_NODES_MAX];
    char all[200] = "";
    size_t used = 0;
    for (unsigned i = 0; i < c->n; i++) {
        names[i] = c->at[i].name;
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s",
                                 i == 0          ? ""
                                 : i + 1 == c->n ? " and "
                                                 : ", ",
                                 names[i]);
        if (is_called(&c->at[i], name)) {
            *out = i;
            return 0;
        }
    }
    const char *near = cli_nearest(name, names, c->n);
    return co_fail(CO_ERR_INVAL, "there is no daemon '%.60s'%s%s%s; they are %s", name,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", all);
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
#define VERSION 2ul

unsigned cluster_format(const struct cluster *c, char out[CLUSTER_TEXT_MAX])
{
    char id[CO_ID_TEXT];
    bool first = is_default(c);
    int n = snprintf(out, CLUSTER_TEXT_MAX, MAGIC "%lu\nid %s\nport-base %u\n%s%s%s%s%s%s",
                     first ? 1ul : VERSION, co_id_format(&c->id, id), (unsigned)c->port_base,
                     c->archive[0] ? "archive " : "", c->archive, c->archive[0] ? "\n" : "",
                     c->keep_log[0] ? "keep-log " : "", c->keep_log, c->keep_log[0] ? "\n" : "");
    for (unsigned i = 0; !first && i < c->n; i++)
        n += snprintf(out + n, CLUSTER_TEXT_MAX - (size_t)n, "%s %u %u\n",
                      c->at[i].pageserver ? "pageserver" : "safekeeper", c->at[i].node,
                      c->at[i].offset);
    if (!first)
        n += snprintf(out + n, CLUSTER_TEXT_MAX - (size_t)n, "owner %u\n", c->owner);
    co_assert(n > 0 && (unsigned)n < CLUSTER_TEXT_MAX);
    return (unsigned)n;
}

static int damaged(const char *path, const char *what)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s is damaged: %s; restore it from a copy, or take another --dir", path, what);
}

/* The lines of one kind. false: one of them cannot be. */
static bool parse_nodes(const char *text, bool pageserver, struct cluster *out)
{
    const char *word = pageserver ? "\npageserver " : "\nsafekeeper ";
    const uint16_t *offsets = pageserver ? pageserver_offsets : safekeeper_offsets;
    unsigned n = 0, max = pageserver ? CLUSTER_PAGESERVERS_MAX : CLUSTER_SAFEKEEPERS_MAX;
    for (const char *line = text; (line = strstr(line, word)) != NULL; line++) {
        unsigned node = 0, offset = 0, k = 0;
        if (sscanf(line + strlen(word), "%5u %5u", &node, &offset) != 2 || node == 0 ||
            node > UINT16_MAX || n++ == max || cluster_find(out, pageserver, node) < out->n)
            return false;
        while (k < max && offsets[k] != offset)
            k++;
        for (unsigned i = 0; i < out->n; i++)
            if (out->at[i].offset == offset)
                return false;
        if (k == max)
            return false;
        struct cluster_node x = make_node(pageserver, node, (uint16_t)offset);
        insert(out, &x);
    }
    return n > 0;
}

static int parse_daemons(const char *text, unsigned long version, const char *path,
                         struct cluster *out)
{
    cluster_default(out);
    if (version < 2)
        return 0;
    const char *line = strstr(text, "\nowner ");
    out->n = 0;
    if (!parse_nodes(text, false, out) || !parse_nodes(text, true, out))
        return damaged(path, "its lines 'safekeeper' and 'pageserver' make no sense");
    if (!line || sscanf(line, "\nowner %5u", &out->owner) != 1 ||
        cluster_find(out, true, out->owner) == out->n)
        return damaged(path, "its line 'owner' names no pageserver");
    return 0;
}

int cluster_parse(const char *text, const char *path, struct cluster *out)
{
    unsigned long version;
    if (strncmp(text, MAGIC, strlen(MAGIC)) != 0 ||
        sscanf(text + strlen(MAGIC), "%lu", &version) != 1)
        return damaged(path, "its first line is not '" MAGIC "1' or 2");
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
    out->keep_log[0] = 0;
    line = strstr(text, "\nkeep-log ");
    if (line && sscanf(line, "\nkeep-log %15s", out->keep_log) != 1)
        return damaged(path, "the line 'keep-log' has no size");
    return parse_daemons(text, version, path, out);
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
