/*
 * daemon_fixture.h - a whole pageserver in a process of its own against three fake safekeepers, and
 * calls to it. Included by one test file each: everything is static.
 */
#ifndef CORALLITE_TEST_DAEMON_FIXTURE_H
#define CORALLITE_TEST_DAEMON_FIXTURE_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/changes.h"
#include "proto/message.h"
#include "proto/peer_sock.h"
#include "proto/unpack.h"
#include "tests/unit/pageserver/fake_keepers.h"
#include "tests/unit/pageserver/ps_util.h"
#include "tests/unit/slower.h"

/* Not every file uses all of them. */
#define FIXTURE __attribute__((unused))
#define NOTHING co_span_of(NULL, 0)

static char dir[64];
static struct fake fake;
static struct co_id cluster;
static pid_t daemon_pid;
static uint16_t port;
static struct psock client;
static struct ps_scribe scribe;
static struct co_buf records;
static uint8_t pages[64 * 65536];

FIXTURE static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/*
 * The daemon is this very binary, started anew with its options in the environment: a fork alone,
 * out of a process that has threads, may inherit a lock that nobody will ever release.
 */
#define DAEMON_ENV "CORALLITE_TEST_PAGESERVER"

__attribute__((constructor)) static void become_daemon(void)
{
    static struct ps_options o = {.have_cluster = true, .map_bytes = 4 * CO_GIB, .n_nodes = 3};
    const char *text = getenv(DAEMON_ENV);
    char id[33];
    unsigned listen, p[3], take_over, follow, ttl_ms;
    if (!text)
        return;
    if (sscanf(text, "%399s %32s %u %u %u %u %u %u %u", o.dir, id, &listen, &p[0], &p[1], &p[2],
               &take_over, &follow, &ttl_ms) != 9 ||
        co_id_parse(id, &o.cluster))
        _exit(3);
    unsetenv(DAEMON_ENV);
    snprintf(o.listen_host, sizeof o.listen_host, "127.0.0.1");
    o.listen_port = (uint16_t)listen;
    o.take_over = take_over != 0;
    o.follow = follow != 0;
    o.follow_port = (uint16_t)follow;
    snprintf(o.follow_host, sizeof o.follow_host, "127.0.0.1");
    for (uint32_t i = 0; i < 3; i++) {
        o.nodes[i].id = i + 1;
        o.nodes[i].port = (uint16_t)p[i];
        snprintf(o.nodes[i].host, sizeof o.nodes[i].host, "127.0.0.1");
    }
    ps_ask_ms = 4000 * slower();
    ps_list_wait_ms *= slower();
    ps_sealed_wait_ms *= 10 * slower();
    ps_gc_ttl_us = ttl_ms * 1000ull;
    ps_gc_every_us = 50000;
    o.loops = 3; /* pages are read on another loop than the main one */
    ps_loops_after = 1;
    ps_loops_home_max = 0;
    exit(ps_server_run(&o)); /* so that leaks of the daemon are reported too */
}

/* Of the daemons that are started from now on: whom they follow (0: nobody), and ps_gc_ttl_us. */
static uint16_t spawn_follows;
static unsigned spawn_ttl_ms = 400;

/* Starts the daemon on DIR/sub; it dies with the test. */
FIXTURE static pid_t spawn(const char *sub, uint16_t at, bool take_over)
{
    char log[96], options[700], id[CO_ID_TEXT];
    snprintf(log, sizeof log, "%s/%s.log", dir, sub);
    snprintf(options, sizeof options, "%s/%s %s %u %u %u %u %d %u %u", dir, sub,
             co_id_format(&cluster, id), at, fake.node[0].port, fake.node[1].port,
             fake.node[2].port, take_over, spawn_follows, spawn_ttl_ms * slower());
    char *argv[] = {(char[]){"pageserver"}, NULL};
    setenv(DAEMON_ENV, options, 1);
    int fd = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    /* By its name: under valgrind the link itself is valgrind. */
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    cr_assert_gt(len, 0);
    self[len] = 0;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fd, 1);
        dup2(fd, 2);
        close_range(3, ~0u, 0);
        execv(self, argv);
        _exit(4);
    }
    unsetenv(DAEMON_ENV);
    close(fd);
    return pid;
}

FIXTURE static int try_connect(struct psock *s, uint16_t at)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_protocol_min = hello.has_protocol_max = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    return psock_connect(s, "127.0.0.1", at, &hello, co_now_us() + 1000000ull * slower(), NULL);
}

FIXTURE static void reach(struct psock *s, uint16_t at)
{
    int rc = CO_ERR_CONNECT;
    *s = (struct psock){.fd = -1};
    for (int i = 0; i < 500 * (int)slower() && rc; i++) {
        rc = try_connect(s, at);
        if (rc)
            usleep(10000);
    }
    cr_assert_eq(rc, 0, "%s", co_sentence());
}

FIXTURE static int stop_daemon(int with)
{
    int status = 0;
    if (!daemon_pid)
        return 0;
    psock_close(&client);
    kill(daemon_pid, with);
    cr_assert_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
    daemon_pid = 0;
    return status;
}

FIXTURE static void start_daemon(void)
{
    port = free_port();
    daemon_pid = spawn("ps", port, false);
    reach(&client, port);
}

FIXTURE static void setup(void)
{
    ps_tmp(dir);
    cluster = ps_id(0xc1);
    fake_start(&fake, &cluster);
    start_daemon();
}
FIXTURE static void teardown(void)
{
    stop_daemon(SIGKILL);
    fake_stop(&fake);
    if (scribe.builder)
        ps_scribe_free(&scribe);
    co_buf_free(&records);
    ps_tmp_remove(dir);
}
/* -- Calls ------------------------------------------------------------------------------------- */

struct reply {
    struct frame_header frame;
    struct co_buf body;
    Corallite__Error *error;
};

FIXTURE static void reply_free(struct reply *r)
{
    co_buf_free(&r->body);
    if (r->error)
        protobuf_c_message_free_unpacked(&r->error->base, NULL);
    *r = (struct reply){0};
}

FIXTURE static int call(unsigned type, const ProtobufCMessage *m, struct reply *r)
{
    *r = (struct reply){0};
    return psock_call(&client, type, m, NOTHING, co_now_us() + 20000000ull * slower(), &r->frame,
                      &r->body, &r->error);
}

/* For a field of a message; never written through. */
#define TEXT(s) ((char *)(uintptr_t)(s))

FIXTURE static void *message_of(const ProtobufCMessageDescriptor *type, const struct reply *r)
{
    void *m = message_unpack(type, co_span_of(r->body.data, r->frame.message_bytes));
    cr_assert_not_null(m);
    return m;
}

/* OPEN or CREATE: 0 and the timeline; CO_ERR_NOT_FOUND: answered that there is none. */
FIXTURE static int name_call(unsigned type, const char *db, struct ps_meta *meta)
{
    Corallite__Open open = CORALLITE__OPEN__INIT;
    Corallite__Create create = CORALLITE__CREATE__INIT;
    struct reply r;
    open.database = create.database = (char *)(uintptr_t)db;
    int rc = call(type, type == FRAME_OPEN ? &open.base : &create.base, &r);
    if (!rc) {
        Corallite__Opened *opened = message_of(&corallite__opened__descriptor, &r);
        cr_assert_eq(opened->n_safekeepers, 3);
        cr_assert_eq(opened->safekeepers[1]->port, fake.node[1].port);
        rc = opened->timeline ? ps_meta_from_wire(opened->timeline, meta) : CO_ERR_NOT_FOUND;
        protobuf_c_message_free_unpacked(&opened->base, NULL);
    }
    reply_free(&r);
    return rc;
}

FIXTURE static struct ps_meta create(const char *db)
{
    struct ps_meta meta;
    cr_assert_eq(name_call(FRAME_CREATE, db, &meta), 0, "%s", co_sentence());
    cr_assert_eq(meta.state, PS_ACTIVE);
    return meta;
}

FIXTURE static int drop(const char *db)
{
    Corallite__Drop m = CORALLITE__DROP__INIT;
    struct reply r;
    m.database = (char *)(uintptr_t)db;
    int rc = call(FRAME_DROP, &m.base, &r);
    reply_free(&r);
    return rc;
}

/* Steps to the end; how many findings there are, and the versions that were looked at. */
FIXTURE static uint32_t verify(uint64_t *versions)
{
    Corallite__Verified *before = NULL;
    uint32_t n = 0;
    bool more = true;
    *versions = 0;
    for (int i = 0; i < 1000 && more; i++) {
        Corallite__Verify m = CORALLITE__VERIFY__INIT;
        struct reply r;
        m.at = before ? before->at : NULL;
        cr_assert_eq(call(FRAME_VERIFY, &m.base, &r), 0, "%s", co_sentence());
        if (before)
            protobuf_c_message_free_unpacked(&before->base, NULL);
        before = message_of(&corallite__verified__descriptor, &r);
        reply_free(&r);
        for (size_t k = 0; k < before->n_findings; k++)
            fprintf(stderr, "%s: %s\n", before->findings[k]->kind, before->findings[k]->text);
        n += (uint32_t)before->n_findings;
        *versions += before->versions;
        more = before->at != NULL;
    }
    cr_assert_not(more);
    protobuf_c_message_free_unpacked(&before->base, NULL);
    return n;
}

/* GET_PAGES of `n` pages from `first` on; statuses to status[n], pages to `pages`. */
FIXTURE static int get_pages(const struct co_id *tl, lsn_t lsn, lsn_t since, uint32_t deadline_ms,
                             pgno_t first, uint32_t n, int *status, struct reply *keep)
{
    Corallite__GetPages m = CORALLITE__GET_PAGES__INIT;
    uint32_t pgnos[300];
    struct reply r;
    m.has_timeline = m.has_lsn = m.has_deadline_ms = 1;
    m.timeline = msg_bytes16(tl->b);
    m.lsn = lsn;
    m.has_not_modified_since = since != 0;
    m.not_modified_since = since;
    m.deadline_ms = deadline_ms;
    for (uint32_t i = 0; i < n; i++)
        pgnos[i] = first + i;
    m.n_pages = n;
    m.pages = pgnos;
    int rc = call(FRAME_GET_PAGES, &m.base, keep ? keep : &r);
    if (keep)
        return rc;
    if (!rc) {
        Corallite__Pages *p = message_of(&corallite__pages__descriptor, &r);
        struct co_span rest =
            co_span_of(r.body.data + r.frame.message_bytes, r.body.len - r.frame.message_bytes);
        cr_assert_eq(p->n_pages, n);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert_eq(p->pages[i]->pgno, first + i);
            status[i] = p->pages[i]->status;
            if (status[i])
                continue;
            cr_assert_geq(rest.len, p->page_size);
            cr_assert_eq(p->pages[i]->crc, ps_crc(rest.data, p->page_size));
            cr_assert_leq(p->pages[i]->lsn, lsn);
            memcpy(pages + (size_t)i * p->page_size, rest.data, p->page_size);
            rest = co_span_of(rest.data + p->page_size, rest.len - p->page_size);
        }
        cr_assert_eq(rest.len, 0);
        protobuf_c_message_free_unpacked(&p->base, NULL);
    }
    reply_free(&r);
    return rc;
}

FIXTURE static void expect_pages(const struct co_id *tl, pgno_t first, uint32_t n,
                                 uint32_t deadline_ms)
{
    int status[256];
    cr_assert_eq(get_pages(tl, scribe.lsn, 0, deadline_ms, first, n, status, NULL), 0, "%s",
                 co_sentence());
    for (uint32_t i = 0; i < n; i++) {
        cr_assert_eq(status[i], 0, "page %u", first + i);
        cr_assert_eq(memcmp(pages + (size_t)i * scribe.page_size,
                            ps_scribe_page(&scribe, first + i), scribe.page_size),
                     0);
    }
}

FIXTURE static void begin_log(const struct ps_meta *meta, uint32_t page_size)
{
    ps_scribe_init(&scribe, page_size, 1000);
    scribe.cluster = cluster;
    scribe.timeline = meta->id;
    records.len = 0;
    ps_scribe_config(&scribe, &records);
    fake_append(&fake, &meta->id, &records);
    records.len = 0;
}

FIXTURE static void commit(const struct co_id *tl, const pgno_t *p, uint32_t n, uint64_t seed)
{
    ps_scribe_txn(&scribe, &records, p, n, FILL_TEXT, seed);
    fake_append(&fake, tl, &records);
    records.len = 0;
}

/* A branch of `shop` at the LSN. */
FIXTURE static int branch_at(const char *name, lsn_t at, struct ps_meta *out)
{
    Corallite__BranchCreate m = CORALLITE__BRANCH_CREATE__INIT;
    struct reply r;
    char text[40] = "lsn:";
    lsn_format(at, text + 4);
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    m.at = text;
    int rc = call(FRAME_BRANCH_CREATE, &m.base, &r);
    if (!rc) {
        Corallite__Branched *b = message_of(&corallite__branched__descriptor, &r);
        cr_assert_eq(ps_meta_from_wire(b->timeline, out), 0);
        protobuf_c_message_free_unpacked(&b->base, NULL);
    }
    reply_free(&r);
    return rc;
}

#endif
