/*
 * loops_uv.c - pages are read on several loops.
 *
 * A connection that asks for pages moves to the loop that has fewest of them (peer_loops_uv.h); the
 * main loop has its share. There GET_PAGES and CHANGES_SINCE are answered if all that is needed is
 * in the view (view.h) and in the store: the timeline can be read, as far as is asked for, and the
 * moment lies in its own log, above the cut. Everything else is handed to the main loop, which has
 * the registry, the waits and the errors: what is halted, dropped, being rebuilt, not there yet,
 * an ancestor's moment or one that only a pin keeps, every damaged page, every other request.
 *
 * What is published comes from one place, ps_loops_publish, and the cuts from gc_uv.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "pageserver/server_uv.h"

#define MODULE "pageserver/loops"

uint32_t ps_loops_after = 8;
uint32_t ps_loops_home_max = UINT32_MAX;

struct ps_loops {
    struct peer_loops *peers; /* NULL: they end */
    uint32_t n_home;          /* connections that were found to stay */
    struct ps_view *view;
    uint32_t n;
    struct ps_reader reader[]; /* a loop's own */
};

/* -- Publishing: the main loop ----------------------------------------------------------------- */

void ps_readable_of(const struct ps_timeline *tl, struct ps_readable *out)
{
    *out = (struct ps_readable){.line = &tl->line,
                                .start_lsn = tl->meta.start_lsn,
                                .reached = ps_timeline_reached(tl),
                                .cutoff = tl->cutoff,
                                .page_size = tl->chain.page_size,
                                .newest = tl->chain.newest};
}

void ps_loops_publish(struct ps_server *s, const struct ps_timeline *tl)
{
    struct ps_readable r;
    if (!s->view)
        return;
    if (tl->based && tl->line.no && ps_timeline_open(tl) && !tl->rebuilding) {
        ps_readable_of(tl, &r);
        ps_view_put(s->view, &r);
    } else {
        ps_view_take(s->view, &tl->meta.id);
    }
}

/* -- Reading: any other loop ------------------------------------------------------------------- */

/* In the reader's transaction, if true: nothing was sent otherwise. */
static bool try_answer(struct ps_view *view, struct ps_reader *reader, struct peer *peer,
                       const struct ps_request *r, const struct ps_glance *g)
{
    lsn_t from = r->changes && r->since ? r->since : r->lsn ? r->lsn : g->r.reached;
    if (from < g->r.start_lsn || g->r.reached < r->need || g->r.reached < g->r.start_lsn)
        return false;
    if (ps_read_renew(reader->txn) || !ps_view_hold(view, g, from, r->lsn))
        return false;
    return ps_answer(reader, peer, &g->r, r, true) == 0;
}

static bool take_frame(struct ps_loops *l, struct ps_reader *reader, struct peer *peer,
                       const struct frame_header *frame, struct co_span body)
{
    struct ps_request r;
    struct ps_glance g;
    bool get = frame->type == FRAME_GET_PAGES;
    if (!get && frame->type != FRAME_CHANGES_SINCE)
        return false;
    if (ps_request_take(frame->type, frame->request_id, co_span_of(body.data, frame->message_bytes),
                        &r))
        return false;
    bool done = ps_view_look(l->view, &r.timeline, &g) && try_answer(l->view, reader, peer, &r, &g);
    ps_read_reset(reader->txn);
    if (get && done)
        co_metric_add(&ps_m_page_requests, 1);
    return done;
}

static bool on_frame(void *owner, unsigned which, struct peer *peer,
                     const struct frame_header *frame, struct co_span body)
{
    struct ps_loops *l = owner;
    bool done = take_frame(l, &l->reader[which], peer, frame, body);
    co_metric_add(&ps_m_handed_over, !done);
    return done;
}

/* -- Which loop -------------------------------------------------------------------------------- */

void ps_loops_consider(struct ps_session *session)
{
    struct ps_loops *l = session->s->loops;
    if (!l || !l->peers || session->placed || ++session->n_reads < ps_loops_after)
        return;
    session->placed = true;
    session->at_home = l->n_home <= peer_loops_fewest(l->peers) && l->n_home < ps_loops_home_max;
    if (session->at_home)
        l->n_home++;
    else
        peer_loops_move(l->peers, session->peer);
}

void ps_loops_forget(struct ps_session *session)
{
    if (session->at_home)
        session->s->loops->n_home--;
}

/* -- Life -------------------------------------------------------------------------------------- */

int ps_loops_start(struct ps_server *s)
{
    uint32_t n = s->options->loops > 1 ? s->options->loops - 1 : 0;
    co_metric_set(&ps_m_loops, n + 1);
    if (!n)
        return 0;
    struct ps_loops *l = calloc(1, sizeof *l + n * sizeof l->reader[0]);
    if (!l)
        return co_fail(CO_ERR_NOMEM, "no memory for more loops");
    s->loops = l;
    l->n = n;
    int rc = ps_view_new(&s->view);
    l->view = s->view;
    for (uint32_t i = 0; i < n && !rc; i++)
        rc = ps_read_new(s->store, &l->reader[i].txn);
    return rc ? rc : peer_loops_start(&s->loop, n, on_frame, l, &l->peers);
}

void ps_loops_close(struct ps_server *s)
{
    if (s->loops && s->loops->peers)
        peer_loops_close(s->loops->peers);
    if (s->loops)
        s->loops->peers = NULL;
}

void ps_loops_free(struct ps_server *s)
{
    for (uint32_t i = 0; s->loops && i < s->loops->n; i++)
        ps_reader_free(&s->loops->reader[i]);
    free(s->loops);
    ps_view_free(s->view);
    s->loops = NULL;
    s->view = NULL;
}
