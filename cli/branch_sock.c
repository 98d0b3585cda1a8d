/* branch_sock.c - `corallite branch ...`: made, listed, changed, through the pageserver. */
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/confirm_file.h"
#include "cli/ref.h"
#include "cli/tree.h"
#include "common/clock_file.h"
#include "proto/message.h"

static int no_timeline(void)
{
    return co_fail(CO_ERR_PROTOCOL, "the pageserver did not say what it did");
}

/* -- create --------------------------------------------------------------------------------------
 */

/* --at MOMENT, or --at BRANCH@MOMENT as `log` and `export` are told. */
static int read_origin(const struct cli_args *args, const struct ref *of, struct ref *origin)
{
    const char *at = cli_value(args, "--at"), *from = cli_value(args, "--from");
    struct ref grows_from = *of;
    int rc = 0;
    snprintf(grows_from.branch, sizeof grows_from.branch, "main");
    *origin = grows_from;
    if (at)
        rc = ref_parse_source(at, &grows_from, co_wall_us(), origin);
    if (!rc && from) {
        if (at && strchr(at, '@'))
            return co_fail(CO_ERR_INVAL, "--from and the branch in --at %s contradict; give one",
                           at);
        rc = name_check(from);
        if (!rc)
            snprintf(origin->branch, sizeof origin->branch, "%s", from);
    }
    return rc;
}

static int print_created(const struct cli_args *args, const struct ref *r, const char *from,
                         const Corallite__Branched *m)
{
    char id[CO_ID_TEXT], time[WHEN_TEXT], lsn[LSN_TEXT];
    if (cli_has(args, "--json"))
        return cli_print_json(json_pack(
            "{s:s,s:s,s:s,s:s,s:o,s:o,s:o}", "database", r->db, "branch", r->branch, "timeline",
            answer_id(m->timeline->id, id), "from", from, "lsn", answer_lsn(m->lsn), "time",
            answer_moment(m->time_us), "expires", answer_moment(m->timeline->expires_us)));
    if (m->lsn)
        printf("created %s/%s from %s at %s (lsn %s)\n", r->db, r->branch, from,
               answer_time(m->time_us, time), lsn_format(m->lsn, lsn));
    else
        printf("created %s/%s, empty: %s had no transaction at that moment\n", r->db, r->branch,
               from);
    if (m->timeline->expires_us)
        printf("it expires at %s\n", answer_time(m->timeline->expires_us, time));
    printf("open it:  corallite sql %s/%s\n", r->db, r->branch);
    return 0;
}

int cli_branch_create(const struct cli_args *args)
{
    struct ref r, origin;
    uint64_t life = 0;
    int rc = ref_parse_branch(args->words[0], "branch create", &r);
    if (!rc)
        rc = read_origin(args, &r, &origin);
    if (!rc && cli_has(args, "--expires"))
        rc = ref_parse_lifetime(cli_value(args, "--expires"), &life);
    if (rc)
        return cli_report(rc);
    struct co_id id = co_id_random();
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    Corallite__Branched *m = NULL;
    q.database = r.db;
    q.branch = r.branch;
    q.from_branch = origin.branch;
    q.at = origin.at;
    q.has_id = 1;
    q.id = (ProtobufCBinaryData){.len = sizeof id.b, .data = id.b};
    q.has_expires_us = life != 0;
    q.expires_us = life ? co_wall_us() + life : 0;
    q.has_deadline_ms = 1;
    q.deadline_ms = CLIENT_CHANGE_TIMEOUT_MS - 2000;
    rc = client_ask(args, FRAME_BRANCH_CREATE, &q.base, FRAME_BRANCHED,
                    &corallite__branched__descriptor, &m);
    if (rc)
        return cli_report(rc);
    rc = m->timeline ? print_created(args, &r, origin.branch, m) : no_timeline();
    corallite__branched__free_unpacked(m, NULL);
    return cli_report(rc);
}

/* -- list ----------------------------------------------------------------------------------------
 */

static json_t *branch_json(const Corallite__BranchListed__Branch *b)
{
    char id[CO_ID_TEXT];
    const Corallite__Timeline *t = b->timeline;
    bool child = t->ancestor.len != 0;
    const char *parent = b->ancestor_name && b->ancestor_name[0] ? b->ancestor_name : NULL;
    return json_pack("{s:s,s:s,s:s,s:s?,s:o,s:o,s:o,s:o,s:I,s:I,s:b,s:o}", "branch",
                     t->branch ? t->branch : "", "timeline", answer_id(t->id, id), "state",
                     msg_state_name(t->state), "parent", parent, "branch_lsn",
                     child ? answer_lsn(t->ancestor_lsn) : json_null(), "branch_time",
                     child ? answer_moment(b->ancestor_time_us) : json_null(), "head_lsn",
                     answer_lsn(b->head_lsn), "head_time", answer_moment(b->head_time_us), "pages",
                     (json_int_t)b->db_pages, "page_size", (json_int_t)b->page_size, "protected",
                     (int)t->protected_, "expires", answer_moment(t->expires_us));
}

static int print_json_list(const Corallite__BranchListed *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_branches; i++)
        if (!m->branches[i]->timeline ||
            json_array_append_new(all, branch_json(m->branches[i])) != 0) {
            json_decref(all);
            return co_fail(CO_ERR_PROTOCOL, "the pageserver's list of branches makes no sense");
        }
    return cli_print_json(all);
}

int cli_branch_list(const struct cli_args *args)
{
    const char *db = args->words[0];
    Corallite__BranchList q = CORALLITE__BRANCH_LIST__INIT;
    Corallite__BranchListed *m = NULL;
    int rc = name_check(db);
    q.database = (char *)db;
    if (!rc)
        rc = client_ask(args, FRAME_BRANCH_LIST, &q.base, FRAME_BRANCH_LISTED,
                        &corallite__branch_listed__descriptor, &m);
    if (rc)
        return cli_report(rc);
    rc = cli_has(args, "--json") ? print_json_list(m) : tree_print(m, co_wall_us(), stdout);
    corallite__branch_listed__free_unpacked(m, NULL);
    return cli_report(rc);
}

/* -- change --------------------------------------------------------------------------------------
 */

static int change(const struct cli_args *args, Corallite__BranchChange *q, const char *done,
                  const char *json_key)
{
    Corallite__Branched *m = NULL;
    int rc = client_ask(args, FRAME_BRANCH_CHANGE, &q->base, FRAME_BRANCHED,
                        &corallite__branched__descriptor, &m);
    if (rc)
        return rc;
    corallite__branched__free_unpacked(m, NULL);
    const char *name = q->rename_to ? q->rename_to : q->branch;
    if (cli_has(args, "--json"))
        return cli_print_json(
            json_pack("{s:s,s:s,s:b}", "database", q->database, "branch", name, json_key, 1));
    if (q->rename_to)
        printf("%s %s/%s: it is %s/%s now\n", done, q->database, q->branch, q->database, name);
    else
        printf("%s %s/%s\n", done, q->database, name);
    return 0;
}

int cli_branch_rename(const struct cli_args *args)
{
    struct ref r;
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    const char *name = args->words[1];
    int rc = ref_parse_branch(args->words[0], "branch rename", &r);
    /* DB/NEW is what a person writes who thinks of mv. */
    if (!rc && strncmp(name, r.db, strlen(r.db)) == 0 && name[strlen(r.db)] == '/')
        name += strlen(r.db) + 1;
    if (!rc)
        rc = name_check(name);
    q.database = r.db;
    q.branch = r.branch;
    q.rename_to = (char *)name;
    if (!rc)
        rc = change(args, &q, "renamed", "renamed");
    return cli_report(rc);
}

int cli_branch_drop(const struct cli_args *args)
{
    struct ref r;
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    char question[300];
    int rc = ref_parse_branch(args->words[0], "branch drop", &r);
    if (rc)
        return cli_report(rc);
    snprintf(question, sizeof question,
             "Drop the branch %s/%s? Branches that grew from it keep what they see.", r.db,
             r.branch);
    rc = confirm(question, cli_has(args, "--yes"));
    q.database = r.db;
    q.branch = r.branch;
    q.has_drop = q.drop = 1;
    if (!rc)
        rc = change(args, &q, "dropped", "dropped");
    return cli_report(rc);
}

static int protect(const struct cli_args *args, bool on)
{
    struct ref r;
    Corallite__BranchChange q = CORALLITE__BRANCH_CHANGE__INIT;
    int rc = ref_parse_head(args->words[0], "a branch", &r);
    q.database = r.db;
    q.branch = r.branch;
    q.has_protect = 1;
    q.protect = on;
    if (!rc)
        rc = change(args, &q,
                    on ? "protected" : "no longer protected:", on ? "protected" : "unprotected");
    return cli_report(rc);
}

int cli_branch_protect(const struct cli_args *args)
{
    return protect(args, !cli_has(args, "--off"));
}

int cli_branch_unprotect(const struct cli_args *args)
{
    return protect(args, false);
}
