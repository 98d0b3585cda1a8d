/*
 * check_file.c - `corallite check`: are the databases sound?
 *
 *   1 every page at the moment, through the protocol (check_pages_sock.c)
 *   2 PRAGMA integrity_check and foreign_key_check at that moment, by the stock library
 *   3 the pageserver's catalog and positions against the safekeepers' (check_log_sock.c)
 *   4 the pages of further pageservers against the first one's (check_pair_sock.c)
 *   5 the archive, if there is one: is what its manifest tells of there (check_archive_file.c)
 *   6 with --deep: everything that the store holds (store_sock.c)
 *
 * What is found is an answer (exit code 1); what keeps it from looking is an error (also 1, with a
 * sentence on standard error).
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/check_sock.h"
#include "cli/cli.h"
#include "cli/process_file.h"
#include "cli/ref.h"
#include "cli/sqlite_file.h"
#include "common/clock_file.h"
#include "proto/message.h"

#define STEPS_A_LOOK                                                                               \
    20000 /* of SQLite's machine, between two looks at the clock and at signals                    \
           */

/* -- Structure -----------------------------------------------------------------------------------
 */

static int integrity(sqlite3 *db, struct check_branch *b)
{
    sqlite3_stmt *s = NULL;
    int step = sqlite3_prepare_v2(db, "PRAGMA integrity_check(100)", -1, &s, NULL);
    while (step == SQLITE_OK || step == SQLITE_ROW) {
        step = sqlite3_step(s);
        const char *text = step == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
        if (text && strcmp(text, "ok") != 0)
            check_problem(b, "structure: %.900s", text);
    }
    b->structure_looked = step == SQLITE_DONE;
    if (step == SQLITE_INTERRUPT || sqlite_interrupted())
        step = co_fail(CO_ERR_CANCELED, "check was interrupted");
    else if (step != SQLITE_DONE)
        check_problem(b, "structure: %s", (sqlite_failed(db, "integrity_check"), co_sentence()));
    sqlite3_finalize(s);
    return step == CO_ERR_CANCELED ? step : 0;
}

static int foreign_keys(sqlite3 *db, struct check_branch *b)
{
    sqlite3_stmt *s = NULL;
    int step = sqlite3_prepare_v2(db, "PRAGMA foreign_key_check", -1, &s, NULL);
    int64_t n = 0;
    for (; step == SQLITE_OK || step == SQLITE_ROW; n += step == SQLITE_ROW)
        step = sqlite3_step(s);
    sqlite3_finalize(s);
    if (sqlite_interrupted())
        return co_fail(CO_ERR_CANCELED, "check was interrupted");
    if (step == SQLITE_DONE)
        b->foreign_keys = n; /* else a definition makes no sense: SQLite would say so as well */
    return 0;
}

int check_structure(struct check_branch *b)
{
    char uri[REF_URI], what[CHECK_NAME + 40];
    struct ref r = {.at = ""};
    struct progress bar;
    sqlite3 *db = NULL;
    snprintf(r.db, sizeof r.db, "%s", b->database);
    snprintf(r.branch, sizeof r.branch, "%s", b->branch);
    snprintf(what, sizeof what, "structure of %s/%s", b->database, b->branch);
    int rc = sqlite_open(ref_uri(&r, b->lsn, uri), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, &db);
    if (rc)
        return rc;
    progress_begin(&bar, what);
    sqlite_watch(db, &bar);
    rc = integrity(db, b);
    if (!rc && b->structure_looked)
        rc = foreign_keys(db, b);
    progress_end(&bar);
    sqlite3_close(db);
    return rc;
}

/* -- Which branches, at which moments ------------------------------------------------------------
 */

static int resolve(struct client *c, struct check_branch *b, const char *at)
{
    Corallite__Resolve q = CORALLITE__RESOLVE__INIT;
    Corallite__Resolved *m = NULL;
    q.database = b->database;
    q.branch = b->branch;
    q.at = (char *)at;
    q.has_deadline_ms = 1;
    q.deadline_ms = CLIENT_CHANGE_TIMEOUT_MS - 2000;
    int rc = client_call(c, FRAME_RESOLVE, &q.base, FRAME_RESOLVED,
                         &corallite__resolved__descriptor, CLIENT_CHANGE_TIMEOUT_MS, &m);
    if (rc)
        return rc;
    b->lsn = m->lsn;
    b->time_us = m->time_us;
    b->pages = m->db_pages;
    b->page_size = m->page_size;
    if (!m->timeline ||
        msg_get16("timeline", m->timeline->has_id, &m->timeline->id, b->timeline.b) != 0 ||
        (b->lsn && (b->page_size < CO_PAGE_SIZE_MIN || b->page_size > CO_PAGE_SIZE_MAX)))
        rc = co_fail(CO_ERR_PROTOCOL, "%s does not say what %s/%s is", c->sock.address, b->database,
                     b->branch);
    corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

static int add_all(struct client *c, struct check_report *r)
{
    struct check_list all = {0};
    char database[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    int rc = check_branches(c, NULL, &all);
    for (uint32_t i = 0; i < all.n && !rc; i++) {
        rc = name_split(all.e[i].name, database, branch);
        if (!rc && !check_add(r, database, branch))
            rc = co_fail(CO_ERR_NOMEM, "there is no memory for a report");
    }
    free(all.e);
    return rc;
}

/* -- Daemons that do not run ---------------------------------------------------------------------
 */

#define LAST_BYTES 2000 /* of a log: the end of a daemon that did not start is one line there */

/* What a daemon of this cluster that does not run said last; false: it runs, or said nothing. */
static bool last_words(const struct cluster *c, unsigned index, char out[512])
{
    char path[PATH_MAX];
    struct stat st;
    cluster_path(c, "log", c->at[index].name, ".log", path);
    if (process_alive(c, index) || stat(path, &st) != 0)
        return false;
    process_last_words(c, index, st.st_size > LAST_BYTES ? st.st_size - LAST_BYTES : 0, out);
    return *out != 0;
}

/* Of a local cluster: why a safekeeper did not answer. */
static void ask_the_silent(const struct client_target *target, struct check_report *r)
{
    char words[512];
    for (uint32_t i = 0; target->local && i < r->n_nodes; i++)
        for (unsigned k = 0; k < target->cluster.n && !r->nodes[i].answered; k++)
            if (!target->cluster.at[k].pageserver &&
                target->cluster.at[k].node == r->nodes[i].node &&
                last_words(&target->cluster, k, words))
                check_say(r->notes, "safekeeper %u does not run; it said last: %s",
                          (unsigned)r->nodes[i].node, words);
}

/* The same of the pageserver, without which there is nothing to look at. */
static int why_not(const struct client_target *target, int rc)
{
    char words[512], why[CO_SENTENCE_MAX];
    if (rc != CO_ERR_CONNECT || !target->local ||
        !last_words(&target->cluster, cluster_owner(&target->cluster), words))
        return rc;
    snprintf(why, sizeof why, "%s", co_sentence());
    return co_fail(rc, "%.400s; it does not run, and said last: %s", why, words);
}

/* -- The verb ------------------------------------------------------------------------------------
 */

static int check_branch(struct client *c, struct check_branch *b, const char *at)
{
    char what[CHECK_NAME + 40];
    struct progress bar;
    int rc = resolve(c, b, at);
    if (rc || !b->lsn)
        return rc;
    snprintf(what, sizeof what, "pages of %s/%s", b->database, b->branch);
    progress_begin(&bar, what);
    rc = check_pages(c, b, &bar);
    progress_end(&bar);
    if (rc || b->n_problems) /* SQLite would stumble over the same pages */
        return rc;
    return check_structure(b);
}

/* An error that is the branch's own: the others can be looked at. */
static bool is_of_the_branch(int rc)
{
    return rc == CO_ERR_CORRUPT || rc == CO_ERR_GONE || rc == CO_ERR_HALTED || rc == CO_ERR_LAG ||
           rc == CO_ERR_TIMEOUT;
}

static int look(struct client *c, struct check_report *report, const struct ref *r)
{
    const char *only = r ? r->db : NULL;
    int rc = 0;
    if (!r)
        rc = add_all(c, report);
    else if (!check_add(report, r->db, r->branch))
        rc = co_fail(CO_ERR_NOMEM, "there is no memory for a report");
    for (uint32_t i = 0; i < report->n_branches && !rc; i++) {
        rc = check_branch(c, &report->branches[i], r ? r->at : "");
        if (!r && (rc == CO_ERR_NOT_FOUND || rc == CO_ERR_DROPPED)) {
            check_say(report->notes, "%s/%s was dropped meanwhile", report->branches[i].database,
                      report->branches[i].branch);
            rc = 0;
        } else if ((!r || report->deep) && is_of_the_branch(rc)) {
            check_problem(&report->branches[i], "%s", co_sentence());
            rc = 0;
        }
    }
    if (!rc)
        rc = check_keepers_open(c, report);
    if (!rc)
        rc = check_pairs(c, report);
    if (!rc)
        rc = check_safekeepers(c, report, only);
    if (!rc)
        rc = check_archive(c, report);
    if (!rc && report->deep)
        rc = store_look(c, report, only, report->deep);
    check_keepers_close(report);
    return rc;
}

int cli_check(const struct cli_args *args)
{
    static struct client_target target;
    static struct check_report report;
    static struct store_report store;
    struct ref r;
    struct client c = {.sock.fd = -1};
    bool one = args->n_words == 1;
    int rc = one ? ref_parse(args->words[0], co_wall_us(), &r) : 0;
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = why_not(&target, client_open(&c, &target));
    if (!rc)
        rc = sqlite_begin(&target);
    if (!rc)
        rc = check_begin(&report);
    if (rc) {
        client_close(&c);
        return cli_report(rc);
    }
    report.deep = cli_has(args, "--deep") ? &store : NULL;
    sqlite_catch_signals();
    rc = look(&c, &report, one ? &r : NULL);
    client_close(&c);
    if (!rc)
        ask_the_silent(&target, &report);
    if (!rc && cli_has(args, "--json"))
        rc = check_print_json(&report);
    else if (!rc)
        check_print(&report);
    int code = rc ? cli_report(rc) : check_sound(&report) ? CLI_DONE : CLI_FAILED;
    check_free(&report);
    store_free(&store);
    return code;
}
