/*
 * pages_uv.c - GET_PAGES and CHANGES_SINCE: reads of the store at an LSN, and waiting for the log
 * to get there.
 *
 * A request says how far the log must be ingested (GET_PAGES: not_modified_since, else lsn;
 * CHANGES_SINCE: upto). If it is, the answer is made at once, in one read transaction that ends
 * with it. Else the request becomes a wait: in the list of its timeline, woken when the log moves
 * on; in the list of its session, gone with it; with a timer for its deadline, at which the answer
 * is Error LAG {wanted, have, lag, source}. No read transaction is open while a request waits.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/mutation.h"
#include "common/assert.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/btree_page.h"
#include "proto/message.h"
#include "proto/peer_metrics.h"
#include "proto/unpack.h"

#define MODULE          "pageserver/pages"
#define WAITS_MAX       1024u /* of one session */
#define CHANGES_MAX     CO_MIB
#define DEADLINE_MAX_MS 600000u
#define REPLY_MARGIN    (64 * CO_KIB) /* of a PAGES frame, for its message */
#define SMALL_BYTES     (16 * CO_KIB) /* so much is copied rather than handed over */

struct read_request {
    uint64_t request;
    struct ps_timeline *tl;
    bool changes; /* CHANGES_SINCE, else GET_PAGES */
    lsn_t lsn;    /* GET_PAGES: snapshot; CHANGES_SINCE: upto */
    lsn_t since;  /* CHANGES_SINCE */
    lsn_t need;   /* last-record LSN that the answer needs */
    uint32_t deadline_ms;
    uint32_t n;     /* GET_PAGES */
    uint32_t chain; /* so many more behind the last of them; n + chain <= CO_GETPAGES_MAX */
    pgno_t pgnos[CO_GETPAGES_MAX];
};

struct ps_wait {
    struct read_request r;
    struct ps_session *session;
    uint64_t begun_ns;
    uv_timer_t timer;
    struct ps_wait *next_tl, **prev_tl, *next_session, **prev_session;
};

/* -- GET_PAGES --------------------------------------------------------------------------------- */

/* Is this the page at SQLite's lock bytes? It is never written and never read. */
static bool is_lock_page(pgno_t pgno, uint32_t page_size)
{
    return pgno == (pgno_t)(CO_GIB / page_size) + 1;
}

/* What an answer is made in, one after the other. */
struct ps_page_reply {
    Corallite__Pages wire;
    Corallite__Pages__Page page[CO_GETPAGES_MAX], *list[CO_GETPAGES_MAX];
    struct co_buf payload; /* of a large answer the connection takes it, of a small one it stays */
};

/* Status of one page; its bytes go to the payload. */
static int read_page(struct ps_server *s, const struct read_request *r, pgno_t pgno,
                     const struct ps_commit *at, struct ps_page_reply *reply,
                     Corallite__Pages__Page *out)
{
    uint32_t size = r->tl->chain.page_size;
    lsn_t version = 0;
    uint32_t crc = 0;
    /* With not_modified_since the size at lsn may not be known yet: then what is there is it. */
    bool size_known = ps_timeline_reached(r->tl) >= r->lsn;
    if (!size || (size_known && pgno > at->db_pages))
        return CO_ERR_NOT_FOUND;
    if (reply->payload.len + size + REPLY_MARGIN > CO_FRAME_PAGES_MAX_BYTES)
        return CO_ERR_AGAIN;
    if (co_buf_reserve(&reply->payload, size))
        return CO_ERR_NOMEM;
    int rc = ps_page_get(s->read, &r->tl->line, pgno, r->lsn, size,
                         reply->payload.data + reply->payload.len, &version, &crc);
    if (rc == CO_ERR_NOT_FOUND && pgno <= at->db_pages && !is_lock_page(pgno, size)) {
        char id[CO_ID_TEXT], text[LSN_TEXT];
        rc = co_fail(CO_ERR_CORRUPT, "page %u of timeline %s at LSN %s is missing", pgno,
                     co_id_format(&r->tl->meta.id, id), lsn_format(r->lsn, text));
    }
    if (rc && rc != CO_ERR_NOT_FOUND) {
        co_metric_add(&ps_m_corrupt_pages, 1);
        co_error(MODULE, "%s", co_sentence());
    }
    if (rc)
        return rc;
    out->has_lsn = out->has_crc = 1;
    out->lsn = version;
    out->crc = crc;
    reply->payload.len += size;
    return 0;
}

/* The newest commit at or below the request's LSN: the newest there is, as a rule. */
static int commit_at(struct ps_server *s, const struct read_request *r, struct ps_commit *out)
{
    const struct ps_commit *newest = &r->tl->chain.newest;
    if (newest->lsn && newest->lsn <= r->lsn && ps_timeline_reached(r->tl) >= r->lsn) {
        *out = *newest;
        return 0;
    }
    *out = (struct ps_commit){0};
    int rc = ps_commit_at(s->read, &r->tl->line, r->lsn, out);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* Empty, with room for all pages; NULL with a sentence: no memory. */
static struct ps_page_reply *begin_reply(struct ps_server *s, const struct read_request *r)
{
    size_t bytes = (size_t)(r->n + r->chain) * r->tl->chain.page_size;
    if (bytes > CO_FRAME_PAGES_MAX_BYTES)
        bytes = CO_FRAME_PAGES_MAX_BYTES;
    if (!s->reply)
        s->reply = calloc(1, sizeof *s->reply);
    if (!s->reply) {
        (void)co_fail(CO_ERR_NOMEM, "no memory for an answer");
        return NULL;
    }
    s->reply->payload.len = 0;
    return co_buf_reserve(&s->reply->payload, bytes) ? NULL : s->reply;
}

static void begin_page(struct ps_page_reply *reply, uint32_t i, pgno_t pgno)
{
    Corallite__Pages__Page *page = reply->list[i] = &reply->page[i];
    corallite__pages__page__init(page);
    page->has_pgno = page->has_status = 1;
    page->pgno = pgno;
}

/* The pages that come along, behind the last that was asked for: each is named by the one before.
 * Whatever a page says is a number to look up at most, and r->chain bounds how often. Returns how
 * many there are. */
static uint32_t follow_chain(struct ps_server *s, const struct read_request *r,
                             const struct ps_commit *at, struct ps_page_reply *reply)
{
    uint32_t size = r->tl->chain.page_size, n = 0;
    while (n < r->chain && reply->page[r->n + n - 1].status == CO_OK) {
        pgno_t next = bt_chain_next(reply->payload.data + reply->payload.len - size);
        if (next == 0 || next > at->db_pages || is_lock_page(next, size))
            break;
        begin_page(reply, r->n + n, next);
        Corallite__Pages__Page *page = &reply->page[r->n + n];
        page->status = read_page(s, r, next, at, reply, page);
        if (page->status != CO_OK)
            break;
        n++;
    }
    co_metric_add(&ps_m_pages, n);
    return n;
}

static int answer_pages(struct ps_session *session, const struct read_request *r)
{
    struct ps_server *s = session->s;
    struct ps_page_reply *reply = begin_reply(s, r);
    struct ps_commit at;
    int rc = reply ? commit_at(s, r, &at) : CO_ERR_NOMEM;
    if (rc)
        return rc;
    Corallite__Pages *w = &reply->wire;
    corallite__pages__init(w);
    for (uint32_t i = 0; i < r->n; i++) {
        begin_page(reply, i, r->pgnos[i]);
        Corallite__Pages__Page *page = &reply->page[i];
        page->status = read_page(s, r, r->pgnos[i], &at, reply, page);
        co_metric_add(&ps_m_pages, page->status == 0);
    }
    w->has_timeline = w->has_lsn = w->has_page_size = 1;
    w->timeline = msg_bytes16(r->tl->meta.id.b);
    w->lsn = r->lsn;
    w->page_size = r->tl->chain.page_size;
    w->n_pages = r->n + follow_chain(s, r, &at, reply);
    w->pages = reply->list;
    if (reply->payload.len > SMALL_BYTES)
        peer_send_take(session->peer, FRAME_PAGES, r->request, &w->base, &reply->payload);
    else
        peer_send(session->peer, FRAME_PAGES, r->request, &w->base, co_buf_span(&reply->payload));
    return 0;
}

/* -- CHANGES_SINCE ----------------------------------------------------------------------------- */

static int answer_changes(struct ps_session *session, const struct read_request *r)
{
    struct ps_server *s = session->s;
    Corallite__Changes w = CORALLITE__CHANGES__INIT;
    struct co_buf list = {0};
    struct ps_commit at = {0};
    bool all = false;
    lsn_t upto = r->lsn ? r->lsn : r->tl->chain.last_lsn;
    int rc = ps_commit_at(s->read, &r->tl->line, upto, &at);
    if (rc == CO_ERR_NOT_FOUND)
        rc = 0;
    if (!rc && r->since && r->since < upto && !ps_gc_lists_all(s, r->tl, r->since))
        all = true; /* what changed in between is not told any more */
    else if (!rc && r->since && r->since < upto)
        rc = ps_commit_changes(s->read, &r->tl->line, r->since, upto, CHANGES_MAX, &list, &all);
    if (rc) {
        co_buf_free(&list);
        return rc;
    }
    w.has_timeline = w.has_since = w.has_upto = w.has_txn_lsn = w.has_db_pages = 1;
    w.has_page_size = w.has_time_us = w.has_all = 1;
    w.timeline = msg_bytes16(r->tl->meta.id.b);
    w.since = r->since;
    w.upto = upto;
    w.txn_lsn = at.lsn;
    w.db_pages = at.db_pages;
    w.page_size = r->tl->chain.page_size;
    w.time_us = at.time_us;
    w.all = all;
    peer_send_take(session->peer, FRAME_CHANGES, r->request, &w.base, &list);
    return 0;
}

/* -- Answering and waiting --------------------------------------------------------------------- */

static void answer(struct ps_session *session, const struct read_request *r)
{
    struct ps_server *s = session->s;
    int rc = r->lsn ? ps_gc_check(s, r->tl, r->lsn) : 0;
    if (!rc)
        rc = ps_read_renew(s->read);
    if (!rc && r->lsn)
        ps_gc_note_read(s, r->tl, r->lsn);
    if (!rc)
        rc = r->changes ? answer_changes(session, r) : answer_pages(session, r);
    ps_read_reset(s->read);
    if (rc)
        peer_send_error(session->peer, r->request, rc);
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
             lsn_format(chain->last_lsn, have), lsn_format(r->need, wanted), r->deadline_ms,
             source);
    error.has_code = error.has_wanted_lsn = error.has_have_lsn = error.has_lag_us = 1;
    error.code = CO_ERR_LAG;
    error.sentence = sentence;
    error.wanted_lsn = r->need;
    error.have_lsn = chain->last_lsn;
    error.lag_us =
        chain->newest.time_us && now > chain->newest.time_us ? now - chain->newest.time_us : 0;
    error.source = source;
    error.has_progress = 1;
    error.progress = ps_feed_progress(r->tl);
    co_metric_add(&ps_m_lag_errors, 1);
    peer_count_error(CO_ERR_LAG);
    peer_send(session->peer, FRAME_ERROR, r->request, &error.base, co_span_of(NULL, 0));
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
    uv_timer_start(&w->timer, on_deadline, r->deadline_ms, 0);
    w->begun_ns = uv_hrtime();
    co_metric_add(&ps_m_waits, 1);
    co_metric_add(&ps_m_waiting, 1);
    ps_feed_wanted(session->s, r->tl);
    return 0;
}

static void begin(struct ps_session *session, struct read_request *r)
{
    int rc = check_timeline(r->tl);
    if (!rc && ps_timeline_reached(r->tl) >= r->need) {
        answer(session, r);
        return;
    }
    if (!rc)
        ps_feed_ensure(session->s, r->tl);
    if (!rc)
        rc = ps_feed_check(r->tl);
    if (!rc && r->deadline_ms == 0) {
        send_lag(session, r);
        return;
    }
    if (!rc)
        rc = begin_wait(session, r);
    if (rc)
        peer_send_error(session->peer, r->request, rc);
}

void ps_pages_wake(struct ps_timeline *tl)
{
    for (struct ps_wait *w = tl->waits, *next; w; w = next) {
        next = w->next_tl;
        int rc = check_timeline(tl);
        if (!rc && ps_timeline_reached(tl) >= w->r.need) {
            answer(w->session, &w->r);
        } else {
            if (!rc)
                rc = ps_feed_check(tl);
            if (!rc)
                continue;
            peer_send_error(w->session->peer, w->r.request, rc);
        }
        end_wait(w);
    }
}

void ps_pages_close(struct ps_server *s)
{
    if (s->reply)
        co_buf_free(&s->reply->payload);
    free(s->reply);
    s->reply = NULL;
}

void ps_pages_forget(struct ps_session *session)
{
    while (session->waits)
        end_wait(session->waits);
}

/* -- Requests: every field is untrusted -------------------------------------------------------- */

static int find_timeline(struct ps_server *s, protobuf_c_boolean has,
                         const ProtobufCBinaryData *field, struct ps_timeline **out)
{
    struct co_id id;
    char text[CO_ID_TEXT];
    int rc = msg_get16("timeline", has, field, id.b);
    if (rc)
        return rc;
    *out = ps_reg_find(&s->reg, &id);
    if (*out)
        return 0;
    if (!s->reg.heard)
        return co_fail(CO_ERR_NO_QUORUM,
                       "timeline %s is not known here yet: %u of %u safekeepers have told what "
                       "they hold",
                       co_id_format(&id, text), ps_nodes_ready(s), s->reg.n_nodes);
    if (s->reg.follows) {
        (void)ps_fresh_round(s); /* it may have come into being a moment ago */
        return co_fail(CO_ERR_AGAIN, "timeline %s is not known to this follower yet",
                       co_id_format(&id, text));
    }
    return co_fail(CO_ERR_NOT_FOUND, "there is no timeline %s", co_id_format(&id, text));
}

static uint32_t bounded(uint32_t deadline_ms)
{
    return deadline_ms < DEADLINE_MAX_MS ? deadline_ms : DEADLINE_MAX_MS;
}

static int read_get(struct ps_server *s, const Corallite__GetPages *m, struct read_request *r)
{
    int rc = find_timeline(s, m->has_timeline, &m->timeline, &r->tl);
    if (rc)
        return rc;
    if (m->n_pages < 1 || m->n_pages > CO_GETPAGES_MAX)
        return co_fail(CO_ERR_INVAL, "a request asks for 1 to %u pages; this one asks for %zu",
                       CO_GETPAGES_MAX, m->n_pages);
    for (size_t i = 0; i < m->n_pages; i++) {
        if (m->pages[i] == 0)
            return co_fail(CO_ERR_INVAL, "pages are numbered from 1; page 0 was asked for");
        r->pgnos[i] = m->pages[i];
    }
    if (m->lsn == 0)
        return co_fail(CO_ERR_INVAL, "a request for pages names the LSN of its snapshot");
    r->n = (uint32_t)m->n_pages;
    r->chain = m->chain < CO_GETPAGES_MAX - r->n ? m->chain : CO_GETPAGES_MAX - r->n;
    r->lsn = m->lsn;
    r->need = m->has_not_modified_since && m->not_modified_since < m->lsn ? m->not_modified_since
                                                                          : m->lsn;
    if (co_mutated(PAGES_UNINGESTED))
        r->need = LSN_FIRST;
    r->deadline_ms = bounded(m->deadline_ms);
    return 0;
}

void ps_pages_get(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct read_request r = {.request = request};
    Corallite__GetPages *m = message_unpack(&corallite__get_pages__descriptor, message);
    int rc = m ? read_get(session->s, m, &r) : CO_ERR_PROTOCOL;
    if (m)
        protobuf_c_message_free_unpacked(&m->base, NULL);
    co_metric_add(&ps_m_page_requests, 1);
    if (rc)
        peer_send_error(session->peer, request, rc);
    else
        begin(session, &r);
}

static int read_changes(struct ps_server *s, const Corallite__ChangesSince *m,
                        struct read_request *r)
{
    int rc = find_timeline(s, m->has_timeline, &m->timeline, &r->tl);
    if (rc)
        return rc;
    if (m->upto && m->since > m->upto)
        return co_fail(CO_ERR_INVAL, "changes are asked for from an LSN to an earlier one");
    r->changes = true;
    r->since = m->since;
    r->lsn = m->upto;
    r->need = m->upto > m->since ? m->upto : m->since;
    if (!r->need)
        r->need = r->tl->meta.start_lsn; /* at least what it grew from */
    r->deadline_ms = bounded(m->deadline_ms);
    return 0;
}

void ps_pages_changes(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct read_request r = {.request = request};
    Corallite__ChangesSince *m = message_unpack(&corallite__changes_since__descriptor, message);
    int rc = m ? read_changes(session->s, m, &r) : CO_ERR_PROTOCOL;
    if (m)
        protobuf_c_message_free_unpacked(&m->base, NULL);
    if (rc)
        peer_send_error(session->peer, request, rc);
    else
        begin(session, &r);
}
