/*
 * server_uv.h - the pageserver as its *_uv.c files share it. Everything here lives on the loop
 * thread but for the jobs of the writer (writer_uv.h) and the health text (health_http.c).
 */
#ifndef CORALLITE_PAGESERVER_SERVER_UV_H
#define CORALLITE_PAGESERVER_SERVER_UV_H

#include <uv.h>

#include "common/daemon_http.h"
#include "common/identity_file.h"
#include "pageserver/metrics.h"
#include "pageserver/registry.h"
#include "pageserver/writer_uv.h"
#include "proto/peer_uv.h"

struct ps_options {
    char dir[400];
    char listen_host[256], http_host[256];
    uint16_t listen_port, http_port;
    bool http;
    bool take_over;
    uint64_t map_bytes;
    bool have_cluster;
    struct co_id cluster;
    char advertise[300]; /* HOST:PORT told to clients; "": the listening one */
    uint32_t n_nodes;
    struct {
        uint32_t id;
        char host[256];
        uint16_t port;
    } nodes[CO_MEMBERS_MAX]; /* ascending by id */
};

struct ps_server;

/* A safekeeper, and our one connection to it. */
struct ps_node {
    struct ps_server *s;
    uint32_t index, id;
    char host[256];
    uint16_t port;
    struct peer *peer; /* NULL: waiting to connect again */
    bool ready;        /* HelloOk came */
    struct co_id disk; /* as it said last; zero: not known */
    uint64_t list_request;
    uint64_t heard_ms; /* of the last frame */
    unsigned failures; /* in a row */
    uv_timer_t timer;  /* to connect again */
};

enum ps_ask_kind { PS_ASK_OPEN, PS_ASK_CREATE, PS_ASK_DROP, PS_ASK_LIST };

/* A request about names that waits for the registry. */
struct ps_ask {
    enum ps_ask_kind kind;
    struct ps_session *session;
    uint64_t request;
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    struct co_id database; /* CREATE: the caller's choice; DROP: what is being dropped; or zero */
    uint64_t deadline_ms;
    struct ps_ask *next;
};

struct ps_session {
    struct ps_server *s;
    struct peer *peer;
    struct ps_wait *waits;
    uint32_t n_waits;
    struct ps_session *next, **prev;
};

struct ps_server {
    uv_loop_t loop;
    const struct ps_options *options;
    struct co_identity identity;
    struct ps_store *store;
    struct ps_txn *read; /* the loop's */
    struct ps_writer *writer;
    struct ps_registry reg;
    tlno_t next_no;
    struct ps_node nodes[CO_MEMBERS_MAX];
    uint64_t last_request; /* of ours, to safekeepers */
    struct peer_server *listener;
    struct co_http *http;
    struct ps_health *health;
    struct ps_session *sessions;
    struct ps_ask *asks;
    uv_timer_t tick, purge;
    uv_signal_t sigterm, sigint;
    bool purging, ready, closing;
    bool map_alarm;
    int exit_code;
    uint64_t started_us;
};

/* -- server_uv.c: life ------------------------------------------------------------------------- */
/* Runs until SIGTERM or a fatal error; the exit code of the process. */
int ps_server_run(const struct ps_options *options);
/* Stops serving because of co_sentence(); exit code 1. */
void ps_server_fatal(struct ps_server *s);

/* -- catalog_uv.c: safekeepers' registries ----------------------------------------------------- */
CO_MUST_CHECK int ps_catalog_load(struct ps_server *s);
CO_MUST_CHECK int ps_catalog_start(struct ps_server *s);
void ps_catalog_tick(struct ps_server *s);
void ps_catalog_close(struct ps_server *s);
uint32_t ps_nodes_ready(const struct ps_server *s);
/* Does what is due for a timeline: sends it to those that lack it, stores it. */
void ps_catalog_drive(struct ps_server *s, struct ps_timeline *tl);
/* Begins a creation. */
CO_MUST_CHECK int ps_catalog_create(struct ps_server *s, const char *db, const char *branch,
                                    const struct co_id *database, struct ps_timeline **out);

/* -- puller_uv.c: records ---------------------------------------------------------------------- */
/* Pulls this timeline from now on, if it can be opened and is not being pulled. */
void ps_feed_open(struct ps_server *s, struct ps_timeline *tl);
/* Ends it; a batch that is being ingested is finished first. */
void ps_feed_close(struct ps_timeline *tl);
/* A node came or went. */
void ps_feeds_node(struct ps_server *s, uint32_t node, bool ready);
/* Takes a STREAM_DATA. */
CO_MUST_CHECK int ps_feed_data(struct ps_server *s, uint32_t node, const struct frame_header *frame,
                               struct co_span body);
/* An Error with this request id came. False: it was no request of a feed. */
bool ps_feed_error(struct ps_server *s, uint32_t node, uint64_t request, int code);
/* Somebody waits for more than there is. */
void ps_feed_wanted(struct ps_timeline *tl);
/* CO_ERR_HALTED with a sentence if the timeline is halted, else 0. */
CO_MUST_CHECK int ps_feed_check(const struct ps_timeline *tl);
/* "safekeeper 2 at 127.0.0.1:6412", where the timeline is pulled from. */
const char *ps_feed_source(const struct ps_timeline *tl, char text[320]);
void ps_feeds_tick(struct ps_server *s);

/* -- serve_uv.c: sessions and names ------------------------------------------------------------ */
CO_MUST_CHECK int ps_serve_start(struct ps_server *s);
void ps_serve_close(struct ps_server *s);
/* How long a request about names waits; a variable for the tests. */
extern uint32_t ps_ask_ms;
/* The registry changed: answers the asks that can be answered, and those whose time is over. */
void ps_serve_asks(struct ps_server *s);

/* -- pages_uv.c: GET_PAGES, CHANGES_SINCE ------------------------------------------------------ */
/* Both answer, or wait for the log with the request's deadline. */
void ps_pages_get(struct ps_session *session, uint64_t request, struct co_span message);
void ps_pages_changes(struct ps_session *session, uint64_t request, struct co_span message);
/* The log of a timeline moved on, was halted or dropped. */
void ps_pages_wake(struct ps_timeline *tl);
/* The session ends: its waits go. */
void ps_pages_forget(struct ps_session *session);

/* -- health_http.c ----------------------------------------------------------------------------- */
CO_MUST_CHECK int ps_health_start(struct ps_server *s);
/* Loop thread: what /healthz and /readyz say from now on. */
void ps_health_update(struct ps_server *s);
void ps_health_stop(struct ps_server *s);

#endif
