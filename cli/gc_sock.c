/* gc_sock.c - `corallite retention ...`, `corallite gc`: how long history is kept, and what goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/confirm_file.h"
#include "cli/ref.h"
#include "cli/text.h"

#define GC_TIMEOUT_MS 600000u /* the most that a pageserver lets a request wait */

/* -- retention -----------------------------------------------------------------------------------
 */

static const char *kept_for(uint64_t us, char out[TEXT_MAX])
{
    return us ? text_duration(us, out) : "for ever";
}

static int print_retention(const struct cli_args *args, const char *db, const char *branch,
                           uint64_t us)
{
    char text[TEXT_MAX];
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack("{s:s,s:s,s:o}", "database", db, "branch", branch,
                                        "retention_us",
                                        us ? json_integer((json_int_t)us) : json_null()));
    printf("%s/%s keeps its history %s%s\n", db, branch, us ? "for " : "", kept_for(us, text));
    return 0;
}

int cli_retention_set(const struct cli_args *args)
{
    struct ref r;
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    Corallite__Branched *m = NULL;
    uint64_t us = 0;
    int rc = ref_parse_head(args->words[0], "a branch", &r);
    if (!rc && strcmp(args->words[1], "forever") != 0)
        rc = ref_parse_lifetime(args->words[1], &us);
    if (rc)
        return cli_report(rc);
    q.database = r.db;
    q.branch = r.branch;
    q.has_retention_us = 1;
    q.retention_us = us;
    rc = client_ask(args, FRAME_BRANCH_CHANGE, &q.base, FRAME_BRANCHED,
                    &corallite__branched__descriptor, &m);
    if (rc)
        return cli_report(rc);
    if (!m->timeline)
        rc = co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it did");
    else
        rc = print_retention(args, r.db, r.branch, m->timeline->retention_us);
    corallite__branched__free_unpacked(m, NULL);
    return cli_report(rc);
}

static int show_json(const char *db, const Corallite__BranchListed *m, const char *only)
{
    json_t *all = json_array();
    int bad = 0;
    for (size_t i = 0; i < m->n_branches; i++) {
        const Corallite__BranchListed__Branch *b = m->branches[i];
        const Corallite__Timeline *t = b->timeline;
        if (!t || !t->branch || (only && strcmp(only, t->branch) != 0))
            continue;
        bad |= json_array_append_new(
            all,
            json_pack("{s:s,s:s,s:o,s:o,s:o}", "database", db, "branch", t->branch, "retention_us",
                      t->retention_us ? json_integer((json_int_t)t->retention_us) : json_null(),
                      "readable_from_lsn", b->cutoff_lsn ? answer_lsn(b->cutoff_lsn) : json_null(),
                      "readable_from", answer_moment(b->cutoff_us)));
    }
    if (!bad)
        return cli_print_json(all);
    json_decref(all);
    return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
}

static uint32_t show_text(const Corallite__BranchListed *m, const char *only)
{
    uint32_t n = 0;
    for (size_t i = 0; i < m->n_branches; i++) {
        const Corallite__BranchListed__Branch *b = m->branches[i];
        const Corallite__Timeline *t = b->timeline;
        char kept[TEXT_MAX], from[WHEN_TEXT];
        if (!t || !t->branch || (only && strcmp(only, t->branch) != 0))
            continue;
        if (n++ == 0)
            printf("%-28s  %-12s  %s\n", "BRANCH", "KEPT FOR", "READABLE FROM");
        printf("%-28s  %-12s  %s\n", t->branch, kept_for(t->retention_us, kept),
               b->cutoff_us ? answer_time(b->cutoff_us, from) : "its begin");
    }
    return n;
}

int cli_retention_show(const struct cli_args *args)
{
    struct ref r;
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    const char *only = strchr(args->words[0], '/') ? r.branch : NULL;
    int rc = ref_parse_head(args->words[0], "a branch", &r);
    q.database = r.db;
    if (!rc)
        rc = client_ask(args, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                        &corallite__branch_listed__descriptor, &m);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        rc = show_json(r.db, m, only);
    else if (!show_text(m, only))
        rc = co_fail(CO_ERR_NOT_FOUND, "database '%s' has no branch '%s'", r.db, r.branch);
    corallite__branch_listed__free_unpacked(m, NULL);
    return cli_report(rc);
}

/* -- gc ------------------------------------------------------------------------------------------
 */

struct collected {
    uint64_t versions, bytes, commits, pages;
    bool held;
};

static int collect(struct client *c, const struct cli_args *args, const char *db,
                   struct collected *sum)
{
    Corallite__Gc q = CORALLITE__GC__INIT;
    Corallite__GcDone *m = NULL;
    q.database = (char *)(uintptr_t)db;
    q.has_dry_run = q.has_deadline_ms = 1;
    q.dry_run = cli_has(args, "--dry-run");
    q.before = (char *)(uintptr_t)cli_value(args, "--before");
    q.deadline_ms = GC_TIMEOUT_MS;
    int rc = client_call(c, FRAME_GC, &q.base, FRAME_GC_DONE, &corallite__gc_done__descriptor,
                         GC_TIMEOUT_MS + 5000, &m);
    if (rc)
        return rc;
    sum->versions += m->versions;
    sum->bytes += m->bytes;
    sum->commits += m->commits;
    sum->pages += m->pages;
    sum->held |= m->held;
    corallite__gc_done__free_unpacked(m, NULL);
    return 0;
}

static int collect_all(struct client *c, const struct cli_args *args, struct collected *sum)
{
    Corallite__DbList list = CORALLITE__DB_LIST__INIT;
    Corallite__DbListed *m = NULL;
    int rc = client_call(c, FRAME_DB_LIST, &list.base, FRAME_DB_LISTED,
                         &corallite__db_listed__descriptor, CLIENT_TIMEOUT_MS, &m);
    for (size_t i = 0; !rc && i < m->n_databases; i++)
        rc = collect(c, args, m->databases[i]->name, sum);
    if (m)
        corallite__db_listed__free_unpacked(m, NULL);
    return rc;
}

static int print_collected(const struct cli_args *args, const struct collected *s)
{
    char bytes[TEXT_MAX];
    bool dry = cli_has(args, "--dry-run");
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack("{s:b,s:I,s:I,s:I,s:I,s:b}", "dry_run", dry, "versions",
                                        (json_int_t)s->versions, "bytes", (json_int_t)s->bytes,
                                        "commits", (json_int_t)s->commits, "pages_looked_at",
                                        (json_int_t)s->pages, "held", s->held));
    printf("%s %llu versions of pages%s (%s) and %llu commits; %llu pages were looked at\n",
           dry ? "would collect" : "collected", (unsigned long long)s->versions,
           dry ? ", about" : "", text_bytes(s->bytes, bytes), (unsigned long long)s->commits,
           (unsigned long long)s->pages);
    if (s->held)
        puts("more was read within the last two minutes, and goes when nobody reads it any more");
    return 0;
}

static int ask_before_erasing(const struct cli_args *args)
{
    char question[400];
    const char *before = cli_value(args, "--before");
    if (!before || cli_has(args, "--dry-run"))
        return 0;
    if (args->n_words == 0)
        return co_fail(CO_ERR_INVAL, "--before erases: say of which database");
    snprintf(question, sizeof question,
             "Erase every moment of '%.63s' before %.100s, but for its pins and branch points? "
             "Nothing brings them back.",
             args->words[0], before);
    return confirm(question, cli_has(args, "--yes"));
}

int cli_gc(const struct cli_args *args)
{
    struct client c;
    struct collected sum = {0};
    int rc = args->n_words ? name_check(args->words[0]) : 0;
    if (!rc)
        rc = ask_before_erasing(args);
    if (!rc)
        rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    rc = args->n_words ? collect(&c, args, args->words[0], &sum) : collect_all(&c, args, &sum);
    client_close(&c);
    if (!rc)
        rc = print_collected(args, &sum);
    return cli_report(rc);
}
