/*
 * daemon_http.h - the small HTTP side of a daemon (libmicrohttpd, one thread of its own): /healthz,
 * /metrics and what the daemon adds. GET only; Host must be an address or localhost name the daemon
 * listens on and a foreign Origin is refused (403), so that a web page cannot read a daemon on
 * loopback.
 */
#ifndef CORALLITE_COMMON_DAEMON_HTTP_H
#define CORALLITE_COMMON_DAEMON_HTTP_H

#include "common/bytes.h"

struct co_http;

/* Answers a GET of a path that is not /metrics. Called on the HTTP thread: touches only what is
 * thread-safe. Fills body and *content_type (static string), returns the HTTP status (404: not
 * mine). */
typedef int (*co_http_fn)(void *owner, const char *path, struct co_buf *body,
                          const char **content_type);

/* port 0: any. CO_ERR_IO with a sentence ("port in use"). */
CO_MUST_CHECK int co_http_start(const char *host, uint16_t port, co_http_fn fn, void *owner,
                                struct co_http **out);
uint16_t co_http_port(const struct co_http *http);
void co_http_stop(struct co_http *http);

#endif
