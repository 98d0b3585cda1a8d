/*
 * answer_uv.c - answers to GET_PAGES and CHANGES_SINCE, made in one read transaction, on whatever
 * loop the request came to: of a request, what can be read of its timeline (view.h), and the
 * reader's own transaction and memory. Nothing else of the server.
 */
#include <stdlib.h>

#include "common/log.h"
#include "common/mutation.h"
#include "pageserver/answer_uv.h"
#include "pageserver/metrics.h"
#include "proto/btree_page.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE          "pageserver/pages"
#define CHANGES_MAX     CO_MIB
#define DEADLINE_MAX_MS 600000u
#define REPLY_MARGIN    (64 * CO_KIB) /* of a PAGES frame, for its message */
#define SMALL_BYTES     (16 * CO_KIB) /* so much is copied rather than handed over */

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
static int read_page(struct ps_reader *reader, const struct ps_readable *of,
                     const struct ps_request *r, pgno_t pgno, const struct ps_commit *at,
                     Corallite__Pages__Page *out)
{
    struct ps_page_reply *reply = reader->reply;
    uint32_t size = of->page_size;
    lsn_t version = 0;
    uint32_t crc = 0;
    /* With not_modified_since the size at lsn may not be known yet: then what is there is it. */
    bool size_known = of->reached >= r->lsn;
    if (!size || (size_known && pgno > at->db_pages))
        return CO_ERR_NOT_FOUND;
    if (reply->payload.len + size + REPLY_MARGIN > CO_FRAME_PAGES_MAX_BYTES)
        return CO_ERR_AGAIN;
    if (co_buf_reserve(&reply->payload, size))
        return CO_ERR_NOMEM;
    int rc = ps_page_get(reader->txn, of->line, pgno, r->lsn, size,
                         reply->payload.data + reply->payload.len, &version, &crc);
    if (rc == CO_ERR_NOT_FOUND && pgno <= at->db_pages && !is_lock_page(pgno, size)) {
        char id[CO_ID_TEXT], text[LSN_TEXT];
        rc = co_fail(CO_ERR_CORRUPT, "page %u of timeline %s at LSN %s is missing", pgno,
                     co_id_format(&of->line->id, id), lsn_format(r->lsn, text));
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
static int commit_at(struct ps_reader *reader, const struct ps_readable *of,
                     const struct ps_request *r, struct ps_commit *out)
{
    const struct ps_commit *newest = &of->newest;
    if (newest->lsn && newest->lsn <= r->lsn && of->reached >= r->lsn) {
        *out = *newest;
        return 0;
    }
    *out = (struct ps_commit){0};
    int rc = ps_commit_at(reader->txn, of->line, r->lsn, out);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* Empty, with room for all pages; NULL with a sentence: no memory. */
static struct ps_page_reply *begin_reply(struct ps_reader *reader, uint32_t n, uint32_t page_size)
{
    size_t bytes = (size_t)n * page_size;
    if (bytes > CO_FRAME_PAGES_MAX_BYTES)
        bytes = CO_FRAME_PAGES_MAX_BYTES;
    if (!reader->reply)
        reader->reply = calloc(1, sizeof *reader->reply);
    if (!reader->reply) {
        (void)co_fail(CO_ERR_NOMEM, "no memory for an answer");
        return NULL;
    }
    reader->reply->payload.len = 0;
    return co_buf_reserve(&reader->reply->payload, bytes) ? NULL : reader->reply;
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
static uint32_t follow_chain(struct ps_reader *reader, const struct ps_readable *of,
                             const struct ps_request *r, const struct ps_commit *at)
{
    struct ps_page_reply *reply = reader->reply;
    uint32_t size = of->page_size, n = 0;
    while (n < r->chain && reply->page[r->n + n - 1].status == CO_OK) {
        pgno_t next = bt_chain_next(reply->payload.data + reply->payload.len - size);
        if (next == 0 || next > at->db_pages || is_lock_page(next, size))
            break;
        begin_page(reply, r->n + n, next);
        Corallite__Pages__Page *page = &reply->page[r->n + n];
        page->status = read_page(reader, of, r, next, at, page);
        if (page->status != CO_OK)
            break;
        n++;
    }
    co_metric_add(&ps_m_pages, n);
    return n;
}

static int answer_pages(struct ps_reader *reader, struct peer *peer, const struct ps_readable *of,
                        const struct ps_request *r)
{
    struct ps_page_reply *reply = begin_reply(reader, r->n + r->chain, of->page_size);
    struct ps_commit at;
    int rc = reply ? commit_at(reader, of, r, &at) : CO_ERR_NOMEM;
    if (rc)
        return rc;
    Corallite__Pages *w = &reply->wire;
    corallite__pages__init(w);
    for (uint32_t i = 0; i < r->n; i++) {
        begin_page(reply, i, r->pgnos[i]);
        Corallite__Pages__Page *page = &reply->page[i];
        page->status = read_page(reader, of, r, r->pgnos[i], &at, page);
        co_metric_add(&ps_m_pages, page->status == 0);
    }
    w->has_timeline = w->has_lsn = w->has_page_size = 1;
    w->timeline = msg_bytes16(r->timeline.b);
    w->lsn = r->lsn;
    w->page_size = of->page_size;
    w->n_pages = r->n + follow_chain(reader, of, r, &at);
    w->pages = reply->list;
    if (reply->payload.len > SMALL_BYTES)
        peer_send_take(peer, FRAME_PAGES, r->request, &w->base, &reply->payload);
    else
        peer_send(peer, FRAME_PAGES, r->request, &w->base, co_buf_span(&reply->payload));
    return 0;
}

/* -- CHANGES_SINCE ----------------------------------------------------------------------------- */

static int answer_changes(struct ps_reader *reader, struct peer *peer, const struct ps_readable *of,
                          const struct ps_request *r, bool lists_all)
{
    Corallite__Changes w = CORALLITE__CHANGES__INIT;
    struct co_buf list = {0};
    struct ps_commit at = {0};
    bool all = false;
    lsn_t upto = r->lsn ? r->lsn : of->reached;
    int rc = ps_commit_at(reader->txn, of->line, upto, &at);
    if (rc == CO_ERR_NOT_FOUND)
        rc = 0;
    if (!rc && r->since && r->since < upto && !lists_all)
        all = true; /* what changed in between is not told any more */
    else if (!rc && r->since && r->since < upto)
        rc = ps_commit_changes(reader->txn, of->line, r->since, upto, CHANGES_MAX, &list, &all);
    if (rc) {
        co_buf_free(&list);
        return rc;
    }
    w.has_timeline = w.has_since = w.has_upto = w.has_txn_lsn = w.has_db_pages = 1;
    w.has_page_size = w.has_time_us = w.has_all = 1;
    w.timeline = msg_bytes16(r->timeline.b);
    w.since = r->since;
    w.upto = upto;
    w.txn_lsn = at.lsn;
    w.db_pages = at.db_pages;
    w.page_size = of->page_size;
    w.time_us = at.time_us;
    w.all = all;
    peer_send_take(peer, FRAME_CHANGES, r->request, &w.base, &list);
    return 0;
}

/* -- Either ------------------------------------------------------------------------------------ */

int ps_answer(struct ps_reader *reader, struct peer *peer, const struct ps_readable *of,
              const struct ps_request *r, bool lists_all)
{
    return r->changes ? answer_changes(reader, peer, of, r, lists_all)
                      : answer_pages(reader, peer, of, r);
}

void ps_reader_free(struct ps_reader *reader)
{
    ps_read_free(reader->txn);
    if (reader->reply)
        co_buf_free(&reader->reply->payload);
    free(reader->reply);
    *reader = (struct ps_reader){0};
}

/* -- Requests: every field is untrusted -------------------------------------------------------- */

static uint32_t bounded(uint32_t deadline_ms)
{
    return deadline_ms < DEADLINE_MAX_MS ? deadline_ms : DEADLINE_MAX_MS;
}

static int take_get(const Corallite__GetPages *m, struct ps_request *r)
{
    int rc = msg_get16("timeline", m->has_timeline, &m->timeline, r->timeline.b);
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

static int take_changes(const Corallite__ChangesSince *m, struct ps_request *r)
{
    int rc = msg_get16("timeline", m->has_timeline, &m->timeline, r->timeline.b);
    if (rc)
        return rc;
    if (m->upto && m->since > m->upto)
        return co_fail(CO_ERR_INVAL, "changes are asked for from an LSN to an earlier one");
    r->changes = true;
    r->since = m->since;
    r->lsn = m->upto;
    r->need = m->upto > m->since ? m->upto : m->since;
    r->deadline_ms = bounded(m->deadline_ms);
    return 0;
}

int ps_request_take(unsigned type, uint64_t request, struct co_span message, struct ps_request *r)
{
    bool get = type == FRAME_GET_PAGES;
    ProtobufCMessage *m = message_unpack(
        get ? &corallite__get_pages__descriptor : &corallite__changes_since__descriptor, message);
    if (!m)
        return CO_ERR_PROTOCOL;
    r->request = request;
    r->changes = false;
    r->since = 0;
    int rc = get ? take_get((const Corallite__GetPages *)m, r)
                 : take_changes((const Corallite__ChangesSince *)m, r);
    protobuf_c_message_free_unpacked(m, NULL);
    return rc;
}
