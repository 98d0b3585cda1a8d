/*
 * log_uv.c - LOG and BRANCH_LIST: answers read from the store in one go.
 *
 * LOG walks from commit to commit downwards, each found by its own look-up, across ancestors: what
 * an answer costs depends on its length, not on that of the history.
 */
#include <stdlib.h>

#include "pageserver/server_uv.h"
#include "proto/message.h"

#define LOG_DEFAULT 100u

struct log_reply {
    Corallite__Logged wire;
    Corallite__Logged__Commit *commit, **list;
};

static void fill_commit(const struct ps_server *s, const struct ps_line *owner,
                        const struct ps_commit *c, uint32_t n_pages, Corallite__Logged__Commit *out)
{
    const struct ps_timeline *tl = ps_reg_find(&s->reg, &owner->id);
    corallite__logged__commit__init(out);
    out->has_lsn = out->has_time_us = out->has_db_pages = out->has_pages_changed = 1;
    out->lsn = c->lsn;
    out->time_us = c->time_us;
    out->db_pages = c->db_pages;
    out->pages_changed = n_pages;
    out->has_timeline = 1;
    out->timeline = msg_bytes16(owner->id.b);
    out->branch = (char *)(uintptr_t)(tl && ps_timeline_lives(tl) ? tl->meta.branch : "");
}

/* The commits at or below `upto`, newest first. */
static int walk(struct ps_server *s, const struct ps_timeline *tl, lsn_t upto, uint32_t limit,
                struct log_reply *r)
{
    const struct ps_line *owner = &tl->line;
    struct ps_commit c;
    uint32_t n_pages;
    int rc = ps_read_renew(s->read);
    while (!rc) {
        /* From the line that owned the last one: those above it have nothing that is older. */
        lsn_t before = upto;
        rc = ps_commit_whose(s->read, owner, before, &c, &owner, &n_pages);
        if (rc || r->wire.n_commits == limit)
            break;
        fill_commit(s, owner, &c, n_pages, &r->commit[r->wire.n_commits]);
        r->list[r->wire.n_commits] = &r->commit[r->wire.n_commits];
        r->wire.n_commits++;
        upto = c.lsn - 1;
    }
    ps_read_reset(s->read);
    r->wire.has_more = 1;
    r->wire.more = rc == 0;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int ps_log_answer(struct ps_server *s, struct ps_ask *ask)
{
    const struct ps_moment *m = &ask->moment;
    uint32_t limit = ask->b.limit ? ask->b.limit : LOG_DEFAULT;
    struct log_reply r = {.wire = CORALLITE__LOGGED__INIT};
    lsn_t upto = m->commit.lsn;
    if (ask->b.before_lsn && ask->b.before_lsn - 1 < upto)
        upto = ask->b.before_lsn - 1;
    r.commit = calloc(limit, sizeof *r.commit);
    r.list = calloc(limit, sizeof(Corallite__Logged__Commit *));
    int rc = r.commit && r.list ? 0 : co_fail(CO_ERR_NOMEM, "no memory for a log");
    if (!rc && upto)
        rc = walk(s, m->tl, upto, limit, &r);
    r.wire.commits = r.list;
    r.wire.has_page_size = 1;
    r.wire.page_size = m->tl->chain.page_size;
    if (!rc)
        peer_send(ask->session->peer, FRAME_LOGGED, ask->request, &r.wire.base,
                  co_span_of(NULL, 0));
    free(r.commit);
    free(r.list);
    return rc;
}

/* -- Branches ---------------------------------------------------------------------------------- */

struct list_reply {
    Corallite__BranchListed wire;
    Corallite__BranchListed__Branch *branch, **list;
    struct ps_meta_wire *meta;
};

static int fill_usage(struct ps_server *s, const struct ps_timeline *tl,
                      Corallite__BranchListed__Branch *out)
{
    struct ps_usage u;
    int rc = ps_usage_get(s->read, tl->line.no, &u);
    if (rc)
        return rc;
    out->has_versions = out->has_images = out->has_version_bytes = 1;
    out->has_commits = out->has_commit_bytes = 1;
    out->versions = u.versions;
    out->images = u.images;
    out->version_bytes = u.page_bytes;
    out->commits = u.commits;
    out->commit_bytes = u.commit_bytes;
    struct ps_commit cut = {0};
    rc = tl->cutoff ? ps_commit_at(s->read, &tl->line, tl->cutoff, &cut) : 0;
    out->has_cutoff_lsn = out->has_cutoff_us = 1;
    out->cutoff_lsn = tl->cutoff;
    out->cutoff_us = cut.time_us;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

static int fill_branch(struct ps_server *s, const struct ps_timeline *tl, struct ps_meta_wire *meta,
                       Corallite__BranchListed__Branch *out)
{
    const struct ps_timeline *up = ps_reg_find(&s->reg, &tl->meta.ancestor);
    const struct ps_commit *head = &tl->chain.newest;
    struct ps_commit base = {0};
    corallite__branch_listed__branch__init(out);
    ps_meta_to_wire(&tl->meta, meta);
    out->timeline = &meta->wire;
    out->has_head_lsn = out->has_head_time_us = out->has_db_pages = out->has_page_size = 1;
    out->has_reached_lsn = 1;
    out->head_lsn = head->lsn;
    out->head_time_us = head->time_us;
    out->db_pages = head->db_pages;
    out->page_size = tl->chain.page_size;
    out->reached_lsn = ps_timeline_reached(tl);
    int rc = fill_usage(s, tl, out);
    if (rc || co_id_is_zero(&tl->meta.ancestor))
        return rc;
    rc = ps_commit_at(s->read, &tl->line, tl->meta.ancestor_lsn, &base);
    out->has_ancestor_time_us = 1;
    out->ancestor_time_us = rc ? 0 : base.time_us;
    out->ancestor_name = (char *)(uintptr_t)(up && ps_timeline_lives(up) ? up->meta.branch : "");
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int ps_branch_list_answer(struct ps_server *s, struct ps_ask *ask)
{
    struct list_reply r = {.wire = CORALLITE__BRANCH_LISTED__INIT};
    uint32_t max = ps_reg_branches(&s->reg, &ask->database);
    r.branch = calloc(max + 1, sizeof *r.branch);
    r.list = calloc(max + 1, sizeof(Corallite__BranchListed__Branch *));
    r.meta = calloc(max + 1, sizeof *r.meta);
    int rc = r.branch && r.list && r.meta ? ps_read_renew(s->read)
                                          : co_fail(CO_ERR_NOMEM, "no memory for the branches");
    size_t n = 0;
    for (struct ps_timeline *tl = s->reg.all; !rc && tl; tl = tl->next) {
        if (!co_id_eq(&tl->meta.database, &ask->database) || !ps_timeline_open(tl))
            continue;
        rc = fill_branch(s, tl, &r.meta[n], &r.branch[n]);
        r.list[n] = &r.branch[n];
        n++;
    }
    ps_read_reset(s->read);
    r.wire.n_branches = n;
    r.wire.branches = r.list;
    if (!rc &&
        corallite__branch_listed__get_packed_size(&r.wire) > frame_body_max(FRAME_BRANCH_LISTED))
        rc = co_fail(CO_ERR_TOO_LARGE, "%zu branches do not fit one answer", n);
    if (!rc)
        peer_send(ask->session->peer, FRAME_BRANCH_LISTED, ask->request, &r.wire.base,
                  co_span_of(NULL, 0));
    free(r.branch);
    free(r.list);
    free(r.meta);
    return rc;
}
