/*
 * moment.c - a connection at a moment of the past: at= in its URI, and PRAGMA corallite_at.
 *
 * A moment is resolved once, by the pageserver's clock. At open SQLite asks for the full name first
 * and hands it to xOpen: it has the LSN in it, so that two moments of one branch are two files to
 * the shared cache (S17), and so that a time means one state from the open to the close.
 */
#include <stdio.h>
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

int cv_moment_of_uri(struct cv_uri *uri)
{
    struct cv_moment moment;
    int rc;

    if (uri->at[0] == 0 || uri->has_moment)
        return 0;
    rc = cv_database_resolve(uri, &moment);
    if (rc)
        return rc;
    uri->moment = moment.lsn;
    uri->has_moment = true;
    return 0;
}

/* "lsn:0000000000000000": before the first transaction, which is no LSN to ask for. */
static int resolve(struct cv_conn *c, const char *text, struct cv_moment *out)
{
    struct cv_pages *pages = c->db->pages;
    lsn_t lsn;

    memset(out, 0, sizeof *out);
    if (strncmp(text, "lsn:", 4) == 0 && lsn_parse(text, &lsn) == 0 && lsn == LSN_NONE)
        return 0;
    return pages->ops->resolve(pages, c->uri.db, c->uri.branch, text, CO_READ_TIMEOUT_MS, out);
}

/* The name may have come to mean another timeline since the open. */
int cv_moment_check(struct cv_conn *c, const struct cv_moment *moment)
{
    struct cv_database *db = c->db;
    struct co_id timeline;

    pthread_mutex_lock(&db->lock);
    timeline = db->timeline.timeline;
    pthread_mutex_unlock(&db->lock);
    if (moment->lsn == LSN_NONE || co_id_eq(&moment->timeline, &timeline))
        return 0;
    return co_fail(CO_ERR_NOT_FOUND, "%s/%s: branch was reset, reopen", c->uri.db, c->uri.branch);
}

int cv_moment_enter(struct cv_conn *c, const char *text)
{
    struct cv_moment moment;
    int rc = resolve(c, text, &moment);

    if (!rc)
        rc = cv_moment_check(c, &moment);
    /* Once now, so that what cannot be read is told by whoever asks for it. */
    if (!rc)
        rc = cv_database_pin_at(c->db, &c->handle, &moment, CO_READ_TIMEOUT_MS);
    if (rc)
        return rc;
    cv_database_unpin(c->db, &c->handle);
    c->moment = moment;
    c->at = true;
    return 0;
}

/* -- PRAGMA corallite_at -------------------------------------------------------------------------
 */

static int may_move(struct cv_conn *c)
{
    if (!c->readonly)
        return co_fail(CO_ERR_READONLY,
                       "%s/%s: this connection can write, and the past cannot be written: open it "
                       "with mode=ro to move in time, or ATTACH 'file:%s/%s?vfs=corallite&at=...' "
                       "AS before",
                       c->uri.db, c->uri.branch, c->uri.db, c->uri.branch);
    if (c->fixed)
        return co_fail(CO_ERR_READONLY, "%s/%s: opened with immutable=1, it stays where it is",
                       c->uri.db, c->uri.branch);
    if (c->uri.shared)
        return co_fail(CO_ERR_READONLY,
                       "%s/%s: with cache=shared the moment belongs to all connections that share "
                       "the cache; open another one with at=",
                       c->uri.db, c->uri.branch);
    if (c->reading || (c->owner && *c->owner && !sqlite3_get_autocommit(*c->owner)))
        return co_fail(
            CO_ERR_BUSY,
            "%s/%s: a transaction sees one moment; end it (COMMIT, or finish the running "
            "statement), then set corallite_at",
            c->uri.db, c->uri.branch);
    return 0;
}

/* A connection that was opened without at= follows the head again. */
static bool is_head(const char *text)
{
    struct when when;

    return when_parse(text, UINT64_MAX, &when) == 0 && when.kind == WHEN_HEAD;
}

int cv_moment_pragma(struct cv_conn *c, const char *text, char **out)
{
    char lsn[LSN_TEXT];
    int rc;

    if (text) {
        rc = may_move(c);
        if (!rc && !c->uri.has_moment && is_head(text))
            c->at = false;
        else if (!rc)
            rc = cv_moment_enter(c, text);
        if (rc)
            return rc;
    }
    *out = sqlite3_mprintf("%s", c->at ? lsn_format(c->moment.lsn, lsn) : "latest");
    return *out ? 0 : co_fail(CO_ERR_NOMEM, "no memory for an answer");
}
