/*
 * quorum_record_sock.c - was an old commit committed? Read from the log itself.
 *
 * Safekeepers forget which term wrote what as soon as every member has it (M16), so the core cannot
 * tell the outcome of a commit of long ago. But all of that lies below what is committed, and there
 * any safekeeper's log is the log: the record at the commit's begin LSN names the term that wrote
 * it. The same term: committed. Another one, or no record that begins there: not, and never.
 *
 * A connection of its own for one question; used by the thread that asks, without the lock.
 */
#include <errno.h>

#include "common/clock_file.h"
#include "compute-vfs/quorum_int.h"
#include "proto/message.h"
#include "proto/unpack.h"
#include "proto/wal.h"

/* The answer to STREAM, when it is whole and about what was asked. */
static int judge(const struct frame_header *frame, const struct co_buf *body,
                 const struct co_id *timeline, term_t term, lsn_t begin, enum cv_verdict *out)
{
    struct co_span message = {body->data, frame->message_bytes};
    struct co_span records = {body->data + message.len, body->len - message.len};
    struct wal_header h;

    if (frame->type != FRAME_STREAM_DATA)
        return co_fail(CO_ERR_PROTOCOL, "a safekeeper answered %s to STREAM",
                       frame_type_name(frame->type));
    if (records.len == 0)
        return CO_ERR_AGAIN; /* this one does not know yet that it is committed */
    /* Of a large record this is the first fragment, and its header is what is asked for. */
    if (wal_peek(records, &h) || (h.total_bytes <= CO_BATCH_BYTES && wal_check(records, &h)) ||
        h.begin_lsn != begin || !co_id_eq(&h.timeline, timeline))
        return co_fail(CO_ERR_PROTOCOL, "a safekeeper sent another record than was asked for");
    *out = h.term == term ? CV_COMMITTED : CV_NOT_COMMITTED;
    return 0;
}

static int ask_one(const struct cv_holder *of, const struct cv_safekeeper *sk, term_t term,
                   lsn_t begin, uint64_t deadline_us, enum cv_verdict *out)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    Corallite__Stream stream = CORALLITE__STREAM__INIT;
    struct co_id cluster = of->cluster, timeline = of->timeline;
    struct frame_header frame;
    struct co_buf body;
    struct psock s;

    hello.has_protocol_min = hello.has_protocol_max = hello.has_cluster = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.cluster = msg_bytes16(cluster.b);
    hello.role = CORALLITE__ROLE__ROLE_COMPUTE;
    hello.has_expect_node = 1;
    hello.expect_node = sk->node;
    hello.program = program_invocation_short_name;
    stream.has_timeline = stream.has_from_lsn = stream.has_max_bytes = stream.has_wait_ms = 1;
    stream.timeline = msg_bytes16(timeline.b);
    stream.from_lsn = begin;
    stream.max_bytes = 1; /* but always one whole record, or its first fragment */
    stream.wait_ms = 0;
    int rc = psock_connect(&s, sk->host, sk->port, &hello, deadline_us, NULL);
    if (rc != 0)
        return rc;
    rc = psock_call(&s, FRAME_STREAM, &stream.base, co_span_of(NULL, 0), deadline_us, &frame, &body,
                    NULL);
    if (rc == 0) {
        rc = judge(&frame, &body, &of->timeline, term, begin, out);
        co_buf_free(&body);
    } else if (rc == CO_ERR_INVAL && s.fd >= 0) {
        *out = CV_NOT_COMMITTED; /* committed that far, and no record begins there */
        rc = 0;
    }
    psock_close(&s);
    return rc;
}

int cv_quorum_by_record(const struct cv_holder *h, term_t term, lsn_t begin, uint64_t deadline_us,
                        enum cv_verdict *out)
{
    int rc = CO_ERR_TIMEOUT;

    for (uint32_t i = 0; i < h->n_safekeepers; i++) {
        uint64_t now_us = co_now_us();
        if (now_us >= deadline_us)
            break;
        /* One that is silent leaves time for the others. */
        uint64_t part_us = (deadline_us - now_us) / (h->n_safekeepers - i);
        rc = ask_one(h, &h->safekeepers[i], term, begin, now_us + part_us, out);
        if (rc == 0)
            return 0;
    }
    return rc;
}
