/* daemon_fixture.h - runs the real corallite-safekeeper and speaks to it. The binary is that of
 * $CORALLITE_BIN_DIR ("build" if unset). */
#ifndef CORALLITE_TESTS_SAFEKEEPER_DAEMON_FIXTURE_H
#define CORALLITE_TESTS_SAFEKEEPER_DAEMON_FIXTURE_H

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "proto/message.h"
#include "proto/peer_sock.h"
#include "proto/qmsg.h"
#include "tests/unit/safekeeper/fixture.h"
#include "tests/unit/slower.h"

#define CLUSTER_TEXT "0102030405060708090a0b0c0d0e0f10"

struct sk_process {
    pid_t pid;
    uint16_t port, http_port;
    char text[16384]; /* what it said until it was ready, or until it ended */
    int log_fd;
};

static inline void daemon_dir(char out[SK_PATH_MAX])
{
    snprintf(out, SK_PATH_MAX, "%s/sk", fixture()->dir);
}

/* A file below the daemon's directory. */
static inline void daemon_path(char out[SK_PATH_MAX], const char *name)
{
    cr_assert_eq(sk_io_path(out, "%s/sk/%s", fixture()->dir, name), 0);
}

static inline void daemon_timeline_path(char out[SK_PATH_MAX], const char *name)
{
    char id[CO_ID_TEXT];
    cr_assert_eq(sk_io_path(out, "%s/sk/timelines/%s%s", fixture()->dir,
                            co_id_format(&fixture()->owner.timeline, id), name),
                 0);
}

/* Starts it; extra: NULL-terminated. Does not wait. */
static inline void daemon_spawn(struct sk_process *p, const char *const *extra)
{
    static char program[SK_PATH_MAX], dir[SK_PATH_MAX];
    const char *bin = getenv("CORALLITE_BIN_DIR");
    const char *argv[24] = {program, "--dir", dir, "--node", "1", "--listen", "127.0.0.1:0"};
    int n = 7, fds[2];
    cr_assert_eq(sk_io_path(program, "%s/corallite-safekeeper", bin ? bin : "build"), 0);
    daemon_dir(dir);
    while (extra && *extra)
        argv[n++] = *extra++;
    argv[n] = NULL;
    cr_assert_eq(access(program, X_OK), 0, "%s is not there: make all, or set CORALLITE_BIN_DIR",
                 program);
    cr_assert_eq(pipe(fds), 0);
    p->pid = fork();
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        execv(program, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(fds[1]);
    p->log_fd = fds[0];
}

/* Reads what it says until `until` was said or it ended; false when it ended or 10 s passed. */
static inline bool daemon_listen(struct sk_process *p, const char *until)
{
    size_t len = 0;
    uint64_t deadline = co_now_us() + 10000000ull * slower();
    p->text[0] = 0;
    while (co_now_us() < deadline && len < sizeof p->text - 1) {
        struct pollfd pf = {.fd = p->log_fd, .events = POLLIN};
        if (poll(&pf, 1, 100) <= 0)
            continue;
        ssize_t n = read(p->log_fd, p->text + len, sizeof p->text - 1 - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        p->text[len] = 0;
        if (until && strstr(p->text, until) && strchr(strstr(p->text, until), '\n'))
            return true;
    }
    return false;
}

static inline void daemon_start(struct sk_process *p, const char *const *extra)
{
    unsigned port = 0, http = 0;
    daemon_spawn(p, extra);
    cr_assert(daemon_listen(p, " ready "), "it did not become ready: %s", p->text);
    const char *at = strstr(p->text, "addr=127.0.0.1:");
    cr_assert(at && sscanf(at, "addr=127.0.0.1:%u", &port) == 1, "%s", p->text);
    at = strstr(p->text, "http=127.0.0.1:");
    if (at)
        sscanf(at, "http=127.0.0.1:%u", &http);
    p->port = (uint16_t)port;
    p->http_port = (uint16_t)http;
}

/* Waits for its end (10 s): exit code, or -signal. */
static inline int daemon_wait(struct sk_process *p)
{
    int status = 0;
    char sink[4096];
    fcntl(p->log_fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 1000 * (int)slower(); i++) {
        while (read(p->log_fd, sink, sizeof sink) > 0)
            ;
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            close(p->log_fd);
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
        usleep(10000);
    }
    kill(p->pid, SIGKILL);
    waitpid(p->pid, &status, 0);
    close(p->log_fd);
    cr_assert_fail("the daemon did not end within 10 s");
    return 0;
}

static inline int daemon_stop(struct sk_process *p, int signal_number)
{
    kill(p->pid, signal_number);
    return daemon_wait(p);
}

/* Starts it, expects a refusal: exit code 1 and a sentence with all of `words`. */
static inline void daemon_refuses(const char *const *extra, const char *const *words)
{
    struct sk_process p;
    daemon_spawn(&p, extra);
    cr_assert_not(daemon_listen(&p, " ready "), "it started: %s", p.text);
    cr_assert_eq(daemon_wait(&p), 1, "%s", p.text);
    for (; *words; words++)
        cr_assert(strstr(p.text, *words), "'%s' is not in: %s", *words, p.text);
}

/* -- Speaking to it --------------------------------------------------------------------------- */

struct sk_talk {
    struct psock sock;
    struct qmsg_scratch scratch;
};

static inline struct co_id cluster_id(void)
{
    struct co_id id;
    cr_assert_eq(co_id_parse(CLUSTER_TEXT, &id), 0);
    return id;
}

static inline Corallite__Hello talk_hello(const struct co_id *cluster)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_cluster = hello.has_role = hello.has_protocol_min = hello.has_protocol_max = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.cluster = msg_bytes16(cluster->b);
    hello.role = CORALLITE__ROLE__ROLE_COMPUTE;
    return hello;
}

static inline uint64_t in_5_s(void)
{
    return co_now_us() + 5000000ull * slower();
}

static inline void talk_open_as(struct sk_talk *t, const struct sk_process *p, Corallite__Role role)
{
    static struct co_id cluster;
    cluster = cluster_id();
    Corallite__Hello hello = talk_hello(&cluster);
    hello.role = role;
    *t = (struct sk_talk){.sock = {.fd = -1}};
    cr_assert_eq(psock_connect(&t->sock, "127.0.0.1", p->port, &hello, in_5_s(), NULL), 0, "%s",
                 co_sentence());
}

static inline void talk_open(struct sk_talk *t, const struct sk_process *p)
{
    talk_open_as(t, p, CORALLITE__ROLE__ROLE_COMPUTE);
}

static inline void talk_close(struct sk_talk *t)
{
    psock_close(&t->sock);
    qmsg_scratch_free(&t->scratch);
}

static inline void talk_send(struct sk_talk *t, const struct q_msg *m)
{
    AUTO_BUF frame = {0};
    struct q_msg copy = *m;
    copy.timeline = fixture()->owner.timeline;
    cr_assert_eq(qmsg_encode(&copy, &frame), 0, "%s", co_sentence());
    cr_assert_eq(psock_queue(&t->sock, co_buf_span(&frame)), 0, "%s", co_sentence());
}

/* The next frame, whatever it is; its body is borrowed until the next call. false: none in ms. */
static inline bool talk_next(struct sk_talk *t, int ms, struct frame_header *frame,
                             struct co_span *body)
{
    uint64_t deadline = co_now_us() + (uint64_t)ms * 1000;
    for (;;) {
        int rc = psock_next(&t->sock, frame, body);
        if (rc == 0)
            return true;
        cr_assert_eq(rc, CO_ERR_AGAIN, "%s", co_sentence());
        if (co_now_us() >= deadline)
            return false;
        struct pollfd pf = {.fd = t->sock.fd,
                            .events = (short)(POLLIN | (psock_wants_out(&t->sock) ? POLLOUT : 0))};
        poll(&pf, 1, 20);
        cr_assert_eq(psock_pump_out(&t->sock), 0);
        rc = psock_pump_in(&t->sock);
        cr_assert(rc == 0 || rc == CO_ERR_AGAIN, "%s", co_sentence());
    }
}

/* The next frame, which must be a quorum message of this type. */
static inline void talk_expect(struct sk_talk *t, enum frame_type type, struct q_msg *out)
{
    struct frame_header frame;
    struct co_span body;
    cr_assert(talk_next(t, 5000 * (int)slower(), &frame, &body), "no answer within 5 s");
    cr_assert_eq(frame.type, type, "%s came instead of %s", frame_type_name(frame.type),
                 frame_type_name(type));
    cr_assert_eq(qmsg_decode(&frame, body, &t->scratch, out), 0, "%s", co_sentence());
}

static inline int talk_put_born(struct sk_talk *t, uint64_t version, Corallite__TimelineState state,
                                term_t born)
{
    Corallite__TimelinePut put = CORALLITE__TIMELINE_PUT__INIT;
    Corallite__Timeline tl = CORALLITE__TIMELINE__INIT;
    struct wal_config config = {.version = 1, .n = 3};
    struct msg_config wire;
    struct frame_header frame;
    AUTO_BUF body = {0};
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    msg_config_fill(&config, &wire);
    tl.has_id = tl.has_start_lsn = tl.has_state = tl.has_version = 1;
    tl.id = msg_bytes16(fixture()->owner.timeline.b);
    tl.database_name = "shop";
    tl.branch = "main";
    tl.start_lsn = LSN_FIRST;
    tl.state = state;
    tl.version = version;
    tl.has_born_term = born != 0;
    tl.born_term = born;
    tl.config = &wire.pb;
    put.timeline = &tl;
    int rc = psock_call(&t->sock, FRAME_TIMELINE_PUT, &put.base, (struct co_span){0}, in_5_s(),
                        &frame, &body, NULL);
    if (!rc) {
        Corallite__TimelinePutOk *ok =
            corallite__timeline_put_ok__unpack(NULL, frame.message_bytes, body.data);
        cr_assert(ok && ok->timeline && ok->timeline->version >= version);
        corallite__timeline_put_ok__free_unpacked(ok, NULL);
    }
    return rc;
}

static inline int talk_put(struct sk_talk *t, uint64_t version, Corallite__TimelineState state)
{
    return talk_put_born(t, version, state, 0);
}

/* STREAM from an LSN: the records, and what the node says it knows. */
static inline int talk_stream(struct sk_talk *t, lsn_t from, uint32_t wait_ms, struct co_buf *out,
                              lsn_t *commit, lsn_t *flush)
{
    Corallite__Stream m = CORALLITE__STREAM__INIT;
    struct frame_header frame;
    AUTO_BUF body = {0};
    m.has_timeline = m.has_from_lsn = m.has_wait_ms = 1;
    m.timeline = msg_bytes16(fixture()->owner.timeline.b);
    m.from_lsn = from;
    m.wait_ms = wait_ms;
    int rc = psock_call(&t->sock, FRAME_STREAM, &m.base, (struct co_span){0}, in_5_s(), &frame,
                        &body, NULL);
    if (!rc) {
        Corallite__StreamData *d =
            corallite__stream_data__unpack(NULL, frame.message_bytes, body.data);
        cr_assert(d && d->from_lsn == from);
        *commit = d->commit_lsn;
        *flush = d->flush_lsn;
        corallite__stream_data__free_unpacked(d, NULL);
        out->len = 0;
        cr_assert_eq(
            co_buf_append(out, body.data + frame.message_bytes, body.len - frame.message_bytes), 0);
    }
    return rc;
}

static const struct co_id talk_nonce = {{0x40, 1, 2, 3}};

static inline void talk_lead(struct sk_talk *t, term_t term, const struct q_history *history,
                             lsn_t start)
{
    struct q_msg m;
    talk_send(t, &(struct q_msg){.type = FRAME_VOTE, .term = term, .nonce = talk_nonce});
    talk_expect(t, FRAME_VOTED, &m);
    cr_assert(m.granted, "term %llu was not granted", (unsigned long long)term);
    talk_send(t, &(struct q_msg){.type = FRAME_ELECTED,
                                 .term = term,
                                 .nonce = talk_nonce,
                                 .history = *history,
                                 .start_lsn = start,
                                 .sent_us = 1});
    talk_expect(t, FRAME_ACK, &m);
    cr_assert_eq(m.term, term);
}

static inline void talk_append(struct sk_talk *t, term_t term, lsn_t begin, lsn_t commit,
                               const struct co_buf *records)
{
    talk_send(t, &(struct q_msg){.type = FRAME_APPEND,
                                 .term = term,
                                 .nonce = talk_nonce,
                                 .begin_lsn = begin,
                                 .commit_lsn = commit,
                                 .sent_us = 2,
                                 .payload = co_buf_span(records)});
}

#endif
