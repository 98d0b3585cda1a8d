#include "proto/net_sock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock_file.h"

/* -- Names --------------------------------------------------------------------------------------
 */

/* Shared by the caller and the helper; the one that is done last frees it. */
struct lookup {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done, abandoned;
    int result; /* of getaddrinfo */
    char host[256], port[8];
    struct net_addresses found;
};

static int look_up(const char *host, const char *port, int flags, struct net_addresses *out)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, port, &hints, &list);
    out->n = 0;
    if (rc)
        return rc;
    for (struct addrinfo *a = list; a && out->n < NET_ADDRESSES_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof out->at[0])
            continue;
        memcpy(&out->at[out->n], a->ai_addr, a->ai_addrlen);
        out->len[out->n++] = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return out->n ? 0 : EAI_NONAME;
}

static void lookup_free(struct lookup *l)
{
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->done_cond);
    free(l);
}

static void *helper(void *arg)
{
    struct lookup *l = arg;
    struct net_addresses found;
    int rc = look_up(l->host, l->port, AI_NUMERICSERV, &found);
    pthread_mutex_lock(&l->lock);
    l->result = rc;
    l->found = found;
    l->done = true;
    bool mine = l->abandoned;
    pthread_cond_signal(&l->done_cond);
    pthread_mutex_unlock(&l->lock);
    if (mine)
        lookup_free(l);
    return NULL;
}

/* The helper takes no signals: those are the host program's. */
static int start_helper(struct lookup *l)
{
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&thread, &attr, helper, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

static struct lookup *lookup_new(const char *host, const char *port)
{
    struct lookup *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    co_condition_init(&l->done_cond);
    snprintf(l->host, sizeof l->host, "%s", host);
    snprintf(l->port, sizeof l->port, "%s", port);
    return l;
}

/* Waits until the helper is done or the deadline has passed; true when it is done. */
static bool wait_done(struct lookup *l, uint64_t deadline_us)
{
    struct timespec until;
    uint64_t now = co_now_us(), left = deadline_us > now ? deadline_us - now : 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + left % 1000000u * 1000u;
    until.tv_sec += (time_t)(left / 1000000u + ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    pthread_mutex_lock(&l->lock);
    while (!l->done)
        if (pthread_cond_timedwait(&l->done_cond, &l->lock, &until))
            break;
    bool done = l->done;
    l->abandoned = !done;
    pthread_mutex_unlock(&l->lock);
    return done;
}

int net_resolve(const char *host, uint16_t port, uint64_t deadline_us, struct net_addresses *out)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    if (look_up(host, service, AI_NUMERICHOST | AI_NUMERICSERV, out) == 0)
        return 0;
    struct lookup *l = lookup_new(host, service);
    if (!l)
        return co_fail(CO_ERR_NOMEM, "no memory to look up '%.255s'", host);
    int rc = start_helper(l);
    if (rc) {
        lookup_free(l);
        return co_fail_errno(CO_ERR_CONNECT, rc, "cannot start a thread to look up '%.255s'", host);
    }
    if (!wait_done(l, deadline_us))
        return co_fail(CO_ERR_TIMEOUT,
                       "the address of host '%.255s' could not be had in time; check the name, or "
                       "give the address in digits",
                       host);
    rc = l->result;
    *out = l->found;
    lookup_free(l);
    if (rc)
        return co_fail(CO_ERR_CONNECT, "there is no host '%.255s' (%s); check the name", host,
                       gai_strerror(rc));
    return 0;
}

/* -- Addresses and options ----------------------------------------------------------------------
 */

void net_format(const char *host, uint16_t port, char out[300])
{
    bool v6 = strchr(host, ':') != NULL;
    snprintf(out, 300, "%s%.255s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

void net_format_sockaddr(const struct sockaddr_storage *at, char out[300])
{
    char host[INET6_ADDRSTRLEN] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
    bool six = at->ss_family == AF_INET6;
    inet_ntop(at->ss_family, six ? (const void *)&v6->sin6_addr : (const void *)&v4->sin_addr, host,
              sizeof host);
    net_format(host, ntohs(six ? v6->sin6_port : v4->sin_port), out);
}

void net_tune(int fd)
{
    int on = 1, idle_s = 5, interval_s = 2, probes = 3;
    unsigned gone_ms = 10000;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof gone_ms);
}

/* An address as 16 bytes, IPv4 in its IPv6 form, so that the two compare. */
static bool as_v6(const struct sockaddr_storage *at, struct in6_addr *out)
{
    if (at->ss_family == AF_INET6) {
        *out = ((const struct sockaddr_in6 *)at)->sin6_addr;
        return true;
    }
    if (at->ss_family != AF_INET)
        return false;
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(out->s6_addr, prefix, sizeof prefix);
    memcpy(out->s6_addr + 12, &((const struct sockaddr_in *)at)->sin_addr, 4);
    return true;
}

int net_duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void net_peer_address(int fd, uint8_t out[16])
{
    struct sockaddr_storage there;
    struct in6_addr address = {0};
    socklen_t len = sizeof there;
    if (getpeername(fd, (struct sockaddr *)&there, &len) == 0)
        (void)as_v6(&there, &address);
    memcpy(out, address.s6_addr, sizeof address.s6_addr);
}

bool net_is_local(int fd)
{
    struct sockaddr_storage here, there;
    struct in6_addr a, b;
    socklen_t len_here = sizeof here, len_there = sizeof there;
    if (getsockname(fd, (struct sockaddr *)&here, &len_here) ||
        getpeername(fd, (struct sockaddr *)&there, &len_there))
        return false;
    if (!as_v6(&here, &a) || !as_v6(&there, &b))
        return false;
    if (IN6_IS_ADDR_LOOPBACK(&b) || (IN6_IS_ADDR_V4MAPPED(&b) && b.s6_addr[12] == 127))
        return true;
    return memcmp(&a, &b, sizeof a) == 0;
}
