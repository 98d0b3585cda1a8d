/* store_sock.c - looks through the pageserver's store, step by step, and compares how far each
 * timeline is with its log. */
#include <stdio.h>
#include <string.h>

#include "cli/check_sock.h"
#include "cli/sqlite_file.h"
#include "proto/message.h"

#define STEP_TIMEOUT_MS 30000u

static void copy(char *out, size_t cap, const char *text)
{
    snprintf(out, cap, "%s", text ? text : "");
}

static int take_findings(const Corallite__Verified *m, struct store_report *out)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_findings && !rc; i++) {
        const Corallite__Finding *w = m->findings[i];
        struct store_finding f = {.pgno = w->pgno, .no = w->no, .lsn = w->lsn};
        copy(f.kind, sizeof f.kind, w->kind);
        copy(f.name, sizeof f.name, w->name);
        copy(f.pin, sizeof f.pin, w->pin);
        copy(f.text, sizeof f.text, w->text);
        rc = msg_get16("timeline", w->has_timeline, &w->timeline, f.timeline.b);
        if (!rc)
            rc = store_add(out, &f);
    }
    return rc;
}

static int take_lines(const Corallite__Verified *m, struct store_report *out)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_lines && !rc; i++) {
        const Corallite__Verified__Line *w = m->lines[i];
        struct store_line l = {.no = w->no,
                               .start = w->start_lsn,
                               .last = w->last_lsn,
                               .newest = w->newest_lsn,
                               .lag_bytes = w->lag_bytes,
                               .versions = w->versions};
        copy(l.name, sizeof l.name, w->name);
        rc = msg_get16("timeline", w->has_timeline, &w->timeline, l.timeline.b);
        if (!rc)
            rc = msg_get16("digest", w->has_digest, &w->digest, l.digest.b);
        if (!rc)
            rc = store_add_line(out, &l);
    }
    return rc;
}

/* Steps until the server says that there is nothing behind. Each answer brings the cursor of the
 * next request. */
static int walk(struct client *c, const char *database, struct store_report *out)
{
    Corallite__Verified *before = NULL;
    struct progress bar;
    uint64_t total = 0;
    bool more = true;
    int rc = 0;
    progress_begin(&bar, "versions of pages in the store");
    while (!rc && more) {
        Corallite__Verify q = CORALLITE__VERIFY__INIT;
        Corallite__Verified *m = NULL;
        q.database = (char *)(uintptr_t)database;
        q.at = before ? before->at : NULL;
        rc = sqlite_interrupted()
                 ? co_fail(CO_ERR_CANCELED, "check was interrupted")
                 : client_call(c, FRAME_VERIFY, &q.base, FRAME_VERIFIED,
                               &corallite__verified__descriptor, STEP_TIMEOUT_MS, &m);
        if (before)
            corallite__verified__free_unpacked(before, NULL);
        before = m;
        if (rc)
            break;
        total += m->versions_total;
        out->versions += m->versions;
        out->commits += m->commits;
        rc = take_findings(m, out);
        if (!rc)
            rc = take_lines(m, out);
        more = m->at != NULL;
        progress_show(&bar, out->versions, total);
    }
    if (before)
        corallite__verified__free_unpacked(before, NULL);
    progress_end(&bar);
    return rc;
}

/* What the store says of a timeline's end against its log. Between the newest commit and the end
 * there are configurations at most. */
static int compare_end(struct check_report *r, const struct store_line *l, struct store_report *out)
{
    struct check_reach reach;
    struct store_finding f = {.timeline = l->timeline, .no = l->no, .lsn = l->last};
    char at[LSN_TEXT];
    if (l->lag_bytes || l->last <= l->newest)
        return 0;
    int rc = check_log_reaches(r, &l->timeline, l->newest, l->last, &reach);
    if (rc)
        return rc;
    copy(f.name, sizeof f.name, l->name);
    lsn_format(l->last, at);
    if (reach.found && memcmp(reach.digest.b, l->digest.b, sizeof l->digest.b) != 0) {
        copy(f.kind, sizeof f.kind, "progress-wrong");
        snprintf(f.text, sizeof f.text,
                 "the store says that it is at LSN %s, with another digest than the log has there",
                 at);
    } else if (!reach.found && reach.asked * 2 > r->n_nodes) {
        copy(f.kind, sizeof f.kind, "progress-ahead");
        snprintf(f.text, sizeof f.text,
                 "the store says that it is at LSN %s, where no record of its log ends: what is "
                 "written from now on would not come in",
                 at);
    } else {
        return 0;
    }
    return store_add(out, &f);
}

int store_look(struct client *c, struct check_report *r, const char *database,
               struct store_report *out)
{
    *out = (struct store_report){0};
    int rc = walk(c, database, out);
    for (uint32_t i = 0; i < out->n_lines && !rc; i++)
        rc = compare_end(r, &out->lines[i], out);
    for (uint32_t i = 0; i < out->n_lines && !rc; i++)
        if (out->lines[i].lag_bytes)
            check_say(r->notes, "%s: %llu bytes of its log are not in the store yet",
                      out->lines[i].name, (unsigned long long)out->lines[i].lag_bytes);
    return rc;
}
