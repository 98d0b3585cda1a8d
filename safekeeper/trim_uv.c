/*
 * trim_uv.c - the begin of a log goes when it is archived.
 *
 *   min(commit LSN here, archived, on the disk of every pageserver that follows) - keep_log
 *
 * is how far; of that whole segments. What is archived and who has what is told by the pageservers
 * (PAGESERVERS) and kept in memory: after a start nothing goes before all have told again. The
 * store finds a place where the log may begin (SK_JOB_TRIM), the core decides (SK_EV_TRIM), the
 * store writes the control block and removes the files (SK_JOB_REBASE).
 *
 * A timeline that rests is opened when what was told since lets a segment of it go; the tick after
 * that finds it open. It is closed again like any other, and not opened for this before more is
 * told.
 */
#include "common/log.h"
#include "common/metrics.h"
#include "safekeeper/server.h"
#include "safekeeper/timeline.h"

#define MODULE   "safekeeper/trim"
#define OPEN_MAX 8u /* of those that rest, opened in one tick */

static struct co_metric m_kept = {.name = "corallite_safekeeper_kept_log_bytes",
                                  .help =
                                      "Bytes of log between where each open log begins and ends.",
                                  .kind = CO_GAUGE};
static struct co_metric m_archived = {.name = "corallite_safekeeper_unarchived_log_bytes",
                                      .help = "Of these: committed, and not known to be archived.",
                                      .kind = CO_GAUGE};

void sk_trim_register_metrics(void)
{
    co_metric_register(&m_kept);
    co_metric_register(&m_archived);
}

static void on_found(struct sk_job *job)
{
    struct sk_timeline *t = job->owner;
    t->trimming = false;
    t->jobs--;
    if (!job->rc && job->out_lsn && !t->closing && !t->refuse_code) {
        t->trim_event.lsn = job->out_lsn;
        t->trim_event.digest = job->out_digest;
        t->trim_event.config = job->out_config.version ? job->out_config : t->birth_config;
        t->trim_due = true;
        sk_pump(t);
    }
    sk_finish_close(t);
}

static lsn_t lesser(lsn_t a, lsn_t b)
{
    return a < b ? a : b;
}

void sk_timeline_trim(struct sk_timeline *t, lsn_t archived, lsn_t followed, uint64_t keep_bytes)
{
    struct sk_view v;
    if (t->state != SK_SERVING || t->refuse_code || t->closing || t->trimming || t->trim_due ||
        !sk_timeline_view(t, &v) || v.halted)
        return;
    lsn_t limit = lesser(v.commit_lsn, lesser(archived, followed));
    if (limit <= keep_bytes ||
        (limit - keep_bytes) / SK_SEGMENT_DATA <= v.base_lsn / SK_SEGMENT_DATA)
        return;
    t->trim_event =
        (struct sk_event){.kind = SK_EV_TRIM, .archived_lsn = archived, .followed_lsn = followed};
    t->trimming = true;
    t->jobs++;
    t->trim_job = (struct sk_job){.kind = SK_JOB_TRIM,
                                  .timeline = t->stored,
                                  .lsn = limit - keep_bytes,
                                  .done = on_found,
                                  .owner = t};
    sk_store_submit(t->store, &t->trim_job);
}

void sk_archived_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                      lsn_t archived)
{
    struct sk_entry *entry = sk_registry_find(&s->registry, timeline);
    const struct co_id *disk = &s->followers.e[slot].disk;
    const ProtobufCBinaryData *owner = entry ? &entry->message->pageserver : NULL;
    if (entry && entry->message->has_pageserver && owner->len == sizeof disk->b &&
        memcmp(owner->data, disk->b, sizeof disk->b) == 0) {
        if (entry->archived != archived)
            sk_trim_told(entry);
        entry->archived = archived;
    }
}

/* -- At rest ----------------------------------------------------------------------------------- */

void sk_trim_told(struct sk_entry *entry)
{
    entry->trim_look = true;
}

void sk_trim_closed(struct sk_entry *entry, struct sk_timeline *t)
{
    struct sk_view v;
    entry->rest_base = sk_timeline_view(t, &v) ? v.base_lsn : 0;
    /* What was told when it was closing already. */
    entry->trim_look = !entry->trim_opened;
    entry->trim_opened = false;
}

/* Does what was told let a segment of it go? What is archived is committed. */
static bool is_ripe(const struct sk_server *s, struct sk_entry *e)
{
    lsn_t limit = lesser(e->archived, sk_followers_floor(&s->followers, e->durable));
    struct sk_control control;
    if (limit <= s->options.keep_log)
        return false;
    limit = (limit - s->options.keep_log) / SK_SEGMENT_DATA;
    if (!e->rest_base && limit > e->start_lsn / SK_SEGMENT_DATA) {
        control.base.lsn = 0;
        (void)sk_server_peek(s, e, &control);
        e->rest_base = control.base.lsn > e->start_lsn ? control.base.lsn : e->start_lsn;
    }
    return e->rest_base && limit > e->rest_base / SK_SEGMENT_DATA;
}

static void open_ripe(struct sk_server *s)
{
    uint32_t opened = 0;
    for (uint32_t i = 0; i < s->registry.n && opened < OPEN_MAX; i++) {
        struct sk_entry *e = &s->registry.e[i];
        if (!e->trim_look || e->open || e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            continue;
        e->trim_look = false;
        if (!is_ripe(s, e))
            continue;
        opened++;
        e->trim_opened = true;
        if (sk_server_open(s, e, NULL))
            co_warn(MODULE, "a timeline at rest keeps what could go: %s", co_sentence());
    }
}

void sk_trim_tick(struct sk_server *s)
{
    uint64_t kept = 0, unarchived = 0;
    for (uint32_t i = 0; i < s->n_open; i++) {
        struct sk_view v;
        struct sk_timeline *t = s->open[i].t;
        const struct sk_entry *e = sk_registry_find(&s->registry, sk_timeline_id(t));
        if (!e || !sk_timeline_view(t, &v))
            continue;
        kept += v.write_lsn - v.base_lsn;
        if (v.commit_lsn > e->archived)
            unarchived += v.commit_lsn - (e->archived > v.base_lsn ? e->archived : v.base_lsn);
        if (s->options.keep_log)
            sk_timeline_trim(t, e->archived, sk_followers_floor(&s->followers, e->durable),
                             s->options.keep_log);
    }
    if (s->options.keep_log)
        open_ripe(s);
    co_metric_set(&m_kept, kept);
    co_metric_set(&m_archived, unarchived);
}
