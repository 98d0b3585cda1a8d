/*
 * cluster.h - a local cluster: three safekeepers and a pageserver, or two, that `corallite up`
 * keeps in one directory.
 *
 *   D/cluster           this cluster's id and ports (format below)
 *   D/lock              locked while up or down is at work
 *   D/safekeeper-N/     data of the safekeepers       D/pageserver/   data of the pageserver
 *                                                     D/pageserver-2/ of the second
 *   D/log/NAME.log      what a daemon says            D/run/NAME.pid  its process
 *
 * D/cluster is text, a key and a value a line, the first line is the magic and format version:
 *     corallite-cluster 1
 *     id 00112233445566778899aabbccddeeff
 *     port-base 6400
 *     archive dir:/path            (only where there is one)
 *     keep-log 64M                 (only where `up --keep-log` was given)
 * A cluster whose daemons are not the first four has format version 2, and a line for each of them
 * with its node number and how far its port lies above port-base; `owner` is the pageserver that
 * owns the catalog:
 *     safekeeper 4 4
 *     pageserver 2 2
 *     owner 1
 *
 * D/run/NAME.pid is one line, "PID START BOOT": the process id, the time in clock ticks at which
 * that process started and the id of the boot of the machine. A pid alone may belong to somebody
 * else by now; the three together do not.
 *
 * Ports: pageserver P (pages) and P+1 (HTTP), the second P+2; safekeeper i of the first three
 * P+10+2(i-1), one that came later the first that is free of P+4, P+6, P+8, P+10, ...; HTTP the
 * next.
 *
 * cluster.c is pure (texts and ports), cluster_file.c touches the directory.
 */
#ifndef CORALLITE_CLI_CLUSTER_H
#define CORALLITE_CLI_CLUSTER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "archive/store.h"
#include "common/id.h"

#define CLUSTER_SAFEKEEPERS     3u /* of a new one */
#define CLUSTER_SAFEKEEPERS_MAX 6u /* spares and those that leave among them */
#define CLUSTER_PAGESERVERS_MAX 2u
#define CLUSTER_NODES_MAX       (CLUSTER_SAFEKEEPERS_MAX + CLUSTER_PAGESERVERS_MAX)
#define CLUSTER_PORT_BASE       6400u
#define CLUSTER_PORTS           16u   /* the highest port used is P + 15 */
#define CLUSTER_DIR_MAX         3800u /* leaves room for what lies below it in PATH_MAX */
#define CLUSTER_HOST            "127.0.0.1"
#define CLUSTER_KEEP_LOG        "256M" /* of each log, at a safekeeper, where there is an archive */

struct cluster_node {
    bool pageserver;
    uint32_t node;   /* a pageserver's says which of them, and nothing to anybody else */
    uint16_t offset; /* of its port from port_base; HTTP has the next one */
    char name[24];   /* "safekeeper-1", "pageserver", "pageserver-2" */
};

struct cluster {
    char dir[CLUSTER_DIR_MAX]; /* absolute */
    struct co_id id;
    uint16_t port_base;
    char archive[AR_URL_MAX_BYTES];            /* of the pageserver; "": none */
    char keep_log[16];                         /* SIZE, or "all"; "": CLUSTER_KEEP_LOG */
    struct cluster_node at[CLUSTER_NODES_MAX]; /* safekeepers by number, then pageservers */
    unsigned n;
    uint32_t owner; /* number of the pageserver that owns the catalog */
};

/* The first four: three safekeepers and a pageserver. */
void cluster_default(struct cluster *c);
static inline uint16_t cluster_port(const struct cluster *c, unsigned index)
{
    return (uint16_t)(c->port_base + c->at[index].offset);
}
/* Index of the pageserver that owns the catalog. */
unsigned cluster_owner(const struct cluster *c);
/* Index of a node by its number; c->n: there is none. */
unsigned cluster_find(const struct cluster *c, bool pageserver, uint32_t node);
/* Adds a daemon with the first free port. *index: where. CO_ERR_FULL. */
CO_MUST_CHECK int cluster_add(struct cluster *c, bool pageserver, uint32_t node, unsigned *index);
void cluster_remove(struct cluster *c, unsigned index);
/* Index of a node by its name ("safekeeper-2", also "sk2", "2"; "pageserver", "ps", "ps2").
 * CO_ERR_INVAL. */
CO_MUST_CHECK int cluster_node_by_name(const struct cluster *c, const char *name, unsigned *out);

/* "6400"; 1024 <= P and P+15 <= 65535. CO_ERR_INVAL with a sentence. */
CO_MUST_CHECK int cluster_parse_port_base(const char *text, uint16_t *out);

#define CLUSTER_TEXT_MAX (512u + AR_URL_MAX_BYTES)
/* D/cluster's text. Returns its length. */
unsigned cluster_format(const struct cluster *c, char out[CLUSTER_TEXT_MAX]);
/* CO_ERR_CORRUPT, CO_ERR_VERSION with a sentence naming `path`. Fills all but dir. */
CO_MUST_CHECK int cluster_parse(const char *text, const char *path, struct cluster *out);

struct cluster_pid {
    int pid;
    uint64_t start_ticks;
    char boot[64];
};
/* false when the text is not such a line. */
bool cluster_parse_pid(const char *text, struct cluster_pid *out);
/* Field 22 of /proc/PID/stat, whatever the program's name holds; false when there is none. */
bool cluster_parse_stat(const char *stat, uint64_t *start_ticks);

/* The message of a log line "TIME LEVEL MODULE: message"; a line of another form is returned whole.
 * Borrowed from `line`. */
const char *cluster_log_message(const char *line);

/* -- cluster_file.c ------------------------------------------------------------------------------
 */

/* $CORALLITE_DIR, else $XDG_DATA_HOME/corallite, else ~/.local/share/corallite. */
CO_MUST_CHECK int cluster_default_dir(char out[CLUSTER_DIR_MAX]);
/* CO_ERR_NOT_FOUND with a sentence when there is no cluster in `dir` (NULL: the default one). */
CO_MUST_CHECK int cluster_open(const char *dir, struct cluster *out);
/* Opens, or makes with a fresh id (directories mode 0700), and locks as cluster_lock does. *made
 * tells which; `port_base` is that of a new one, and `id`, if not NULL. */
CO_MUST_CHECK int cluster_open_or_make(const char *dir, uint16_t port_base, const struct co_id *id,
                                       struct cluster *out, bool *made);
/* Writes D/cluster anew, as a whole. */
CO_MUST_CHECK int cluster_save(const struct cluster *c);
/* Waits up to 10 s for another up or down. Held until the process ends. */
CO_MUST_CHECK int cluster_lock(const struct cluster *c);
/* Removes what lies in the directory and is the cluster's, then the directory if it is empty. */
CO_MUST_CHECK int cluster_purge(const struct cluster *c);
/* "D/SUB/NAME.SUFFIX" */
void cluster_path(const struct cluster *c, const char *sub, const char *name, const char *suffix,
                  char out[PATH_MAX]);

#endif
