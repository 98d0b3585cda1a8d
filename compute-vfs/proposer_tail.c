/*
 * proposer_tail.c - the tail in memory: the newest part of a leader's log, until every member has
 * it.
 *
 * A row of chunks, each of whole records, ascending, gapless, up to the tip. An APPEND borrows a
 * run of records from one chunk, so a chunk's memory never moves; a large record keeps its own, and
 * one that the shell keeps has none here. What every member has goes, and what is committed when
 * there is more than tail_bytes: whoever lacks it is fed from another safekeeper's log.
 */
#include "compute-vfs/proposer_core.h"

#include <stdlib.h>

static struct pr_chunk *last_chunk(struct pr_proposer *pr)
{
    return pr->n_chunks ? &pr->chunks[pr->n_chunks - 1] : NULL;
}

static int chunk_slot(struct pr_proposer *pr)
{
    if (pr->n_chunks < pr->cap_chunks) {
        return 0;
    }
    uint32_t cap = pr->cap_chunks ? 2 * pr->cap_chunks : 16;
    struct pr_chunk *c = realloc(pr->chunks, cap * sizeof *c);
    if (!c) {
        return co_fail(CO_ERR_NOMEM, "no memory for the log's tail");
    }
    pr->chunks = c;
    pr->cap_chunks = cap;
    return 0;
}

/* Puts the record's bytes at the end of the tail; a large record keeps its own memory. */
static int store(struct pr_proposer *pr, struct co_buf *record)
{
    struct pr_chunk *c = last_chunk(pr);
    size_t want = pr->o.batch_bytes < PR_CHUNK_MIN   ? PR_CHUNK_MIN
                  : pr->o.batch_bytes > PR_CHUNK_MAX ? PR_CHUNK_MAX
                                                     : pr->o.batch_bytes;
    if (!c || c->spilled || c->cap - c->len < record->len) {
        int rc = chunk_slot(pr);
        if (rc) {
            return rc;
        }
        struct pr_chunk fresh = {.begin = pr->tip_lsn};
        if (record->len >= want / 2) {
            fresh.data = record->data;
            fresh.len = fresh.cap = record->len;
            *record = (struct co_buf){0};
            pr->chunks[pr->n_chunks++] = fresh;
            return 0;
        }
        fresh.data = malloc(want);
        fresh.cap = want;
        if (!fresh.data) {
            return co_fail(CO_ERR_NOMEM, "no memory for the log's tail");
        }
        pr->chunks[pr->n_chunks++] = fresh;
        c = last_chunk(pr);
    }
    memcpy(c->data + c->len, record->data, record->len);
    c->len += record->len;
    return 0;
}

/* May a record of this header follow the tip? Else it was sealed for a leadership that has ended:
 * LOST was told, nothing of it was ever sent. */
static bool fits(const struct pr_proposer *pr, const struct wal_header *h)
{
    return (pr->state == PR_LEADER || pr->state == PR_RECOVER) && !pr->releasing &&
           h->term == pr->term && h->begin_lsn == pr->tip_lsn;
}

static void move_tip(struct pr_proposer *pr, uint64_t len, uint64_t now)
{
    if (pr->commit_lsn == pr->tip_lsn) {
        pr->moved_us = now; /* R8 counts from here */
        pr->calm = now - pr->commit_moved_us >= PR_CALM_US ? pr->calm + 1 : 0;
    }
    pr->tip_lsn += len;
}

static void forget(struct pr_proposer *pr, uint64_t spilled)
{
    if (spilled) {
        pr_emit(pr, PR_FORGET)->spilled = spilled;
    }
}

int pr_tail_add_spilled(struct pr_proposer *pr, const struct pr_spilled *record, uint64_t now)
{
    const struct wal_header *h = &record->header;
    if (!fits(pr, h)) {
        forget(pr, record->id);
        return 0;
    }
    int rc = chunk_slot(pr);
    if (rc) {
        return rc;
    }
    pr->chunks[pr->n_chunks++] = (struct pr_chunk){.len = (size_t)h->total_bytes,
                                                   .cap = (size_t)h->total_bytes,
                                                   .begin = pr->tip_lsn,
                                                   .spilled = record->id};
    pr->tip_digest = h->digest;
    move_tip(pr, h->total_bytes, now);
    pr->tail_bytes += h->total_bytes;
    return 0;
}

int pr_tail_add(struct pr_proposer *pr, struct co_buf *record, bool want_received, uint64_t now)
{
    struct wal_header h;
    if (wal_peek(co_buf_span(record), &h) || h.total_bytes != record->len || !fits(pr, &h)) {
        co_buf_free(record);
        return 0;
    }
    size_t len = record->len;
    memcpy(pr->tip_digest.b, record->data + len - WAL_TRAILER_BYTES, sizeof pr->tip_digest.b);
    if (h.time_us > pr->time_us) {
        pr->time_us = h.time_us;
    }
    int rc = store(pr, record);
    if (rc) {
        return rc;
    }
    co_buf_free(record);
    move_tip(pr, len, now);
    pr->tail_bytes += len;
    if (want_received) {
        pr->want_received_lsn = pr->tip_lsn;
    }
    return 0;
}

void pr_tail_clear(struct pr_proposer *pr)
{
    for (uint32_t i = 0; i < pr->n_chunks; i++) {
        forget(pr, pr->chunks[i].spilled);
        free(pr->chunks[i].data);
    }
    pr->n_chunks = 0;
    pr->tail_bytes = 0;
}

/* What every member has need not stay; nor what is committed, when there is too much. */
void pr_tail_trim(struct pr_proposer *pr)
{
    if (!pr_leads(pr)) {
        pr_tail_clear(pr);
        return;
    }
    lsn_t all = pr->commit_lsn;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (q_is_member(&pr->config, n->node) && (!n->adopted || n->match_lsn < all)) {
            all = n->adopted ? n->match_lsn : 0;
        }
    }
    uint32_t drop = 0;
    while (drop < pr->n_chunks) {
        struct pr_chunk *c = &pr->chunks[drop];
        lsn_t end = c->begin + c->len;
        if (end > all && (end > pr->commit_lsn || pr->tail_bytes <= pr->o.tail_bytes)) {
            break;
        }
        pr->tail_bytes -= c->len;
        forget(pr, c->spilled);
        free(c->data);
        drop++;
    }
    if (drop) {
        memmove(pr->chunks, pr->chunks + drop, (pr->n_chunks - drop) * sizeof *pr->chunks);
        pr->n_chunks -= drop;
    }
}

lsn_t pr_tail_begin(const struct pr_proposer *pr)
{
    return pr->n_chunks ? pr->chunks[0].begin : pr->tip_lsn;
}

/* The chunk that holds `lsn` (within the tail). */
const struct pr_chunk *pr_tail_chunk(const struct pr_proposer *pr, lsn_t lsn)
{
    uint32_t i = pr->n_chunks - 1;
    while (pr->chunks[i].begin > lsn) {
        i--;
    }
    return &pr->chunks[i];
}

/* Length of the record of ours that begins at `lsn`. 0: none does, so whoever said that its log
 * ends there has another log. */
uint64_t pr_tail_record_bytes(const struct pr_chunk *c, lsn_t lsn)
{
    size_t at = (size_t)(lsn - c->begin);
    struct wal_header first;
    if (c->spilled) {
        return at == 0 ? c->len : 0;
    }
    if (at >= c->len || wal_peek(co_span_of(c->data + at, c->len - at), &first) ||
        first.begin_lsn != lsn || first.total_bytes > c->len - at) {
        return 0;
    }
    return first.total_bytes;
}

/* Does the record at `at` have to go in fragments? A configuration always goes whole. */
bool pr_tail_is_large(const struct pr_proposer *pr, const uint8_t *at)
{
    return co_get64(at + 8) > pr->o.fragment_bytes && at[16] != WAL_CONFIG; /* wal.h */
}

/* Records from `lsn` on: at most a batch, at least one; none behind the first that has to go in
 * fragments. */
struct co_span pr_tail_records(const struct pr_proposer *pr, const struct pr_chunk *c, lsn_t lsn)
{
    size_t at = (size_t)(lsn - c->begin), end = at;
    while (end < c->len) {
        size_t len = (size_t)co_get64(c->data + end + 8); /* total bytes: wal.h */
        if (end > at &&
            (end + len - at > pr->o.batch_bytes || pr_tail_is_large(pr, c->data + end))) {
            break;
        }
        end += len;
    }
    return co_span_of(c->data + at, end - at);
}
