/*
 * follow_uv.c - FOLLOW, on both sides (follow.h has the rules). A follower has one connection to
 * the owner and asks over it once a second; a lost one is made again with the next tick. Without
 * the owner a follower serves on; only its garbage stays, and its pins are as they were.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/follow.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE    "pageserver/follow"
#define SILENT_MS 5000u

struct ps_follow {
    struct ps_server *s;
    struct peer *peer; /* NULL: to be connected with the next tick */
    bool ready, lost;  /* lost: and it was said */
    uint64_t request, asked_ms;
    uint64_t heard_us;
};

/* -- The follower ------------------------------------------------------------------------------ */

int ps_follow_refuse(const struct ps_server *s, const char *what)
{
    return co_fail(CO_ERR_FOLLOWER,
                   "%s is for the pageserver at %s:%u, which owns the catalog; this one follows it "
                   "(its disk is lost? `--take-over` in the place of `--follow` makes this one the "
                   "owner)",
                   what, s->options->follow_host, s->options->follow_port);
}

uint64_t ps_follow_heard_us(const struct ps_server *s)
{
    return s->follow ? s->follow->heard_us : 0;
}

static int take_pins(struct ps_server *s, const Corallite__Followed *m)
{
    struct ps_pin_row *rows;
    size_t n;
    int rc = ps_follow_pins(m, &rows, &n);
    if (rc)
        return rc;
    ps_pins_replace(s, rows, n);
    free(rows);
    return 0;
}

static int on_followed(struct ps_follow *f, const struct frame_header *frame,
                       struct co_span message)
{
    bool counted;
    if (frame->request_id != f->request)
        return 0;
    Corallite__Followed *m = message_unpack(&corallite__followed__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = take_pins(f->s, m); /* before the cuts that count on them */
    if (!rc)
        rc = ps_follow_take(&f->s->reg, m, &counted);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    f->request = 0;
    if (!rc)
        f->heard_us = co_now_us();
    return rc;
}

static int on_error(struct co_span message)
{
    Corallite__Error *error = message_unpack(&corallite__error__descriptor, message);
    if (!error)
        return CO_ERR_PROTOCOL;
    int rc = co_fail(CO_ERR_NODE, "it does not let itself be followed: %s",
                     error->sentence ? error->sentence : co_error_text(error->code));
    protobuf_c_message_free_unpacked(&error->base, NULL);
    return rc;
}

static int on_hello(void *owner, struct peer *peer, const Corallite__Hello *hello,
                    const Corallite__HelloOk *ok)
{
    struct ps_follow *f = owner;
    struct co_id disk;
    (void)peer, (void)hello;
    int rc = msg_get16("disk", ok->has_disk, &ok->disk, disk.b);
    if (rc)
        return rc;
    if (co_id_eq(&disk, &f->s->identity.disk)) {
        co_fail(CO_ERR_INVAL, "--follow %s:%u is the address of this very pageserver",
                f->s->options->follow_host, f->s->options->follow_port);
        ps_server_fatal(f->s);
        return CO_ERR_INVAL;
    }
    f->ready = true;
    f->request = 0;
    return 0;
}

static int on_frame(void *owner, struct peer *peer, const struct frame_header *frame,
                    struct co_span body)
{
    struct ps_follow *f = owner;
    struct co_span message = co_span_of(body.data, frame->message_bytes);
    (void)peer;
    switch (frame->type) {
    case FRAME_FOLLOWED:
        return on_followed(f, frame, message);
    case FRAME_ERROR:
        return on_error(message);
    case FRAME_PONG:
        return 0;
    default:
        return co_fail(CO_ERR_PROTOCOL, "a pageserver sent %s to one that follows it",
                       frame_type_name(frame->type));
    }
}

static void on_close(void *owner, struct peer *peer, const char *reason)
{
    struct ps_follow *f = owner;
    const struct ps_options *o = f->s->options;
    (void)peer;
    f->peer = NULL;
    f->ready = false;
    f->request = 0;
    if (f->s->closing) {
        free(f);
        return;
    }
    if (!f->lost)
        co_warn(MODULE, "the owner of the catalog is lost, its pages are served on addr=%s:%u: %s",
                o->follow_host, o->follow_port, reason);
    f->lost = true;
}

static void dial(struct ps_follow *f)
{
    struct ps_server *s = f->s;
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    char program[] = "corallite-pageserver " CO_BUILD_VERSION;
    hello.has_protocol_min = hello.has_protocol_max = hello.has_cluster = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.cluster = msg_bytes16(s->identity.cluster.b);
    hello.role = CORALLITE__ROLE__ROLE_PAGESERVER;
    hello.program = program;
    struct peer_handler handler = {f, on_hello, on_frame, on_close};
    if (peer_connect(&s->loop, s->options->follow_host, s->options->follow_port, &hello, &handler,
                     &f->peer))
        f->peer = NULL;
}

static void ask(struct ps_follow *f)
{
    struct ps_server *s = f->s;
    Corallite__Follow m = CORALLITE__FOLLOW__INIT;
    Corallite__Follow__Read *read = calloc(s->reg.n + 1, sizeof *read);
    Corallite__Follow__Read **list = calloc(s->reg.n + 1, sizeof read);
    m.has_disk = 1;
    m.disk = msg_bytes16(s->identity.disk.b);
    m.reads = list;
    for (struct ps_timeline *tl = read && list ? s->reg.all : NULL; tl; tl = tl->next) {
        lsn_t oldest = ps_gc_oldest_read(s, tl);
        if (oldest == PS_GC_END)
            continue;
        Corallite__Follow__Read *r = list[m.n_reads] = &read[m.n_reads];
        corallite__follow__read__init(r);
        r->has_timeline = r->has_lsn = 1;
        r->timeline = msg_bytes16(tl->meta.id.b);
        r->lsn = oldest;
        m.n_reads++;
    }
    f->request = ++s->last_request;
    f->asked_ms = uv_now(&s->loop);
    peer_send(f->peer, FRAME_FOLLOW, f->request, &m.base, co_span_of(NULL, 0));
    free(read);
    free(list);
}

int ps_follow_start(struct ps_server *s)
{
    if (!s->options->follow)
        return 0;
    s->follow = calloc(1, sizeof *s->follow);
    if (!s->follow)
        return co_fail(CO_ERR_NOMEM, "no memory to follow with");
    s->follow->s = s;
    dial(s->follow);
    return 0;
}

void ps_follow_tick(struct ps_server *s)
{
    struct ps_follow *f = s->follow;
    co_metric_set(&ps_m_follows, f != NULL);
    if (!f)
        return;
    uint64_t since_us = co_now_us() - (f->heard_us ? f->heard_us : s->started_us);
    co_metric_set(&ps_m_owner_silent, since_us / 1000000);
    if (f->lost && f->heard_us && since_us < 2000000) {
        co_info(MODULE, "the owner of the catalog is there again addr=%s:%u",
                s->options->follow_host, s->options->follow_port);
        f->lost = false;
    }
    if (!f->peer)
        dial(f);
    else if (f->ready && !f->request)
        ask(f);
    else if (f->ready && uv_now(&s->loop) - f->asked_ms > SILENT_MS)
        peer_close(f->peer, "it does not answer");
}

void ps_follow_close(struct ps_server *s)
{
    struct ps_follow *f = s->follow;
    s->follow = NULL;
    if (f && f->peer)
        peer_close(f->peer, "the pageserver stops"); /* freed by on_close */
    else
        free(f);
}

/* -- The owner ---------------------------------------------------------------------------------
 */

struct telling {
    Corallite__Followed wire;
    Corallite__Followed__Line *line, **lines;
    Corallite__Followed__Pin *pin, **pins;
};

static void fill_lines(struct ps_server *s, struct telling *t)
{
    t->wire.lines = t->lines;
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        if (tl->meta.state == PS_DROPPED)
            continue;
        Corallite__Followed__Line *line = t->lines[t->wire.n_lines] = &t->line[t->wire.n_lines];
        corallite__followed__line__init(line);
        line->has_timeline = line->has_version = line->has_cut_lsn = 1;
        line->timeline = msg_bytes16(tl->meta.id.b);
        line->version = tl->meta.version;
        line->cut_lsn = tl->cutoff;
        t->wire.n_lines++;
    }
}

static void fill_pins(struct ps_server *s, struct telling *t)
{
    t->wire.pins = t->pins;
    for (const struct ps_pin *p = s->pins; p; p = p->next) {
        Corallite__Followed__Pin *pin = t->pins[t->wire.n_pins] = &t->pin[t->wire.n_pins];
        corallite__followed__pin__init(pin);
        pin->has_database = pin->has_timeline = pin->has_lsn = pin->has_time_us = 1;
        pin->has_created_us = 1;
        pin->database = msg_bytes16(p->row.database.b);
        pin->timeline = msg_bytes16(p->row.timeline.b);
        pin->name = (char *)(uintptr_t)p->row.name;
        pin->lsn = p->row.lsn;
        pin->time_us = p->row.time_us;
        pin->created_us = p->row.created_us;
        t->wire.n_pins++;
    }
}

static int tell(struct ps_session *session, uint64_t request)
{
    struct ps_server *s = session->s;
    struct telling t = {.wire = CORALLITE__FOLLOWED__INIT};
    int rc = 0;
    t.line = calloc(s->reg.n + 1, sizeof *t.line);
    t.lines = calloc(s->reg.n + 1, sizeof t.line);
    t.pin = calloc(s->n_pins + 1, sizeof *t.pin);
    t.pins = calloc(s->n_pins + 1, sizeof t.pin);
    if (!t.line || !t.lines || !t.pin || !t.pins) {
        rc = co_fail(CO_ERR_NOMEM, "no memory for an answer");
        goto done;
    }
    t.wire.has_disk = t.wire.has_cutting = 1;
    t.wire.disk = msg_bytes16(s->identity.disk.b);
    t.wire.cutting = ps_gc_cutting(s);
    fill_lines(s, &t);
    fill_pins(s, &t);
    if (corallite__followed__get_packed_size(&t.wire) > frame_body_max(FRAME_FOLLOWED))
        rc = co_fail(CO_ERR_TOO_LARGE, "%u timelines do not fit one answer", s->reg.n);
    else
        peer_send(session->peer, FRAME_FOLLOWED, request, &t.wire.base, co_span_of(NULL, 0));
done:
    free(t.line);
    free(t.lines);
    free(t.pin);
    free(t.pins);
    return rc;
}

/* Who reads at the follower reads here: these moments stay. */
static int take_reads(struct ps_server *s, const Corallite__Follow *m)
{
    for (size_t i = 0; i < m->n_reads; i++) {
        struct co_id id;
        int rc = msg_get16("timeline", m->reads[i]->has_timeline, &m->reads[i]->timeline, id.b);
        struct ps_timeline *tl = rc ? NULL : ps_reg_find(&s->reg, &id);
        if (rc)
            return rc;
        if (tl && m->reads[i]->lsn)
            ps_gc_note_read(s, tl, m->reads[i]->lsn);
    }
    return 0;
}

int ps_follow_asked(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct ps_server *s = session->s;
    Corallite__Follow *m = message_unpack(&corallite__follow__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    int rc = take_reads(s, m);
    protobuf_c_message_free_unpacked(&m->base, NULL);
    if (!rc && s->reg.follows)
        rc = ps_follow_refuse(s, "to be followed");
    if (!rc && !s->reg.heard)
        rc = co_fail(CO_ERR_NO_QUORUM, "the safekeepers have not told what they hold yet");
    return rc ? rc : tell(session, request);
}
