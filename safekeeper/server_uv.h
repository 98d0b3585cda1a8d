/*
 * server_uv.h - the safekeeper as a whole: its data directory, its timelines, its connections.
 *
 * Start: registry and directories are compared (a listed timeline without files, or files with
 * votes that no entry lists: refused), then logs are scanned: at most SK_START_SCAN of at most
 * SK_START_SCAN_BYTES together, the rest when they are first asked for. Damage of a timeline's own
 * files halts that timeline alone, whenever it is found; what contradicts the registry or the
 * identity, a format that is newer, and a disk that fails refuse the start.
 *
 * A request names its timeline; one that is not open yet is opened on its store thread while its
 * messages wait. Timelines are spread over SK_STORES store threads by id. What is idle is closed
 * again when more than `keep_open` are: rest_uv.c.
 *
 * Stop (SIGTERM): connections are closed, every timeline gets SK_EV_SHUTDOWN and settles, the store
 * threads end, `done` is called with 0. A failed write or sync: `done` with the error, at once.
 *
 * Threads: the loop thread; sk_server_healthy any.
 */
#ifndef CORALLITE_SAFEKEEPER_SERVER_UV_H
#define CORALLITE_SAFEKEEPER_SERVER_UV_H

#include <uv.h>

#include "common/identity_file.h"
#include "safekeeper/lives_file.h"

#define SK_STORES           4u
#define SK_START_SCAN_BYTES (4 * CO_GIB)
#define SK_START_SCAN       16u  /* timelines at most; the others when they are first asked for */
#define SK_KEEP_OPEN        128u /* so many idle timelines stay open */
#define SK_IDLE_CLOSE_US    5000000ull /* after so long without use a timeline is idle */
#define SK_NEWS_MS          100u
#define SK_KEEP_LOG_MIN     (1ull << 20)
#define SK_RESERVE_PERCENT  5u /* of the disk: appends are refused below, votes are not */
#define SK_WARN_PERCENT     80u
#define SK_STOP_TIMEOUT_MS  10000u

struct sk_server_options {
    const char *dir; /* borrowed for the server's life */
    const struct co_identity *identity;
    struct sk_lives *lives; /* borrowed; NULL: starts are not counted */
    const char *host;
    uint16_t port;      /* 0: any */
    uint32_t keep_open; /* idle timelines; 0: SK_KEEP_OPEN */
    uint64_t idle_us;   /* 0: SK_IDLE_CLOSE_US */
    uint64_t keep_log;  /* bytes of a log that stay though they are archived; 0: all */
    void (*done)(void *owner, int rc, const char *sentence);
    void *owner;
};

struct sk_server;

CO_MUST_CHECK int sk_server_start(uv_loop_t *loop, const struct sk_server_options *options,
                                  struct sk_server **out);
uint16_t sk_server_port(const struct sk_server *server);
void sk_server_stop(struct sk_server *server);
bool sk_server_healthy(const struct sk_server *server);

#endif
