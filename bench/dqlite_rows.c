/*
 * dqlite_rows.c - a dqlite node, and the load of rows.c on three of them by dqlite's wire protocol
 * (Debian's libdqlite has no client).
 *
 *   dqlite_rows node --id N --port P --dir DIR             until SIGTERM
 *   dqlite_rows join|insert|count --ports P1,P2,P3 [--threads 1] [--seconds 2] [--warm 0.3]
 *
 * Protocol 1: words of 8 bytes, little endian; a header {words of the body, type, revision}, then
 * the body. A node takes one writer at a time and tells others "busy"; they wait and try again, as
 * dqlite's own client does, and the wait is in their time.
 */
#include <arpa/inet.h>
#include <dqlite.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "bench/lib/row.h"

enum {
    REQ_LEADER = 0,
    REQ_CLIENT = 1,
    REQ_OPEN = 3,
    REQ_PREPARE = 4,
    REQ_EXEC = 5,
    REQ_EXEC_SQL = 8,
    REQ_QUERY_SQL = 9,
    REQ_ADD = 12,
    REQ_ASSIGN = 13,
    REQ_CLUSTER = 16
};
enum { RESULT_FAILURE = 0, ROLE_VOTER = 0, TYPE_INTEGER = 1, TYPE_BLOB = 4 };
#define HEADER     8u
#define BODY_MAX   65536u
#define BUSY_TRIES 100000

struct client {
    int fd;
    uint32_t db, statement;
    size_t len, answer_len;
    uint8_t out[HEADER + BODY_MAX], answer[BODY_MAX + 1];
    struct row row;
};

static int port[3];

/* ---- a node
 * ------------------------------------------------------------------------------------*/

static volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
    (void)signal;
    stopped = 1;
}

static int dial(int to)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)to)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Without TCP_NODELAY, which the default lacks, a node waits 40 ms for a delayed acknowledgement.
 */
static int dial_node(void *context, const char *address, int *fd)
{
    const char *colon = strrchr(address, ':');
    (void)context;
    *fd = colon ? dial(atoi(colon + 1)) : -1;
    return *fd < 0;
}

static int node(int id, int at, const char *dir)
{
    char address[40];
    dqlite_node *n;
    snprintf(address, sizeof address, "127.0.0.1:%d", at);
    if (dqlite_node_create((dqlite_node_id)id, address, dir, &n) != 0 ||
        dqlite_node_set_bind_address(n, address) != 0 ||
        dqlite_node_set_connect_func(n, dial_node, NULL) != 0 || dqlite_node_start(n) != 0)
        bm_die("node %d: %s", id, dqlite_node_errmsg(n));
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    while (!stopped)
        usleep(50000);
    dqlite_node_stop(n);
    dqlite_node_destroy(n);
    return 0;
}

/* ---- a client
 * ----------------------------------------------------------------------------------*/

static void put(struct client *c, const void *bytes, size_t n)
{
    size_t padded = (n + 7) & ~(size_t)7;
    if (c->len + padded > sizeof c->out)
        bm_die("a request is too long");
    memset(c->out + c->len, 0, padded);
    memcpy(c->out + c->len, bytes, n);
    c->len += padded;
}

static void put_u64(struct client *c, uint64_t value)
{
    put(c, &value, sizeof value);
}

static void put_text(struct client *c, const char *text)
{
    put(c, text, strlen(text) + 1);
}

static void read_all(struct client *c, void *to, size_t n)
{
    if (recv(c->fd, to, n, MSG_WAITALL) != (ssize_t)n)
        bm_die("the node ended the connection");
}

static void begin(struct client *c)
{
    c->len = HEADER;
}

/* Sends what was put and reads the answer. 0, or the failure's code; its text is then at answer
 * + 8. */
static int call(struct client *c, uint8_t type)
{
    uint32_t words = (uint32_t)((c->len - HEADER) / 8);
    uint8_t header[HEADER];
    memset(c->out, 0, HEADER);
    memcpy(c->out, &words, sizeof words);
    c->out[4] = type;
    if (write(c->fd, c->out, c->len) != (ssize_t)c->len)
        bm_die("the node does not take a request: %s", strerror(errno));
    read_all(c, header, sizeof header);
    memcpy(&words, header, sizeof words);
    c->answer_len = (size_t)words * 8;
    if (c->answer_len > BODY_MAX)
        bm_die("an answer of %zu bytes", c->answer_len);
    read_all(c, c->answer, c->answer_len);
    c->answer[c->answer_len] = 0;
    if (header[4] != RESULT_FAILURE)
        return 0;
    uint64_t code;
    memcpy(&code, c->answer, sizeof code);
    return code ? (int)code : -1;
}

static void must(struct client *c, uint8_t type, const char *what)
{
    int rc = call(c, type);
    if (rc != 0)
        bm_die("%s: code %d, %s", what, rc, (const char *)c->answer + 8);
}

static struct client *client_at(int at)
{
    struct client *c = calloc(1, sizeof *c);
    uint64_t protocol = 1;
    if (c == NULL)
        bm_die("no memory");
    c->fd = dial(at);
    if (c->fd < 0 || write(c->fd, &protocol, sizeof protocol) != sizeof protocol)
        bm_die("no connection to port %d: %s", at, strerror(errno));
    begin(c);
    put_u64(c, (uint64_t)getpid() * 1000 + (uint64_t)c->fd);
    must(c, REQ_CLIENT, "client");
    return c;
}

static void client_close(void *client)
{
    struct client *c = client;
    close(c->fd);
    free(c);
}

/* A connection to the leader, once there is one. */
static struct client *leader(void)
{
    for (int i = 0; i < 200; i++) {
        struct client *c = client_at(port[0]);
        uint64_t id = 0;
        begin(c);
        put_u64(c, 0);
        if (call(c, REQ_LEADER) == 0 && c->answer_len > 8)
            memcpy(&id, c->answer, sizeof id);
        const char *colon = id ? strrchr((const char *)c->answer + 8, ':') : NULL;
        int at = colon ? atoi(colon + 1) : 0;
        if (at == port[0])
            return c;
        client_close(c);
        if (at != 0)
            return client_at(at);
        usleep(50000);
    }
    bm_die("no leader within 10 s");
}

static struct client *opened(void)
{
    struct client *c = leader();
    begin(c);
    put_text(c, "bench");
    put_u64(c, 0);
    put_text(c, "volatile");
    must(c, REQ_OPEN, "open");
    memcpy(&c->db, c->answer, sizeof c->db);
    return c;
}

static void join_all(void)
{
    struct client *c = leader();
    for (int i = 1; i < 3; i++) {
        char address[40];
        snprintf(address, sizeof address, "127.0.0.1:%d", port[i]);
        begin(c);
        put_u64(c, (uint64_t)i + 1);
        put_text(c, address);
        must(c, REQ_ADD, "add");
        begin(c);
        put_u64(c, (uint64_t)i + 1);
        put_u64(c, ROLE_VOTER);
        must(c, REQ_ASSIGN, "assign");
    }
    begin(c);
    put_u64(c, 1);
    must(c, REQ_CLUSTER, "cluster");
    uint64_t n;
    memcpy(&n, c->answer, sizeof n);
    client_close(c);
    if (n != 3)
        bm_die("%llu nodes", (unsigned long long)n);
    c = opened();
    begin(c);
    put_u64(c, c->db);
    put_text(c, "CREATE TABLE t(id INTEGER PRIMARY KEY, k INT, v BLOB)");
    put_u64(c, 0);
    must(c, REQ_EXEC_SQL, "create");
    client_close(c);
}

static void *insert_open(void *context, int no)
{
    struct client *c = opened();
    (void)context;
    begin(c);
    put_u64(c, c->db);
    put_text(c, "INSERT INTO t(k, v) VALUES(?, ?)");
    must(c, REQ_PREPARE, "prepare");
    memcpy(&c->statement, c->answer + 4, sizeof c->statement);
    row_begin(&c->row, no);
    return c;
}

static bool busy(int rc)
{
    return (rc & 0xff) == 5; /* SQLITE_BUSY and what extends it */
}

static uint64_t insert_once(void *client, uint64_t n)
{
    static const uint8_t types[8] = {2, TYPE_INTEGER, TYPE_BLOB};
    struct client *c = client;
    (void)n;
    row_next(&c->row);
    for (int tries = 0; tries < BUSY_TRIES; tries++) {
        uint32_t ids[2] = {c->db, c->statement};
        begin(c);
        put(c, ids, sizeof ids);
        put(c, types, sizeof types);
        put_u64(c, c->row.k);
        put_u64(c, ROW_BYTES);
        put(c, c->row.v, ROW_BYTES);
        int rc = call(c, REQ_EXEC);
        if (rc == 0)
            return c->row.k;
        if (!busy(rc))
            bm_die("insert: code %d, %s", rc, (const char *)c->answer + 8);
        usleep((useconds_t)(300 + bm_random(&c->row.state) % 1500));
    }
    bm_die("busy %d times in a row", BUSY_TRIES);
}

/* One row of two integers: count of columns, their names, types of 4 bits each, values. */
static void count(void)
{
    struct client *c = opened();
    begin(c);
    put_u64(c, c->db);
    put_text(c, "SELECT count(*) AS n, coalesce(sum(k), 0) AS s FROM t");
    put_u64(c, 0);
    must(c, REQ_QUERY_SQL, "count");
    uint64_t columns, n, sum;
    memcpy(&columns, c->answer, sizeof columns);
    if (columns != 2 || c->answer_len < 48 || (c->answer[24] & 0xf) != TYPE_INTEGER ||
        c->answer[24] >> 4 != TYPE_INTEGER)
        bm_die("an answer of another form");
    memcpy(&n, c->answer + 32, sizeof n);
    memcpy(&sum, c->answer + 40, sizeof sum);
    printf("{\"n\": %llu, \"sum\": %llu}\n", (unsigned long long)n, (unsigned long long)sum);
    client_close(c);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    struct bm_load load = bm_load_options(argc, argv);
    struct bm_result result;

    load.open = insert_open, load.once = insert_once, load.close = client_close;
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(mode, "node") == 0)
        return node((int)bm_number(argc, argv, "--id", 0), (int)bm_number(argc, argv, "--port", 0),
                    bm_option(argc, argv, "--dir", "."));
    if (sscanf(bm_option(argc, argv, "--ports", ""), "%d,%d,%d", port, port + 1, port + 2) != 3)
        bm_die("--ports P1,P2,P3 are wanted");
    if (strcmp(mode, "join") == 0) {
        join_all();
    } else if (strcmp(mode, "insert") == 0) {
        bm_run(&load, &result);
        bm_print(&result, NULL);
    } else if (strcmp(mode, "count") == 0) {
        count();
    } else {
        bm_die("the modes are node, join, insert, count");
    }
    return 0;
}
