#include "cli/client_sock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/text.h"
#include "common/assert.h"
#include "common/clock_file.h"
#include "proto/unpack.h"

void client_address(const char *host, uint16_t port, char out[CO_HOST_MAX_BYTES + 16])
{
    bool v6 = strchr(host, ':') != NULL;
    snprintf(out, CO_HOST_MAX_BYTES + 16, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "",
             (unsigned)port);
}

static int use_address(const char *text, struct client_target *out)
{
    char one[CO_HOST_MAX_BYTES + 16];
    for (uint32_t n = 0;; n++) {
        size_t len = strcspn(text, ",");
        if (n == CLIENT_SERVERS_MAX || len >= sizeof one)
            return co_fail(CO_ERR_INVAL, "at most %u pageservers can be named, by commas",
                           CLIENT_SERVERS_MAX);
        memcpy(one, text, len);
        one[len] = 0;
        int rc = psock_split_address(one, CLUSTER_PORT_BASE, n ? out->more[n - 1].host : out->host,
                                     n ? &out->more[n - 1].port : &out->port);
        out->n_more = n;
        if (rc || !text[len])
            return rc;
        text += len + 1;
    }
}

void client_servers(const struct client_target *target, char out[CLIENT_SERVERS_TEXT])
{
    char one[CO_HOST_MAX_BYTES + 16];
    size_t n = 0;
    for (uint32_t i = 0; i <= target->n_more; i++) {
        client_address(i ? target->more[i - 1].host : target->host,
                       i ? target->more[i - 1].port : target->port, one);
        n += (size_t)snprintf(out + n, CLIENT_SERVERS_TEXT - n, "%s%s", i ? "," : "", one);
    }
}

static int use_cluster(const char *dir, struct client_target *out)
{
    int rc = cluster_open(dir, &out->cluster);
    if (rc)
        return rc;
    out->local = true;
    snprintf(out->host, sizeof out->host, "%s", CLUSTER_HOST);
    out->port = cluster_port(&out->cluster, cluster_owner(&out->cluster));
    for (unsigned i = 0; i < out->cluster.n; i++) {
        if (!out->cluster.at[i].pageserver || out->cluster.at[i].node == out->cluster.owner)
            continue;
        snprintf(out->more[out->n_more].host, sizeof out->more[0].host, "%s", CLUSTER_HOST);
        out->more[out->n_more++].port = cluster_port(&out->cluster, i);
    }
    return 0;
}

int client_target(const struct cli_args *args, struct client_target *out)
{
    *out = (struct client_target){0};
    const char *server = cli_value(args, "--server"), *dir = cli_value(args, "--dir");
    const char *environment = getenv("CORALLITE_SERVER");
    if (server && dir)
        return co_fail(CO_ERR_INVAL, "--server and --dir both name a cluster; give one of them");
    if (server)
        return use_address(server, out);
    if (dir)
        return use_cluster(dir, out);
    if (environment && *environment)
        return use_address(environment, out);
    int rc = use_cluster(NULL, out);
    if (rc == CO_ERR_NOT_FOUND || rc == CO_ERR_INVAL)
        return use_address(CLUSTER_HOST, out);
    return rc;
}

int client_connect(struct client *c, const char *host, uint16_t port, const struct co_id *cluster,
                   uint32_t node, unsigned timeout_ms)
{
    const struct co_id any = {{0}};
    return client_connect_keeper(c, host, port, cluster, node, &any, timeout_ms);
}

int client_connect_keeper(struct client *c, const char *host, uint16_t port,
                          const struct co_id *cluster, uint32_t node, const struct co_id *disk,
                          unsigned timeout_ms)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_protocol_min = hello.has_protocol_max = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.has_role = 1;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    hello.program = (char *)"corallite";
    struct co_id expected;
    if (cluster) {
        expected = *cluster;
        hello.has_cluster = 1;
        hello.cluster = (ProtobufCBinaryData){.len = sizeof expected.b, .data = expected.b};
    }
    if (node) {
        hello.has_expect_node = 1;
        hello.expect_node = node;
    }
    struct co_id expected_disk = *disk;
    hello.has_expect_disk = !co_id_is_zero(disk);
    hello.expect_disk =
        (ProtobufCBinaryData){.len = sizeof expected_disk.b, .data = expected_disk.b};
    *c = (struct client){.sock.fd = -1};
    Corallite__HelloOk *ok = NULL;
    int rc = psock_connect(&c->sock, host, port, &hello, co_now_us() + timeout_ms * 1000ull, &ok);
    if (rc)
        return rc;
    c->node = ok->node;
    if (ok->has_cluster && ok->cluster.len == sizeof c->cluster.b)
        memcpy(c->cluster.b, ok->cluster.data, sizeof c->cluster.b);
    if (ok->has_disk && ok->disk.len == sizeof c->disk.b)
        memcpy(c->disk.b, ok->disk.data, sizeof c->disk.b);
    corallite__hello_ok__free_unpacked(ok, NULL);
    return 0;
}

static int open_one(struct client *c, const struct client_target *target, uint32_t server)
{
    /* One of several is not waited on for long. */
    unsigned timeout_ms = target->n_more ? CLIENT_TIMEOUT_MS / 3 : CLIENT_TIMEOUT_MS;
    int rc = client_connect(c, server ? target->more[server - 1].host : target->host,
                            server ? target->more[server - 1].port : target->port,
                            target->local ? &target->cluster.id : NULL, 0, timeout_ms);
    c->target = target;
    c->server = server;
    if (rc || c->node == 0)
        return rc;
    rc = co_fail(CO_ERR_NODE,
                 "%s is safekeeper %u, and a pageserver is wanted (port %u unless it was moved)",
                 c->sock.address, (unsigned)c->node, CLUSTER_PORT_BASE);
    client_close(c);
    return rc;
}

int client_open(struct client *c, const struct client_target *target)
{
    int rc = CO_ERR_CONNECT;
    for (uint32_t i = 0; rc && i <= target->n_more; i++)
        rc = open_one(c, target, i);
    return rc;
}

/* The others of several, after one that only follows. The sentence of an error stays that one's. */
static int open_another(struct client *c)
{
    char sentence[CO_SENTENCE_MAX];
    const struct client_target *target = c->target;
    uint32_t server = c->server;
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    if (!target || server >= target->n_more)
        return CO_ERR_FOLLOWER;
    client_close(c);
    if (open_one(c, target, server + 1) == 0)
        return 0;
    return co_fail(CO_ERR_FOLLOWER, "%s", sentence);
}

static int call_once(struct client *c, unsigned type, const ProtobufCMessage *request,
                     unsigned answer_type, const ProtobufCMessageDescriptor *answer,
                     unsigned timeout_ms, void *out, struct co_buf *payload);

int client_call_payload(struct client *c, unsigned type, const ProtobufCMessage *request,
                        unsigned answer_type, const ProtobufCMessageDescriptor *answer,
                        unsigned timeout_ms, void *out, struct co_buf *payload)
{
    for (;;) {
        int rc = call_once(c, type, request, answer_type, answer, timeout_ms, out, payload);
        if (rc != CO_ERR_FOLLOWER)
            return rc;
        rc = open_another(c);
        if (rc)
            return rc;
    }
}

static int call_once(struct client *c, unsigned type, const ProtobufCMessage *request,
                     unsigned answer_type, const ProtobufCMessageDescriptor *answer,
                     unsigned timeout_ms, void *out, struct co_buf *payload)
{
    struct frame_header frame;
    struct co_buf body = {0};
    int rc = psock_call(&c->sock, type, request, (struct co_span){0},
                        co_now_us() + timeout_ms * 1000ull, &frame, &body, NULL);
    if (!rc && frame.type != answer_type)
        rc = co_fail(CO_ERR_PROTOCOL, "%s answered %s with a frame %s", c->sock.address,
                     frame_type_name(type), frame_type_name(frame.type));
    if (!rc && out) {
        void *message = message_unpack(answer, co_span_of(body.data, frame.message_bytes));
        if (message)
            *(void **)out = message;
        else
            rc = CO_ERR_PROTOCOL;
    }
    if (!rc && payload) {
        co_buf_consume(&body, frame.message_bytes);
        *payload = body;
        return 0;
    }
    co_buf_free(&body);
    return rc;
}

int client_call(struct client *c, unsigned type, const ProtobufCMessage *request,
                unsigned answer_type, const ProtobufCMessageDescriptor *answer, unsigned timeout_ms,
                void *out)
{
    return client_call_payload(c, type, request, answer_type, answer, timeout_ms, out, NULL);
}

void client_close(struct client *c)
{
    psock_close(&c->sock);
}

int client_open_args(struct client *c, const struct cli_args *args)
{
    static struct client_target target; /* outlives *c */
    int rc = client_target(args, &target);
    return rc ? rc : client_open(c, &target);
}

int client_ask(const struct cli_args *args, unsigned type, const ProtobufCMessage *request,
               unsigned answer_type, const ProtobufCMessageDescriptor *answer, void *out)
{
    struct client c;
    int rc = client_open_args(&c, args);
    if (rc)
        return rc;
    rc = client_call(&c, type, request, answer_type, answer, CLIENT_CHANGE_TIMEOUT_MS, out);
    client_close(&c);
    return rc;
}

int client_options(const struct cli_args *args, char out[CLIENT_OPTIONS_TEXT])
{
    const char *name = cli_has(args, "--server") ? "--server" : "--dir";
    const char *value = cli_value(args, name);
    int n;
    out[0] = 0;
    if (!value)
        return 0;
    n = snprintf(out, CLIENT_OPTIONS_TEXT, " %s ", name);
    if (!value[strcspn(value, " \t\n'\"\\$`*?[]#~&;|<>(){}!")])
        snprintf(out + n, CLIENT_OPTIONS_TEXT - (size_t)n, "%s", value);
    else if (!text_shell_quote(value, out + n, CLIENT_OPTIONS_TEXT - (size_t)n))
        return co_fail(CO_ERR_TOO_LARGE, "%s is too long to be told again", name);
    return 0;
}
