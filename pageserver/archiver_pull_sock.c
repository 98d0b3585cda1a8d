/*
 * archiver_pull_sock.c - a timeline's committed log, from any safekeeper that has it, into objects.
 *
 * By a connection of its own, with the blocking client: the feeds of the loop (puller_uv.c) are not
 * held up by a slow archive, and the archive does not depend on what they have in memory.
 */
#include <stdio.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "common/mutation.h"
#include "pageserver/archiver_int.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define MODULE      "pageserver/archive"
#define CALL_US     5000000u
#define MANIFEST_US 10000000u /* in a long pull there is one so often */

static int connect_to(struct ps_archiver *a, uint32_t node)
{
    const struct ps_archive_task *task = a->task;
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    char program[] = "corallite-pageserver archive " CO_BUILD_VERSION;
    if (a->sock.fd >= 0 && a->node == task->nodes[node].id)
        return 0;
    psock_close(&a->sock);
    hello.has_protocol_min = hello.has_protocol_max = hello.has_cluster = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.cluster = msg_bytes16(a->cluster.b);
    hello.has_role = hello.has_expect_node = 1;
    hello.role = CORALLITE__ROLE__ROLE_PAGESERVER;
    hello.expect_node = task->nodes[node].id;
    hello.program = program;
    a->node = task->nodes[node].id;
    return psock_connect(&a->sock, task->nodes[node].host, task->nodes[node].port, &hello,
                         co_now_us() + CALL_US, NULL);
}

/* What follows the walk, appended to `out`; nothing: that safekeeper has no more. */
static int ask(struct ps_archiver *a, const struct ar_walk *w, struct co_buf *out)
{
    struct frame_header frame;
    struct co_buf body = {0};
    Corallite__Stream q = CORALLITE__STREAM__INIT;
    q.has_timeline = q.has_from_lsn = q.has_max_bytes = q.has_wait_ms = q.has_fragment_at = 1;
    q.timeline = msg_bytes16(w->timeline.b);
    q.from_lsn = w->end;
    q.fragment_at = ar_walk_next(w) - w->end;
    q.max_bytes = CO_BATCH_BYTES;
    int rc = psock_call(&a->sock, FRAME_STREAM, &q.base, co_span_of(NULL, 0), co_now_us() + CALL_US,
                        &frame, &body, NULL);
    Corallite__StreamData *m = NULL;
    if (!rc && frame.type != FRAME_STREAM_DATA)
        rc = co_fail(CO_ERR_PROTOCOL, "a safekeeper answered STREAM with %s",
                     frame_type_name(frame.type));
    if (!rc)
        m = message_unpack(&corallite__stream_data__descriptor,
                           co_span_of(body.data, frame.message_bytes));
    if (!rc && !m)
        rc = CO_ERR_PROTOCOL;
    if (!rc && (m->from_lsn != w->end || (m->fragment && m->fragment_at != q.fragment_at) ||
                (!m->fragment && q.fragment_at && body.len > frame.message_bytes)))
        rc = co_fail(CO_ERR_PROTOCOL,
                     "a safekeeper sent another part of the log than was asked for");
    if (!rc)
        rc = co_buf_append(out, body.data + frame.message_bytes, body.len - frame.message_bytes);
    if (m)
        corallite__stream_data__free_unpacked(m, NULL);
    co_buf_free(&body);
    return rc;
}

struct pull {
    struct ps_archiver *a;
    struct ps_archived *t;
    struct ar_walk walk;
    struct co_buf chunk; /* begins at `begin`, ends where the walk goes on */
    lsn_t begin;
};

/* Puts what has come; the archive then has all whole records of it. */
static int put(struct pull *p)
{
    if (p->chunk.len == 0)
        return 0;
    int rc = ps_chunks_put(p->a, p->t, p->begin, co_buf_span(&p->chunk));
    if (rc && !co_mutated(ARCHIVED_UNPUT))
        return rc;
    p->begin += p->chunk.len;
    p->chunk.len = 0;
    p->t->end = p->walk.end;
    p->t->digest = p->walk.digest;
    p->t->time_us = p->walk.time_us;
    return 0;
}

/* What is not sound is the safekeeper's error. */
static int take(struct pull *p, size_t before, bool *ours)
{
    int rc =
        ar_walk_feed(&p->walk, co_span_of(p->chunk.data + before, p->chunk.len - before), NULL);
    if (rc || p->chunk.len < AR_CHUNK_BYTES - CO_BATCH_BYTES)
        return rc;
    rc = put(p);
    if (!rc && co_now_us() - p->a->manifest_mono_us > MANIFEST_US)
        rc = ps_archive_manifest(p->a);
    *ours = rc != 0;
    return rc;
}

/* From one safekeeper as far as it has it. An error of the archive is told from one of the
 * safekeeper by *ours. */
static int pull_from(struct pull *p, uint32_t node, lsn_t last, bool *ours)
{
    *ours = false;
    int rc = connect_to(p->a, node);
    while (!rc && p->walk.end < last) {
        size_t before = p->chunk.len;
        if (atomic_load(&p->a->stopping)) {
            *ours = true;
            return co_fail(CO_ERR_CANCELED, "the pageserver stops");
        }
        rc = ask(p->a, &p->walk, &p->chunk);
        if (!rc && p->chunk.len == before)
            return CO_ERR_AGAIN;
        if (!rc)
            rc = take(p, before, ours);
    }
    return rc;
}

/* Back to the end of the last whole record; of a larger one, parts may be in the archive already.
 */
static int go_back(struct pull *p)
{
    ar_walk_rewind(&p->walk);
    p->chunk.len = p->walk.end > p->begin ? (size_t)(p->walk.end - p->begin) : 0;
    if (p->walk.end >= p->begin)
        return 0;
    p->begin = p->walk.end;
    p->t->listed = false;
    return ps_chunks_list(p->a, p->t);
}

/* One after the other, until one has it all. What one of them sends unsound is asked of the next.
 */
static int pull_from_any(struct pull *p, lsn_t last, bool *ours, bool *behind)
{
    const struct ps_archive_task *task = p->a->task;
    int rc = CO_ERR_AGAIN;
    for (uint32_t i = 0; i < task->n_nodes && rc && !*ours; i++) {
        uint32_t node = (p->t->id.b[1] + i) % task->n_nodes;
        rc = pull_from(p, node, last, ours);
        *behind |= rc == CO_ERR_AGAIN;
        if (rc != CO_ERR_CORRUPT || *ours)
            continue;
        co_warn(MODULE, "safekeeper %u, of which log is archived: %s", task->nodes[node].id,
                co_sentence());
        int back = go_back(p);
        *ours = back != 0;
        rc = back ? back : rc;
    }
    return rc;
}

/* A record that came in part only is left for the next time. */
static int put_rest(struct pull *p)
{
    int rc = go_back(p);
    return rc ? rc : put(p);
}

int ps_archive_pull(struct ps_archiver *a, const struct ps_archive_line *line,
                    struct ps_archived *t)
{
    struct pull p = {.a = a, .t = t, .begin = t->end};
    bool ours = false, behind = false;
    int rc = ps_chunks_list(a, t);
    a->at_archive = rc != 0;
    if (rc)
        return rc;
    ar_walk_init(&p.walk, &a->cluster, &t->id, t->end, &t->digest);
    p.walk.time_us = t->time_us;
    rc = pull_from_any(&p, line->last, &ours, &behind);
    if (!ours) {
        char why[CO_SENTENCE_MAX];
        snprintf(why, sizeof why, "%s%s", co_sentence(),
                 rc == CO_ERR_TRUNCATED
                     ? ". Is this another archive than the one that was written to before? Then it "
                       "needs a copy of that one first"
                     : "");
        int rest = put_rest(&p);
        ours = rest != 0;
        if (rest)
            rc = rest;
        else if (rc && behind)
            rc = CO_ERR_AGAIN;
        else if (rc)
            rc = co_fail(rc, "%s", why);
    }
    a->at_archive = ours;
    co_buf_free(&p.chunk);
    ar_walk_free(&p.walk);
    return rc;
}
