/*
 * verify_uv.c - VERIFY: a step of looking through the store, answered at once from the loop's read
 * transaction. Whoever asks drives it, one step after the other; reads and ingest come in between.
 *
 * Timelines follow each other by their number in the store. Before the first come names, ancestors
 * and pins, which are in memory; between them numbers of which there are rows and no timeline.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/server_uv.h"
#include "pageserver/verify_lmdb.h"
#include "proto/message.h"
#include "proto/unpack.h"

#define FINDINGS_MAX 256u
#define LINES_MAX    64u /* timelines that one step begins */

_Static_assert(PS_VERIFY_COMMITS == (int)CORALLITE__VERIFY_PHASE__VERIFY_COMMITS &&
                   PS_VERIFY_DONE == (int)CORALLITE__VERIFY_PHASE__VERIFY_DONE,
               "phases are told by their numbers");

/* An answer in the making. */
struct answer {
    Corallite__Verified wire;
    Corallite__VerifyAt at;
    uint64_t counted[5], told[5];
    Corallite__Finding finding[FINDINGS_MAX], *findings[FINDINGS_MAX];
    struct co_id finding_id[FINDINGS_MAX];
    char text[FINDINGS_MAX][PS_VERIFY_SENTENCE_BYTES];
    char name[FINDINGS_MAX][PS_META_NAME_TEXT];
    Corallite__Verified__Line line[LINES_MAX], *lines[LINES_MAX];
    char line_name[LINES_MAX][PS_META_NAME_TEXT];
};

struct request {
    tlno_t no; /* 0: before the first */
    struct ps_verify_at at;
    char database[CO_NAME_MAX_BYTES + 1];
};

/* -- The cursor on the wire ----------------------------------------------------------------------
 */

static void usage_out(const struct ps_usage *u, uint64_t out[5])
{
    const uint64_t v[5] = {u->versions, u->images, u->page_bytes, u->commits, u->commit_bytes};
    memcpy(out, v, sizeof v);
}

static void usage_in(const uint64_t *v, size_t n, struct ps_usage *out)
{
    *out = n == 5 ? (struct ps_usage){v[0], v[1], v[2], v[3], v[4]} : (struct ps_usage){0};
}

static void at_out(struct answer *a, const struct request *r)
{
    const struct ps_verify_at *at = &r->at;
    Corallite__VerifyAt *w = &a->at;
    corallite__verify_at__init(w);
    w->has_no = w->has_phase = w->has_lsn = w->has_pgno = w->has_time_us = w->has_index = 1;
    w->has_upto = w->has_cutoff = w->has_listed = w->has_found = 1;
    w->no = r->no;
    w->phase = (Corallite__VerifyPhase)at->phase;
    w->lsn = at->lsn;
    w->pgno = at->pgno;
    w->time_us = at->time_us;
    w->index = at->index;
    w->upto = at->upto;
    w->cutoff = at->cutoff;
    w->listed = at->listed;
    w->found = at->found;
    usage_out(&at->counted, a->counted);
    usage_out(&at->told, a->told);
    w->n_counted = w->n_told = 5;
    w->counted = a->counted;
    w->told = a->told;
    a->wire.at = w;
}

static int request_in(struct co_span message, struct request *r)
{
    Corallite__Verify *m = message_unpack(&corallite__verify__descriptor, message);
    int rc = 0;
    *r = (struct request){0};
    if (!m)
        return CO_ERR_PROTOCOL;
    if (m->database && *m->database)
        rc = ps_take_name("database", m->database, NULL, r->database);
    const Corallite__VerifyAt *w = m->at;
    if (w && !rc && ((int)w->phase < PS_VERIFY_COMMITS || (int)w->phase > PS_VERIFY_DONE))
        rc = co_fail(CO_ERR_PROTOCOL, "VERIFY is to go on at phase %u, and there is none",
                     (unsigned)w->phase);
    if (w && !rc) {
        r->no = w->no;
        r->at = (struct ps_verify_at){.phase = (enum ps_verify_phase)w->phase,
                                      .lsn = w->lsn,
                                      .pgno = w->pgno,
                                      .time_us = w->time_us,
                                      .index = w->index,
                                      .upto = w->upto,
                                      .cutoff = w->cutoff,
                                      .listed = w->listed,
                                      .found = w->found};
        usage_in(w->counted, w->n_counted, &r->at.counted);
        usage_in(w->told, w->n_told, &r->at.told);
    }
    protobuf_c_message_free_unpacked(&m->base, NULL);
    return rc;
}

/* -- Findings ------------------------------------------------------------------------------------
 */

CO_PRINTF(7, 8)
static void find(struct answer *a, const struct ps_timeline *tl, tlno_t no, const char *kind,
                 pgno_t pgno, lsn_t lsn, const char *format, ...)
{
    va_list args;
    size_t i = a->wire.n_findings;
    if (i == FINDINGS_MAX)
        return; /* the rest is found when these were mended */
    Corallite__Finding *f = &a->finding[i];
    corallite__finding__init(f);
    va_start(args, format);
    vsnprintf(a->text[i], sizeof a->text[i], format, args);
    va_end(args);
    f->kind = (char *)(uintptr_t)kind;
    f->text = a->text[i];
    f->has_pgno = f->has_lsn = f->has_no = 1;
    f->pgno = pgno;
    f->lsn = lsn;
    f->no = no;
    if (tl) {
        a->finding_id[i] = tl->meta.id;
        f->has_timeline = 1;
        f->timeline = msg_bytes16(a->finding_id[i].b);
        f->name = ps_meta_name(&tl->meta, a->name[i]);
    }
    a->findings[i] = f;
    a->wire.findings = a->findings;
    a->wire.n_findings++;
}

static bool is_wanted(const struct request *r, const struct ps_timeline *tl)
{
    return !*r->database || strcmp(r->database, tl->meta.database_name) == 0;
}

static void look_at_names(struct ps_server *s, const struct request *r, struct answer *a)
{
    for (const struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        char id[CO_ID_TEXT];
        if (!is_wanted(r, tl) || tl->meta.state == PS_DROPPED)
            continue;
        if (!co_id_is_zero(&tl->meta.ancestor) && !ps_reg_find(&s->reg, &tl->meta.ancestor))
            find(a, tl, tl->line.no, "ancestor-missing", 0, tl->meta.ancestor_lsn,
                 "it grew from timeline %s, which is not here: it cannot be read",
                 co_id_format(&tl->meta.ancestor, id));
        const struct ps_timeline *o =
            ps_timeline_open(tl)
                ? ps_reg_find_name(&s->reg, tl->meta.database_name, tl->meta.branch)
                : NULL;
        if (o && o != tl)
            find(a, tl, tl->line.no, "name-twice", 0, 0,
                 "timeline %s has the same name, and only that one can be opened by it",
                 co_id_format(&o->meta.id, id));
    }
}

static void look_at_pins(struct ps_server *s, const struct request *r, struct answer *a)
{
    for (const struct ps_pin *p = s->pins; p; p = p->next) {
        const struct ps_timeline *tl = ps_reg_find(&s->reg, &p->row.timeline);
        const struct ps_timeline *db = tl;
        for (const struct ps_timeline *o = s->reg.all; o && !db; o = o->next)
            if (co_id_eq(&o->meta.database, &p->row.database) && o->meta.state != PS_DROPPED)
                db = o;
        if ((tl && tl->meta.state != PS_DROPPED) || (*r->database && db && !is_wanted(r, db)))
            continue;
        find(a, NULL, 0, "pin-dangling", 0, p->row.lsn, "pin '%s' is of a branch that was dropped",
             p->row.name);
        if (a->wire.n_findings < FINDINGS_MAX) {
            Corallite__Finding *f = a->findings[a->wire.n_findings - 1];
            f->pin = (char *)(uintptr_t)p->row.name;
            f->name = db ? (char *)(uintptr_t)db->meta.database_name : NULL;
        }
    }
}

/* -- One timeline --------------------------------------------------------------------------------
 */

struct moments {
    struct ps_server *s;
    const struct ps_timeline *tl;
    lsn_t upto;
};

static void nearer(lsn_t lsn, lsn_t after, lsn_t upto, lsn_t *best, const char *pin,
                   const char **name)
{
    if (lsn <= after || lsn > upto || (*best && (lsn > *best || (lsn == *best && !pin))))
        return;
    *best = lsn;
    *name = pin;
}

static lsn_t next_moment(void *arg, lsn_t after, const char **pin)
{
    const struct moments *m = arg;
    const struct ps_timeline *tl = m->tl;
    lsn_t best = LSN_NONE;
    *pin = NULL;
    if (!tl->meta.hidden) {
        nearer(m->upto, after, m->upto, &best, NULL, pin);
        nearer(tl->cutoff, after, m->upto, &best, NULL, pin);
    }
    for (const struct ps_timeline *c = m->s->reg.all; c; c = c->next)
        if (c->meta.state != PS_DROPPED && co_id_eq(&c->meta.ancestor, &tl->meta.id))
            nearer(c->meta.ancestor_lsn, after, m->upto, &best, NULL, pin);
    for (const struct ps_pin *p = m->s->pins; p; p = p->next)
        if (co_id_eq(&p->row.timeline, &tl->meta.id))
            nearer(p->row.lsn, after, m->upto, &best, p->row.name, pin);
    return best;
}

static struct ps_verify_line line_of(const struct ps_timeline *tl, struct moments *m)
{
    return (struct ps_verify_line){.line = &tl->line,
                                   .strict = !tl->meta.hidden,
                                   .cutoff = tl->cutoff,
                                   .upto = tl->chain.last_lsn,
                                   .moment = next_moment,
                                   .arg = m};
}

static void tell_line(struct ps_server *s, const struct ps_timeline *tl, lsn_t newest,
                      uint64_t versions, struct answer *a)
{
    size_t i = a->wire.n_lines;
    Corallite__Verified__Line *l = &a->line[i];
    corallite__verified__line__init(l);
    l->has_timeline = l->has_start_lsn = l->has_last_lsn = l->has_digest = l->has_newest_lsn = 1;
    l->has_lag_bytes = l->has_versions = l->has_no = 1;
    l->no = tl->line.no;
    l->timeline = msg_bytes16(tl->meta.id.b);
    l->name = ps_meta_name(&tl->meta, a->line_name[i]);
    l->start_lsn = tl->meta.start_lsn;
    l->last_lsn = tl->chain.last_lsn;
    l->digest = msg_bytes16(tl->chain.digest.b);
    l->newest_lsn = newest > tl->meta.start_lsn ? newest : tl->meta.start_lsn;
    l->lag_bytes = ps_feed_lag(s, tl);
    l->versions = versions;
    a->lines[i] = l;
    a->wire.lines = a->lines;
    a->wire.n_lines++;
}

/* What a timeline's own rows say, against each other. */
static int begin_line(struct ps_server *s, const struct ps_timeline *tl, struct request *r,
                      struct answer *a)
{
    struct moments m = {s, tl, tl->chain.last_lsn};
    struct ps_verify_line line = line_of(tl, &m);
    struct wal_digest digest;
    char at[LSN_TEXT], last[LSN_TEXT];
    lsn_t newest;
    int rc = ps_verify_newest(s->read, tl->line.no, &newest, &digest);
    if (!rc)
        rc = ps_verify_begin(s->read, &line, &r->at);
    if (rc)
        return rc;
    lsn_format(tl->chain.last_lsn, last);
    if (tl->was_behind || newest > tl->chain.last_lsn)
        find(a, tl, tl->line.no, "progress-behind", 0, tl->chain.last_lsn,
             "the store said that it was ingested to an LSN below that of its newest commit; %s",
             newest > tl->chain.last_lsn ? "what is above is invisible"
                                         : "it was fetched again at the start");
    else if (newest == tl->chain.last_lsn &&
             memcmp(digest.b, tl->chain.digest.b, sizeof digest.b) != 0)
        find(a, tl, tl->line.no, "progress-wrong", 0, newest,
             "the newest commit and the last-record LSN are both at %s, with different digests",
             last);
    if (tl->cutoff > tl->chain.last_lsn && !tl->rebuilding && !ps_feed_lag(s, tl))
        find(a, tl, tl->line.no, "cutoff-ahead", 0, tl->cutoff,
             "it is said to be readable from LSN %s on, and ends at %s: nothing of it can be read",
             lsn_format(tl->cutoff, at), last);
    tell_line(s, tl, newest, r->at.told.versions, a);
    return 0;
}

static int walk_line(struct ps_server *s, const struct ps_timeline *tl, struct request *r,
                     struct answer *a, uint64_t *cost)
{
    static struct ps_verify_step step; /* of the loop's thread */
    struct moments m = {s, tl, r->at.upto < tl->chain.last_lsn ? r->at.upto : tl->chain.last_lsn};
    struct ps_verify_line line = line_of(tl, &m);
    step.n = 0;
    step.cost = *cost;
    step.versions = step.commits = 0;
    int rc = ps_verify_step(s->read, &line, &r->at, &step);
    for (uint32_t i = 0; i < step.n; i++)
        find(a, tl, tl->line.no, step.found[i].kind, step.found[i].pgno, step.found[i].lsn, "%s",
             step.found[i].text);
    *cost = step.n ? PS_VERIFY_STEP_BYTES : step.cost;
    a->wire.versions += step.versions;
    a->wire.commits += step.commits;
    return rc;
}

/* -- From one to the next ------------------------------------------------------------------------
 */

static struct ps_timeline *by_no(const struct ps_server *s, tlno_t no)
{
    struct ps_timeline *tl = s->reg.all;
    while (tl && tl->line.no != no)
        tl = tl->next;
    return tl;
}

/* The timeline with the least number above `after`. */
static struct ps_timeline *next_line(const struct ps_server *s, const struct request *r,
                                     tlno_t after)
{
    struct ps_timeline *best = NULL;
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (tl->line.no > after && is_wanted(r, tl) && (!best || tl->line.no < best->line.no))
            best = tl;
    return best;
}

/* Numbers that have rows and no timeline, below `to`. */
static int look_between(struct ps_server *s, const struct request *r, tlno_t to, struct answer *a)
{
    tlno_t no = r->no;
    for (;;) {
        int rc = ps_verify_next_no(s->read, no, &no);
        if (rc || !no || no >= to)
            return rc;
        if (!*r->database && !by_no(s, no))
            find(a, NULL, no, "orphan-rows", 0, 0,
                 "the store has rows of timeline number %u, and no timeline has that number",
                 (unsigned)no);
    }
}

static bool can_walk(const struct ps_timeline *tl)
{
    return ps_timeline_fed(tl) && !tl->rebuilding && tl->based;
}

/* One step. *ended: there is nothing behind. */
static int go(struct ps_server *s, struct request *r, struct answer *a, bool *ended)
{
    uint64_t cost = 0;
    int rc = 0;
    *ended = false;
    while (!rc && cost < PS_VERIFY_STEP_BYTES && a->wire.n_lines < LINES_MAX) {
        struct ps_timeline *tl = r->no ? by_no(s, r->no) : NULL;
        if (tl && r->at.phase < PS_VERIFY_DONE && can_walk(tl)) {
            rc = walk_line(s, tl, r, a, &cost);
            continue;
        }
        tl = next_line(s, r, r->no);
        rc = look_between(s, r, tl ? tl->line.no : UINT32_MAX, a);
        if (rc || !tl) {
            *ended = !rc;
            break;
        }
        r->no = tl->line.no;
        r->at = (struct ps_verify_at){.phase = PS_VERIFY_DONE};
        cost += PS_VERIFY_ROW_BYTES;
        if (can_walk(tl))
            rc = begin_line(s, tl, r, a);
        else if (ps_timeline_fed(tl)) /* it is on its way in */
            tell_line(s, tl, tl->meta.start_lsn, 0, a);
    }
    return rc;
}

static int total(struct ps_server *s, const struct request *r, uint64_t *out)
{
    struct ps_usage u;
    int rc = 0;
    *out = 0;
    for (const struct ps_timeline *tl = s->reg.all; tl && !rc; tl = tl->next) {
        if (!tl->line.no || !is_wanted(r, tl) || !ps_timeline_fed(tl))
            continue;
        rc = ps_usage_get(s->read, tl->line.no, &u);
        *out += rc ? 0 : u.versions;
    }
    return rc;
}

/* The trees themselves are damaged: what is there behind cannot be reached. */
static void store_damaged(struct answer *a, const struct ps_timeline *tl, const struct request *r)
{
    char why[PS_VERIFY_SENTENCE_BYTES];
    snprintf(why, sizeof why, "%.390s", co_sentence());
    find(a, tl, r->no, "store-damaged", 0, 0, "%s", why);
}

void ps_verify_frame(struct ps_session *session, uint64_t request, struct co_span message)
{
    struct ps_server *s = session->s;
    struct answer *a = calloc(1, sizeof *a);
    struct request r;
    bool ended = false, first;
    int rc = a ? request_in(message, &r) : co_fail(CO_ERR_NOMEM, "no memory for an answer");
    if (rc)
        goto fail;
    corallite__verified__init(&a->wire);
    a->wire.has_versions = a->wire.has_commits = 1;
    first = r.no == 0;
    rc = ps_read_renew(s->read);
    if (!rc && first) {
        look_at_names(s, &r, a);
        look_at_pins(s, &r, a);
        a->wire.has_versions_total = 1;
        rc = total(s, &r, &a->wire.versions_total);
    }
    if (!rc)
        rc = go(s, &r, a, &ended);
    ps_read_reset(s->read);
    if (rc == CO_ERR_CORRUPT) {
        store_damaged(a, by_no(s, r.no), &r);
        /* The next timeline may be sound; without one there is nothing behind to go on to. */
        r.at = (struct ps_verify_at){.phase = PS_VERIFY_DONE};
        ended = !next_line(s, &r, r.no);
        rc = 0;
    }
    if (rc)
        goto fail;
    if (!ended)
        at_out(a, &r);
    peer_send(session->peer, FRAME_VERIFIED, request, &a->wire.base, co_span_of(NULL, 0));
    free(a);
    return;
fail:
    peer_send_error(session->peer, request, rc);
    free(a);
}
