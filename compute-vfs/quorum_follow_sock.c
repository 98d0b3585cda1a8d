/*
 * quorum_follow_sock.c - where the log ends, and the records up to there, for a process that
 * follows the commits of another one.
 *
 * Both are asked for at once: READ_POS of a quorum, STREAM of one of those, on the same connection,
 * so the records come right behind that one's answer. They are asked for only while there was news
 * the last time; else, or when that safekeeper did not know yet that they are committed, of all in
 * a second round trip. A safekeeper streams nothing that is not committed, so what lies at or below
 * the position is the log whoever sent it. Records are a favour: whoever gets none asks the
 * pageserver what changed.
 */
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"
#include "proto/message.h"
#include "proto/unpack.h"

static struct cv_ask *find(struct cv_quorum *q, uint64_t req)
{
    for (struct cv_ask *a = q->asks; a != NULL; a = a->next) {
        if (a->req == req && a->streams > 0)
            return a;
    }
    return NULL;
}

static void send_stream(struct cv_quorum *q, struct cv_link *l, struct cv_ask *ask)
{
    Corallite__Stream stream = CORALLITE__STREAM__INIT;

    if (l->state != CV_LINK_UP || l->broken)
        return;
    stream.has_timeline = stream.has_from_lsn = stream.has_max_bytes = stream.has_wait_ms = 1;
    stream.timeline = msg_bytes16(q->timeline.timeline.b);
    stream.from_lsn = ask->since;
    stream.max_bytes = CV_FOLLOW_BYTES;
    if (cv_link_request(q, l, FRAME_STREAM, ask->req, &stream.base) != 0)
        l->broken = true;
    else
        ask->streams++;
}

void cv_follow_ask_first(struct cv_quorum *q, struct cv_ask *ask)
{
    for (uint32_t i = 0; i < q->actions.n; i++) {
        const struct pr_action *a = &q->actions.a[i];
        if (a->kind != PR_SEND || a->msg.type != FRAME_READ_POS)
            continue;
        for (uint32_t k = 0; k < q->n_links; k++) {
            if (q->link[k].sk.node == a->node)
                send_stream(q, &q->link[k], ask);
        }
        return;
    }
}

void cv_follow_ask_all(struct cv_quorum *q, struct cv_ask *ask)
{
    for (uint32_t i = 0; i < q->n_links; i++)
        send_stream(q, &q->link[i], ask);
}

/* Keeps the longest answer. */
int cv_follow_told(struct cv_quorum *q, const struct frame_header *frame, struct co_span body)
{
    struct co_span message = {body.data, frame->message_bytes};
    struct co_span records = {body.data + message.len, body.len - message.len};
    struct cv_ask *ask = find(q, frame->request_id);
    int rc = 0;

    if (ask == NULL)
        return 0; /* it was not waited for any longer */
    Corallite__StreamData *data = message_unpack(&corallite__stream_data__descriptor, message);
    if (data == NULL)
        return CO_ERR_PROTOCOL;
    bool usable = data->has_timeline && data->timeline.len == 16 &&
                  memcmp(data->timeline.data, q->timeline.timeline.b, 16) == 0 &&
                  data->from_lsn == ask->since && !data->fragment;
    corallite__stream_data__free_unpacked(data, NULL);
    ask->streams--;
    if (usable && records.len > ask->records.len) {
        ask->records.len = 0;
        rc = co_buf_append(&ask->records, records.data, records.len);
    }
    pthread_cond_broadcast(&q->changed);
    return rc == CO_ERR_NOMEM ? 0 : rc; /* then there are none */
}

void cv_follow_refused(struct cv_quorum *q, uint64_t req)
{
    struct cv_ask *ask = find(q, req);

    if (ask == NULL)
        return;
    ask->streams--;
    pthread_cond_broadcast(&q->changed);
}
