/*
 * v1_pages_sock.c - what concerns pages: which of them changed, and a whole moment as a file.
 *
 * An export is the pages of one LSN, in order, each compared with its checksum. It takes the memory
 * of three chunks, whatever the size of the database. The pages are passed on as they are, but for
 * bytes 18 and 19 of the first, which say how a file is written: WAL with us, rollback journal in a
 * file that stands alone.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/crc32c.h"
#include "common/log.h"
#include "pageserver/v1_changes.h"
#include "pageserver/v1_json.h"
#include "pageserver/v1_sock.h"
#include "proto/unpack.h"
#include "proto/when.h"

#define MODULE "pageserver/v1"

/* -- Changes ------------------------------------------------------------------------------------
 */

static int put_text(struct co_buf *out, const char *text)
{
    return co_buf_append(out, text, strlen(text));
}

static int changes_json(const Corallite__Changes *m, const Corallite__Resolved *since,
                        struct co_span list, struct co_buf *out)
{
    char from[LSN_TEXT + 2] = "null", to[LSN_TEXT + 2] = "null", lsn[LSN_TEXT], text[300];
    struct co_buf pages = {0};
    uint32_t commits = 0;
    if (since->lsn)
        snprintf(from, sizeof from, "\"%s\"", lsn_format(since->lsn, lsn));
    if (m->txn_lsn)
        snprintf(to, sizeof to, "\"%s\"", lsn_format(m->txn_lsn, lsn));
    int rc = m->all ? put_text(&pages, "null")
                    : v1_changes_text(list, m->since, m->db_pages, &pages, &commits);
    char count[16] = "null";
    if (!m->all)
        snprintf(count, sizeof count, "%u", commits);
    snprintf(text, sizeof text,
             "{\"since\":%s,\"upto\":%s,\"pages\":%u,\"page_size\":%u,\"commits\":%s,\"all\":%s,"
             "\"changed\":",
             from, to, m->db_pages, m->page_size, count, m->all ? "true" : "false");
    if (!rc)
        rc = put_text(out, text);
    if (!rc)
        rc = co_buf_append(out, pages.data, pages.len);
    if (!rc)
        rc = put_text(out, "}\n");
    co_buf_free(&pages);
    return rc;
}

static int ask_changes(struct v1_call *c, const Corallite__Resolved *since,
                       const Corallite__Resolved *upto, struct co_buf *out)
{
    Corallite__ChangesSince q = CORALLITE__CHANGES_SINCE__INIT;
    struct frame_header frame;
    struct co_buf body = {0};
    q.has_timeline = q.has_since = q.has_upto = q.has_deadline_ms = 1;
    q.timeline = upto->timeline->id;
    q.since = since->lsn ? since->lsn : LSN_FIRST;
    q.upto = upto->lsn ? upto->lsn : LSN_FIRST;
    q.deadline_ms = V1_WAIT_MS;
    int rc = v1_ask_raw(c, FRAME_CHANGES_SINCE, &q.base, FRAME_CHANGES, &frame, &body);
    if (rc)
        return rc;
    Corallite__Changes *m =
        message_unpack(&corallite__changes__descriptor, co_span_of(body.data, frame.message_bytes));
    if (m)
        rc = changes_json(
            m, since, co_span_of(body.data + frame.message_bytes, body.len - frame.message_bytes),
            out);
    else
        rc = CO_ERR_PROTOCOL;
    if (m)
        corallite__changes__free_unpacked(m, NULL);
    co_buf_free(&body);
    return rc;
}

static int check_order(const Corallite__Resolved *since, const Corallite__Resolved *upto)
{
    char a[LSN_TEXT], b[LSN_TEXT];
    if (since->lsn <= upto->lsn)
        return 0;
    return co_fail(CO_ERR_INVAL, "since (LSN %s) is later than upto (LSN %s)",
                   lsn_format(since->lsn, a), lsn_format(upto->lsn, b));
}

int v1_changes(struct v1_call *c)
{
    Corallite__Resolved *since = NULL, *upto = NULL;
    struct co_buf text = {0};
    const char *from = v1_arg(&c->m, "since");
    int rc =
        from ? 0
             : co_fail(CO_ERR_INVAL, "since which moment? since=LSN is wanted, or a moment such "
                                     "as since=-10m");
    if (!rc)
        rc = v1_resolve(c, c->m.branch, v1_arg(&c->m, "upto"), &upto);
    if (!rc)
        rc = v1_resolve(c, c->m.branch, from, &since);
    if (!rc && memcmp(since->timeline->id.data, upto->timeline->id.data, 16) != 0)
        rc = co_fail(CO_ERR_INVAL,
                     "since is on branch '%s' and upto on '%s': changes are those of "
                     "one branch",
                     since->timeline->branch, upto->timeline->branch);
    if (!rc)
        rc = check_order(since, upto);
    if (!rc)
        rc = ask_changes(c, since, upto, &text);
    if (!rc)
        v1_reply_text(c, 200, &text);
    else
        co_buf_free(&text);
    if (since)
        corallite__resolved__free_unpacked(since, NULL);
    if (upto)
        corallite__resolved__free_unpacked(upto, NULL);
    return rc;
}

/* -- Export -------------------------------------------------------------------------------------
 */

struct export
{
    struct v1_call *c;
    const Corallite__Resolved *at;
    pgno_t next; /* page that comes next */
};

/* The page at SQLite's lock bytes is never written; in a file it is zeros. */
static bool is_lock_page(pgno_t pgno, uint32_t page_size)
{
    return pgno == (pgno_t)(CO_GIB / page_size) + 1;
}

static int bad_page(const struct export *e, const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "page %u of %s/%s at that moment %s", e->next, e->c->m.database,
                   e->c->m.branch, what);
}

/* Moves one page of an answer to the chunk; *rest is what of the payload is left. */
static int take_page(struct export *e, const Corallite__Pages__Page *page, struct co_span *rest,
                     struct co_buf *chunk)
{
    uint32_t size = e->at->page_size;
    if (page->pgno != e->next)
        return bad_page(e, "was answered by another");
    if (page->status == CO_ERR_NOT_FOUND && is_lock_page(page->pgno, size)) {
        e->next++;
        return co_buf_append_zeros(chunk, size);
    }
    if (page->status)
        return bad_page(e, co_error_text(page->status));
    if (rest->len < size || page->lsn > e->at->lsn || co_crc32c(0, rest->data, size) != page->crc)
        return bad_page(e, "came damaged");
    int rc = co_buf_append(chunk, rest->data, size);
    rest->data += size;
    rest->len -= size;
    if (!rc && e->next == 1)
        chunk->data[18] = chunk->data[19] = 1;
    e->next += !rc;
    return rc;
}

/* Pages of an answer, up to the first that did not fit it. */
static int take_pages(struct export *e, const Corallite__Pages *m, size_t asked,
                      struct co_span payload, struct co_buf *chunk)
{
    int rc = 0;
    if (m->n_pages != asked || m->page_size != e->at->page_size)
        return bad_page(e, "was answered with something else");
    for (size_t i = 0; i < m->n_pages && !rc; i++) {
        if (m->pages[i]->status == CO_ERR_AGAIN && i)
            break;
        rc = take_page(e, m->pages[i], &payload, chunk);
    }
    return rc;
}

/* Asks for the next pages, as many as make a chunk. */
static int fetch(struct export *e, struct co_buf *chunk)
{
    Corallite__GetPages q = CORALLITE__GET_PAGES__INIT;
    uint32_t pgnos[CO_GETPAGES_MAX];
    size_t most = CO_HTTP_CHUNK_BYTES / e->at->page_size, n = 0;
    struct frame_header frame;
    struct co_buf body = {0};
    for (; n < most && n < CO_GETPAGES_MAX && e->next + n <= e->at->db_pages; n++)
        pgnos[n] = e->next + (uint32_t)n;
    q.has_timeline = q.has_lsn = q.has_not_modified_since = q.has_deadline_ms = 1;
    q.timeline = e->at->timeline->id;
    q.lsn = q.not_modified_since = e->at->lsn;
    q.deadline_ms = V1_WAIT_MS;
    q.n_pages = n;
    q.pages = pgnos;
    int rc = v1_ask_raw(e->c, FRAME_GET_PAGES, &q.base, FRAME_PAGES, &frame, &body);
    if (rc)
        return rc;
    Corallite__Pages *m =
        message_unpack(&corallite__pages__descriptor, co_span_of(body.data, frame.message_bytes));
    if (m) {
        rc = take_pages(e, m, n,
                        co_span_of(body.data + frame.message_bytes, body.len - frame.message_bytes),
                        chunk);
        corallite__pages__free_unpacked(m, NULL);
    } else {
        rc = CO_ERR_PROTOCOL;
    }
    co_buf_free(&body);
    return rc;
}

/* What goes wrong from here on cuts the connection: the status was sent. Takes the first chunk. */
static void stream(struct export *e, struct co_buf *chunk)
{
    int rc = co_http_write(e->c->answer, chunk);
    while (!rc && e->next <= e->at->db_pages) {
        rc = fetch(e, chunk);
        if (!rc)
            rc = co_http_write(e->c->answer, chunk);
    }
    if (rc && rc != CO_ERR_CANCELED)
        co_warn(MODULE, "an export ends before its end: %s", co_sentence());
    if (rc)
        co_http_abort(e->c->answer);
}

static void describe(struct v1_call *c, const Corallite__Resolved *m)
{
    char text[V1_VALUE_MAX], lsn[LSN_TEXT], time[WHEN_TEXT];
    lsn_format(m->lsn, lsn);
    snprintf(text, sizeof text, "attachment; filename=\"%.63s-%s.sqlite\"", c->m.database, lsn);
    co_http_header(c->answer, "Content-Disposition", text);
    co_http_header(c->answer, "Corallite-Lsn", lsn);
    co_http_header(c->answer, "Corallite-Time", when_format(m->time_us, time));
}

int v1_export(struct v1_call *c)
{
    Corallite__Resolved *m = NULL;
    struct co_buf first = {0};
    struct export e = {.c = c, .next = 1};
    int rc = v1_resolve(c, c->m.branch, v1_arg(&c->m, "at"), &m);
    if (!rc && (!m->lsn || !m->db_pages || !m->page_size))
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "%s/%s holds nothing at that moment: there is no transaction, so there is no "
                     "file",
                     c->m.database, c->m.branch);
    e.at = m;
    /* Before the status is sent: what is known to be unreadable is answered with a sentence. */
    if (!rc)
        rc = fetch(&e, &first);
    if (!rc)
        rc = co_http_stream(c->answer, "application/vnd.sqlite3",
                            (uint64_t)m->db_pages * m->page_size);
    if (!rc) {
        describe(c, m);
        stream(&e, &first);
    }
    co_buf_free(&first);
    if (m)
        corallite__resolved__free_unpacked(m, NULL);
    return rc;
}
