/*
 * daemon_int_http.h - what daemon_http.c (connections, quick pages), daemon_call_http.c (a request
 * of a service and its answer, on the HTTP thread) and daemon_work_http.c (the workers) share.
 * Nobody else includes this.
 *
 * The life of a call:
 *
 *   RECEIVING --whole--> WAITING --a worker--> WORKING --replied, or the stream begins--> ANSWERING
 *       |  connection: being read  |      suspended      |               being sent
 *       +--refused (too large, nobody to take it, stopping)--------------------^
 *
 * The HTTP thread drops a call when libmicrohttpd says that the request is completed, a worker when
 * serve has returned; the last of the two frees it. While a call is WAITING or WORKING its
 * connection is suspended, so it cannot be completed under the worker.
 *
 * Order of locks: http.mutex, then a call's mutex, then libmicrohttpd's own.
 */
#ifndef CORALLITE_COMMON_DAEMON_INT_HTTP_H
#define CORALLITE_COMMON_DAEMON_INT_HTTP_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "common/daemon_http.h"

enum http_phase { HTTP_RECEIVING, HTTP_WORKING, HTTP_SENDING, HTTP_STREAMING };

/* A connection, for the bounds of time that libmicrohttpd does not have. */
struct http_conn {
    int fd;
    enum http_phase phase;
    uint64_t since_us; /* of the phase */
    struct http_conn *next, **prev;
};

#define HTTP_HEADERS_MAX 4u

struct co_http_answer { /* a call */
    struct co_http *http;
    struct MHD_Connection *c;
    unsigned refs; /* http.mutex */
    struct co_http_answer *next;
    struct co_http_request request;
    struct co_buf names; /* what the request's texts lie in */
    struct co_buf body;
    bool head, too_large;
    uint64_t discarded; /* bytes of a body that is too large */
    uint64_t begun_us;

    pthread_mutex_t mutex; /* all below */
    pthread_cond_t cond;
    bool answered; /* status and what follows are set */
    unsigned status;
    const char *type;
    struct co_buf reply;
    unsigned n_headers;
    char header[HTTP_HEADERS_MAX][2][128];
    bool streaming, suspended, failed, canceled;
    uint64_t size, written;
    struct co_buf sending, waiting; /* chunks; of the first, `sent` bytes are gone */
    size_t sent;
};

struct co_http {
    struct MHD_Daemon *daemon;
    co_http_fn fn;
    void *owner;
    char host[256];
    uint16_t port;
    bool has_service;
    struct co_http_service service;

    atomic_bool stopping;  /* set under the mutex */
    pthread_mutex_t mutex; /* all below */
    pthread_cond_t cond;
    struct co_http_answer *first, **last; /* WAITING */
    unsigned n_waiting, n_streams;
    struct http_conn *conns;
    pthread_t watcher, *threads;
    pthread_cond_t watch; /* the watcher's; monotonic */
    unsigned n_threads;
    bool watching;
};

/* -- daemon_http.c -- */
/* When to look again at what may be late. */
void http_soon(struct timespec *out);
void http_count(unsigned status, uint64_t us);
void http_phase(struct co_http *http, struct MHD_Connection *c, enum http_phase phase);

/* -- daemon_call_http.c: the HTTP thread's side of a call -- */
bool http_is_service(const struct co_http *http, const char *path);
/* The first sight of a request: a call that will be read, or refused at once with `status` and the
 * sentence (0: not). NULL: no memory. */
struct co_http_answer *http_call_new(struct co_http *http, struct MHD_Connection *c,
                                     const char *path, const char *method);
enum MHD_Result http_call_refuse(struct co_http_answer *call, unsigned status, const char *sentence,
                                 bool last);
/* Further sights: more of the body, its end, and after the resume the answer. */
enum MHD_Result http_call_on(struct co_http_answer *call, const char *upload, size_t *upload_size);
/* libmicrohttpd is through with it. */
void http_call_completed(struct co_http_answer *call);

/* -- daemon_work_http.c -- */
CO_MUST_CHECK int http_work_start(struct co_http *http);
void http_work_stop(struct co_http *http);
/* Suspends the connection and has the call carried out. False: as many wait as may, or the end is
 * near. */
bool http_work_give(struct co_http_answer *call);
void http_call_drop(struct co_http_answer *call);

#endif
