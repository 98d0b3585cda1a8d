/*
 * v1_sock.h - a request of /v1 on its worker: an ordinary client of the pageserver's own port.
 *
 * Every decision about names, moments and the log is the server's and is made in one place; here
 * requests are translated: HTTP and JSON in, frames to the pages port (loopback, peer_sock), JSON
 * out. Importing and SQL are not here on purpose: a server of Corallite treats pages as opaque
 * bytes.
 *
 * Threads: each call lives on one worker of daemon_http. What they share is struct ps_v1: where the
 * pages port is, written before the first call, and connections to it that have nothing to do.
 */
#ifndef CORALLITE_PAGESERVER_V1_SOCK_H
#define CORALLITE_PAGESERVER_V1_SOCK_H

#include <pthread.h>

#include "common/daemon_http.h"
#include "common/id.h"
#include "pageserver/v1_route.h"
#include "proto/peer_sock.h"

#define V1_ANSWER_MS 30000u /* how long a call waits for the server */
#define V1_WAIT_MS   28000u /* how long the server is told to wait */

#define V1_WORKERS   8u

struct ps_v1 {
    char host[256]; /* the pages port, as it is reached from this host */
    uint16_t port;
    struct co_id cluster;

    pthread_mutex_t mutex; /* the rest */
    struct psock idle[V1_WORKERS];
    unsigned n_idle;
};

struct v1_call {
    struct ps_v1 *v1;
    const struct v1_route *route;
    struct v1_match m;
    json_t *body; /* NULL: none */
    struct co_http_answer *answer;
    struct psock server; /* fd -1: not connected */
};

/* -- v1_sock.c -- */
/* Fills in a service whose owner is `v1` (host, port and cluster set), which outlives it. */
void v1_service(struct ps_v1 *v1, struct co_http_service *out);
/* After the service has ended. */
void v1_close(struct ps_v1 *v1);
/* A field of the body; NULL: absent or null. */
const char *v1_text(const struct v1_call *c, const char *name);
/* Reads the field "id": 32 hex digits; a random one when it is absent. */
CO_MUST_CHECK int v1_take_id(const struct v1_call *c, struct co_id *out);
/* One request to the pageserver; *out (may be NULL) is the unpacked answer, the caller's to free.
 */
CO_MUST_CHECK int v1_ask(struct v1_call *c, unsigned type, const ProtobufCMessage *request,
                         unsigned answer_type, const ProtobufCMessageDescriptor *answer, void *out);
/* The same where the answer has a payload: the frame's body, the caller's to free. */
CO_MUST_CHECK int v1_ask_raw(struct v1_call *c, unsigned type, const ProtobufCMessage *request,
                             unsigned answer_type, struct frame_header *frame, struct co_buf *body);
/* What a safekeeper that the server names tells of itself, on a connection of its own, within a
 * second. */
CO_MUST_CHECK int v1_ask_keeper(const struct v1_call *c, const Corallite__Safekeeper *keeper,
                                Corallite__NodeStatus **out);
/* Replies; takes `value`. CO_ERR_NOMEM for NULL. */
CO_MUST_CHECK int v1_reply(struct v1_call *c, unsigned status, json_t *value);
/* The same for text that is JSON already; takes it. */
void v1_reply_text(struct v1_call *c, unsigned status, struct co_buf *text);

/* Each answers the call, or returns why not. */
typedef int v1_run(struct v1_call *c);
v1_run v1_status;                                                      /* v1_status_sock.c */
v1_run v1_databases, v1_database_create, v1_database;                  /* v1_database_sock.c */
v1_run v1_database_drop;                                               /* v1_database_sock.c */
v1_run v1_branches, v1_branch_create, v1_branch;                       /* v1_branch_sock.c */
v1_run v1_branch_change, v1_branch_drop, v1_restore;                   /* v1_branch_sock.c */
v1_run v1_moment, v1_log, v1_pins, v1_pin_create, v1_pin, v1_pin_drop; /* v1_moment_sock.c */
v1_run v1_changes, v1_export;                                          /* v1_pages_sock.c */

/* The moment that `at` (NULL: the head) names on a branch. *out is the caller's to free. */
CO_MUST_CHECK int v1_resolve(struct v1_call *c, const char *branch, const char *at,
                             Corallite__Resolved **out);

#endif
