/*
 * moment_uv.c - a moment in words becomes an LSN of a branch.
 *
 * An LSN that is here already, and a time before the newest commit that is here, are answered at
 * once: along a timeline times never go back, so nothing that is still to come can be older. All
 * else needs the head, strictly: every commit that was acknowledged before the question came.
 *
 * The head is asked for in rounds of READ_POS to all safekeepers. Of the answers of a majority the
 * most advanced, by (last log term, flush LSN), bounds what may have been acknowledged; a commit
 * LSN at or above it that any of them tells is the head. As long as there is none the tail is open:
 * its writer is about to say so, or is gone. Then, after SETTLE_MS, the newest LSN known to be
 * committed is taken: what lies above it was not acknowledged by anybody who still lives to tell.
 * Of a SEALED timeline it is taken as soon as settle_uv.c has found out what it can.
 *
 * Then the log has to be here as far as the answer needs it. Nobody waits in here: the ask that
 * holds the moment is looked at again when a POS comes, when a log moves on, and every AGAIN_MS.
 */
#include <stdio.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/qhist.h"
#include "proto/qmsg.h"

#define ROUND_MS  20u  /* between rounds while the tail is open */
#define REASK_MS  500u /* when fewer than a majority answered */
#define SETTLE_MS 1000u

/* -- The head ---------------------------------------------------------------------------------- */

static void begin_round(struct ps_server *s, struct ps_moment *m, const struct ps_timeline *tl)
{
    struct q_msg ask = {.type = FRAME_READ_POS, .timeline = tl->meta.id};
    ask.read_id = m->round = ++s->last_round;
    m->round_ms = uv_now(&s->loop);
    memset(m->pos, 0, sizeof m->pos);
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        struct co_buf frame = {0};
        if (!s->nodes[i].ready || !tl->held[i])
            continue;
        if (qmsg_encode(&ask, &frame))
            co_buf_free(&frame); /* no memory: the next round */
        else
            peer_send_raw(s->nodes[i].peer, &frame);
    }
}

/* Who is found to be another one since has told nothing. */
static bool counts(const struct ps_server *s, const struct ps_moment *m, uint32_t node)
{
    return m->pos[node].told && !ps_reg_is_other(&s->reg, node);
}

static uint32_t told(const struct ps_server *s, const struct ps_moment *m)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++)
        n += counts(s, m, i);
    return n;
}

/* Have enough answered, by the configuration in the most advanced answer? Of a sealed timeline by
 * the list of the safekeepers: its log takes no configuration any more, and whoever came since was
 * filled with what is committed. */
static bool enough(const struct ps_server *s, const struct ps_moment *m)
{
    const struct ps_timeline *tl = ps_reg_find(&s->reg, &m->timeline);
    bool sealed = tl && tl->meta.state == PS_SEALED;
    uint32_t set[CO_MEMBERS_MAX], n = 0;
    const struct wal_config *config = &s->reg.config;
    term_t term = 0;
    lsn_t flush = 0;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        if (!counts(s, m, i))
            continue;
        set[n++] = s->nodes[i].id;
        if (!sealed && m->pos[i].config.version > 0 &&
            (m->pos[i].last_log_term > term ||
             (m->pos[i].last_log_term == term && m->pos[i].flush_lsn >= flush))) {
            term = m->pos[i].last_log_term;
            flush = m->pos[i].flush_lsn;
            config = &m->pos[i].config;
        }
    }
    return q_is_quorum(config, set, n);
}

uint32_t ps_sealed_wait_ms = 1000;

/* May something have been acknowledged that is not known to be committed, and will be soon? */
static bool may_grow(const struct ps_timeline *tl, lsn_t commit, lsn_t flush, uint64_t waited_ms)
{
    if (tl->meta.state == PS_SEALED)
        return !tl->seal.tried && waited_ms < ps_sealed_wait_ms;
    return commit < flush && waited_ms < SETTLE_MS;
}

/* 0: m->head is known. CO_ERR_AGAIN. */
static int find_head(struct ps_server *s, struct ps_moment *m, struct ps_timeline *tl)
{
    uint64_t now = uv_now(&s->loop);
    term_t term = 0;
    lsn_t flush = 0, commit = 0;
    if (m->have_head)
        return 0;
    if (!m->round || now - m->round_ms >= REASK_MS)
        begin_round(s, m, tl);
    if (!enough(s, m))
        return CO_ERR_AGAIN;
    for (uint32_t i = 0; i < s->reg.n_nodes; i++) {
        if (!counts(s, m, i))
            continue;
        if (m->pos[i].commit_lsn > commit)
            commit = m->pos[i].commit_lsn;
        if (m->pos[i].last_log_term < term ||
            (m->pos[i].last_log_term == term && m->pos[i].flush_lsn <= flush))
            continue;
        term = m->pos[i].last_log_term;
        flush = m->pos[i].flush_lsn;
    }
    if (!m->first_ms)
        m->first_ms = now;
    if (may_grow(tl, commit, flush, now - m->first_ms)) {
        ps_settle_soon(s, tl);
        if (now - m->round_ms >= ROUND_MS)
            begin_round(s, m, tl);
        return CO_ERR_AGAIN;
    }
    m->have_head = true;
    commit = commit > tl->seal.end ? commit : tl->seal.end; /* the answers may be of before */
    m->head = commit > tl->meta.start_lsn ? commit : tl->meta.start_lsn;
    return 0;
}

void ps_moment_pos(struct ps_server *s, uint32_t node, const struct q_msg *msg)
{
    bool found = false;
    for (struct ps_ask *a = s->asks; a; a = a->next) {
        struct ps_moment *m = &a->moment;
        if (!m->round || m->round != msg->read_id || !co_id_eq(&m->timeline, &msg->timeline))
            continue;
        m->pos[node].told = true;
        m->pos[node].last_log_term = msg->last_log_term;
        m->pos[node].flush_lsn = msg->flush_lsn;
        m->pos[node].commit_lsn = msg->commit_lsn;
        m->pos[node].config = msg->config;
        found = enough(s, m);
    }
    if (found)
        ps_serve_asks(s);
}

/* -- Which timeline ---------------------------------------------------------------------------- */

static int bind_line(struct ps_server *s, struct ps_moment *m, const char *db, const char *branch,
                     struct ps_timeline **out)
{
    struct ps_timeline *tl =
        m->begun ? ps_reg_find(&s->reg, &m->timeline) : ps_reg_find_name(&s->reg, db, branch);
    if (tl && ps_timeline_open(tl)) {
        *out = tl;
        m->timeline = tl->meta.id;
        m->begun = true;
        return 0;
    }
    if ((tl && ps_timeline_lives(tl)) || !s->reg.heard)
        return CO_ERR_AGAIN; /* it is being made, or the safekeepers may know it */
    return ps_no_branch(s, db, branch);
}

/* Does this timeline see what `of` holds up to lsn? */
static bool sees(const struct ps_server *s, const struct ps_timeline *tl,
                 const struct ps_timeline *of, lsn_t lsn)
{
    for (; tl; tl = ps_reg_find(&s->reg, &tl->meta.ancestor)) {
        if (tl == of)
            return true;
        if (co_id_is_zero(&tl->meta.ancestor) || lsn > tl->meta.ancestor_lsn)
            return false;
    }
    return false;
}

/* A pin is of the database: main stands for whatever branch it is on, another must see it. */
static int bind_pin(struct ps_server *s, struct ps_moment *m, const char *branch,
                    struct ps_timeline **tl, lsn_t *lsn)
{
    char name[PS_META_NAME_TEXT];
    const struct ps_pin_row *pin = ps_pin_find(s, &(*tl)->meta.database, m->when.pin);
    if (!pin)
        return co_fail(CO_ERR_NOT_FOUND,
                       "database '%s' has no pin '%s'; `corallite pin list %s` shows those there "
                       "are",
                       (*tl)->meta.database_name, m->when.pin, (*tl)->meta.database_name);
    *lsn = pin->lsn;
    struct ps_timeline *of = ps_reg_find(&s->reg, &pin->timeline);
    if (!of || !ps_timeline_open(of))
        return co_fail(CO_ERR_DROPPED, "the branch of pin '%s' was dropped", pin->name);
    if (sees(s, *tl, of, pin->lsn))
        return 0;
    if (strcmp(branch, "main") != 0)
        return co_fail(CO_ERR_INVAL,
                       "pin '%s' is on %s, which %s/%s does not see; name that "
                       "branch, or none",
                       pin->name, ps_meta_name(&of->meta, name), of->meta.database_name, branch);
    *tl = of;
    return 0;
}

/* -- The answer -------------------------------------------------------------------------------- */

/* The newest transaction at or below lsn, or at or before the time. */
static int look_up(struct ps_server *s, struct ps_moment *m, struct ps_timeline *tl, lsn_t lsn)
{
    int rc = ps_read_renew(s->read);
    if (!rc && m->when.kind == WHEN_TIME)
        rc = ps_commit_at_time(s->read, &tl->line, m->when.time_us, &lsn);
    if (!rc)
        rc = ps_commit_at(s->read, &tl->line, lsn, &m->commit);
    ps_read_reset(s->read);
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    if (rc)
        m->commit = (struct ps_commit){0};
    rc = m->when.kind == WHEN_TIME  ? ps_gc_check_time(s, tl, m->when.time_us, m->commit.lsn)
         : m->when.kind == WHEN_LSN ? ps_gc_check(s, tl, m->when.lsn)
                                    : 0;
    if (rc)
        return rc;
    m->tl = tl;
    m->rounded = m->when.kind == WHEN_LSN && m->when.lsn != m->commit.lsn &&
                 m->when.lsn != tl->chain.last_lsn;
    return 0;
}

static int beyond(const struct ps_timeline *tl, lsn_t lsn, lsn_t head)
{
    char wanted[LSN_TEXT], have[LSN_TEXT], name[PS_META_NAME_TEXT];
    return co_fail(CO_ERR_INVAL, "LSN %s is beyond the head of %s, which is %s",
                   lsn_format(lsn, wanted), ps_meta_name(&tl->meta, name), lsn_format(head, have));
}

/* May it be answered from what is here, whatever is still to come? */
static bool is_settled(const struct ps_moment *m, const struct ps_timeline *tl, lsn_t reached)
{
    if (m->when.kind == WHEN_LSN)
        return reached && m->when.lsn <= reached;
    return m->when.kind == WHEN_TIME && reached && tl->chain.newest.time_us > m->when.time_us;
}

int ps_moment_poll(struct ps_server *s, struct ps_moment *m, const char *db, const char *branch)
{
    struct ps_timeline *tl = NULL;
    lsn_t lsn = 0;
    int rc = m->begun ? 0 : when_parse(m->at, co_wall_us(), &m->when);
    if (!rc)
        rc = bind_line(s, m, db, branch, &tl);
    if (!rc && m->when.kind == WHEN_PIN)
        rc = bind_pin(s, m, branch, &tl, &lsn);
    if (rc)
        return rc;
    lsn_t reached = ps_timeline_reached(tl);
    if (is_settled(m, tl, reached))
        return look_up(s, m, tl, m->when.lsn);
    if (m->when.kind != WHEN_PIN) {
        rc = find_head(s, m, tl);
        if (rc)
            return rc;
        if (m->head < reached)
            m->head = reached;
        lsn = m->when.kind == WHEN_LSN ? m->when.lsn : m->head;
        if (lsn > m->head)
            return beyond(tl, lsn, m->head);
    }
    m->need = lsn > tl->meta.start_lsn ? lsn : tl->meta.start_lsn;
    if (reached >= m->need)
        return look_up(s, m, tl, lsn);
    if (tl->wanted < m->need)
        tl->wanted = m->need;
    ps_feed_wanted(s, tl);
    rc = ps_feed_check(tl);
    return rc ? rc : CO_ERR_AGAIN;
}

int ps_moment_late(struct ps_server *s, const struct ps_moment *m, uint32_t patience_ms)
{
    char name[PS_META_NAME_TEXT], have[LSN_TEXT], wanted[LSN_TEXT], source[320];
    const struct ps_timeline *tl = m->begun ? ps_reg_find(&s->reg, &m->timeline) : NULL;
    if (!tl)
        return 0;
    ps_meta_name(&tl->meta, name);
    if (m->need)
        return co_fail(CO_ERR_LAG,
                       "%s: the pageserver has the log up to LSN %s and not yet to %s, after "
                       "waiting %u ms; it is being fetched from %s",
                       name, lsn_format(ps_timeline_reached(tl), have), lsn_format(m->need, wanted),
                       patience_ms, ps_feed_source(tl, source));
    return co_fail(CO_ERR_NO_QUORUM,
                   "%s: %u of %u safekeepers told within %u ms where its log ends, %u are needed; "
                   "an LSN below %s, or an earlier time, can be read without them",
                   name, told(s, m), s->reg.n_nodes, patience_ms, ps_reg_majority(&s->reg),
                   lsn_format(ps_timeline_reached(tl), have));
}
