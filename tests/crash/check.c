/* check.c - a start on what a crash left, compared with what was promised. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/assert.h"
#include "tests/crash/life.h"

static char why[900];

static const char *wrong(const char *format, ...) CO_PRINTF(1, 2);
static const char *wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return why;
}

#define U(x) ((unsigned long long)(x))

/* -- What a voter must not forget ----------------------------------------------------------------
 */

static bool same_state(const struct state *s, const struct sk_files *f)
{
    const struct sk_control *c = &f->control;
    return c->term == s->term && co_id_eq(&c->voted_nonce, &s->nonce) &&
           c->no_lease == s->no_lease && c->floor_lsn == s->floor && c->base.lsn == s->base &&
           (c->halted[0] != 0) == s->halted && f->n_history == s->n_history &&
           (!s->n_history || !memcmp(f->history, s->history, s->n_history * sizeof *s->history));
}

/* A persist may be under way: before, or after. */
static const char *check_state(struct expect *x, const struct sk_files *f)
{
    if (same_state(&x->lo, f))
        x->hi = x->lo;
    else if (same_state(&x->hi, f))
        x->lo = x->hi;
    else
        return wrong("term %llu, %u terms in the history, no lease %d, halted %d, floor %llx were "
                     "found; written were %llu, %u, %d, %d, %llx or %llu, %u, %d, %d, %llx",
                     U(f->control.term), f->n_history, f->control.no_lease,
                     f->control.halted[0] != 0, U(f->control.floor_lsn), U(x->lo.term),
                     x->lo.n_history, x->lo.no_lease, x->lo.halted, U(x->lo.floor), U(x->hi.term),
                     x->hi.n_history, x->hi.no_lease, x->hi.halted, U(x->hi.floor));
    return NULL;
}

/* -- The log -------------------------------------------------------------------------------------
 */

/* The record on the way from `tip` down that ends at lsn, or -1. */
static int on_the_way(const struct life *l, int tip, lsn_t lsn)
{
    while (tip >= 0 && l->made[tip].end > lsn)
        tip = l->made[tip].parent;
    return tip >= 0 && l->made[tip].end == lsn ? tip : -1;
}

static const char *check_log(const struct life *l, struct expect *x, const struct sk_files *f)
{
    const struct sk_log *log = &f->log;
    int at = on_the_way(l, x->tip, log->end_lsn);
    if (x->base_tip >= 0 && f->control.base.lsn == l->made[x->base_tip].end)
        at = on_the_way(l, x->base_tip, log->end_lsn);
    if (at < 0 || memcmp(l->made[at].digest.b, log->end_digest.b, sizeof log->end_digest.b))
        at = x->cut_tip >= 0 ? on_the_way(l, x->cut_tip, log->end_lsn) : -1;
    if (at < 0 || memcmp(l->made[at].digest.b, log->end_digest.b, sizeof log->end_digest.b))
        return wrong("the log ends at %llx with something that was never written there",
                     U(log->end_lsn));
    if (log->end_lsn < x->promised)
        return wrong("%llx was told to be durable, the log ends at %llx", U(x->promised),
                     U(log->end_lsn));
    if (log->flushed_lsn != log->end_lsn || f->control.sealed_lsn != log->end_lsn)
        return wrong("after the start the log ends at %llx, flushed %llx, sealed %llx",
                     U(log->end_lsn), U(log->flushed_lsn), U(f->control.sealed_lsn));
    if (f->control.commit_lsn < x->commit || f->control.commit_lsn > log->end_lsn)
        return wrong("commit LSN %llx was written, %llx was found, the log ends at %llx",
                     U(x->commit), U(f->control.commit_lsn), U(log->end_lsn));
    lsn_t doubt = f->control.suspect_lsn;
    if (doubt < x->doubt)
        return wrong("a doubt about the log up to %llx was forgotten", U(x->doubt));
    if (doubt > x->doubt && (x->others <= log->end_lsn || doubt <= log->end_lsn))
        return wrong("the log ends at %llx and is in doubt up to %llx, others knew %llx",
                     U(log->end_lsn), U(doubt), U(x->others));
    x->doubt = doubt;
    x->tip = at;
    x->cut_tip = x->base_tip = -1;
    x->promised = log->end_lsn;
    x->commit = f->control.commit_lsn;
    return NULL;
}

static const char *check_known(const struct expect *x, const struct sk_witness_file *w)
{
    struct q_known all[KNOWN_OF];
    uint64_t at = w->n ? w->known[0].term : 0;
    if (at < x->known_lo || at > x->known_hi)
        return wrong("of other safekeepers what was known with write %llu is, and %llu was", U(at),
                     U(x->known_lo));
    life_known(at, all);
    if (at && (w->n != KNOWN_OF || memcmp(w->known, all, sizeof all)))
        return wrong("of other safekeepers something is known that was never written");
    return NULL;
}

/* Opened only if nothing is wrong. */
static const char *check_registry(const struct life *l, struct expect *x, struct sk_registry *r)
{
    const char *bad = NULL;
    struct sk_birth birth = life_owner(l);
    int rc = sk_registry_read(DATA_DIR, r);
    if (rc)
        return wrong("the registry does not open: %s", co_sentence());
    struct sk_entry *e = sk_registry_find(r, &birth.owner.timeline);
    if (!e && x->born)
        bad = wrong("the registry lost its entry");
    else if (e && e->version != x->put_lo && e->version != x->put_hi)
        bad = wrong("the registry has version %llu, %llu or %llu were written", U(e->version),
                    U(x->put_lo), U(x->put_hi));
    if (e && !bad) {
        x->put_lo = x->put_hi = e->version;
    } else if (!bad) {
        /* The birth was never answered: whoever wanted it asks again. */
        x->put_hi = 1;
        if (life_put(l, r, 1))
            bad = wrong("the birth cannot be repeated: %s", co_sentence());
        x->put_lo = 1;
    }
    if (bad)
        sk_registry_free(r);
    return bad;
}

const char *check_start(const struct life *l, struct expect *x, struct sk_files **out,
                        struct sk_registry *registry)
{
    struct sk_birth birth = life_owner(l);
    struct sk_files *f = NULL;
    struct sk_registry r;
    if (sk_files_sweep(DATA_DIR))
        return wrong("the sweep fails: %s", co_sentence());
    const char *bad = check_registry(l, x, &r);
    if (bad)
        return bad;
    x->born = true;
    if (sk_files_open(DATA_DIR, &birth, &f)) {
        sk_registry_free(&r);
        return wrong("it does not start: %s", co_sentence());
    }
    bad = check_state(x, f);
    if (!bad)
        bad = check_log(l, x, f);
    if (!bad)
        bad = check_known(x, &f->witness);
    if (bad || !out)
        sk_files_close(f);
    else
        *out = f;
    if (bad || !registry)
        sk_registry_free(&r);
    else
        *registry = r;
    return bad;
}

/* -- Deeper --------------------------------------------------------------------------------------
 */

static const char *check_records(const struct life *l, struct sk_log *log, int tip)
{
    struct co_buf bytes = {0};
    struct sk_part part;
    const char *bad = NULL;
    for (int i = tip; i > 0 && !bad; i = l->made[i].parent) {
        const struct made *m = &l->made[i];
        if (m->begin < log->start_lsn || m->parent < 0)
            break;
        bytes.len = 0;
        if (sk_log_read(log, m->begin, 0, m->end, m->bytes.len, &bytes, &part))
            bad = wrong("the record at %llx cannot be read: %s", U(m->begin), co_sentence());
        else if (bytes.len != m->bytes.len || memcmp(bytes.data, m->bytes.data, bytes.len))
            bad = wrong("the record at %llx is not the one that was written", U(m->begin));
    }
    co_buf_free(&bytes);
    return bad;
}

/* L3 of segment_file.h. */
static const char *check_zeros(struct sk_log *log)
{
    uint8_t bytes[4096];
    lsn_t at = log->end_lsn, end = sk_segments_end(&log->segments);
    while (at < end) {
        if (sk_segments_next_data(&log->segments, at, &at) || at >= end)
            break;
        size_t n = end - at < sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        if (sk_segments_read(&log->segments, at, bytes, n))
            return wrong("the bytes behind the end cannot be read: %s", co_sentence());
        for (size_t i = 0; i < n; i++)
            if (bytes[i])
                return wrong("the log ends at %llx, yet the byte at %llx is not zero",
                             U(log->end_lsn), U(at + i));
        at += n;
    }
    return NULL;
}

const char *check_deep(const struct life *l, struct sk_files *f, struct expect *x)
{
    const char *bad = check_records(l, &f->log, x->tip);
    return bad ? bad : check_zeros(&f->log);
}
