/*
 * followers_uv.c - who follows, as the server keeps it: from Hello and STREAM into followers.h, and
 * PAGESERVERS for the tool. A change is in memory at once, and durable as soon as the store has
 * written it; one file at a time, the newest content each time.
 */
#include "safekeeper/server.h"

#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "proto/message.h"

static void save(struct sk_server *s);

static int write_followers(struct sk_job *job)
{
    struct sk_followers_write *w = job->owner;
    return sk_followers_save(w->server->options.dir, &w->followers);
}

static void on_written(struct sk_job *job)
{
    struct sk_followers_write *w = job->owner;
    struct sk_server *s = w->server;
    int rc = job->rc; /* the job goes with w */
    s->followers_write = NULL;
    if (rc)
        sk_server_fail(s, rc, job->sentence);
    free(w);
    if (s->followers_changed && !rc && !s->stopping)
        save(s);
    sk_server_go_on_stopping(s);
}

static void save(struct sk_server *s)
{
    s->followers_changed = true;
    struct sk_followers_write *w = s->followers_write ? NULL : calloc(1, sizeof *w);
    if (!w)
        return; /* after the one that is being written; without memory, with the next change */
    *w = (struct sk_followers_write){.server = s, .followers = s->followers};
    w->job = (struct sk_job){
        .kind = SK_JOB_CALL, .call = write_followers, .done = on_written, .owner = w};
    s->followers_changed = false;
    s->followers_write = w;
    sk_store_submit(s->stores[0], &w->job);
}

int sk_follower_hello(struct sk_server *s, const Corallite__Hello *hello, uint32_t *slot)
{
    struct co_id disk;
    char text[CO_ID_TEXT];
    bool changed;
    *slot = SK_FOLLOWERS_MAX;
    if (!hello->has_follower || hello->role != CORALLITE__ROLE__ROLE_PAGESERVER)
        return 0;
    int rc = msg_get16("follower", true, &hello->follower, disk.b);
    if (!rc)
        rc = sk_followers_add(&s->followers, &disk, hello->address, slot, &changed);
    if (rc || !changed)
        return rc;
    co_info("safekeeper/server", "a pageserver follows disk=%s addr=%s", co_id_format(&disk, text),
            s->followers.e[*slot].address);
    save(s);
    return 0;
}

void sk_follower_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                      lsn_t durable)
{
    struct sk_entry *entry = sk_registry_find(&s->registry, timeline);
    if (slot >= SK_FOLLOWERS_MAX || !entry || co_id_is_zero(&s->followers.e[slot].disk))
        return;
    entry->durable[slot] = durable;
    s->followers.e[slot].heard_us = co_wall_us();
}

/* A pageserver tells of many at once. */
static int take_positions(struct sk_server *s, uint32_t slot, const Corallite__Pageservers *m)
{
    for (size_t i = 0; i < m->n_durable; i++) {
        struct co_id id;
        int rc = msg_get16("timeline", m->durable[i]->has_timeline, &m->durable[i]->timeline, id.b);
        if (rc)
            return rc;
        sk_follower_told(s, slot, &id, m->durable[i]->durable_lsn);
        if (slot < SK_FOLLOWERS_MAX && m->durable[i]->has_archived_lsn)
            sk_archived_told(s, slot, &id, m->durable[i]->archived_lsn);
    }
    return 0;
}

/* -- PAGESERVERS -------------------------------------------------------------------------------
 */

static bool is_connected(const struct sk_server *s, uint32_t slot)
{
    for (uint32_t i = 0; i < s->n_clients; i++)
        if (s->clients[i].follower == slot)
            return true;
    return false;
}

static int forget(struct sk_server *s, const struct co_id *disk)
{
    char text[CO_ID_TEXT];
    uint32_t slot = sk_followers_find(&s->followers, disk);
    if (slot == SK_FOLLOWERS_MAX)
        return 0; /* as it is wanted */
    if (is_connected(s, slot))
        return co_fail(CO_ERR_BUSY,
                       "the pageserver with disk %s is connected to safekeeper %u, and so it "
                       "follows; stop it first",
                       co_id_format(disk, text), s->options.identity->node);
    sk_followers_forget(&s->followers, slot);
    for (uint32_t i = 0; i < s->registry.n; i++)
        s->registry.e[i].durable[slot] = LSN_NONE;
    co_info("safekeeper/server", "a pageserver follows no more disk=%s", co_id_format(disk, text));
    save(s);
    return 0;
}

/* Of each timeline that is not dropped. */
static int fill_positions(const struct sk_server *s, struct sk_followers_message *m,
                          Corallite__Pageservers__One__Position *at,
                          Corallite__Pageservers__One__Position **list)
{
    for (size_t i = 0; i < m->pb.n_pageservers; i++) {
        Corallite__Pageservers__One *one = &m->one[i];
        uint32_t slot = m->slot[i];
        one->has_connected = one->has_heard_us = 1;
        one->connected = is_connected(s, slot);
        one->heard_us = s->followers.e[slot].heard_us;
        one->positions = list;
        for (uint32_t k = 0; k < s->registry.n; k++) {
            const struct sk_entry *e = &s->registry.e[k];
            if (e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
                continue;
            corallite__pageservers__one__position__init(at);
            at->has_timeline = at->has_durable_lsn = 1;
            at->timeline = msg_bytes16(e->id.b);
            at->durable_lsn = e->durable[slot];
            *list++ = at++;
            one->n_positions++;
        }
    }
    return corallite__pageservers__get_packed_size(&m->pb) <= frame_body_max(FRAME_PAGESERVERS_OK)
               ? 0
               : co_fail(CO_ERR_TOO_LARGE, "the positions of %u timelines do not fit one answer",
                         s->registry.n);
}

int sk_pageservers(struct sk_server *s, struct peer *peer, uint64_t request_id, uint32_t slot,
                   const Corallite__Pageservers *m)
{
    struct sk_followers_message out;
    struct co_id disk;
    if (m->n_durable)
        return take_positions(s, slot, m);
    int rc = msg_get16("forget", m->has_forget, &m->forget, disk.b);
    if (!rc && m->has_forget)
        rc = forget(s, &disk);
    if (rc)
        return rc;
    size_t n = (size_t)sk_followers_count(&s->followers) * s->registry.n + 1;
    Corallite__Pageservers__One__Position *at = calloc(n, sizeof *at),
                                          **list = calloc(n, sizeof at);
    sk_followers_to_wire(&s->followers, &out);
    rc = at && list ? fill_positions(s, &out, at, list)
                    : co_fail(CO_ERR_NOMEM, "no memory for a list of pageservers");
    if (!rc)
        peer_send(peer, FRAME_PAGESERVERS_OK, request_id, &out.pb.base, (struct co_span){0});
    free(at);
    free(list);
    return rc;
}
