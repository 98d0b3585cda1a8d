/*
 * health_http.c - the HTTP side: /healthz and /readyz, and /v1 (v1_sock.h). The loop thread writes
 * what the first two say when it changes; the HTTP thread copies it. /metrics is answered by
 * daemon_http itself.
 *
 * /healthz: 200 "ok" while the store is open and a majority of the safekeepers is connected, else
 * 503 and what is missing. /readyz: 200 once the registry of timelines was heard from a majority.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/server_uv.h"
#include "pageserver/v1_sock.h"

struct ps_health {
    pthread_mutex_t mutex;
    bool healthy, ready;
    char missing[1200];
    struct ps_v1 v1;
};

static int on_get(void *owner, const char *path, struct co_buf *body, const char **content_type)
{
    struct ps_health *h = owner;
    bool ok;
    char text[1300];
    pthread_mutex_lock(&h->mutex);
    if (strcmp(path, "/healthz") == 0) {
        ok = h->healthy;
        snprintf(text, sizeof text, "%s\n", ok ? "ok" : h->missing);
    } else if (strcmp(path, "/readyz") == 0) {
        ok = h->ready;
        snprintf(text, sizeof text, "%s\n",
                 ok ? "ready" : "waiting for a majority of the safekeepers");
    } else {
        pthread_mutex_unlock(&h->mutex);
        return 404;
    }
    pthread_mutex_unlock(&h->mutex);
    *content_type = "text/plain; charset=utf-8";
    if (co_buf_append(body, text, strlen(text)))
        return 500;
    return ok ? 200 : 503;
}

/* /v1 is a client of the pages port: by the loopback address where that listens on all. */
static void find_self(const struct ps_server *s, struct ps_v1 *v1)
{
    const char *host = s->options->listen_host;
    bool all4 = strcmp(host, "0.0.0.0") == 0, all6 = strcmp(host, "::") == 0;
    snprintf(v1->host, sizeof v1->host, "%s", all4 ? "127.0.0.1" : all6 ? "::1" : host);
    v1->port = peer_server_port(s->listener);
    v1->cluster = s->identity.cluster;
}

int ps_health_start(struct ps_server *s)
{
    struct co_http_service service;
    struct ps_health *h = calloc(1, sizeof *h);
    if (!h)
        return co_fail(CO_ERR_NOMEM, "no memory");
    pthread_mutex_init(&h->mutex, NULL);
    s->health = h;
    ps_health_update(s);
    if (!s->options->http)
        return 0;
    find_self(s, &h->v1);
    v1_service(&h->v1, &service);
    return co_http_start_service(s->options->http_host, s->options->http_port, on_get, h, &service,
                                 &s->http);
}

static void tell_nodes(const struct ps_server *s)
{
    struct co_buf text = {0};
    int rc = 0;
    for (uint32_t i = 0; i < s->reg.n_nodes && !rc; i++) {
        char node[16];
        if (!s->nodes[i].id)
            continue;
        snprintf(node, sizeof node, "%u", s->nodes[i].id);
        const char *const labels[][2] = {{"node", node}};
        rc = co_series_line(&text, &ps_m_node_up, labels, 1, s->nodes[i].ready);
    }
    co_series_set(&ps_m_node_up, &text);
}

void ps_health_update(struct ps_server *s)
{
    struct ps_health *h = s->health;
    uint32_t have = ps_nodes_ready(s), need = ps_reg_majority(&s->reg);
    co_metric_set(&ps_m_safekeepers, have);
    co_metric_set(&ps_m_ready, s->ready);
    tell_nodes(s);
    if (!h)
        return;
    pthread_mutex_lock(&h->mutex);
    h->healthy = s->store && ps_nodes_enough(s);
    h->ready = s->ready;
    int n =
        snprintf(h->missing, sizeof h->missing,
                 "not healthy: %u of %u safekeepers are connected, %u are needed; missing:", have,
                 s->reg.n_nodes, need);
    for (uint32_t i = 0; i < s->reg.n_nodes && n > 0 && (size_t)n < sizeof h->missing; i++)
        if (!s->nodes[i].ready && s->nodes[i].id)
            n += snprintf(h->missing + n, sizeof h->missing - (size_t)n, " %u at %.100s:%u",
                          s->nodes[i].id, s->nodes[i].host, s->nodes[i].port);
    pthread_mutex_unlock(&h->mutex);
}

void ps_health_stop(struct ps_server *s)
{
    if (s->http) {
        co_http_stop(s->http);
        v1_close(&s->health->v1);
    }
    s->http = NULL;
    if (s->health) {
        pthread_mutex_destroy(&s->health->mutex);
        free(s->health);
    }
    s->health = NULL;
}
