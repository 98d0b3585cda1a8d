/*
 * puller_archive_uv.c - what a feed needs and no safekeeper keeps any more comes from the archive.
 *
 * Not before each safekeeper that has the timeline has said so in a row, and only from what is
 * durable on: nothing is pending then, and nothing was received beyond it. While the archive is
 * read (refill_uv.c) no safekeeper is asked; afterwards they are asked for what follows. What the
 * archive has neither, since it was pruned, comes out of a snapshot: the timeline is begun anew.
 */
#include "common/log.h"
#include "pageserver/puller_int_uv.h"

#define MODULE "pageserver/puller"

static void retry_later(struct ps_feed *f)
{
    uint64_t ms = FEED_RETRY_MS << (f->failures < 6 ? f->failures : 6);
    f->failures++;
    ps_feed_pause(f, ms < FEED_RETRY_MAX_MS ? ms : FEED_RETRY_MAX_MS);
}

static void begin_refill(struct ps_feed *f)
{
    if (f->ingesting || f->pending.len || f->part) { /* from what is durable on, nothing else */
        ps_feed_pause(f, FEED_RETRY_MS);
        return;
    }
    int rc = ps_refill_begin(f->s, f->tl);
    f->refilling = !rc;
    if (rc == CO_ERR_BUSY) {
        ps_feed_pause(f, FEED_RETRY_MS);
    } else if (rc) {
        co_warn(MODULE, "%s", co_sentence());
        retry_later(f);
    } else {
        for (uint32_t i = 0; i < f->s->reg.n_nodes; i++)
            f->request[i] = 0;
        uv_timer_stop(&f->timer);
    }
}

/* A safekeeper does not keep what comes next. Another may; when none does, the archive has it. */
void ps_feed_truncated(struct ps_feed *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->s->reg.n_nodes; i++)
        n += ps_feed_usable(f, i);
    if (f->refilling || f->pausing)
        return;
    if (++f->truncated < n) {
        ps_feed_turn(f);
        ps_feed_poll(f);
        return;
    }
    f->truncated = 0;
    begin_refill(f);
}

int ps_feed_refilled(struct ps_timeline *tl, struct co_span bytes, const struct ps_refilled *end)
{
    struct ps_feed *f = tl ? tl->feed : NULL;
    if (!f || !f->refilling || f->halted)
        return -1;
    if (f->pending.len >= FEED_PENDING_MAX)
        return 0;
    if (ps_feed_take_bytes(f, bytes.data, bytes.len)) {
        ps_feed_start_over(f);
        return -1;
    }
    f->received = end->lsn;
    f->part = end->part;
    f->part_total = end->part_total;
    if (!f->ingesting)
        ps_feed_submit(f);
    return 1;
}

void ps_feed_refill_end(struct ps_server *s, struct ps_timeline *tl, int rc, const char *why,
                        bool pruned)
{
    struct ps_feed *f = tl ? tl->feed : NULL;
    if (!f || !f->refilling)
        return;
    f->refilling = false;
    if (!rc) {
        co_info(MODULE, "the archive was read to its end");
        ps_feed_poll(f);
        return;
    }
    if (pruned && ps_repair_by_snapshot(s, tl))
        return; /* and this feed is closed */
    co_warn(MODULE, "the archive could not be read to its end, tried again code=%s: %s",
            co_error_name(rc), why);
    if (f->part)
        ps_feed_start_over(f);
    else
        retry_later(f);
}
