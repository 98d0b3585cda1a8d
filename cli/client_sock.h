/*
 * client_sock.h - the command as a guest of a cluster: which server is meant, and calls to it.
 *
 * The server, in this order: --server HOST:PORT; the cluster of --dir; CORALLITE_SERVER; the
 * cluster in the default directory; 127.0.0.1:6400. Of several (--server A,B) the first that
 * answers is asked; what only the owner of the catalog can do is asked of the others then. Where a
 * cluster directory is used, its id is expected of whoever answers.
 */
#ifndef CORALLITE_CLI_CLIENT_SOCK_H
#define CORALLITE_CLI_CLIENT_SOCK_H

#include "cli/args.h"
#include "cli/cluster.h"
#include "proto/limits.h"
#include "proto/peer_sock.h"

#define CLIENT_TIMEOUT_MS 5000u
/* What makes or changes a branch waits for the head to be ingested and for a majority's disks. */
#define CLIENT_CHANGE_TIMEOUT_MS 30000u

#define CLIENT_SERVERS_MAX       4u

struct client_target {
    char host[CO_HOST_MAX_BYTES + 1];
    uint16_t port;
    uint32_t n_more; /* further pageservers of the same cluster */
    struct {
        char host[CO_HOST_MAX_BYTES + 1];
        uint16_t port;
    } more[CLIENT_SERVERS_MAX - 1];
    bool local; /* `cluster` is set: the daemons are known here */
    struct cluster cluster;
};

/* Reads --server and --dir of the arguments. */
CO_MUST_CHECK int client_target(const struct cli_args *args, struct client_target *out);
/* "HOST:PORT", "[V6]:PORT" */
void client_address(const char *host, uint16_t port, char out[CO_HOST_MAX_BYTES + 16]);

/* "HOST:PORT", or all of several with commas: for CORALLITE_SERVER and server=. */
#define CLIENT_SERVERS_TEXT (CLIENT_SERVERS_MAX * (CO_HOST_MAX_BYTES + 16))
void client_servers(const struct client_target *target, char out[CLIENT_SERVERS_TEXT]);

struct client {
    struct psock sock;
    uint32_t node;
    struct co_id cluster, disk;
    const struct client_target *target; /* client_open's, borrowed; NULL */
    uint32_t server;                    /* 0: its host, else more[server - 1] */
};

/* Connects to a daemon. cluster: expected (NULL: any); node: expected (0: the pageserver, or any).
 */
CO_MUST_CHECK int client_connect(struct client *c, const char *host, uint16_t port,
                                 const struct co_id *cluster, uint32_t node, unsigned timeout_ms);
/* To a safekeeper, of which `disk` is the data directory that its number stands for (zero: any):
 * an empty one that was started in the place of a lost disk is none. CO_ERR_NODE. */
CO_MUST_CHECK int client_connect_keeper(struct client *c, const char *host, uint16_t port,
                                        const struct co_id *cluster, uint32_t node,
                                        const struct co_id *disk, unsigned timeout_ms);
/* To the pageserver that the arguments name. */
CO_MUST_CHECK int client_open_args(struct client *c, const struct cli_args *args);
/* To the pageserver of a target, the first of several that answers; `target` outlives `c`. */
CO_MUST_CHECK int client_open(struct client *c, const struct client_target *target);
/* Request and answer; *out (may be NULL) is the caller's, to free with
 * protobuf_c_message_free_unpacked. */
CO_MUST_CHECK int client_call(struct client *c, unsigned type, const ProtobufCMessage *request,
                              unsigned answer_type, const ProtobufCMessageDescriptor *answer,
                              unsigned timeout_ms, void *out);
/* The same; *payload (may be NULL) gets the raw bytes behind the message, the caller's to free. */
CO_MUST_CHECK int client_call_payload(struct client *c, unsigned type,
                                      const ProtobufCMessage *request, unsigned answer_type,
                                      const ProtobufCMessageDescriptor *answer, unsigned timeout_ms,
                                      void *out, struct co_buf *payload);
void client_close(struct client *c);

/* All of it once: the server of the arguments, one request, its answer. */
CO_MUST_CHECK int client_ask(const struct cli_args *args, unsigned type,
                             const ProtobufCMessage *request, unsigned answer_type,
                             const ProtobufCMessageDescriptor *answer, void *out);
/* The options by which the same server is meant again, for a line to paste: "" or " --dir D". */
#define CLIENT_OPTIONS_TEXT 8192u
CO_MUST_CHECK int client_options(const struct cli_args *args, char out[CLIENT_OPTIONS_TEXT]);

#endif
