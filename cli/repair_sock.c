/*
 * repair_sock.c - `corallite repair`: what the log still has is given back to the pageserver's
 * store.
 *
 *   look (store_sock.c) -> plan -> prove -> ask -> carry out -> wait -> look again
 *
 * Nothing is taken away before it was proven that it can come back: of each timeline that is to be
 * fetched again a safekeeper tells the whole log, its begin the archive where none keeps that, and
 * it must chain up to the digest that the store has at its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/check_sock.h"
#include "cli/cli.h"
#include "cli/confirm_file.h"
#include "cli/json.h"
#include "cli/ref.h"
#include "cli/sqlite_file.h"
#include "cli/text.h"
#include "common/clock_file.h"
#include "proto/message.h"

#define REPAIR_TIMEOUT_MS 600000u
#define BUSY_TRIES        150
#define WAIT_NS           200000000
#define STANDSTILL_US     (60 * 1000000ull)

#define REBUILD           CORALLITE__REPAIR_ACTION__REPAIR_REBUILD
#define RECOUNT           CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT
#define NONE              CORALLITE__REPAIR_ACTION__REPAIR_NONE

struct act {
    Corallite__RepairAction action;
    const struct store_finding *of; /* the first finding that it is for */
    const struct store_line *line;  /* REBUILD; NULL: it was not looked through */
    json_t *kinds;
    bool possible, done;
    struct check_reach reach;  /* REBUILD */
    lsn_t until;               /* REBUILD: it is whole again when it is here */
    char why[CO_SENTENCE_MAX]; /* not possible, or not done */
};

struct plan {
    struct store_report before, after;
    struct act *acts;
    uint32_t n;
    uint32_t n_hopeless; /* findings that nothing is done about */
};

/* -- What is to be done --------------------------------------------------------------------------
 */

static bool same_target(const struct act *a, const struct store_finding *f)
{
    return co_id_eq(&a->of->timeline, &f->timeline) && a->of->no == f->no &&
           strcmp(a->of->pin, f->pin) == 0;
}

static struct act *act_for(struct plan *p, const struct store_finding *f,
                           Corallite__RepairAction action)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->acts[i].action == action && same_target(&p->acts[i], f))
            return &p->acts[i];
    struct act *a = &p->acts[p->n];
    *a = (struct act){.action = action, .of = f, .kinds = json_array(), .possible = true};
    for (uint32_t i = 0; i < p->before.n_lines; i++)
        if (co_id_eq(&p->before.lines[i].timeline, &f->timeline))
            a->line = &p->before.lines[i];
    p->n += a->kinds != NULL;
    return a->kinds ? a : NULL;
}

static bool has_kind(const struct act *a, const char *kind)
{
    for (size_t i = 0; i < json_array_size(a->kinds); i++)
        if (strcmp(json_string_value(json_array_get(a->kinds, i)), kind) == 0)
            return true;
    return false;
}

static int make_plan(struct plan *p)
{
    p->acts = calloc((size_t)p->before.n_findings + 1, sizeof *p->acts);
    if (!p->acts)
        return co_fail(CO_ERR_NOMEM, "there is no memory for a plan");
    for (uint32_t i = 0; i < p->before.n_findings; i++) {
        const struct store_finding *f = &p->before.findings[i];
        const struct store_kind *k = store_kind_of(f->kind);
        if (!k || k->action == NONE) {
            p->n_hopeless++;
            continue;
        }
        struct act *a = act_for(p, f, k->action);
        if (!a)
            return co_fail(CO_ERR_NOMEM, "there is no memory for a plan");
        if (!has_kind(a, f->kind))
            json_array_append_new(a->kinds, json_string(f->kind));
    }
    /* What is fetched again is counted on the way. */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        bool covered = false;
        for (uint32_t k = 0; k < p->n; k++)
            covered |= p->acts[i].action == RECOUNT && p->acts[k].action == REBUILD &&
                       same_target(&p->acts[k], p->acts[i].of);
        if (covered)
            json_decref(p->acts[i].kinds);
        else
            p->acts[kept++] = p->acts[i];
    }
    p->n = kept;
    return 0;
}

/* Can the log give it back? */
static int prove(struct check_report *r, struct act *a)
{
    const struct store_line *l = a->line;
    char at[LSN_TEXT];
    if (a->action != REBUILD)
        return 0;
    if (!l) {
        a->possible = false;
        snprintf(a->why, sizeof a->why, "it is being made, dropped or fetched from the log now");
        return 0;
    }
    bool wrong_end = has_kind(a, "progress-ahead") || has_kind(a, "progress-wrong");
    a->until = wrong_end ? l->newest : l->last;
    if (a->until <= l->start)
        return 0;
    int rc = check_log_reaches(r, &l->timeline, l->start, a->until, &a->reach);
    if (rc)
        return rc;
    a->possible = a->reach.found &&
                  (wrong_end || memcmp(a->reach.digest.b, l->digest.b, sizeof l->digest.b) == 0);
    if (!a->possible)
        snprintf(a->why, sizeof a->why,
                 a->reach.found ? "the log at LSN %s is another one than the store was made of"
                                : "neither safekeepers nor archive have its log whole up to LSN %s",
                 lsn_format(a->until, at));
    return 0;
}

/* -- Doing it ------------------------------------------------------------------------------------
 */

static int request(struct client *c, const struct act *a, lsn_t *until)
{
    Corallite__Repair q = CORALLITE__REPAIR__INIT;
    Corallite__Repaired *m = NULL;
    struct co_id id = a->of->timeline;
    const struct timespec wait = {.tv_nsec = WAIT_NS};
    q.has_action = q.has_no = 1;
    q.action = a->action;
    q.no = a->of->no;
    q.has_timeline = !co_id_is_zero(&id);
    q.timeline = msg_bytes16(id.b);
    q.pin = *a->of->pin ? (char *)(uintptr_t)a->of->pin : NULL;
    q.database = *a->of->pin && *a->of->name ? (char *)(uintptr_t)a->of->name : NULL;
    int rc = CO_ERR_BUSY;
    for (int i = 0; i < BUSY_TRIES && rc == CO_ERR_BUSY && !sqlite_interrupted(); i++) {
        if (i)
            nanosleep(&wait, NULL);
        rc = client_call(c, FRAME_REPAIR, &q.base, FRAME_REPAIRED, &corallite__repaired__descriptor,
                         REPAIR_TIMEOUT_MS, &m);
    }
    if (rc)
        return rc;
    *until = m->until_lsn;
    corallite__repaired__free_unpacked(m, NULL);
    return 0;
}

/* How far one timeline is: the step that begins with it. */
static int position(struct client *c, const struct store_line *l, lsn_t *out)
{
    Corallite__Verify q = CORALLITE__VERIFY__INIT;
    Corallite__VerifyAt at = CORALLITE__VERIFY_AT__INIT;
    Corallite__Verified *m = NULL;
    at.has_no = at.has_phase = 1;
    at.no = l->no - 1;
    at.phase = CORALLITE__VERIFY_PHASE__VERIFY_DONE;
    q.at = &at;
    int rc = client_call(c, FRAME_VERIFY, &q.base, FRAME_VERIFIED, &corallite__verified__descriptor,
                         CLIENT_CHANGE_TIMEOUT_MS, &m);
    if (rc)
        return rc;
    *out = LSN_NONE;
    for (size_t i = 0; i < m->n_lines; i++)
        if (m->lines[i]->no == l->no)
            *out = m->lines[i]->last_lsn;
    corallite__verified__free_unpacked(m, NULL);
    return 0;
}

/* Until the store has it again. What goes on without us is no failure of the repair. */
static int await(struct client *c, struct act *a)
{
    const struct timespec wait = {.tv_nsec = WAIT_NS / 4};
    struct progress bar;
    char what[CHECK_NAME + 40];
    lsn_t at = LSN_NONE, before = LSN_NONE;
    uint64_t moved_us = co_now_us();
    int rc = 0;
    snprintf(what, sizeof what, "%s from the log", a->of->name);
    progress_begin(&bar, what);
    while (!rc && at < a->until) {
        rc = sqlite_interrupted()
                 ? co_fail(CO_ERR_CANCELED, "it is fetched on without this command")
                 : position(c, a->line, &at);
        if (rc || at >= a->until)
            break;
        if (at != before)
            moved_us = co_now_us();
        else if (co_now_us() - moved_us > STANDSTILL_US)
            rc = co_fail(CO_ERR_TIMEOUT,
                         "nothing of it has come for 60 s; the pageserver's log says why");
        before = at;
        if (at > a->line->start)
            progress_show(&bar, at - a->line->start, a->until - a->line->start);
        nanosleep(&wait, NULL);
    }
    progress_end(&bar);
    return rc;
}

static void carry_out(struct client *c, struct plan *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        struct act *a = &p->acts[i];
        lsn_t until = 0;
        int rc = a->possible ? request(c, a, &until) : CO_ERR_NOT_FOUND;
        a->done = rc == 0;
        if (a->possible && rc)
            snprintf(a->why, sizeof a->why, "%s", co_sentence());
    }
    for (uint32_t i = 0; i < p->n; i++) {
        struct act *a = &p->acts[i];
        if (!a->done || a->action != REBUILD || a->until <= a->line->start)
            continue;
        a->done = await(c, a) == 0;
        if (!a->done)
            snprintf(a->why, sizeof a->why, "%s", co_sentence());
    }
}

/* -- What is told --------------------------------------------------------------------------------
 */

static const char *words_of(const struct act *a, bool dry, char out[200])
{
    char bytes[TEXT_MAX], archived[TEXT_MAX];
    const char *would = dry ? "would " : "";
    if (a->action == REBUILD && a->reach.archived)
        snprintf(out, 200, "%sfetch it from the log again: %s, %s of it from the archive", would,
                 text_bytes(a->reach.bytes, bytes), text_bytes(a->reach.archived, archived));
    else if (a->action == REBUILD)
        snprintf(out, 200,
                 "%sfetch it from the log again: %s in %llu records, whole at safekeeper %u", would,
                 text_bytes(a->reach.bytes, bytes), (unsigned long long)a->reach.records,
                 (unsigned)a->reach.node);
    else
        snprintf(out, 200, "%s%s", would,
                 a->action == RECOUNT ? "count anew what it takes"
                 : *a->of->pin ? "drop the pin: its branch is gone, and nothing brings it back"
                               : "delete rows that belong to no timeline");
    return out;
}

static void print_act(const struct act *a, bool dry)
{
    char words[200], name[CHECK_NAME + 80];
    if (*a->of->pin)
        snprintf(name, sizeof name, "pin '%.63s' %s%.63s", a->of->pin, *a->of->name ? "of " : "",
                 a->of->name);
    else if (*a->of->name)
        snprintf(name, sizeof name, "%s", a->of->name);
    else
        snprintf(name, sizeof name, "number %u", (unsigned)a->of->no);
    printf("%s (", name);
    for (size_t i = 0; i < json_array_size(a->kinds); i++)
        printf("%s%s", i ? ", " : "", json_string_value(json_array_get(a->kinds, i)));
    if (*a->why)
        printf("): not mended: %s\n", a->why);
    else
        printf("): %s\n", words_of(a, dry, words));
}

static void print(const struct plan *p, bool dry)
{
    const struct store_report *last = dry ? &p->before : &p->after;
    for (uint32_t i = 0; i < p->n; i++)
        print_act(&p->acts[i], dry);
    for (uint32_t i = 0; i < p->before.n_findings; i++) {
        const struct store_finding *f = &p->before.findings[i];
        const struct store_kind *k = store_kind_of(f->kind);
        if (!k || k->action == NONE)
            printf("%s%s%s: %s; to do: %s\n", f->name, *f->name ? ": " : "", f->kind, f->text,
                   k ? k->otherwise : "ask a newer corallite");
    }
    if (!dry || !p->before.n_findings)
        store_print(last);
}

static json_t *act_json(const struct act *a)
{
    char id[CO_ID_TEXT];
    return json_pack(
        "{s:s,s:s,s:o,s:o,s:O,s:I,s:I,s:I,s:b,s:b,s:o}", "action", store_action_word(a->action),
        "name", a->of->name, "timeline",
        co_id_is_zero(&a->of->timeline) ? json_null()
                                        : json_string(co_id_format(&a->of->timeline, id)),
        "pin", *a->of->pin ? json_string(a->of->pin) : json_null(), "kinds", a->kinds, "log_bytes",
        (json_int_t)a->reach.bytes, "archive_bytes", (json_int_t)a->reach.archived, "safekeeper",
        (json_int_t)a->reach.node, "possible", (int)a->possible, "done", (int)a->done, "why",
        *a->why ? json_string(a->why) : json_null());
}

static int print_json(const struct plan *p, bool dry)
{
    json_t *acts = json_array();
    const struct store_report *last = dry ? &p->before : &p->after;
    for (uint32_t i = 0; i < p->n; i++)
        if (json_array_append_new(acts, act_json(&p->acts[i]))) {
            json_decref(acts);
            return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
        }
    return cli_print_json(json_pack("{s:b,s:b,s:o,s:o}", "dry_run", (int)dry, "sound",
                                    (int)(last->n_findings == 0), "actions", acts, "store",
                                    store_json(last)));
}

/* -- The verb ------------------------------------------------------------------------------------
 */

static int ask_before(const struct cli_args *args, const struct plan *p)
{
    char question[300];
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        n += p->acts[i].possible;
    if (!n)
        return 0;
    snprintf(question, sizeof question,
             "Mend %u place%s of the pageserver's store? Reads of what is fetched from the log "
             "wait until it is here again.",
             (unsigned)n, n == 1 ? "" : "s");
    return confirm(question, cli_has(args, "--yes"));
}

static int repair(struct client *c, const struct cli_args *args, struct check_report *r,
                  struct plan *p)
{
    const char *database = args->n_words ? args->words[0] : NULL;
    bool dry = cli_has(args, "--dry-run");
    struct check_list branches = {0};
    int rc = database ? check_branches(c, database, &branches) : 0; /* is there one? */
    free(branches.e);
    if (!rc)
        rc = check_keepers_open(c, r);
    if (!rc)
        rc = store_look(c, r, database, &p->before);
    if (!rc)
        rc = make_plan(p);
    for (uint32_t i = 0; i < p->n && !rc; i++)
        rc = prove(r, &p->acts[i]);
    if (!rc && !dry) {
        rc = ask_before(args, p);
        if (!rc)
            carry_out(c, p);
        if (!rc)
            rc = store_look(c, r, database, &p->after);
    }
    check_keepers_close(r);
    if (rc)
        return rc;
    if (cli_has(args, "--json"))
        return print_json(p, dry);
    print(p, dry);
    return 0;
}

int cli_repair(const struct cli_args *args)
{
    static struct check_report report;
    static struct plan plan;
    struct client c = {.sock.fd = -1};
    int rc = args->n_words ? name_check(args->words[0]) : 0;
    if (!rc)
        rc = client_open_args(&c, args);
    if (!rc)
        rc = check_begin(&report);
    if (rc) {
        client_close(&c);
        return cli_report(rc);
    }
    sqlite_catch_signals();
    rc = repair(&c, args, &report, &plan);
    client_close(&c);
    const struct store_report *last = cli_has(args, "--dry-run") ? &plan.before : &plan.after;
    int code = rc ? cli_report(rc) : last->n_findings ? CLI_FAILED : CLI_DONE;
    for (uint32_t i = 0; i < plan.n; i++)
        json_decref(plan.acts[i].kinds);
    free(plan.acts);
    store_free(&plan.before);
    store_free(&plan.after);
    check_free(&report);
    return code;
}
