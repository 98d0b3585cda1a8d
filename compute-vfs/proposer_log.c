/*
 * proposer_log.c - a leader's log: the tail in memory, who has how much of it, what is committed.
 *
 * The tail is a row of chunks, each of whole records; an APPEND borrows a run of records from one
 * chunk. Every safekeeper has sent_lsn (where the next APPEND to it begins) and match_lsn (what it
 * acknowledged as durable); the difference is bounded by the window. On a lost connection, and when
 * nothing moved for resend_us, sent_lsn goes back to match_lsn. A safekeeper whose sent_lsn lies
 * below the tail is fed from the log of another one that has it: FETCH, DATA, APPEND. When no other
 * keeps its log from there on, what it is handed on is the begin of the log that is kept (its
 * base), once we know that to be committed.
 *
 * A record larger than a fragment goes in fragments: part_sent counts within the record at
 * sent_lsn, part_have what the safekeeper says it has staged of the one at match_lsn. That much
 * need not be sent again; for what is committed it counts for nothing.
 *
 * R3: match counts only from an ACK of this term, nonce and connection, that is after adoption; q
 * is the largest LSN that a quorum has; it is committed only from our own start on.
 */
#include "compute-vfs/proposer_core.h"

#include <stdlib.h>

#include "common/assert.h"
#include "common/mutation.h"

/* ---- the tail ----------------------------------------------------------------------------------
 */

static struct pr_chunk *last_chunk(struct pr_proposer *pr)
{
    return pr->n_chunks ? &pr->chunks[pr->n_chunks - 1] : NULL;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Where we are with a safekeeper, as one number: how many bytes are on their way to it. */
static uint64_t on_way(const struct pr_node *n)
{
    return n->sent_lsn + n->part_sent - n->match_lsn - n->part_have;
}

/* What it has need not be sent. */
static void skip_what_it_has(struct pr_node *n)
{
    if (n->sent_lsn < n->match_lsn) {
        n->sent_lsn = n->match_lsn;
        n->part_sent = 0;
        n->fetch_node = 0;
    }
    if (n->sent_lsn == n->match_lsn && n->part_sent < n->part_have) {
        n->part_sent = n->part_have;
        n->fetch_node = 0;
    }
}

void pr_rewind(struct pr_node *n, bool forget)
{
    if (forget) { /* it may have started anew, and then has what is on its disk, nothing staged */
        n->written_lsn = 0;
        n->part_have = 0;
    }
    n->sent_lsn = n->match_lsn;
    n->part_sent = n->part_have;
    n->newest_end = n->before_end = 0; /* those APPENDs count as lost */
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

static lsn_t tail_begin(const struct pr_proposer *pr)
{
    return pr->n_chunks ? pr->chunks[0].begin : pr->tip_lsn;
}

/* The chunk that holds `lsn` (within the tail). */
static const struct pr_chunk *chunk_of(const struct pr_proposer *pr, lsn_t lsn)
{
    uint32_t i = pr->n_chunks - 1;
    while (pr->chunks[i].begin > lsn) {
        i--;
    }
    return &pr->chunks[i];
}

/* Length of the record of ours that begins at `lsn`. 0: none does, so whoever said that its log
 * ends there has another log. */
static uint64_t record_bytes(const struct pr_chunk *c, lsn_t lsn)
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
static bool is_large(const struct pr_proposer *pr, const uint8_t *at)
{
    return co_get64(at + 8) > pr->o.fragment_bytes && at[16] != WAL_CONFIG; /* wal.h */
}

/* Records from `lsn` on: at most a batch, at least one; none behind the first that has to go in
 * fragments. */
static struct co_span records_from(const struct pr_proposer *pr, const struct pr_chunk *c,
                                   lsn_t lsn)
{
    size_t at = (size_t)(lsn - c->begin), end = at;
    while (end < c->len) {
        size_t len = (size_t)co_get64(c->data + end + 8); /* total bytes: wal.h */
        if (end > at && (end + len - at > pr->o.batch_bytes || is_large(pr, c->data + end))) {
            break;
        }
        end += len;
    }
    return co_span_of(c->data + at, end - at);
}

/* ---- sending -----------------------------------------------------------------------------------
 */

bool pr_may_be_member(const struct pr_proposer *pr, const struct pr_node *n)
{
    return q_is_member(&pr->config, n->node) ||
           (pr->commit_lsn < pr->config_lsn && q_is_member(&pr->config_before, n->node));
}

/* M16: so far every member of the configuration holds our log, and it is committed. */
static lsn_t history_floor(const struct pr_proposer *pr)
{
    lsn_t floor = pr->commit_lsn;
    if (co_mutated(FLOOR_OF_A_QUORUM)) {
        return floor;
    }
    if (floor < pr->config_lsn && pr->config_before.n == 0) {
        return 0; /* the donor's configuration may come to nothing, and we do not know the one
                     before */
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (pr_may_be_member(pr, n) && (!n->adopted || n->match_lsn < floor)) {
            floor = n->adopted ? n->match_lsn : 0;
        }
    }
    return floor;
}

/* An APPEND to `n`, with all but its records. */
static struct q_msg *begin_append(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    struct q_msg *m = pr_send(pr, n, FRAME_APPEND);
    if (!m) {
        return NULL;
    }
    m->nonce = pr->nonce;
    m->begin_lsn = n->sent_lsn;
    m->commit_lsn = pr->commit_lsn;
    m->floor_lsn = history_floor(pr);
    m->sent_us = now;
    n->sent_us = now;
    n->told_commit = pr->commit_lsn;
    pr_known_append(pr, n, m, now);
    return m;
}

static bool send_append(struct pr_proposer *pr, struct pr_node *n, struct co_span records,
                        uint64_t now)
{
    struct q_msg *m = begin_append(pr, n, now);
    if (!m) {
        return false;
    }
    m->want_received =
        records.len > 0 && (pr->o.want_received || n->sent_lsn < pr->want_received_lsn);
    m->payload = records;
    if (on_way(n) == 0 && records.len > 0) {
        n->progress_us = now;
    }
    n->sent_lsn += records.len;
    if (records.len > 0) {
        n->before_end = n->newest_end;
        n->newest_end = n->sent_lsn;
    }
    return true;
}

void pr_tell_writing(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_nodes && pr->announced; i++) {
        struct pr_node *n = &pr->nodes[i];
        struct q_msg *m = n->adopted && !n->broken ? begin_append(pr, n, now) : NULL;
        if (m) {
            m->writing = true;
        }
    }
}

void pr_hurry(struct pr_proposer *pr, uint64_t now)
{
    for (uint32_t i = 0; i < pr->n_nodes && pr->announced; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->adopted && !n->broken && n->match_lsn < n->sent_lsn) {
            (void)begin_append(pr, n, now); /* lost: the sync comes a little later */
        }
    }
}

/* The next bytes of the record of `total` bytes at n->sent_lsn. */
static bool send_fragment(struct pr_proposer *pr, struct pr_node *n, struct co_span bytes,
                          uint64_t spilled, uint64_t total, uint64_t now)
{
    struct q_msg *m = begin_append(pr, n, now);
    if (!m) {
        return false;
    }
    pr->out->a[pr->out->n - 1].spilled = spilled;
    m->want_received = pr->o.want_received && n->part_sent + bytes.len == total;
    m->fragment = true;
    m->fragment_at = n->part_sent;
    m->payload = bytes;
    if (on_way(n) == 0) {
        n->progress_us = now;
    }
    n->part_sent += bytes.len;
    if (n->part_sent == total) {
        n->sent_lsn += total;
        n->part_sent = 0;
    }
    return true;
}

/* The same from the tail. */
static bool send_part(struct pr_proposer *pr, struct pr_node *n, const struct pr_chunk *c,
                      uint64_t total, uint64_t now)
{
    if (n->part_sent >= total) {
        n->part_sent = n->part_have = 0; /* it claims to have more than there is */
    }
    uint64_t left = total - n->part_sent;
    size_t len = left < pr->o.fragment_bytes ? (size_t)left : pr->o.fragment_bytes;
    const uint8_t *at = c->spilled ? NULL : c->data + (n->sent_lsn - c->begin) + n->part_sent;
    return send_fragment(pr, n, co_span_of(at, len), c->spilled, total, now);
}

/* Is `a` better to ask for what n lacks than `b`? Whoever was asked in vain is the last choice, and
 * one that has dropped that part the one before. */
static bool better_source(const struct pr_node *n, const struct pr_node *a, const struct pr_node *b)
{
    bool vain_a = a->node == n->fetch_node, vain_b = b->node == n->fetch_node;
    bool keeps_a = a->base_lsn <= n->sent_lsn, keeps_b = b->base_lsn <= n->sent_lsn;
    return vain_a != vain_b ? vain_b : keeps_a != keeps_b ? keeps_a : a->match_lsn > b->match_lsn;
}

static void fetch_for(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    if (n->fetch_node != 0 && now - n->fetch_us < pr->o.resend_us) {
        return;
    }
    const struct pr_node *best = NULL;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *h = &pr->nodes[i];
        if (h != n && h->up && h->adopted && h->match_lsn > n->sent_lsn &&
            (!best || better_source(n, h, best))) {
            best = h;
        }
    }
    struct q_msg *m = best ? pr_send(pr, best, FRAME_FETCH) : NULL;
    if (!m) {
        return;
    }
    lsn_t to = tail_begin(pr);
    m->from_lsn = n->sent_lsn;
    m->to_lsn = best->match_lsn < to ? best->match_lsn : to;
    m->fragment_at = n->part_sent;
    n->fetch_node = best->node;
    n->fetch_us = now;
    if (on_way(n) == 0) {
        n->progress_us = now;
    }
}

/* Two APPENDs are on their way, one that it syncs and one that it syncs next: a third would wait
 * there. Here it becomes one with what is committed meanwhile. An answer ends it, and so does a
 * rewind, after which none is on its way. What waits here waits for an answer to what was sent, so
 * it is sent again when that does not come. */
static bool gathers(const struct pr_proposer *pr, const struct pr_node *n)
{
    co_assert(n->before_end <= n->newest_end && n->newest_end <= n->sent_lsn);
    return n->before_end > larger(n->match_lsn, n->written_lsn) && n->newest_end == n->sent_lsn &&
           pr->tip_lsn - n->sent_lsn < PR_GATHER_BYTES;
}

/* As much as the window allows. */
static void pump(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    while (n->sent_lsn < pr->tip_lsn && on_way(n) < pr->o.window_bytes) {
        if (n->sent_lsn < tail_begin(pr)) {
            fetch_for(pr, n, now);
            return;
        }
        if (gathers(pr, n)) {
            return;
        }
        const struct pr_chunk *c = chunk_of(pr, n->sent_lsn);
        uint64_t total = record_bytes(c, n->sent_lsn);
        if (total == 0) {
            n->broken = true;
            n->adopted = false;
            n->match_lsn = n->sent_lsn = n->written_lsn = 0;
            n->part_sent = n->part_have = 0;
            n->lease_until_us = 0;
            return;
        }
        bool parts =
            c->spilled || n->part_sent > 0 || is_large(pr, c->data + (n->sent_lsn - c->begin));
        if (parts ? !send_part(pr, n, c, total, now)
                  : !send_append(pr, n, records_from(pr, c, n->sent_lsn), now)) {
            return;
        }
    }
}

/* A fragment goes on as it is. Whether the record is sound the safekeeper finds out, which checks
 * all of it; here it is only seen to that it is the record of our log at its place. */
static int on_fragment(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m,
                       uint64_t now)
{
    struct q_history h = {pr->history.n, pr->history.e};
    struct wal_header r;
    if (m->to_lsn <= m->from_lsn || m->to_lsn > pr->tip_lsn ||
        m->fragment_at >= m->to_lsn - m->from_lsn ||
        m->payload.len > m->to_lsn - m->from_lsn - m->fragment_at) {
        return 0;
    }
    if (m->fragment_at == 0 &&
        (wal_peek(m->payload, &r) || r.begin_lsn != m->from_lsn || r.end_lsn != m->to_lsn ||
         (r.begin_lsn >= h.e[0].start && q_term_at(&h, r.begin_lsn) != r.term))) {
        return 0;
    }
    pr->fetched.len = 0;
    int rc = co_buf_append(&pr->fetched, m->payload.data, m->payload.len);
    if (rc) {
        return rc;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node == from->node && n->adopted && n->sent_lsn == m->from_lsn &&
            n->part_sent == m->fragment_at) {
            n->fetch_node = 0;
            (void)send_fragment(pr, n, co_buf_span(&pr->fetched), 0, m->to_lsn - m->from_lsn, now);
        }
    }
    return 0;
}

/* A safekeeper keeps its log from its base on, and was asked for what lies below. It has adopted
 * our history, so the base is a place of our log; who waits may begin there when it is committed.
 * The one that is told answers with its new end, or is told again as a FETCH would be. */
static void on_base(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m,
                    uint64_t now)
{
    from->base_lsn = m->base_lsn;
    if (!from->adopted || m->base_lsn > from->match_lsn ||
        (m->base_lsn > pr->commit_lsn && !co_mutated(BASE_UNCOMMITTED))) {
        return;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node != from->node || !n->adopted || n->sent_lsn != m->from_lsn ||
            n->sent_lsn >= m->base_lsn) {
            continue;
        }
        struct q_msg *append = begin_append(pr, n, now);
        if (append) {
            append->base_lsn = m->base_lsn;
            append->digest = m->digest;
            append->config = m->config;
        }
    }
}

/* What was fetched goes on to whoever waits for it. */
int pr_on_data(struct pr_proposer *pr, struct pr_node *from, const struct q_msg *m, uint64_t now)
{
    if (!pr_leads(pr) || m->term != pr->term) {
        return 0;
    }
    if (m->base_lsn) {
        on_base(pr, from, m, now);
        return 0;
    }
    if (m->payload.len == 0) {
        return 0;
    }
    if (m->fragment) {
        return on_fragment(pr, from, m, now);
    }
    struct q_history h = {pr->history.n, pr->history.e};
    struct wal_header r;
    size_t good = 0;
    while (good < m->payload.len) {
        struct co_span rest = co_span_of(m->payload.data + good, m->payload.len - good);
        if (wal_check(rest, &r) || r.begin_lsn != m->from_lsn + good || r.end_lsn > pr->tip_lsn ||
            (r.begin_lsn >= h.e[0].start && q_term_at(&h, r.begin_lsn) != r.term)) {
            break;
        }
        good += (size_t)r.total_bytes;
    }
    if (good == 0) {
        return 0;
    }
    pr->fetched.len = 0;
    int rc = co_buf_append(&pr->fetched, m->payload.data, good);
    if (rc) {
        return rc;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        struct pr_node *n = &pr->nodes[i];
        if (n->fetch_node == from->node && n->sent_lsn == m->from_lsn && n->part_sent == 0 &&
            n->adopted) {
            n->fetch_node = 0;
            (void)send_append(pr, n, co_buf_span(&pr->fetched), now);
        }
    }
    return 0;
}

static void drive_node(struct pr_proposer *pr, struct pr_node *n, uint64_t now)
{
    if (n->broken) {
        return;
    }
    if (!n->adopted || (co_mutated(MATCH_FROM_VOTE) && n->elected_us == 0)) {
        if (n->elected_us == 0 || now - n->elected_us >= pr->o.resend_us) {
            pr_send_elected(pr, n, now);
        }
        return;
    }
    if (on_way(n) > 0 && now - n->progress_us >= pr->o.resend_us) {
        pr_rewind(n, false);
        n->fetch_node = 0;
        n->progress_us = now;
    }
    pump(pr, n, now);
    if (n->broken) {
        return;
    }
    bool silent = n->sent_us == 0 || now - n->sent_us >= pr->o.renew_us;
    bool at_once = pr->calm >= PR_CALM && pr->commit_lsn == pr->tip_lsn;
    bool untold =
        n->told_commit < pr->commit_lsn && (at_once || now - pr->commit_moved_us >= PR_TELL_US);
    if (silent || untold) {
        (void)send_append(pr, n, (struct co_span){0}, now);
    }
}

static bool stuck(const struct pr_proposer *pr)
{
    return pr->state == PR_RECOVER || pr->commit_lsn < pr->tip_lsn;
}

/* In PR_RECOVER nobody waits for a commit, but a candidate that does not get on must let others. */
static uint64_t patience_us(const struct pr_proposer *pr)
{
    return pr->state == PR_LEADER || pr->o.progress_us ? pr->o.progress_us : 4 * pr->o.resend_us;
}

void pr_drive(struct pr_proposer *pr, uint64_t now)
{
    if (!pr_leads(pr)) {
        return;
    }
    uint64_t patience = patience_us(pr);
    if (patience && stuck(pr) && now - pr->moved_us >= patience) { /* R8 */
        bool again = !pr->announced && (pr->want_lead || pr->settling), settling = pr->settling;
        pr_step_down(pr, "no safekeeper acknowledged anything for too long");
        if (again) {
            pr->settling = settling;
            pr_campaign(pr, now, pr_random(pr, pr->o.resend_us));
        }
        return;
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        if (pr_is_driven(pr, &pr->nodes[i])) {
            drive_node(pr, &pr->nodes[i], now);
        }
    }
    pr_try_release(pr, now);
}

uint64_t pr_log_deadline(const struct pr_proposer *pr)
{
    uint64_t at = PR_NEVER;
    if (!pr_leads(pr)) {
        return at;
    }
    if (stuck(pr) && patience_us(pr)) {
        at = pr->moved_us + patience_us(pr);
    }
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (!pr_is_driven(pr, n)) {
            continue;
        }
        uint64_t t;
        if (!n->adopted) {
            t = n->elected_us + pr->o.resend_us;
        } else {
            t = n->sent_us + pr->o.renew_us;
            if (on_way(n) > 0 && n->progress_us + pr->o.resend_us < t) {
                t = n->progress_us + pr->o.resend_us;
            }
            if (n->fetch_node && n->fetch_us + pr->o.resend_us < t) {
                t = n->fetch_us + pr->o.resend_us;
            }
            if (n->told_commit < pr->commit_lsn && pr->commit_moved_us + PR_TELL_US < t) {
                t = pr->commit_moved_us + PR_TELL_US;
            }
        }
        at = t < at ? t : at;
    }
    return at;
}

/* ---- R3 commit, S5 lease -----------------------------------------------------------------------
 */

static bool has_match(const struct pr_proposer *pr, const struct pr_node *n, uint64_t lsn)
{
    (void)pr;
    return n->adopted && n->match_lsn >= lsn;
}

static bool has_written(const struct pr_proposer *pr, const struct pr_node *n, uint64_t lsn)
{
    (void)pr;
    return n->adopted && (n->match_lsn >= lsn || n->written_lsn >= lsn);
}

static bool has_lease(const struct pr_proposer *pr, const struct pr_node *n, uint64_t until)
{
    (void)pr;
    return n->lease_until_us >= until;
}

/* End of the lease that a quorum gives us; 0: none. */
uint64_t pr_lease_until(const struct pr_proposer *pr)
{
    if (co_mutated(READ_WITHOUT_LEASE)) {
        return PR_NEVER;
    }
    uint64_t best = 0;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        uint64_t t = pr->nodes[i].lease_until_us;
        if (t > best && pr_quorum(pr, &pr->config, has_lease, t)) {
            best = t;
        }
    }
    return best;
}

void pr_announce(struct pr_proposer *pr)
{
    if (pr->announced || !pr->want_lead) {
        return; /* only an open question wanted it */
    }
    pr->announced = true;
    struct pr_action *a = pr_emit(pr, PR_READY);
    a->term = pr->term;
    a->lsn = pr->tip_lsn;
    a->digest = pr->tip_digest;
    a->config = pr->config;
    a->time_us = pr->time_us;
}

/* What counts for quorums. */
static const struct wal_config *config_in_force(const struct pr_proposer *pr)
{
    bool early = co_mutated(CONFIG_ONCE_COMMITTED) && pr->commit_lsn < pr->config_lsn &&
                 pr->config_before.n > 0 && pr->config_lsn > pr->start_lsn;
    return early ? &pr->config_before : &pr->config;
}

void pr_advance(struct pr_proposer *pr, uint64_t now)
{
    lsn_t received = pr->received_lsn;
    for (uint32_t i = 0; i < pr->n_nodes; i++) {
        const struct pr_node *n = &pr->nodes[i];
        if (!n->adopted) {
            continue;
        }
        if (n->match_lsn >= pr->quorum_lsn &&
            pr_quorum(pr, config_in_force(pr), has_match, n->match_lsn)) {
            pr->quorum_lsn = n->match_lsn;
        }
        lsn_t w = larger(n->match_lsn, n->written_lsn);
        if (w > received && pr_quorum(pr, config_in_force(pr), has_written, w)) {
            received = w;
        }
    }
    bool own = pr->quorum_lsn >= pr->start_lsn || co_mutated(COMMIT_OLD_TERM);
    if (own && pr->quorum_lsn > pr->commit_lsn) {
        pr->commit_lsn = pr->quorum_lsn;
        pr->commit_moved_us = now;
        if (pr->announced) {
            struct pr_action *a = pr_emit(pr, PR_DURABLE);
            a->term = pr->term;
            a->lsn = pr->commit_lsn;
        }
    }
    pr_members_committed(pr);
    if (pr->state == PR_RECOVER && pr->quorum_lsn >= pr->ready_lsn && !pr->finish_due) {
        if (pr_members_due(pr)) {
            pr->finish_due = true; /* in this step, by pr_step, which knows the wall clock */
        } else {
            pr->state = PR_LEADER;
            pr_announce(pr);
        }
    }
    if (received > pr->received_lsn) {
        pr->received_lsn = received;
        if (pr->announced && received > pr->commit_lsn) { /* else DURABLE says it */
            struct pr_action *a = pr_emit(pr, PR_RECEIVED);
            a->term = pr->term;
            a->lsn = received;
        }
    }
}

static lsn_t at_most(lsn_t lsn, lsn_t limit)
{
    return lsn < limit ? lsn : limit;
}

static void count_lease(struct pr_proposer *pr, struct pr_node *n, uint64_t sent_us, uint64_t now)
{
    uint64_t span = pr->o.lease_us - pr->o.lease_us / 100;
    span = span > 2000 ? span - 2000 : 0;
    if (sent_us > now) {
        return; /* not a time of ours */
    }
    uint64_t until = co_mutated(LEASE_FROM_ACK) ? now + pr->o.lease_us : sent_us + span;
    if (until > n->lease_until_us) {
        n->lease_until_us = until;
    }
}

/* It has so much of the record at match_lsn on its disk. A bound against nonsense, and against what
 * was said of a record before: nothing lies behind the tip. */
static void note_staged(struct pr_proposer *pr, struct pr_node *n, uint64_t bytes, uint64_t now)
{
    if (bytes >= pr->tip_lsn - n->match_lsn) {
        bytes = 0;
    }
    if (bytes > n->part_have) {
        n->progress_us = pr->moved_us = now;
        if (pr->announced) {
            pr_emit(pr, PR_PROGRESS)->term = pr->term;
        }
    }
    n->part_have = bytes; /* less than before: it dropped what was staged */
}

void pr_on_ack(struct pr_proposer *pr, struct pr_node *n, const struct q_msg *m, uint64_t now)
{
    if (!pr_leads(pr) || m->term != pr->term || !co_id_eq(&m->nonce, &pr->nonce) || n->broken) {
        return;
    }
    lsn_t flush = at_most(m->flush_lsn, pr->tip_lsn);
    lsn_t written = at_most(m->write_lsn, pr->tip_lsn);
    n->base_lsn = m->base_lsn;
    if (!n->adopted) {
        n->adopted = true;
        n->match_lsn = n->sent_lsn = flush;
        n->part_sent = n->part_have = 0;
        n->progress_us = pr->moved_us = now;
    } else if (flush > n->match_lsn) {
        n->match_lsn = flush;
        n->part_have = 0;
        n->progress_us = pr->moved_us = now;
    }
    if (m->write_lsn == n->match_lsn) {
        note_staged(pr, n, m->staged_bytes, now);
    }
    skip_what_it_has(n);
    n->written_lsn = larger(n->written_lsn, written);
    if (n->up) {
        count_lease(pr, n, m->sent_us, now);
    }
    pr_advance(pr, now);
    if (m->waiters > 0 && pr->announced) {
        pr_emit(pr, PR_WAITER);
    }
}
