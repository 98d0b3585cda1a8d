/*
 * regressed_uv.c - a safekeeper whose disk is proven to have gone back in time takes no part.
 *
 * The proof is an acceptor's (acceptor_witness.h): somebody knows that this node said more than its
 * disk now holds. It holds for the disk, so for all timelines, and over restarts: the sentence is
 * noted in DIR/regressed before the loop goes on. From then on everything but NODE_STATUS, NODES
 * and PAGESERVERS is answered with it. Nothing is removed: what is in the directory may be wanted.
 */
#include <stdio.h>

#include "common/log.h"
#include "common/metrics.h"
#include "safekeeper/server.h"

static struct co_metric m_regressed = {
    .name = "corallite_safekeeper_regressed",
    .help = "1 when the disk is known to have gone back in time and the node takes no part.",
    .kind = CO_GAUGE};

void sk_regressed_begin(struct sk_server *s)
{
    static struct sk_lives none;
    if (!s->options.lives)
        s->options.lives = &none;
    co_metric_register(&m_regressed);
    if (!s->options.lives->regressed[0])
        return;
    co_metric_set(&m_regressed, 1);
    co_error("safekeeper/regressed", "%s", s->options.lives->regressed);
}

void sk_regressed_proven(struct sk_server *s, const struct co_id *timeline, const struct sk_view *v,
                         const struct q_known *e)
{
    struct sk_lives *lives = s->options.lives;
    char id[CO_ID_TEXT], why[200];
    if (lives->regressed[0])
        return;
    if (e->commit_lsn > v->flush_lsn)
        snprintf(why, sizeof why,
                 "it had acknowledged %016llx, which is committed, and ends at %016llx",
                 (unsigned long long)e->commit_lsn, (unsigned long long)v->flush_lsn);
    else if (e->term > v->term)
        snprintf(why, sizeof why, "it had voted in term %llu, and knows %llu",
                 (unsigned long long)e->term, (unsigned long long)v->term);
    else if (e->starts >= lives->starts && e->start_id != lives->start_id)
        snprintf(why, sizeof why,
                 "others know of its start number %llu, and this is another one, number %llu",
                 (unsigned long long)e->starts, (unsigned long long)lives->starts);
    else
        snprintf(why, sizeof why, "it had acknowledged %016llx in this term, and ends at %016llx",
                 (unsigned long long)e->flush_lsn, (unsigned long long)v->flush_lsn);
    snprintf(
        lives->regressed, sizeof lives->regressed,
        "the disk of safekeeper %u went back in time: of timeline %s %s. An older copy of %.200s "
        "was put in its place, or the disk has not kept what it said it had. It takes no part any "
        "more; build it anew from the others: corallite safekeeper replace %u HOST:PORT of one "
        "that is started with a new --dir and --node",
        s->options.identity->node, co_id_format(timeline, id), why, s->options.dir,
        s->options.identity->node);
    co_metric_set(&m_regressed, 1);
    co_error("safekeeper/regressed", "%s", lives->regressed);
    int rc = sk_lives_regressed(s->options.dir, lives->regressed);
    if (rc)
        sk_server_fail(s, rc, co_sentence());
    for (uint32_t i = 0; i < s->n_open; i++)
        sk_timeline_refuse(s->open[i].t, CO_ERR_REGRESSED, lives->regressed);
}

bool sk_regressed_refuses(struct sk_server *s, struct peer *peer, const struct frame_header *frame)
{
    const char *sentence = s->options.lives->regressed;
    if (!sentence[0] || frame->type == FRAME_NODE_STATUS || frame->type == FRAME_NODES ||
        frame->type == FRAME_PAGESERVERS)
        return false;
    co_fail(CO_ERR_REGRESSED, "%s", sentence);
    peer_send_error(peer, frame->request_id, CO_ERR_REGRESSED);
    return true;
}
