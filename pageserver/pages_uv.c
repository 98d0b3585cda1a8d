/*
 * pages_uv.c - GET_PAGES and CHANGES_SINCE on the main loop: reads of the store at an LSN, and
 * waiting for the log to get there. (loops_uv.c has the other loops, answer_uv.c the answers.)
 *
 * A request says how far the log must be ingested (GET_PAGES: not_modified_since, else lsn;
 * CHANGES_SINCE: upto). If it is, the answer is made at once, in one read transaction that ends
 * with it. Else the request becomes a wait: in the list of its timeline, woken when the log moves
 * on; in the list of its session, gone with it; with a timer for its deadline, at which the answer
 * is Error LAG {wanted, have, lag, source}. No read transaction is open while a request waits.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"
#include "proto/peer_metrics.h"

#define WAITS_MAX 1024u /* of one session */

/* A request and its timeline. */
struct read_request {
    struct ps_request q;
    struct ps_timeline *tl;
};

struct ps_wait {
    struct read_request r;
    struct ps_session *session;
    uint64_t begun_ns;
    uv_timer_t timer;
    struct ps_wait *next_tl, **prev_tl, *next_session, **prev_session;
};

/* -- Answering and waiting --------------------------------------------------------------------- */

static void answer(struct ps_session *session, const struct read_request *r)
{
    struct ps_server *s = session->s;
    struct ps_readable of;
    ps_readable_of(r->tl, &of);
    int rc = r->q.lsn ? ps_gc_check(s, r->tl, r->q.lsn) : 0;
    if (!rc)
        rc = ps_read_renew(s->reader.txn);
    if (!rc && r->q.lsn)
        ps_gc_note_read(s, r->tl, r->q.lsn);
    if (!rc)
        rc = ps_answer(&s->reader, session->peer, &of, &r->q,
                       !r->q.changes || ps_gc_lists_all(s, r->tl, r->q.since));
    ps_read_reset(s->reader.txn);
    if (rc)
        peer_send_error(session->peer, r->q.request, rc);
}

/* Why no amount of waiting helps; 0: it may. */
static int check_timeline(const struct ps_timeline *tl)
{
    char name[PS_META_NAME_TEXT];
    if (!ps_timeline_lives(tl))
        return co_fail(CO_ERR_DROPPED, "%s was dropped", ps_meta_name(&tl->meta, name));
    return 0;
}

static void send_lag(struct ps_session *session, const struct read_request *r)
{
    Corallite__Error error = CORALLITE__ERROR__INIT;
    char wanted[LSN_TEXT], have[LSN_TEXT], source[320], sentence[700];
    const struct ps_chain *chain = &r->tl->chain;
    uint64_t now = co_wall_us();
    ps_feed_source(r->tl, source);
    snprintf(sentence, sizeof sentence,
             "the pageserver has the log up to LSN %s and not yet to %s, after waiting %u ms; it "
             "is being fetched from %s",
             lsn_format(chain->last_lsn, have), lsn_format(r->q.need, wanted), r->q.deadline_ms,
             source);
    error.has_code = error.has_wanted_lsn = error.has_have_lsn = error.has_lag_us = 1;
    error.code = CO_ERR_LAG;
    error.sentence = sentence;
    error.wanted_lsn = r->q.need;
    error.have_lsn = chain->last_lsn;
    error.lag_us =
        chain->newest.time_us && now > chain->newest.time_us ? now - chain->newest.time_us : 0;
    error.source = source;
    error.has_progress = 1;
    error.progress = ps_feed_progress(r->tl);
    co_metric_add(&ps_m_lag_errors, 1);
    peer_count_error(CO_ERR_LAG);
    peer_send(session->peer, FRAME_ERROR, r->q.request, &error.base, co_span_of(NULL, 0));
}

static void on_wait_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end_wait(struct ps_wait *w)
{
    *w->prev_tl = w->next_tl;
    if (w->next_tl)
        w->next_tl->prev_tl = w->prev_tl;
    *w->prev_session = w->next_session;
    if (w->next_session)
        w->next_session->prev_session = w->prev_session;
    w->session->n_waits--;
    co_metric_sub(&ps_m_waiting, 1);
    co_histogram_add(&ps_m_wait_time, (uv_hrtime() - w->begun_ns) / 1000);
    uv_close((uv_handle_t *)&w->timer, on_wait_closed);
}

static void on_deadline(uv_timer_t *timer)
{
    struct ps_wait *w = timer->data;
    send_lag(w->session, &w->r);
    end_wait(w);
}

static int begin_wait(struct ps_session *session, const struct read_request *r)
{
    if (session->n_waits >= WAITS_MAX)
        return co_fail(CO_ERR_BUSY, "%u requests of this connection wait for the log already",
                       session->n_waits);
    struct ps_wait *w = calloc(1, sizeof *w);
    if (!w)
        return co_fail(CO_ERR_NOMEM, "no memory to wait with");
    struct ps_wait **head = (struct ps_wait **)&r->tl->waits;
    w->r = *r;
    w->session = session;
    int rc = uv_timer_init(&session->s->loop, &w->timer);
    co_assert(rc == 0);
    w->timer.data = w;
    w->next_tl = *head;
    w->prev_tl = head;
    if (w->next_tl)
        w->next_tl->prev_tl = &w->next_tl;
    *head = w;
    w->next_session = session->waits;
    w->prev_session = &session->waits;
    if (w->next_session)
        w->next_session->prev_session = &w->next_session;
    session->waits = w;
    session->n_waits++;
    uv_timer_start(&w->timer, on_deadline, r->q.deadline_ms, 0);
    w->begun_ns = uv_hrtime();
    co_metric_add(&ps_m_waits, 1);
    co_metric_add(&ps_m_waiting, 1);
    ps_feed_wanted(session->s, r->tl);
    return 0;
}

static void begin(struct ps_session *session, struct read_request *r)
{
    int rc = check_timeline(r->tl);
    if (!rc && ps_timeline_reached(r->tl) >= r->q.need) {
        answer(session, r);
        return;
    }
    if (!rc)
        ps_feed_ensure(session->s, r->tl);
    if (!rc)
        rc = ps_feed_check(r->tl);
    if (!rc && r->q.deadline_ms == 0) {
        send_lag(session, r);
        return;
    }
    if (!rc)
        rc = begin_wait(session, r);
    if (rc)
        peer_send_error(session->peer, r->q.request, rc);
}

void ps_pages_wake(struct ps_server *s, struct ps_timeline *tl)
{
    ps_loops_publish(s, tl);
    for (struct ps_wait *w = tl->waits, *next; w; w = next) {
        next = w->next_tl;
        int rc = check_timeline(tl);
        if (!rc && ps_timeline_reached(tl) >= w->r.q.need) {
            answer(w->session, &w->r);
        } else {
            if (!rc)
                rc = ps_feed_check(tl);
            if (!rc)
                continue;
            peer_send_error(w->session->peer, w->r.q.request, rc);
        }
        end_wait(w);
    }
}

void ps_pages_forget(struct ps_session *session)
{
    while (session->waits)
        end_wait(session->waits);
}

/* -- Requests ---------------------------------------------------------------------------------- */

static int find_timeline(struct ps_server *s, const struct co_id *id, struct ps_timeline **out)
{
    char text[CO_ID_TEXT];
    *out = ps_reg_find(&s->reg, id);
    if (*out)
        return 0;
    if (!s->reg.heard)
        return co_fail(CO_ERR_NO_QUORUM,
                       "timeline %s is not known here yet: %u of %u safekeepers have told what "
                       "they hold",
                       co_id_format(id, text), ps_nodes_ready(s), s->reg.n_nodes);
    if (s->reg.follows) {
        (void)ps_fresh_round(s); /* it may have come into being a moment ago */
        return co_fail(CO_ERR_AGAIN, "timeline %s is not known to this follower yet",
                       co_id_format(id, text));
    }
    return co_fail(CO_ERR_NOT_FOUND, "there is no timeline %s", co_id_format(id, text));
}

void ps_pages_frame(struct ps_session *session, unsigned type, uint64_t request,
                    struct co_span message)
{
    struct read_request r;
    int rc = ps_request_take(type, request, message, &r.q);
    if (!rc || rc == CO_ERR_INVAL) {
        int unknown = find_timeline(session->s, &r.q.timeline, &r.tl);
        rc = unknown ? unknown : rc;
    }
    if (type == FRAME_GET_PAGES)
        co_metric_add(&ps_m_page_requests, 1);
    if (rc) {
        peer_send_error(session->peer, request, rc);
    } else {
        if (!r.q.need)
            r.q.need = r.tl->meta.start_lsn; /* at least what it grew from */
        begin(session, &r);
    }
    ps_loops_consider(session);
}
