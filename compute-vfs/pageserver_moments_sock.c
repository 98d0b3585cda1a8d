/*
 * pageserver_moments_sock.c - what pageserver_sock.c asks about history: moments, commits,
 * branches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock_file.h"
#include "compute-vfs/pageserver_pool.h"
#include "proto/message.h"

static uint64_t end_of(uint32_t timeout_ms)
{
    return co_now_us() + (uint64_t)timeout_ms * 1000u;
}

static int malformed(const struct cv_pageserver *ps, const char *what)
{
    return co_fail(CO_ERR_PROTOCOL, "the pageserver at %s sent %s", ps->address, what);
}

static bool plausible(lsn_t lsn, uint32_t db_pages, uint32_t page_size)
{
    if (lsn % LSN_ALIGN != 0)
        return false;
    return lsn == LSN_NONE || (db_pages > 0 && page_size >= CO_PAGE_SIZE_MIN &&
                               page_size <= CO_PAGE_SIZE_MAX && (page_size & (page_size - 1)) == 0);
}

/* -- moments ------------------------------------------------------------------------------------
 */

static int read_moment(const struct cv_pageserver *ps, const Corallite__Resolved *got,
                       struct cv_moment *out)
{
    const Corallite__Timeline *t = got->timeline;

    memset(out, 0, sizeof *out);
    if (t == NULL)
        return malformed(ps, "a moment of no timeline");
    if (msg_get16("timeline", t->has_id, &t->id, out->timeline.b) != 0)
        return CO_ERR_PROTOCOL;
    out->lsn = got->lsn;
    out->time_us = got->time_us;
    out->db_pages = got->db_pages;
    out->page_size = got->page_size;
    out->head_lsn = got->head_lsn > got->lsn ? got->head_lsn : got->lsn;
    if (co_id_is_zero(&out->timeline) || !plausible(out->lsn, out->db_pages, out->page_size) ||
        out->head_lsn % LSN_ALIGN != 0)
        return malformed(ps, "a moment that cannot be");
    return 0;
}

int cv_pageserver_resolve(struct cv_pages *p, const char *db, const char *branch, const char *at,
                          uint32_t timeout_ms, struct cv_moment *out)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__Resolve resolve = CORALLITE__RESOLVE__INIT;
    struct cv_question a = {.type = FRAME_RESOLVE,
                            .answer = FRAME_RESOLVED,
                            .message = &resolve.base,
                            .answer_type = &corallite__resolved__descriptor,
                            .deadline_ms = &resolve.deadline_ms};

    resolve.database = (char *)db;
    resolve.branch = (char *)branch;
    resolve.at = (char *)at;
    resolve.has_deadline_ms = 1;
    int rc = cv_pageserver_ask(ps, &a, end_of(timeout_ms));
    if (rc == 0)
        rc = read_moment(ps, a.reply, out);
    cv_question_release(&a);
    return rc;
}

/* -- commits ------------------------------------------------------------------------------------
 */

static int read_log(const struct cv_pageserver *ps, const Corallite__Log *asked,
                    const Corallite__Logged *got, struct cv_logged *out, uint32_t *n, bool *more)
{
    lsn_t below = asked->before_lsn;

    if (got->n_commits > asked->limit || (got->more && got->n_commits == 0))
        return malformed(ps, "another number of commits than was asked for");
    for (size_t i = 0; i < got->n_commits; i++) {
        const Corallite__Logged__Commit *c = got->commits[i];
        if (c->lsn == LSN_NONE || (below != LSN_NONE && c->lsn >= below))
            return malformed(ps, "commits that are not in order");
        below = c->lsn;
        out[i] = (struct cv_logged){.lsn = c->lsn,
                                    .time_us = c->time_us,
                                    .db_pages = c->db_pages,
                                    .pages_changed = c->pages_changed};
        snprintf(out[i].branch, sizeof out[i].branch, "%s", c->branch ? c->branch : "");
    }
    *n = (uint32_t)got->n_commits;
    *more = got->more;
    return 0;
}

int cv_pageserver_log(struct cv_pages *p, const char *db, const char *branch, const char *at,
                      lsn_t before_lsn, uint32_t limit, uint32_t timeout_ms, struct cv_logged *out,
                      uint32_t *n, bool *more)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__Log log = CORALLITE__LOG__INIT;
    struct cv_question a = {.type = FRAME_LOG,
                            .answer = FRAME_LOGGED,
                            .message = &log.base,
                            .answer_type = &corallite__logged__descriptor};

    log.database = (char *)db;
    log.branch = (char *)branch;
    log.at = (char *)at;
    log.has_limit = log.has_before_lsn = 1;
    log.before_lsn = before_lsn;
    log.limit = limit < CV_LOG_MAX ? limit : CV_LOG_MAX;
    int rc = cv_pageserver_ask(ps, &a, end_of(timeout_ms));
    if (rc == 0)
        rc = read_log(ps, &log, a.reply, out, n, more);
    cv_question_release(&a);
    return rc;
}

/* -- branches -----------------------------------------------------------------------------------
 */

static int read_branch(const struct cv_pageserver *ps, const Corallite__BranchListed__Branch *from,
                       struct cv_branch *to)
{
    const Corallite__Timeline *t = from->timeline;

    if (t == NULL || t->branch == NULL)
        return malformed(ps, "a branch without a name");
    if (msg_get16("timeline", t->has_id, &t->id, to->timeline.b) != 0)
        return CO_ERR_PROTOCOL;
    snprintf(to->name, sizeof to->name, "%s", t->branch);
    snprintf(to->parent, sizeof to->parent, "%s", from->ancestor_name ? from->ancestor_name : "");
    to->root = !t->has_ancestor;
    to->sealed = t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
    to->guarded = t->protected_;
    to->start_lsn = to->root ? LSN_NONE : t->ancestor_lsn;
    to->start_us = from->ancestor_time_us;
    to->head_lsn = from->head_lsn;
    to->head_us = from->head_time_us;
    to->created_us = t->created_us;
    to->expires_us = t->expires_us;
    to->db_pages = from->db_pages;
    to->page_size = from->page_size;
    return 0;
}

static int read_branches(const struct cv_pageserver *ps, const Corallite__BranchListed *got,
                         struct cv_branch **out, uint32_t *n)
{
    struct cv_branch *list = calloc(got->n_branches + 1, sizeof *list);
    int rc = 0;

    if (list == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory for %zu branches", got->n_branches);
    for (size_t i = 0; rc == 0 && i < got->n_branches; i++)
        rc = read_branch(ps, got->branches[i], &list[i]);
    if (rc != 0) {
        free(list);
        return rc;
    }
    *out = list;
    *n = (uint32_t)got->n_branches;
    return 0;
}

int cv_pageserver_branches(struct cv_pages *p, const char *db, uint32_t timeout_ms,
                           struct cv_branch **out, uint32_t *n)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__BranchList list = CORALLITE__BRANCH_LIST__INIT;
    struct cv_question a = {.type = FRAME_BRANCH_LIST,
                            .answer = FRAME_BRANCH_LISTED,
                            .message = &list.base,
                            .answer_type = &corallite__branch_listed__descriptor};

    *out = NULL;
    *n = 0;
    list.database = (char *)db;
    int rc = cv_pageserver_ask(ps, &a, end_of(timeout_ms));
    if (rc == 0)
        rc = read_branches(ps, a.reply, out, n);
    cv_question_release(&a);
    return rc;
}
