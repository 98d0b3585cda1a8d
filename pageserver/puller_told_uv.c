/*
 * puller_told_uv.c - what is told of the feeds: how far each is, and behind what; why it stands;
 * the timelines that lag most, in the metrics.
 */
#include <stdio.h>

#include "pageserver/puller_int_uv.h"

uint64_t ps_feed_lag(const struct ps_server *s, const struct ps_timeline *tl)
{
    const struct ps_feed *f = tl->feed;
    uint64_t lag = 0;
    for (uint32_t i = 0; f && i < s->reg.n_nodes; i++)
        if (f->commit[i] > tl->chain.last_lsn && f->commit[i] - tl->chain.last_lsn > lag)
            lag = f->commit[i] - tl->chain.last_lsn;
    return lag;
}

lsn_t ps_feed_known(const struct ps_server *s, const struct ps_timeline *tl)
{
    return tl->chain.last_lsn + ps_feed_lag(s, tl);
}

uint64_t ps_feed_progress(const struct ps_timeline *tl)
{
    const struct ps_feed *f = tl->feed;
    return f ? f->progress : 0;
}

int ps_feed_check(const struct ps_timeline *tl)
{
    const struct ps_feed *f = tl->feed;
    return f && f->halted ? co_fail(CO_ERR_HALTED, "%s", f->why) : 0;
}

const char *ps_feed_source(const struct ps_timeline *tl, char text[320])
{
    const struct ps_feed *f = tl->feed;
    if (f && f->refilling)
        snprintf(text, 320, "the archive");
    else if (!f || !ps_feed_usable(f, f->source))
        snprintf(text, 320, "no safekeeper is connected that has this timeline");
    else
        snprintf(text, 320, "safekeeper %u at %s:%u", f->s->nodes[f->source].id,
                 f->s->nodes[f->source].host, f->s->nodes[f->source].port);
    return text;
}

#define WORST 20u

struct worst {
    const struct ps_timeline *tl;
    uint64_t lag;
};

/* Keeps it among the worst, in order. */
static void rank(struct worst worst[WORST], unsigned *n, struct worst one)
{
    unsigned i = *n < WORST ? (*n)++ : WORST - 1;
    if (i == WORST - 1 && worst[i].tl && worst[i].lag >= one.lag)
        return;
    for (; i > 0 && worst[i - 1].lag < one.lag; i--)
        worst[i] = worst[i - 1];
    worst[i] = one;
}

static void tell_lags(const struct worst worst[WORST], unsigned n)
{
    struct co_buf text = {0};
    int rc = 0;
    for (unsigned i = 0; i < n && !rc; i++) {
        const struct ps_meta *m = &worst[i].tl->meta;
        const char *const labels[][2] = {{"database", m->database_name}, {"branch", m->branch}};
        rc = co_series_line(&text, &ps_m_lags, labels, 2, worst[i].lag);
    }
    co_series_set(&ps_m_lags, &text);
}

void ps_feeds_tick(struct ps_server *s)
{
    struct worst worst[WORST] = {{0}};
    unsigned n = 0;
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (tl->feed && ps_timeline_lives(tl))
            rank(worst, &n, (struct worst){tl, ps_feed_lag(s, tl)});
    co_metric_set(&ps_m_feeding, s->feeding_bytes);
    co_metric_set(&ps_m_lag_bytes, n ? worst[0].lag : 0);
    tell_lags(worst, n);
}
