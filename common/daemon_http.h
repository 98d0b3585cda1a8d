/*
 * daemon_http.h - the HTTP side of a daemon (libmicrohttpd).
 *
 * Quick pages: /healthz, /metrics and what the daemon's co_http_fn adds, GET only, answered at once
 * on the HTTP thread. And, where a daemon has one, a *service*: everything at or below its prefix,
 * any method, with a body; its requests may wait, so they are carried out by a bounded number of
 * worker threads. The HTTP thread never waits for a worker, and no worker for a sender: a request
 * is handed over once it is whole, and its connection rests (is suspended) until the answer is
 * there.
 *
 * For all of it: Host must be an address or localhost name the daemon listens on and a foreign
 * Origin is refused (403), so that a web page cannot read a daemon on loopback.
 *
 * Bounds: CO_HTTP_CONNECTIONS_MAX connections; a request is whole within 20 s of the opening of its
 * connection or the end of the one before; an answer is taken within 60 s, a chunk of a stream too;
 * a service's own bounds are in struct co_http_service.
 */
#ifndef CORALLITE_COMMON_DAEMON_HTTP_H
#define CORALLITE_COMMON_DAEMON_HTTP_H

#include "common/bytes.h"

/* Fewer than the 128 events that libmicrohttpd takes at a time: when it gets exactly as many
 * (0.9.75), it waits for the next before it looks at any, and with all connections closed by a
 * hasty client there is no next. */
#define CO_HTTP_CONNECTIONS_MAX 120u
#define CO_HTTP_ARGS_MAX        16u
#define CO_HTTP_CHUNK_BYTES     ((size_t)256 << 10) /* what a stream is best written in */

struct co_http;

/* Answers a GET of a path that is not /metrics. Called on the HTTP thread: touches only what is
 * thread-safe. Fills body and *content_type (static string), returns the HTTP status (404: not
 * mine). */
typedef int (*co_http_fn)(void *owner, const char *path, struct co_buf *body,
                          const char **content_type);

/* -- A service --------------------------------------------------------------------------------- */

struct co_http_arg {
    const char *name, *value; /* as sent: percent-encoded, a + already a blank; value may be "" */
};

struct co_http_request {
    const char *method;       /* as sent */
    const char *path;         /* as sent: percent-encoded, without the query */
    const char *content_type; /* NULL: none */
    struct co_span body;
    struct co_http_arg args[CO_HTTP_ARGS_MAX];
    unsigned n_args; /* CO_HTTP_ARGS_MAX + 1: there were more */
};

struct co_http_answer;

/* The whole answer; takes `body`. type: a static string. Once, and not with a stream. */
void co_http_reply(struct co_http_answer *answer, unsigned status, const char *type,
                   struct co_buf *body);
/* Adds a header; before the reply or the first chunk. At most 4; both texts are copied. */
void co_http_header(struct co_http_answer *answer, const char *name, const char *value);
/* Begins an answer of `size` bytes that comes in chunks. CO_ERR_AGAIN: as many streams run as the
 * service allows. */
CO_MUST_CHECK int co_http_stream(struct co_http_answer *answer, const char *type, uint64_t size);
/* The next chunk; takes it. Waits for the client to take the one before. CO_ERR_CANCELED: the
 * client is gone, too slow, or asked with HEAD: the rest need not be made. */
CO_MUST_CHECK int co_http_write(struct co_http_answer *answer, struct co_buf *chunk);
/* The stream ends before its size is reached: the connection is cut, so that nobody takes a part
 * for the whole. */
void co_http_abort(struct co_http_answer *answer);

struct co_http_service {
    const char *prefix; /* "/v1": this path, and those below it */
    size_t body_max;
    unsigned workers; /* threads that call serve */
    unsigned waiting; /* requests that wait for one; further ones are refused with 503 */
    unsigned streams; /* of the workers, how many may stream; less than all of them */
    void *owner;
    /* On a worker; replies, or streams, before it returns. The request is borrowed. */
    void (*serve)(void *owner, const struct co_http_request *request,
                  struct co_http_answer *answer);
    /* On the HTTP thread, must not wait: what daemon_http refuses by itself (400, 403, 413, 503) is
     * replied in the service's form. */
    void (*refuse)(void *owner, unsigned status, const char *sentence,
                   struct co_http_answer *answer);
};

/* The bounds of time that are in force; tests make them small. Of the whole process. */
struct co_http_limits {
    uint64_t receive_ms, send_ms;
};
extern struct co_http_limits co_http_limits;

/* -- Life -------------------------------------------------------------------------------------- */

/* port 0: any. CO_ERR_IO with a sentence ("port in use"). */
CO_MUST_CHECK int co_http_start(const char *host, uint16_t port, co_http_fn fn, void *owner,
                                struct co_http **out);
/* With a service (copied; NULL: none). */
CO_MUST_CHECK int co_http_start_service(const char *host, uint16_t port, co_http_fn fn, void *owner,
                                        const struct co_http_service *service,
                                        struct co_http **out);
uint16_t co_http_port(const struct co_http *http);
/* Ends streams, waits for what workers are at (what they wait for is to be ended before). */
void co_http_stop(struct co_http *http);

#endif
