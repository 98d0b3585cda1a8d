/*
 * rest_uv.c - timelines at rest: closed when they are idle, opened when they are asked for.
 *
 * An open timeline costs descriptors and some ten kilobytes; of ten thousand databases few are in
 * use. When more than `keep_open` are open those that were idle the longest are closed as at a
 * clean stop, so the next one who asks finds what a restart would have left: no rule of the log
 * knows a difference. A frame that comes while a timeline is being closed is parked, and looked at
 * again when that is done. A connection that leads a timeline, or has wanted to, holds it open: its
 * writer counts on what this safekeeper knows of it.
 *
 * A pageserver must not ask for ten thousand timelines one by one whether there is something new.
 * It watches: with the list of the timelines it is told how far each is committed, and from then on
 * every SK_NEWS_MS where that moved.
 */
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "proto/message.h"
#include "safekeeper/server.h"

#define MODULE           "safekeeper/rest"
#define CLOSE_MAX        64u   /* begun in one housekeeping */
#define NEWS_MAX         1024u /* in one frame */
#define PARKED_MAX_BYTES SK_QUEUE_MAX_BYTES

/* -- Who speaks to what ------------------------------------------------------------------------ */

static uint32_t position(const struct sk_client *c, const struct co_id *id)
{
    uint32_t lo = 0, hi = c->n_touched;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (memcmp(c->touched[mid].id.b, id->b, sizeof id->b) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int insert(struct sk_client *c, uint32_t i, const struct co_id *id)
{
    if (c->n_touched == c->cap_touched) {
        uint32_t cap = c->cap_touched ? c->cap_touched * 2 : 2;
        struct sk_touched *p = realloc(c->touched, cap * sizeof *p);
        if (!p)
            return co_fail(CO_ERR_NOMEM, "this safekeeper has no memory for another timeline");
        c->touched = p;
        c->cap_touched = cap;
    }
    memmove(&c->touched[i + 1], &c->touched[i], (c->n_touched - i) * sizeof *c->touched);
    c->touched[i] = (struct sk_touched){.id = *id};
    c->n_touched++;
    return 0;
}

int sk_touch(struct sk_server *s, struct sk_client *c, const struct co_id *id, bool holds)
{
    co_assert(c);
    uint32_t i = position(c, id);
    if (i == c->n_touched || !co_id_eq(&c->touched[i].id, id)) {
        int rc = insert(c, i, id);
        if (rc)
            return rc;
    }
    if (holds && !c->touched[i].holds) {
        c->touched[i].holds = true;
        sk_registry_find(&s->registry, id)->holders++;
    }
    return 0;
}

void sk_touched_end(struct sk_server *s, struct sk_client *gone, bool local)
{
    for (uint32_t i = 0; i < gone->n_touched; i++) {
        struct sk_entry *e = sk_registry_find(&s->registry, &gone->touched[i].id);
        if (e && gone->touched[i].holds)
            e->holders--;
        if (e && e->open)
            sk_timeline_conn_closed(e->open, gone->conn, local);
    }
    free(gone->touched);
    gone->touched = NULL;
    if (!gone->watches)
        return;
    s->watched = false;
    for (uint32_t i = 0; i < s->n_clients; i++)
        s->watched |= s->clients[i].watches;
}

/* -- Frames that wait -------------------------------------------------------------------------- */

bool sk_park(struct sk_server *s, struct peer *peer, const struct co_id *id,
             const struct frame_header *frame, struct co_span body)
{
    struct sk_entry *e = sk_registry_find(&s->registry, id);
    if (!e || !e->open || e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED ||
        !sk_timeline_closing(e->open))
        return false;
    struct sk_parked *p =
        s->parked_bytes + body.len <= PARKED_MAX_BYTES ? calloc(1, sizeof *p) : NULL;
    if (!p || co_buf_append(&p->body, body.data, body.len)) {
        free(p);
        peer_close(peer, "this safekeeper has no memory for its message");
        return true;
    }
    p->conn = peer_id(peer);
    p->id = *id;
    p->frame = *frame;
    s->parked_bytes += body.len;
    *s->parked_tail = p;
    s->parked_tail = &p->next;
    return true;
}

/* Takes those of the timeline out, in order; what came of it is looked at as if it came now. */
static void unpark(struct sk_server *s, const struct co_id *id)
{
    struct sk_parked *mine = NULL, **tail = &mine, **at = &s->parked;
    while (*at) {
        struct sk_parked *p = *at;
        if (!co_id_eq(&p->id, id)) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        s->parked_bytes -= p->body.len;
        p->next = NULL;
        *tail = p;
        tail = &p->next;
    }
    s->parked_tail = at;
    for (struct sk_parked *p = mine, *next; p; p = next) {
        struct sk_client *c = sk_find_client(s, p->conn);
        next = p->next;
        if (c && !s->stopping && sk_server_frame(s, c->peer, &p->frame, co_buf_span(&p->body)))
            peer_close(c->peer, co_sentence());
        co_buf_free(&p->body);
        free(p);
    }
}

/* -- Opened and closed ------------------------------------------------------------------------- */

int sk_rest_room(struct sk_server *s)
{
    if (s->n_open < s->cap_open)
        return 0;
    uint32_t cap = s->cap_open ? s->cap_open * 2 : 16;
    struct sk_open *p = realloc(s->open, cap * sizeof *p);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "this safekeeper has no memory for another timeline");
    s->open = p;
    s->cap_open = cap;
    return 0;
}

void sk_rest_opened(struct sk_server *s, struct sk_timeline *t)
{
    s->open[s->n_open++] = (struct sk_open){.t = t};
}

static lsn_t commit_of(const struct sk_timeline *t)
{
    struct sk_view v;
    if (!sk_timeline_view(t, &v))
        return 0;
    return v.commit_lsn < v.flush_lsn ? v.commit_lsn : v.flush_lsn;
}

void sk_rest_closed(struct sk_server *s, struct sk_timeline *t)
{
    struct co_id id = *sk_timeline_id(t);
    struct sk_entry *e = sk_registry_find(&s->registry, &id);
    if (s->watched && !s->stopping)
        sk_rest_news(s); /* what it has not told yet */
    for (uint32_t i = 0; i < s->n_open; i++)
        if (s->open[i].t == t)
            s->open[i] = s->open[--s->n_open];
    if (e && e->open == t) {
        e->open = NULL;
        e->rest_lsn = commit_of(t);
        sk_trim_closed(e, t);
        e->closed_us = co_now_us();
    }
    if (e)
        sk_remove_files(s, e);
    unpark(s, &id);
}

/* The one that was idle the longest, and nobody holds it. */
static struct sk_timeline *longest_idle(const struct sk_server *s, uint64_t now)
{
    struct sk_timeline *found = NULL;
    for (uint32_t i = 0; i < s->n_open; i++) {
        struct sk_timeline *t = s->open[i].t;
        const struct sk_entry *e = sk_registry_find(&s->registry, sk_timeline_id(t));
        if (e && e->holders == 0 && sk_timeline_idle(t, now, s->options.idle_us) &&
            (!found || sk_timeline_used_us(t) < sk_timeline_used_us(found)))
            found = t;
    }
    return found;
}

void sk_rest_idle(struct sk_server *s, uint64_t now)
{
    uint32_t closing = 0;
    for (uint32_t i = 0; i < s->n_open; i++)
        closing += sk_timeline_closing(s->open[i].t);
    for (uint32_t k = 0; k < CLOSE_MAX && s->n_open - closing > s->options.keep_open; k++) {
        struct sk_timeline *t = longest_idle(s, now);
        if (!t)
            break;
        sk_timeline_close(t);
        closing++;
    }
}

/* -- News -------------------------------------------------------------------------------------- */

lsn_t sk_rest_commit(const struct sk_server *s, struct sk_entry *e)
{
    if (e->open)
        return commit_of(e->open);
    struct sk_control control;
    if (!e->rest_lsn && e->state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED &&
        sk_server_peek(s, e, &control))
        e->rest_lsn = control.commit_lsn;
    return e->rest_lsn;
}

static void send_news(struct sk_server *s, uint8_t *ids, uint64_t *lsns, size_t n)
{
    Corallite__TimelineListed news = CORALLITE__TIMELINE_LISTED__INIT;
    news.has_news = 1;
    news.news = (ProtobufCBinaryData){n * 16, ids};
    news.commit_lsn = lsns;
    news.n_commit_lsn = n;
    for (uint32_t i = 0; n && i < s->n_clients; i++)
        if (s->clients[i].watches)
            peer_send(s->clients[i].peer, FRAME_TIMELINE_LISTED, 0, &news.base,
                      (struct co_span){0});
}

void sk_rest_news(struct sk_server *s)
{
    uint8_t ids[NEWS_MAX * 16];
    uint64_t lsns[NEWS_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_open; i++) {
        lsn_t commit = commit_of(s->open[i].t);
        if (!commit || commit == s->open[i].told)
            continue;
        s->open[i].told = commit;
        memcpy(ids + n * 16, sk_timeline_id(s->open[i].t)->b, 16);
        lsns[n++] = commit;
        if (n == NEWS_MAX) {
            send_news(s, ids, lsns, n);
            n = 0;
        }
    }
    send_news(s, ids, lsns, n);
}
