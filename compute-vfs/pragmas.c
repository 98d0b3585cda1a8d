/* pragmas.c - PRAGMAs on their way to SQLite: those that it would answer wrongly, and our own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

#define PREFIX "corallite_"

static int answer(char **arg, char *text)
{
    arg[0] = text;
    return text ? SQLITE_OK : SQLITE_NOMEM;
}

static int fail(char **arg)
{
    arg[0] = sqlite3_mprintf("%s", co_sentence());
    return cv_report_sentence(SQLITE_ERROR);
}

/* -- what SQLite decides and we want to know
 * ------------------------------------------------------- */

/* As SQLite reads it, and refuses it in a transaction: OFF must be told apart from NORMAL. It goes
 * on to SQLite. */
static void see_synchronous(struct cv_conn *c, const char *value)
{
    static const struct {
        const char *word;
        int level;
    } words[] = {{"off", 0}, {"no", 0}, {"false", 0}, {"full", 2}, {"extra", 3}};

    if (!value || (c->owner && *c->owner && !sqlite3_get_autocommit(*c->owner)))
        return;
    c->level = 1; /* "normal", and whatever SQLite does not know */
    if (*value >= '0' && *value <= '9')
        c->level = (atoi(value) + 1) & 7 ? ((atoi(value) + 1) & 7) - 1 : 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(value, words[i].word) == 0)
            c->level = words[i].level;
}

/* Modes that cannot be are answered with the one that is; all else SQLite answers by itself. It
 * takes the beginning of a word for the word. */
static int journal_mode(char **arg)
{
    static const char *const others[] = {"delete", "persist", "off", "truncate", "memory"};

    for (size_t i = 0; arg[2] && i < sizeof others / sizeof *others; i++)
        if (strncasecmp(others[i], arg[2], strlen(arg[2])) == 0)
            return answer(arg, sqlite3_mprintf("wal"));
    return SQLITE_NOTFOUND;
}

static int locking_mode(char **arg)
{
    if (arg[2] && strcasecmp(arg[2], "exclusive") == 0)
        return answer(arg, sqlite3_mprintf("normal"));
    return SQLITE_NOTFOUND;
}

/* -- our own -------------------------------------------------------------------------------------
 */

lsn_t cv_pragma_lsn(struct cv_conn *c)
{
    lsn_t lsn;

    if (c->at)
        return c->moment.lsn;
    if (c->reading || c->fixed)
        return c->handle.snapshot_lsn;
    pthread_mutex_lock(&c->db->lock);
    lsn = c->db->known.txn;
    if (c->header_valid && c->header_own && c->header.epoch == c->db->epoch && c->header.lsn > lsn)
        lsn = c->header.lsn;
    pthread_mutex_unlock(&c->db->lock);
    return lsn;
}

static char *status_text(struct cv_conn *c)
{
    struct cv_database *db = c->db;
    sqlite3_str *s = sqlite3_str_new(NULL);
    char id[CO_ID_TEXT], known[LSN_TEXT], tip[LSN_TEXT], seen[LSN_TEXT];
    struct cv_position at_known, at_tip;
    bool leading, born;
    term_t term;
    const char *pageserver;
    char time[WHEN_TEXT];
    char *stats;

    lsn_format(cv_pragma_lsn(c), seen);
    pthread_mutex_lock(&db->lock);
    at_known = db->known;
    at_tip = db->tip;
    leading = db->leading;
    born = db->born;
    term = db->term;
    pageserver = db->pace.away                                  ? "away"
                 : cv_pace_lag(&db->pace) > db->pace.soft_bytes ? "behind"
                                                                : "near";
    co_id_format(&db->timeline.timeline, id);
    pthread_mutex_unlock(&db->lock);
    sqlite3_str_appendf(s, "server=%s\ndatabase=%s\nbranch=%s\ntimeline=%s\n", c->uri.server,
                        c->uri.db, c->uri.branch, born ? id : "none yet");
    sqlite3_str_appendf(s, "role=%s\nterm=%lld\n", leading ? "writer" : "reader", (long long)term);
    sqlite3_str_appendf(s, "visible_lsn=%s\ntip_lsn=%s\nseen_lsn=%s\n",
                        lsn_format(at_known.txn, known), lsn_format(at_tip.txn, tip), seen);
    sqlite3_str_appendf(s, "pages=%u\npage_size=%u\n", at_known.db_pages, db->page_size);
    sqlite3_str_appendf(s, "last_commit=%s\ncommit_timeout_ms=%u\n", c->last_id,
                        c->uri.commit_timeout_ms);
    sqlite3_str_appendf(s, "pageserver=%s\n", pageserver);
    if (c->at)
        sqlite3_str_appendf(s, "at=%s\nat_time=%s\n", seen,
                            c->moment.time_us ? when_format(c->moment.time_us, time) : "");
    stats = cv_stats_text(c);
    sqlite3_str_appendall(s, stats ? stats : "");
    sqlite3_free(stats);
    return sqlite3_str_finish(s);
}

static int set_commit_timeout(struct cv_conn *c, char **arg)
{
    if (arg[2] && cv_parse_ms("corallite_commit_timeout", arg[2], &c->uri.commit_timeout_ms))
        return fail(arg);
    return answer(arg, sqlite3_mprintf("%u", c->uri.commit_timeout_ms));
}

static int set_staleness(struct cv_conn *c, char **arg)
{
    if (arg[2] && cv_parse_ms("corallite_staleness", arg[2], &c->uri.staleness_ms))
        return fail(arg);
    return answer(arg, sqlite3_mprintf("%u", c->uri.staleness_ms));
}

static int set_durability(struct cv_conn *c, char **arg)
{
    static const char *const words[] = {[CV_AS_SYNCHRONOUS] = "synchronous",
                                        [CV_FULL] = "full",
                                        [CV_NORMAL] = "normal",
                                        [CV_OFF] = "off"};

    if (arg[2] && cv_uri_param(&c->uri, "durability", arg[2]))
        return fail(arg);
    return answer(arg, sqlite3_mprintf("%s", words[c->uri.durability]));
}

static int tell_lsn(struct cv_conn *c, char **arg)
{
    char lsn[LSN_TEXT];

    return answer(arg, sqlite3_mprintf("%s", lsn_format(cv_pragma_lsn(c), lsn)));
}

static int tell_last_commit(struct cv_conn *c, char **arg)
{
    return answer(arg, sqlite3_mprintf("%s", c->last_id));
}

static int tell_status(struct cv_conn *c, char **arg)
{
    return answer(arg, status_text(c));
}

static int tell_branch(struct cv_conn *c, char **arg)
{
    return answer(arg, sqlite3_mprintf("%s", c->uri.branch));
}

static int go_to(struct cv_conn *c, char **arg)
{
    return cv_moment_pragma(c, arg[2], &arg[0]) ? fail(arg) : SQLITE_OK;
}

/* The same as SELECT corallite_wait(LSN), for whoever has PRAGMAs only. */
static int wait_for(struct cv_conn *c, char **arg)
{
    lsn_t lsn;

    if (!arg[2])
        co_fail(CO_ERR_INVAL, "PRAGMA corallite_wait wants an LSN: what PRAGMA corallite_lsn told "
                              "whoever wrote");
    if (!arg[2] || lsn_parse(arg[2], &lsn) || cv_database_wait_for(c->db, lsn, CO_READ_TIMEOUT_MS))
        return fail(arg);
    return answer(arg, sqlite3_mprintf("%s", arg[2]));
}

static int stats(struct cv_conn *c, char **arg)
{
    if (arg[2] && strcasecmp(arg[2], "reset") != 0) {
        co_fail(CO_ERR_INVAL, "PRAGMA corallite_stats = %.60s: it takes reset, or nothing", arg[2]);
        return fail(arg);
    }
    if (arg[2])
        cv_stats_reset(c);
    return answer(arg, cv_stats_text(c));
}

/* docs/sql.md tells of each; a test compares. */
static const struct {
    const char *stem;
    int (*run)(struct cv_conn *c, char **arg);
} ours[] = {
    {"at", go_to},
    {"branch", tell_branch},
    {"commit_timeout", set_commit_timeout},
    {"durability", set_durability},
    {"last_commit", tell_last_commit},
    {"lsn", tell_lsn},
    {"staleness", set_staleness},
    {"stats", stats},
    {"status", tell_status},
    {"wait", wait_for},
};
#define N_OURS (sizeof ours / sizeof *ours)

static int unknown(char **arg)
{
    char names[400] = "";
    size_t n = 0;

    for (size_t i = 0; i < N_OURS && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%scorallite_%s", i ? ", " : "",
                              ours[i].stem);
    co_fail(CO_ERR_INVAL, "unknown PRAGMA %.60s; known are %s", arg[1], names);
    return fail(arg);
}

static int run_ours(struct cv_conn *c, char **arg)
{
    for (size_t i = 0; i < N_OURS; i++)
        if (strcasecmp(arg[1] + strlen(PREFIX), ours[i].stem) == 0)
            return ours[i].run(c, arg);
    return unknown(arg);
}

int cv_pragma(struct cv_conn *c, char **arg)
{
    const char *name = arg[1];

    if (strcasecmp(name, "journal_mode") == 0)
        return journal_mode(arg);
    if (strcasecmp(name, "locking_mode") == 0)
        return locking_mode(arg);
    if (strcasecmp(name, "synchronous") == 0)
        see_synchronous(c, arg[2]);
    return strncasecmp(name, PREFIX, strlen(PREFIX)) == 0 ? run_ours(c, arg) : SQLITE_NOTFOUND;
}
