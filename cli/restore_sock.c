/*
 * restore_sock.c - `corallite restore`: the head of a branch becomes a moment of the past.
 *
 * The moment is resolved before anything is asked, so that the question names the transaction and
 * what is confirmed is what is done, however long the answer takes.
 */
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/confirm_file.h"
#include "cli/moment_sock.h"
#include "cli/ref.h"
#include "common/clock_file.h"

static int ask(const struct cli_args *args, const char *name, const Corallite__Resolved *m)
{
    char question[400], time[WHEN_TEXT], lsn[LSN_TEXT];
    if (m->lsn == 0)
        snprintf(question, sizeof question,
                 "Make %s empty, as it was then? What it is now is kept as a branch.", name);
    else
        snprintf(question, sizeof question,
                 "Make %s what it was at %s (lsn %s)? What it is now is kept as a branch.", name,
                 answer_time(m->time_us, time), lsn_format(m->lsn, lsn));
    return confirm(question, cli_has(args, "--yes"));
}

static int print_restored(const struct cli_args *args, const struct ref *r,
                          const Corallite__Branched *m)
{
    static char undo[CLIENT_OPTIONS_TEXT + 4 * REF_TEXT], options[CLIENT_OPTIONS_TEXT];
    char name[REF_TEXT], time[WHEN_TEXT], lsn[LSN_TEXT];
    const char *kept = m->kept_as;
    if (!kept || !kept[0])
        return co_fail(CO_ERR_PROTOCOL, "the pageserver did not say where the former content is");
    int rc = client_options(args, options);
    if (rc)
        return rc;
    ref_format(r->db, r->branch, name);
    snprintf(undo, sizeof undo, "corallite restore %s --to %s/%s --yes%s", name, r->db, kept,
             options);
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack("{s:s,s:s,s:o,s:o,s:s,s:s}", "database", r->db, "branch",
                                        r->branch, "lsn", answer_lsn(m->lsn), "time",
                                        answer_moment(m->time_us), "kept_as", kept, "undo", undo));
    if (m->lsn)
        printf("%s is what it was at %s (lsn %s)\n", name, answer_time(m->time_us, time),
               lsn_format(m->lsn, lsn));
    else
        printf("%s is empty, as it was then\n", name);
    printf("what it was until now is the branch %s/%s\nundo:  %s\n", r->db, kept, undo);
    return 0;
}

static int restore(const struct cli_args *args, const struct ref *r, const struct ref *source,
                   lsn_t lsn)
{
    struct co_id id = co_id_random();
    char at[WHEN_AT_MAX], text[LSN_TEXT];
    Corallite__Restore q = CORALLITE__RESTORE__INIT;
    Corallite__Branched *m = NULL;
    snprintf(at, sizeof at, "%s", source->at);
    if (lsn)
        snprintf(at, sizeof at, "lsn:%s", lsn_format(lsn, text));
    q.database = (char *)r->db;
    q.branch = (char *)r->branch;
    q.to_branch = (char *)source->branch;
    q.at = at;
    q.keep_as = (char *)cli_value(args, "--keep-as");
    q.has_id = 1;
    q.id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    q.has_deadline_ms = 1;
    q.deadline_ms = CLIENT_CHANGE_TIMEOUT_MS - 2000;
    int rc = client_ask(args, FRAME_RESTORE, &q.base, FRAME_BRANCHED,
                        &corallite__branched__descriptor, &m);
    if (rc)
        return rc;
    rc = print_restored(args, r, m);
    corallite__branched__free_unpacked(m, NULL);
    return rc;
}

/* Resolves, asks, restores. */
static int restore_to(const struct cli_args *args, const struct ref *r, const struct ref *source)
{
    char name[REF_TEXT];
    Corallite__Resolved *m = NULL;
    int rc = moment_resolve(args, source, &m);
    if (!rc)
        rc = ask(args, ref_format(r->db, r->branch, name), m);
    if (!rc)
        rc = restore(args, r, source, m->lsn);
    if (m)
        corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

static int check_keep(const struct cli_args *args)
{
    const char *keep = cli_value(args, "--keep-as");
    return keep ? name_check(keep) : 0;
}

int cli_restore(const struct cli_args *args)
{
    struct ref r, source;
    const char *to = cli_value(args, "--to");
    int rc = ref_parse_head(args->words[0], "a branch to restore (the moment is for --to)", &r);
    if (!rc && !to)
        rc = co_fail(CO_ERR_INVAL, "to which moment? corallite restore %s --to -10m",
                     args->words[0]);
    if (!rc)
        rc = ref_parse_source(to, &r, co_wall_us(), &source);
    if (!rc)
        rc = check_keep(args);
    if (!rc)
        rc = restore_to(args, &r, &source);
    return cli_report(rc);
}

/* -- branch reset: to the head of the parent -----------------------------------------------------
 */

static const Corallite__BranchListed__Branch *by_id(const Corallite__BranchListed *m,
                                                    const ProtobufCBinaryData *id)
{
    for (size_t i = 0; id->len && i < m->n_branches; i++) {
        const Corallite__Timeline *t = m->branches[i]->timeline;
        if (t && t->id.len == id->len && memcmp(t->id.data, id->data, id->len) == 0)
            return m->branches[i];
    }
    return NULL;
}

/* What a restore made grows from what restores put aside, and whoever asks for the parent means
 * what that grew from. */
static const Corallite__BranchListed__Branch *unrestored(const Corallite__BranchListed *m,
                                                         const Corallite__BranchListed__Branch *b)
{
    const Corallite__BranchListed__Branch *up = by_id(m, &b->timeline->ancestor);
    for (size_t i = 0; up && b->timeline->replaces.len && i < m->n_branches &&
                       up->timeline->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
         i++) {
        b = up;
        up = by_id(m, &b->timeline->ancestor);
    }
    return b;
}

static int find_parent(const struct cli_args *args, const struct ref *r, struct ref *parent)
{
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    const Corallite__BranchListed__Branch *b = NULL;
    q.database = (char *)r->db;
    int rc = client_ask(args, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                        &corallite__branch_listed__descriptor, &m);
    if (rc)
        return rc;
    for (size_t i = 0; i < m->n_branches && !b; i++)
        if (m->branches[i]->timeline && m->branches[i]->timeline->branch &&
            strcmp(m->branches[i]->timeline->branch, r->branch) == 0)
            b = m->branches[i];
    *parent = *r;
    b = b ? unrestored(m, b) : NULL;
    if (!b)
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "there is no branch %s/%s; `corallite branch list %s` tells which there are",
                     r->db, r->branch, r->db);
    else if (!b->timeline->ancestor.len)
        rc = co_fail(CO_ERR_INVAL,
                     "%s/%s grew from no branch; `corallite restore %s/%s --to MOMENT` takes it "
                     "back in its own time",
                     r->db, r->branch, r->db, r->branch);
    else if (!b->ancestor_name || !b->ancestor_name[0])
        rc = co_fail(CO_ERR_NOT_FOUND,
                     "the branch that %s/%s grew from was dropped; `corallite restore %s/%s --to "
                     "%s/BRANCH` says from which one to take it",
                     r->db, r->branch, r->db, r->branch, r->db);
    else
        snprintf(parent->branch, sizeof parent->branch, "%s", b->ancestor_name);
    corallite__branch_listed__free_unpacked(m, NULL);
    return rc;
}

int cli_branch_reset(const struct cli_args *args)
{
    struct ref r, parent;
    int rc = ref_parse_branch(args->words[0], "branch reset", &r);
    if (!rc)
        rc = check_keep(args);
    if (!rc)
        rc = find_parent(args, &r, &parent);
    if (!rc)
        rc = restore_to(args, &r, &parent);
    return cli_report(rc);
}
