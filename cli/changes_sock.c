#include "cli/changes_sock.h"

#include <stdlib.h>
#include <string.h>

#include "cli/client_sock.h"
#include "common/clock_file.h"
#include "proto/changes.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define CALLS_MAX 256u       /* a stretch too busy to list is halved */
#define PAGES_MAX (1u << 25) /* see page_diff.c */
/* Above so many pages, half of what reading everything costs is the bound. */
#define FEW_PAGES 256u

struct ask {
    struct client client;
    uint8_t *bits; /* pages that changed */
    unsigned calls;
    bool all;
};

/* -- where two lines meet ------------------------------------------------------------------------
 */

#define LINE_LENGTH (CO_BRANCH_DEPTH_MAX + 1)

struct line {
    struct co_id timeline[LINE_LENGTH];
    lsn_t upto[LINE_LENGTH]; /* of that timeline the moment sees so much */
    size_t n;
};

static int add_line(struct line *l, protobuf_c_boolean has, const ProtobufCBinaryData *id,
                    lsn_t lsn)
{
    if (l->n == LINE_LENGTH)
        return co_fail(CO_ERR_PROTOCOL, "the pageserver tells of more than %u ancestors",
                       CO_BRANCH_DEPTH_MAX);
    int rc = msg_get16("timeline", has, id, l->timeline[l->n].b);
    l->upto[l->n] = l->n && l->upto[l->n - 1] < lsn ? l->upto[l->n - 1] : lsn;
    l->n++;
    return rc;
}

static int line_of(const Corallite__Resolved *m, struct line *l)
{
    l->n = 0;
    if (!m->timeline)
        return co_fail(CO_ERR_PROTOCOL, "the pageserver does not say which branch that is");
    int rc = add_line(l, m->timeline->has_id, &m->timeline->id, m->lsn);
    for (size_t i = 0; i < m->n_ancestors && !rc; i++)
        rc = add_line(l, m->ancestors[i]->has_timeline, &m->ancestors[i]->timeline,
                      m->ancestors[i]->lsn);
    return rc;
}

/* The last LSN that both have in common; LSN_NONE: they have none. */
static lsn_t common_lsn(const struct line *a, const struct line *b)
{
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < b->n; k++)
            if (memcmp(a->timeline[i].b, b->timeline[k].b, sizeof a->timeline[i].b) == 0)
                return a->upto[i] < b->upto[k] ? a->upto[i] : b->upto[k];
    return LSN_NONE;
}

/* -- asking --------------------------------------------------------------------------------------
 */

static int mark(struct ask *q, lsn_t since, struct co_span rest)
{
    lsn_t lsn;
    pgno_t *pages;
    uint32_t size, n;
    int rc;
    while ((rc = changes_get_commit(&rest, since, &lsn, &size, &pages, &n)) == 0) {
        for (uint32_t i = 0; i < n; i++) {
            if (pages[i] >= PAGES_MAX)
                q->all = true;
            else
                q->bits[pages[i] / 8] |= (uint8_t)(1u << pages[i] % 8);
        }
        free(pages);
        since = lsn;
    }
    return rc == CO_ERR_AGAIN ? 0 : rc;
}

/* One question; *full: the answer would have been too long. */
static int ask_once(struct ask *q, const struct co_id *timeline, lsn_t since, lsn_t upto,
                    bool *full)
{
    Corallite__ChangesSince m = CORALLITE__CHANGES_SINCE__INIT;
    struct frame_header frame;
    struct co_buf body = {0};
    m.has_timeline = m.has_since = m.has_upto = m.has_deadline_ms = 1;
    m.timeline = msg_bytes16(timeline->b);
    m.since = since;
    m.upto = upto;
    m.deadline_ms = CLIENT_CHANGE_TIMEOUT_MS - 2000;
    int rc = psock_call(&q->client.sock, FRAME_CHANGES_SINCE, &m.base, (struct co_span){0},
                        co_now_us() + CLIENT_CHANGE_TIMEOUT_MS * 1000ull, &frame, &body, NULL);
    if (rc == CO_ERR_GONE) {
        /* What happened in between is not kept any more, only the two moments are. */
        q->all = true;
        *full = false;
        co_buf_free(&body);
        return 0;
    }
    if (!rc && frame.type != FRAME_CHANGES)
        rc = co_fail(CO_ERR_PROTOCOL, "%s answered CHANGES_SINCE with a frame %s",
                     q->client.sock.address, frame_type_name(frame.type));
    Corallite__Changes *c = rc ? NULL
                               : message_unpack(&corallite__changes__descriptor,
                                                co_span_of(body.data, frame.message_bytes));
    if (!rc && !c)
        rc = CO_ERR_PROTOCOL;
    *full = c && c->all;
    if (!rc && !*full)
        rc = mark(q, since,
                  co_span_of(body.data + frame.message_bytes, body.len - frame.message_bytes));
    if (c)
        corallite__changes__free_unpacked(c, NULL);
    co_buf_free(&body);
    return rc;
}

/* The changes in (since, upto], in as many questions as it takes. */
static int ask_stretch(struct ask *q, const struct co_id *timeline, lsn_t since, lsn_t upto)
{
    while (since < upto && !q->all) {
        lsn_t end = upto;
        bool full;
        int rc;
        do {
            if (q->calls++ == CALLS_MAX) {
                q->all = true;
                return 0;
            }
            rc = ask_once(q, timeline, since, end, &full);
            if (rc)
                return rc;
            if (full && end - since <= LSN_ALIGN) { /* one transaction that touched so much */
                q->all = true;
                return 0;
            }
            if (full)
                end = since + (end - since) / 2 / LSN_ALIGN * LSN_ALIGN;
        } while (full && end > since);
        since = end;
    }
    return 0;
}

/* -- the list ------------------------------------------------------------------------------------
 */

static int list_pages(const struct ask *q, const Corallite__Resolved *a,
                      const Corallite__Resolved *b, struct changes *out)
{
    size_t n = 0;
    for (size_t i = 0; i < PAGES_MAX / 8; i++)
        n += (size_t)__builtin_popcount(q->bits[i]);
    out->all = q->all || (n > FEW_PAGES && n > ((uint64_t)a->db_pages + b->db_pages) / 4);
    if (out->all || n == 0)
        return 0;
    out->pages = malloc(n * sizeof *out->pages);
    if (!out->pages)
        return co_fail(CO_ERR_NOMEM, "there is no memory for a list of pages");
    for (pgno_t i = 0; i < PAGES_MAX / 8; i++)
        for (pgno_t bit = 0; q->bits[i] >> bit; bit++)
            if (q->bits[i] & (1u << bit))
                out->pages[out->n++] = 8 * i + bit;
    return 0;
}

static int gather(struct ask *q, const Corallite__Resolved *a, const Corallite__Resolved *b)
{
    struct line lines[2];
    int rc = line_of(a, &lines[0]);
    if (!rc)
        rc = line_of(b, &lines[1]);
    if (rc)
        return rc;
    lsn_t since = common_lsn(&lines[0], &lines[1]);
    q->all = since == LSN_NONE || a->page_size != b->page_size;
    for (int i = 0; i < 2 && !rc && !q->all; i++)
        rc = ask_stretch(q, &lines[i].timeline[0], since, lines[i].upto[0]);
    return rc;
}

int changes_between(const struct cli_args *args, const Corallite__Resolved *a,
                    const Corallite__Resolved *b, struct changes *out)
{
    static struct client_target target;
    struct ask q = {0};
    *out = (struct changes){0};
    int rc = client_target(args, &target);
    if (!rc && !(q.bits = calloc(1, PAGES_MAX / 8)))
        rc = co_fail(CO_ERR_NOMEM, "there is no memory for a list of pages");
    if (!rc)
        rc = client_open(&q.client, &target);
    if (!rc) {
        rc = gather(&q, a, b);
        client_close(&q.client);
    }
    if (!rc)
        rc = list_pages(&q, a, b, out);
    free(q.bits);
    return rc;
}
