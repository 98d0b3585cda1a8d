/*
 * durable_uv.c - how far each timeline is on this disk for sure, and telling the safekeepers.
 *
 * A transaction of the store is on disk for sure with the next one (store_lmdb.h), so the puller
 * notes one batch less than was ingested. What rests is made sure here, every SYNC_MS, by one sync
 * for all.
 *
 * A STREAM tells the position of its timeline to the safekeeper that it asks. The others are told
 * here, what is new since the last time: whatever a safekeeper keeps for those that follow, it must
 * know of each of them how far it is. Whoever archives tells all of them also what is archived.
 */
#include <stdlib.h>

#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"

#define MODULE    "pageserver/durable"
#define SYNC_MS   5000u
#define BATCH_MAX 1000u /* positions of one message */

struct sync_job {
    struct ps_job job;
    struct ps_server *s;
};

static int sync_run(struct ps_job *job, struct ps_txn *txn)
{
    (void)txn;
    return ps_store_sync(((struct sync_job *)job)->s->store);
}

static void sync_done(struct ps_job *job)
{
    struct ps_server *s = ((struct sync_job *)job)->s;
    s->syncing = false;
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        if (!job->rc && tl->to_be_durable > tl->durable)
            tl->durable = tl->to_be_durable;
    if (job->rc)
        co_error(MODULE, "%s", job->why);
    free(job);
}

static void sync_what_rests(struct ps_server *s)
{
    bool some = false;
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next) {
        tl->to_be_durable = tl->chain.last_lsn;
        some |= tl->to_be_durable > tl->durable;
    }
    struct sync_job *job = some && !s->syncing ? calloc(1, sizeof *job) : NULL;
    if (!job)
        return;
    *job = (struct sync_job){.job = {.run = sync_run, .done = sync_done}, .s = s};
    s->syncing = true;
    ps_writer_give(s->writer, &job->job);
}

static void tell(struct ps_server *s, struct ps_node *node)
{
    Corallite__Pageservers m = CORALLITE__PAGESERVERS__INIT;
    Corallite__Pageservers__One__Position *at = calloc(BATCH_MAX, sizeof *at), **list;
    list = calloc(BATCH_MAX, sizeof at);
    m.durable = list;
    for (struct ps_timeline *tl = at && list ? s->reg.all : NULL; tl && m.n_durable < BATCH_MAX;
         tl = tl->next) {
        if (!ps_timeline_fed(tl) || tl->held[node->index] == 0 ||
            (tl->told[node->index] == tl->durable &&
             tl->told_archived[node->index] == tl->archive_told))
            continue;
        tl->told[node->index] = tl->durable;
        tl->told_archived[node->index] = tl->archive_told;
        Corallite__Pageservers__One__Position *p = list[m.n_durable] = &at[m.n_durable];
        corallite__pageservers__one__position__init(p);
        p->has_timeline = p->has_durable_lsn = 1;
        p->timeline = msg_bytes16(tl->meta.id.b);
        p->durable_lsn = tl->durable;
        p->has_archived_lsn = tl->archive_told != LSN_NONE;
        p->archived_lsn = tl->archive_told;
        m.n_durable++;
    }
    if (m.n_durable)
        peer_send(node->peer, FRAME_PAGESERVERS, ++s->last_request, &m.base, co_span_of(NULL, 0));
    free(at);
    free(list);
}

void ps_durable_forget(struct ps_server *s, uint32_t node)
{
    for (struct ps_timeline *tl = s->reg.all; tl; tl = tl->next)
        tl->told[node] = tl->told_archived[node] = LSN_NONE;
}

void ps_durable_tick(struct ps_server *s)
{
    uint64_t now = uv_now(&s->loop);
    if (now - s->synced_ms >= SYNC_MS) {
        s->synced_ms = now;
        sync_what_rests(s);
    }
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        if (s->nodes[i].ready && s->reg.listed[i] && s->nodes[i].generation) /* else an older one */
            tell(s, &s->nodes[i]);
}
