/*
 * branch_client.c - makes branches over one connection to the pageserver, so that what making one
 * takes can be told apart from what starting a process takes.
 *
 *   branch_client HOST:PORT       reads "DB BRANCH" lines, answers each with microseconds
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "common/id.h"
#include "proto/limits.h"
#include "proto/peer_sock.h"

#define TIMEOUT_US 20000000ull

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, co_sentence());
    return 1;
}

static int create(struct psock *s, char *database, char *branch)
{
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    struct frame_header frame;
    struct co_buf body = {0};
    struct co_id id = co_id_random();
    q.database = database;
    q.branch = branch;
    q.has_id = q.has_deadline_ms = 1;
    q.id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    q.deadline_ms = 10000;
    int rc = psock_call(s, FRAME_BRANCH_CREATE, &q.base, (struct co_span){0},
                        co_now_us() + TIMEOUT_US, &frame, &body, NULL);
    co_buf_free(&body);
    return rc;
}

int main(int argc, char **argv)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    char host[CO_HOST_MAX_BYTES + 1], line[300], database[130], branch[130];
    uint16_t port;
    struct psock s;
    if (argc != 2 || psock_split_address(argv[1], 6400, host, &port) != 0)
        return failed("usage: branch_client HOST:PORT");
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    if (psock_connect(&s, host, port, &hello, co_now_us() + TIMEOUT_US, NULL) != 0)
        return failed(argv[1]);
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%129s %129s", database, branch) == 2) {
        uint64_t began = co_now_us();
        if (create(&s, database, branch) != 0)
            return failed(branch);
        printf("%llu\n", (unsigned long long)(co_now_us() - began));
        fflush(stdout);
    }
    psock_close(&s);
    return 0;
}
