/*
 * etcd_rows.c - the load of rows.c on etcd: one key a row, put through etcd's JSON gateway
 * (HTTP/1.1 on connections that are kept). The gateway calls the same put as gRPC does, in the same
 * process.
 *
 *   etcd_rows insert|count --port P [--threads 1] [--seconds 2] [--warm 0.3]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bench/lib/row.h"

struct client {
    int fd, no;
    struct row row;
    char answer[16384];
};

static int port;

static void encode64(const char *from, size_t n, char *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t bits = 0;
        for (size_t j = 0; j < 3; j++)
            bits = bits << 8 | (j < have ? (uint8_t)from[i + j] : 0);
        for (size_t j = 0; j < 4; j++)
            *to++ = j <= have ? digits[bits >> (18 - 6 * j) & 63] : '=';
    }
    *to = 0;
}

static struct client *client_new(int no)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)port)};
    struct client *c = calloc(1, sizeof *c);
    int one = 1;
    if (c == NULL)
        bm_die("no memory");
    c->no = no;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        bm_die("no connection to port %d: %s", port, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return c;
}

/* Posts a body; the body of the answer. Ends the process unless it is 200. */
static const char *post(struct client *c, const char *path, const char *body)
{
    char request[4096];
    size_t got = 0;
    int n = snprintf(request, sizeof request,
                     "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     path, strlen(body), body);
    if (n < 0 || (size_t)n >= sizeof request || write(c->fd, request, (size_t)n) != n)
        bm_die("etcd does not take a request");
    for (;;) {
        ssize_t k = read(c->fd, c->answer + got, sizeof c->answer - 1 - got);
        if (k <= 0)
            bm_die("etcd ended the connection");
        got += (size_t)k;
        c->answer[got] = 0;
        char *end = strstr(c->answer, "\r\n\r\n"),
             *length = strcasestr(c->answer, "content-length:");
        if (end == NULL)
            continue;
        if (length == NULL || length > end)
            bm_die("an answer without a length: %.200s", c->answer);
        if (got - (size_t)(end + 4 - c->answer) < (size_t)atol(length + 15))
            continue;
        if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0)
            bm_die("etcd answered: %.300s", c->answer);
        return end + 4;
    }
}

static void *insert_open(void *context, int no)
{
    (void)context;
    struct client *c = client_new(no);
    row_begin(&c->row, no);
    return c;
}

static uint64_t insert_once(void *client, uint64_t n)
{
    struct client *c = client;
    char key[64], key64[96], value64[ROW_BYTES * 2], body[600];
    row_next(&c->row);
    snprintf(key, sizeof key, "row/%d/%d/%llu", (int)getpid(), c->no, (unsigned long long)n);
    encode64(key, strlen(key), key64);
    encode64(c->row.v, ROW_BYTES, value64);
    snprintf(body, sizeof body, "{\"key\":\"%s\",\"value\":\"%s\"}", key64, value64);
    post(c, "/v3/kv/put", body);
    return c->row.k;
}

static void client_close(void *client)
{
    struct client *c = client;
    close(c->fd);
    free(c);
}

static void count(void)
{
    struct client *c = client_new(0);
    char from[16], to[16], body[200];
    encode64("row/", 4, from);
    encode64("row0", 4, to);
    snprintf(body, sizeof body, "{\"key\":\"%s\",\"range_end\":\"%s\",\"count_only\":true}", from,
             to);
    const char *n = strstr(post(c, "/v3/kv/range", body), "\"count\":\"");
    printf("{\"n\": %ld}\n", n ? atol(n + 9) : 0);
    client_close(c);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    struct bm_load load = bm_load_options(argc, argv);
    struct bm_result result;

    load.open = insert_open, load.once = insert_once, load.close = client_close;
    port = (int)bm_number(argc, argv, "--port", 0);
    if (strcmp(mode, "insert") == 0) {
        bm_run(&load, &result);
        bm_print(&result, NULL);
    } else if (strcmp(mode, "count") == 0) {
        count();
    } else {
        bm_die("the modes are insert, count");
    }
    return 0;
}
