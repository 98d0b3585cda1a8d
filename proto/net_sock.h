/*
 * net_sock.h - what both kinds of peers need of TCP: addresses, and the options of a connection.
 *
 * Addresses in digits are decoded on the spot. A name goes to getaddrinfo(3), which may take as
 * long as the resolver likes; so it runs on a helper thread, and a caller whose deadline passes
 * goes on without it (the helper frees what it made when it comes back).
 */
#ifndef CORALLITE_PROTO_NET_SOCK_H
#define CORALLITE_PROTO_NET_SOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/error.h"

#define NET_ADDRESSES_MAX 8

struct net_addresses {
    unsigned n; /* 1..NET_ADDRESSES_MAX on success, in the resolver's order */
    struct sockaddr_storage at[NET_ADDRESSES_MAX];
    socklen_t len[NET_ADDRESSES_MAX];
};

/* CO_ERR_CONNECT with a sentence when there is no such host; CO_ERR_TIMEOUT. Deadline: co_now_us.
 */
CO_MUST_CHECK int net_resolve(const char *host, uint16_t port, uint64_t deadline_us,
                              struct net_addresses *out);

/* "HOST:PORT", with brackets around an IPv6 address. */
void net_format(const char *host, uint16_t port, char out[300]);
/* The same from a socket address. */
void net_format_sockaddr(const struct sockaddr_storage *at, char out[300]);

/* TCP_NODELAY, and a peer that went away without a word is noticed within about 10 s: keepalive
 * when idle, TCP_USER_TIMEOUT for what was sent. Best effort: a connection without these still
 * works. */
void net_tune(int fd);
/* Another descriptor of the same connection, which stays when the first one is closed. -1: none to
 * be had. */
int net_duplicate(int fd);
/* The other end's address, IPv4 in its IPv6 form; zeros when it is gone. */
void net_peer_address(int fd, uint8_t out[16]);
/* The other end of this connection is on this host: it is loopback, or has our own address. */
bool net_is_local(int fd);

#endif
