/*
 * serve_uv.c - the sessions of computes and tools, and their asks.
 *
 * A request about names or moments that cannot be answered yet (the registry is not known, a
 * creation or a drop is under way, the log has to come) becomes an ask; every change of the
 * registry and of a log that is waited for looks at all asks again, a timer does so every AGAIN_MS
 * while there are any, and ends those whose time is over with a sentence that says what is missing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE          "pageserver/serve"
#define AGAIN_MS        10u
#define ASKS_MAX        1024u /* of one session */
#define DEADLINE_MAX_MS 600000u
uint32_t ps_ask_ms = 8000;

/* -- Asks -------------------------------------------------------------------------------------- */

bool ps_ask_refuse(const struct ps_ask *ask, int rc)
{
    peer_send_error(ask->session->peer, ask->request, rc);
    return true;
}

/* What only the owner of the catalog does; NULL: anybody answers it. */
static const char *owners_part(const struct ps_ask *ask)
{
    switch (ask->kind) {
    case PS_ASK_DROP:
        return "the drop of a database";
    case PS_ASK_BRANCH_CREATE:
        return "a new branch";
    case PS_ASK_BRANCH_CHANGE:
        return "a change of a branch";
    case PS_ASK_RESTORE:
        return "a restore";
    case PS_ASK_PIN:
        return "a change of pins";
    case PS_ASK_GC:
        return ask->b.dry ? NULL : "the collection of garbage";
    default:
        return NULL;
    }
}

/* A follower answers about names when it has asked a majority of the safekeepers since: what was
 * acknowledged before the question is then known. False: not yet, or *refused. */
static bool may_answer(struct ps_server *s, struct ps_ask *ask, bool *refused)
{
    const char *what = owners_part(ask);
    *refused = what != NULL;
    if (what)
        return !ps_ask_refuse(ask, ps_follow_refuse(s, what));
    if (!ask->fresh)
        ask->fresh = ps_fresh_round(s);
    return ps_fresh(s, ask->fresh);
}

static bool try_ask(struct ps_server *s, struct ps_ask *ask)
{
    bool refused;
    if (s->reg.follows && !may_answer(s, ask, &refused))
        return refused;
    switch (ask->kind) {
    case PS_ASK_OPEN:
    case PS_ASK_CREATE:
    case PS_ASK_DROP:
    case PS_ASK_LIST:
        return ps_database_try(s, ask);
    case PS_ASK_PIN:
    case PS_ASK_PIN_LIST:
        return ps_pin_try(s, ask);
    case PS_ASK_GC:
        return ps_gc_try(s, ask);
    default:
        return ps_branch_try(s, ask);
    }
}

static void give_up(struct ps_server *s, struct ps_ask *ask)
{
    char missing[600] = "";
    size_t n = 0;
    int late = ask->b.version || !ask->moment.begun || ask->moment.tl
                   ? 0
                   : ps_moment_late(s, &ask->moment, ask->patience_ms);
    if (late) {
        peer_send_error(ask->session->peer, ask->request, late);
        return;
    }
    for (uint32_t i = 0; i < s->reg.n_nodes && n < sizeof missing; i++)
        if (!s->nodes[i].ready && s->nodes[i].id)
            n +=
                (size_t)snprintf(missing + n, sizeof missing - n, "%s%u at %.60s:%u", n ? ", " : "",
                                 s->nodes[i].id, s->nodes[i].host, s->nodes[i].port);
    if (ask->kind == PS_ASK_DROP && ask->b.purge && !co_id_is_zero(&ask->database)) {
        peer_send_error(ask->session->peer, ask->request,
                        co_fail(CO_ERR_NO_QUORUM,
                                "%s is dropped, and what it left is being removed; that is not "
                                "done on every safekeeper yet%s%s, and goes on in the background",
                                ask->db, n ? ", missing: " : "", missing));
        return;
    }
    const char *name = ask->kind == PS_ASK_LIST ? "the list of databases" : ask->db;
    int rc =
        ps_nodes_enough(s)
            ? co_fail(CO_ERR_NO_QUORUM,
                      "%s: a majority of the safekeepers did not confirm within %u ms; it "
                      "goes on in the background, ask again",
                      name, ask->patience_ms)
            : co_fail(CO_ERR_NO_QUORUM,
                      "%s: %u of %u safekeepers are connected to the pageserver, %u are "
                      "needed; missing: %s",
                      name, ps_nodes_ready(s), s->reg.n_nodes, ps_reg_majority(&s->reg), missing);
    peer_send_error(ask->session->peer, ask->request, rc);
}

static void free_ask(struct ps_ask *ask)
{
    ask->session->n_asks--;
    ps_pin_forget(ask);
    ps_gc_forget(ask);
    free(ask);
}

static void on_again(uv_timer_t *timer)
{
    ps_serve_asks(timer->data);
}

static void keep_ask(struct ps_server *s, struct ps_ask *ask)
{
    ask->next = s->asks;
    s->asks = ask;
    s->moments |= ask->kind >= PS_ASK_RESOLVE;
    if (s->moments && !uv_is_active((uv_handle_t *)&s->again))
        uv_timer_start(&s->again, on_again, AGAIN_MS, 0);
}

void ps_serve_asks(struct ps_server *s)
{
    uint64_t now = uv_now(&s->loop);
    /* Taken off first: answering may change the registry, which leads here again. */
    struct ps_ask *asks = s->asks, *next;
    s->asks = NULL;
    s->moments = false;
    for (; asks; asks = next) {
        next = asks->next;
        bool done = try_ask(s, asks);
        if (!done && now >= asks->deadline_ms) {
            give_up(s, asks);
            done = true;
        }
        if (done)
            free_ask(asks);
        else
            keep_ask(s, asks);
    }
}

static void forget_asks(struct ps_session *session)
{
    for (struct ps_ask **at = &session->s->asks, *ask; (ask = *at);) {
        if (ask->session == session) {
            *at = ask->next;
            free_ask(ask);
        } else {
            at = &ask->next;
        }
    }
}

int ps_take_name(const char *what, const char *wire, const char *otherwise,
                 char out[CO_NAME_MAX_BYTES + 1])
{
    if ((!wire || !*wire) && otherwise)
        wire = otherwise;
    if (!wire)
        return co_fail(CO_ERR_PROTOCOL, "the request names no %s", what);
    int rc = name_check(wire);
    if (!rc)
        snprintf(out, CO_NAME_MAX_BYTES + 1, "%s", wire);
    return rc;
}

void ps_serve_ask(struct ps_session *session, const struct ps_ask *wanted, uint32_t deadline_ms)
{
    struct ps_server *s = session->s;
    struct ps_ask *ask = session->n_asks < ASKS_MAX ? malloc(sizeof *ask) : NULL;
    if (!ask) {
        peer_send_error(session->peer, wanted->request,
                        session->n_asks < ASKS_MAX
                            ? co_fail(CO_ERR_NOMEM, "no memory")
                            : co_fail(CO_ERR_BUSY, "%u requests of this connection wait already",
                                      session->n_asks));
        return;
    }
    *ask = *wanted;
    ask->session = session;
    ask->patience_ms = deadline_ms ? deadline_ms : ps_ask_ms;
    if (ask->patience_ms > DEADLINE_MAX_MS)
        ask->patience_ms = DEADLINE_MAX_MS;
    ask->deadline_ms = uv_now(&s->loop) + ask->patience_ms;
    session->n_asks++;
    if (try_ask(s, ask))
        free_ask(ask);
    else
        keep_ask(s, ask);
}

static int read_open(struct co_span message, struct ps_ask *ask)
{
    Corallite__Open *m = message_unpack(&corallite__open__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    if (!rc)
        rc = ps_take_name("branch", m->branch, "main", ask->branch);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

static int read_create(struct co_span message, struct ps_ask *ask)
{
    Corallite__Create *m = message_unpack(&corallite__create__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    if (!rc)
        rc = msg_get16("database id", m->has_database_id, &m->database_id, ask->database.b);
    snprintf(ask->branch, sizeof ask->branch, "main");
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

static int read_drop(struct co_span message, struct ps_ask *ask)
{
    Corallite__Drop *m = message_unpack(&corallite__drop__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = ps_take_name("database", m->database, NULL, ask->db);
    ask->b.purge = m->purge;
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

/* A request about names. */
static void on_ask(struct ps_session *session, enum ps_ask_kind kind, uint64_t request,
                   struct co_span message)
{
    struct ps_ask ask = {.kind = kind, .request = request};
    int rc = kind == PS_ASK_OPEN     ? read_open(message, &ask)
             : kind == PS_ASK_CREATE ? read_create(message, &ask)
             : kind == PS_ASK_DROP   ? read_drop(message, &ask)
                                     : 0;
    if (rc)
        peer_send_error(session->peer, request, rc);
    else
        ps_serve_ask(session, &ask, ask.b.purge ? DEADLINE_MAX_MS : 0);
}

/* -- Sessions ---------------------------------------------------------------------------------- */

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *unused)
{
    struct ps_server *s = owner;
    struct co_id cluster, disk;
    (void)unused;
    int rc = msg_get16("cluster", hello->has_cluster, &hello->cluster, cluster.b);
    if (!rc)
        rc = msg_get16("disk", hello->has_expect_disk, &hello->expect_disk, disk.b);
    if (rc)
        return rc;
    if (hello->has_cluster && !co_id_eq(&cluster, &s->identity.cluster))
        return co_fail(CO_ERR_CLUSTER, "this pageserver belongs to another cluster than you do");
    if (hello->has_expect_disk && !co_id_eq(&disk, &s->identity.disk))
        return co_fail(CO_ERR_NODE, "this pageserver has another disk than the one you expect");
    struct ps_session *session = calloc(1, sizeof *session);
    if (!session)
        return co_fail(CO_ERR_NOMEM, "no memory for a session");
    session->s = s;
    session->peer = peer;
    session->next = s->sessions;
    session->prev = &s->sessions;
    if (session->next)
        session->next->prev = &session->next;
    s->sessions = session;
    peer_set_data(peer, session);
    co_metric_add(&ps_m_sessions, 1);

    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    char build[] = CO_BUILD_VERSION;
    ok.has_protocol = ok.has_cluster = ok.has_node = ok.has_disk = ok.has_time_us = 1;
    ok.protocol = CO_PROTOCOL_VERSION;
    ok.cluster = msg_bytes16(s->identity.cluster.b);
    ok.disk = msg_bytes16(s->identity.disk.b);
    ok.time_us = co_wall_us();
    ok.build = build;
    peer_send(peer, FRAME_HELLO_OK, 0, &ok.base, co_span_of(NULL, 0));
    return 0;
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct ps_session *session = peer_data(peer);
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    (void)owner;
    switch (frame->type) {
    case FRAME_OPEN:
        on_ask(session, PS_ASK_OPEN, frame->request_id, message);
        break;
    case FRAME_CREATE:
        on_ask(session, PS_ASK_CREATE, frame->request_id, message);
        break;
    case FRAME_DROP:
        on_ask(session, PS_ASK_DROP, frame->request_id, message);
        break;
    case FRAME_DB_LIST:
        on_ask(session, PS_ASK_LIST, frame->request_id, message);
        break;
    case FRAME_GET_PAGES:
    case FRAME_CHANGES_SINCE:
        ps_pages_frame(session, frame->type, frame->request_id, message);
        break;
    case FRAME_SERVER_STATUS:
        ps_status_send(session, frame->request_id);
        break;
    case FRAME_FOLLOW: {
        int rc = ps_follow_asked(session, frame->request_id, message);
        if (rc)
            peer_send_error(peer, frame->request_id, rc);
        break;
    }
    case FRAME_VERIFY:
        ps_verify_frame(session, frame->request_id, message);
        break;
    case FRAME_REPAIR:
        ps_repair_frame(session, frame->request_id, message);
        break;
    case FRAME_ARCHIVE_PRUNE:
        ps_archive_prune_frame(session, frame->request_id, message);
        break;
    case FRAME_PONG:
        break;
    default:
        if (ps_branch_frame(session, frame, message))
            break;
        peer_send_error(peer, frame->request_id,
                        co_fail(CO_ERR_PROTOCOL, "a pageserver does not take %s",
                                frame_type_name(frame->type)));
    }
    return 0;
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct ps_session *session = peer_data(peer);
    (void)owner;
    co_debug(MODULE, "session ends addr=%s: %s", peer_address(peer), reason);
    ps_pages_forget(session);
    ps_loops_forget(session);
    ps_repair_forget(session);
    ps_archive_forget(session);
    forget_asks(session);
    co_metric_add(&ps_m_bytes_in, peer_bytes_in(peer));
    co_metric_add(&ps_m_bytes_out, peer_bytes_out(peer));
    co_metric_set(&ps_m_sessions, co_metric_get(&ps_m_sessions) - 1);
    *session->prev = session->next;
    if (session->next)
        session->next->prev = session->prev;
    free(session);
}

int ps_serve_start(struct ps_server *s)
{
    struct peer_handler handler = {s, on_hello, on_frame, on_close};
    int rc = uv_timer_init(&s->loop, &s->again);
    co_assert(rc == 0);
    s->again.data = s;
    return peer_listen(&s->loop, s->options->listen_host, s->options->listen_port, &handler,
                       &s->listener);
}

void ps_serve_close(struct ps_server *s)
{
    if (s->listener)
        peer_server_close(s->listener);
    s->listener = NULL;
    if (s->again.data)
        uv_close((uv_handle_t *)&s->again, NULL);
    s->again.data = NULL;
}
