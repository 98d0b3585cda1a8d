/*
 * branch_client.c - makes and reads branches over one connection to the pageserver, so that what
 * that takes can be told apart from what starting a process takes.
 *
 *   branch_client HOST:PORT       reads lines, answers each with microseconds:
 *       DB BRANCH [FROM]          makes a branch
 *       DB BRANCH read N          N pages, one after the other, each a request; of all together
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "common/id.h"
#include "proto/limits.h"
#include "proto/peer_sock.h"
#include "proto/unpack.h"

#define TIMEOUT_US 20000000ull

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, co_sentence());
    return 1;
}

static int create(struct psock *s, char *database, char *branch, char *from)
{
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    struct frame_header frame;
    struct co_buf body = {0};
    struct co_id id = co_id_random();
    q.database = database;
    q.branch = branch;
    q.from_branch = from;
    q.has_id = q.has_deadline_ms = 1;
    q.id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    q.deadline_ms = 10000;
    int rc = psock_call(s, FRAME_BRANCH_CREATE, &q.base, (struct co_span){0},
                        co_now_us() + TIMEOUT_US, &frame, &body, NULL);
    co_buf_free(&body);
    return rc;
}

static int call(struct psock *s, unsigned type, const ProtobufCMessage *q, struct co_buf *body,
                struct frame_header *frame)
{
    return psock_call(s, type, q, (struct co_span){0}, co_now_us() + TIMEOUT_US, frame, body, NULL);
}

/* Pages 1, 2, ... of the branch's head, from the first again behind the last. */
static int read_pages(struct psock *s, char *database, char *branch, uint32_t n, uint64_t *us)
{
    Corallite__Resolve where = CORALLITE__RESOLVE__INIT;
    Corallite__GetPages q = CORALLITE__GET_PAGES__INIT;
    struct frame_header frame;
    struct co_buf body = {0};
    uint32_t pgno = 0;
    where.database = database;
    where.branch = branch;
    int rc = call(s, FRAME_RESOLVE, &where.base, &body, &frame);
    Corallite__Resolved *at = rc ? NULL
                                 : message_unpack(&corallite__resolved__descriptor,
                                                  co_span_of(body.data, frame.message_bytes));
    if (!at)
        return rc ? rc : CO_ERR_PROTOCOL;
    q.has_timeline = q.has_lsn = q.has_deadline_ms = 1;
    q.timeline = at->timeline->id;
    q.lsn = at->lsn;
    q.deadline_ms = 10000;
    q.n_pages = 1;
    q.pages = &pgno;
    uint64_t began = co_now_us();
    for (uint32_t i = 0; !rc && i < n; i++) {
        pgno = i % at->db_pages + 1;
        co_buf_free(&body); /* each answer is a new one */
        rc = call(s, FRAME_GET_PAGES, &q.base, &body, &frame);
        if (!rc && body.len - frame.message_bytes != at->page_size)
            rc = co_fail(CO_ERR_CORRUPT, "page %u did not come", pgno);
    }
    *us = co_now_us() - began;
    corallite__resolved__free_unpacked(at, NULL);
    co_buf_free(&body);
    return rc;
}

static int carry_out(struct psock *s, const char *line, uint64_t *us)
{
    char database[130], branch[130], third[130] = "main";
    unsigned n = 0;
    int words = sscanf(line, "%129s %129s %129s %u", database, branch, third, &n);
    if (words < 2)
        return co_fail(CO_ERR_INVAL, "'%.100s' is no request", line);
    if (words == 4 && strcmp(third, "read") == 0)
        return read_pages(s, database, branch, n, us);
    uint64_t began = co_now_us();
    int rc = create(s, database, branch, third);
    *us = co_now_us() - began;
    return rc;
}

int main(int argc, char **argv)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    char host[CO_HOST_MAX_BYTES + 1], line[400];
    uint16_t port;
    struct psock s;
    if (argc != 2 || psock_split_address(argv[1], 6400, host, &port) != 0)
        return failed("usage: branch_client HOST:PORT");
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    if (psock_connect(&s, host, port, &hello, co_now_us() + TIMEOUT_US, NULL) != 0)
        return failed(argv[1]);
    while (fgets(line, sizeof line, stdin)) {
        uint64_t us = 0;
        if (carry_out(&s, line, &us) != 0)
            return failed(line);
        printf("%llu\n", (unsigned long long)us);
        fflush(stdout);
    }
    psock_close(&s);
    return 0;
}
