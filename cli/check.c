#include "cli/check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/ref.h"
#include "cli/store.h"
#include "cli/terminal_file.h"
#include "cli/text.h"
#include "proto/corallite.pb-c.h"

/* -- The report ----------------------------------------------------------------------------------
 */

int check_begin(struct check_report *r)
{
    *r = (struct check_report){.problems = json_array(), .notes = json_array()};
    return r->problems && r->notes ? 0 : co_fail(CO_ERR_NOMEM, "there is no memory for a report");
}

void check_free(struct check_report *r)
{
    for (uint32_t i = 0; i < r->n_branches; i++) {
        json_decref(r->branches[i].problems);
        free(r->branches[i].crc);
    }
    free(r->branches);
    json_decref(r->problems);
    json_decref(r->notes);
    *r = (struct check_report){0};
}

struct check_branch *check_add(struct check_report *r, const char *database, const char *branch)
{
    struct check_branch *more = realloc(r->branches, (r->n_branches + 1) * sizeof *more);
    if (!more)
        return NULL;
    r->branches = more;
    struct check_branch *b = &more[r->n_branches];
    *b = (struct check_branch){.foreign_keys = -1, .problems = json_array()};
    if (!b->problems)
        return NULL;
    snprintf(b->database, sizeof b->database, "%s", database);
    snprintf(b->branch, sizeof b->branch, "%s", branch);
    r->n_branches++;
    return b;
}

CO_PRINTF(2, 0) static void say(json_t *list, const char *format, va_list args)
{
    char text[CO_SENTENCE_MAX];
    vsnprintf(text, sizeof text, format, args);
    json_array_append_new(list, json_string_nocheck(text));
}

void check_say(json_t *list, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(list, format, args);
    va_end(args);
}

void check_problem(struct check_branch *b, const char *format, ...)
{
    va_list args;
    if (b->n_problems++ >= CHECK_TEXTS_MAX)
        return;
    va_start(args, format);
    say(b->problems, format, args);
    va_end(args);
}

bool check_sound(const struct check_report *r)
{
    bool sound = json_array_size(r->problems) == 0 && (!r->deep || r->deep->n_findings == 0);
    for (uint32_t i = 0; i < r->n_branches; i++)
        sound = sound && r->branches[i].n_problems == 0;
    return sound;
}

/* -- As text -------------------------------------------------------------------------------------
 */

static void print_sentences(const char *before, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        printf("%s%s\n", before, json_string_value(json_array_get(list, i)));
}

static void print_branch(const struct check_report *r, const struct check_branch *b)
{
    char name[REF_TEXT], size[TEXT_MAX], time[WHEN_TEXT];
    bool good = b->n_problems == 0;
    printf("%s%-8s%s %s", terminal_tone(good ? TONE_GOOD : TONE_BAD), good ? "sound" : "UNSOUND",
           terminal_end(), ref_format(b->database, b->branch, name));
    if (!b->lsn) {
        printf(": there is no transaction\n");
    } else {
        printf(" at %s: %u pages (%s)", answer_time(b->time_us, time), (unsigned)b->pages_read,
               text_bytes((uint64_t)b->pages_read * b->page_size, size));
        if (b->copies)
            printf(", on %u of %u safekeepers", (unsigned)b->copies, (unsigned)r->n_nodes);
        puts(b->structure_looked ? ", structure looked through" : "");
    }
    print_sentences("           ", b->problems);
    if (b->n_problems > CHECK_TEXTS_MAX)
        printf("           and %u more\n", (unsigned)(b->n_problems - CHECK_TEXTS_MAX));
    if (b->foreign_keys > 0)
        printf("           for information: %lld rows violate a foreign key "
               "(PRAGMA foreign_key_check)\n",
               (long long)b->foreign_keys);
}

void check_print(const struct check_report *r)
{
    for (uint32_t i = 0; i < r->n_branches; i++)
        print_branch(r, &r->branches[i]);
    bool good = json_array_size(r->problems) == 0;
    printf("%s%-8s%s the catalog: %u timelines, compared with",
           terminal_tone(good ? TONE_GOOD : TONE_BAD), good ? "sound" : "UNSOUND", terminal_end(),
           (unsigned)r->n_compared);
    for (uint32_t i = 0; i < r->n_nodes; i++)
        if (r->nodes[i].answered)
            printf(" safekeeper %u (%u)", (unsigned)r->nodes[i].node,
                   (unsigned)r->nodes[i].timelines);
    putchar('\n');
    print_sentences("           ", r->problems);
    for (uint32_t i = 0; i < r->n_pairs; i++)
        if (r->pairs[i].answered)
            printf("compared with pageserver %s: %llu pages of %u branches are the same there\n",
                   r->pairs[i].address, (unsigned long long)r->pairs[i].pages,
                   (unsigned)r->pairs[i].branches);
    if (r->deep)
        store_print(r->deep);
    print_sentences("  note:    ", r->notes);
}

/* -- As JSON -------------------------------------------------------------------------------------
 */

static json_t *branch_json(const struct check_branch *b)
{
    char id[CO_ID_TEXT];
    return json_pack("{s:s,s:s,s:s,s:b,s:o,s:o,s:I,s:I,s:I,s:b,s:o,s:I,s:I,s:O}", "database",
                     b->database, "branch", b->branch, "timeline", co_id_format(&b->timeline, id),
                     "sound", (int)(b->n_problems == 0), "lsn", answer_lsn(b->lsn), "time",
                     answer_moment(b->time_us), "pages", (json_int_t)b->pages, "page_size",
                     (json_int_t)b->page_size, "pages_read", (json_int_t)b->pages_read,
                     "structure_checked", (int)b->structure_looked, "foreign_key_violations",
                     b->foreign_keys < 0 ? json_null() : json_integer(b->foreign_keys), "copies",
                     (json_int_t)b->copies, "n_problems", (json_int_t)b->n_problems, "problems",
                     b->problems);
}

static json_t *node_json(const struct check_node *n)
{
    return json_pack("{s:I,s:s,s:b,s:I}", "node", (json_int_t)n->node, "address", n->address,
                     "answered", (int)n->answered, "timelines", (json_int_t)n->timelines);
}

static json_t *pair_json(const struct check_pair *p)
{
    return json_pack("{s:s,s:b,s:I,s:I}", "address", p->address, "answered", (int)p->answered,
                     "branches", (json_int_t)p->branches, "pages", (json_int_t)p->pages);
}

int check_print_json(const struct check_report *r)
{
    json_t *branches = json_array(), *nodes = json_array(), *pairs = json_array();
    int bad = 0;
    for (uint32_t i = 0; i < r->n_branches; i++)
        bad |= json_array_append_new(branches, branch_json(&r->branches[i]));
    for (uint32_t i = 0; i < r->n_nodes; i++)
        bad |= json_array_append_new(nodes, node_json(&r->nodes[i]));
    for (uint32_t i = 0; i < r->n_pairs; i++)
        bad |= json_array_append_new(pairs, pair_json(&r->pairs[i]));
    if (bad) {
        json_decref(branches);
        json_decref(nodes);
        json_decref(pairs);
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    }
    return cli_print_json(
        json_pack("{s:b,s:o,s:{s:I,s:o,s:O},s:o,s:o,s:O}", "sound", (int)check_sound(r),
                  "databases", branches, "catalog", "timelines", (json_int_t)r->n_compared,
                  "safekeepers", nodes, "problems", r->problems, "pageservers", pairs, "store",
                  r->deep ? store_json(r->deep) : json_null(), "notes", r->notes));
}

/* -- The catalog ---------------------------------------------------------------------------------
 */

const struct check_entry *check_find(const struct check_list *list, const struct co_id *id)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (co_id_eq(&list->e[i].id, id))
            return &list->e[i];
    return NULL;
}

int check_list_add(struct check_list *list, const struct check_entry *entry)
{
    if ((list->n & (list->n + 1)) == 0) { /* 0, 1, 3, 7, ...: it is full */
        struct check_entry *more = realloc(list->e, (2 * (size_t)list->n + 1) * sizeof *more);
        if (!more)
            return co_fail(CO_ERR_NOMEM, "there is no memory for a list of timelines");
        list->e = more;
    }
    list->e[list->n++] = *entry;
    return 0;
}

static bool is_of(const struct check_entry *e, const char *only)
{
    size_t n = only ? strlen(only) : 0;
    return !only || (strncmp(e->name, only, n) == 0 && e->name[n] == '/');
}

static bool same(const struct check_entry *a, const struct check_entry *b)
{
    return a->version == b->version && a->state == b->state && strcmp(a->name, b->name) == 0;
}

/* A timeline that the pageserver lists: is it so on a majority? */
static void compare_listed(struct check_report *r, const struct check_entry *e,
                           const struct check_list safekeepers[CHECK_NODES_MAX])
{
    uint32_t answered = 0, agree = 0, lacks = 0;
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        const struct check_entry *there = check_find(&safekeepers[i], &e->id);
        if (!r->nodes[i].answered)
            continue;
        answered++;
        agree += there && same(there, e);
        lacks += !there;
    }
    r->n_compared++;
    if (agree * 2 <= r->n_nodes && answered * 2 > r->n_nodes)
        check_say(r->problems,
                  "%s (version %llu) is in the pageserver's catalog, and only %u of %u safekeepers "
                  "have it so: the catalog would not come back from them",
                  e->name, (unsigned long long)e->version, (unsigned)agree, (unsigned)r->n_nodes);
    else if (agree < answered)
        check_say(r->notes, "%s: %u of %u safekeepers %s it, and will be told", e->name,
                  (unsigned)(answered - agree), (unsigned)r->n_nodes,
                  lacks ? "lack" : "have another state of");
}

/* A timeline that safekeepers list: does the pageserver? */
static void compare_stored(struct check_report *r, const struct check_entry *e,
                           const struct check_list *pageserver,
                           const struct check_list safekeepers[CHECK_NODES_MAX])
{
    uint32_t alive = 0;
    if (check_find(pageserver, &e->id))
        return;
    for (uint32_t i = 0; i < r->n_nodes; i++) {
        const struct check_entry *there = check_find(&safekeepers[i], &e->id);
        alive += there && !there->hidden &&
                 (there->state == CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE ||
                  there->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED);
    }
    if (alive * 2 > r->n_nodes)
        check_say(r->problems,
                  "%s is on %u of %u safekeepers and not in the pageserver's catalog: nobody can "
                  "open it",
                  e->name, (unsigned)alive, (unsigned)r->n_nodes);
}

static bool seen_before(const struct check_list safekeepers[CHECK_NODES_MAX], uint32_t node,
                        const struct co_id *id)
{
    for (uint32_t i = 0; i < node; i++)
        if (check_find(&safekeepers[i], id))
            return true;
    return false;
}

void check_catalog(struct check_report *r, const struct check_list *pageserver,
                   const struct check_list safekeepers[CHECK_NODES_MAX], const char *only)
{
    for (uint32_t i = 0; i < pageserver->n; i++)
        if (is_of(&pageserver->e[i], only))
            compare_listed(r, &pageserver->e[i], safekeepers);
    for (uint32_t i = 0; i < r->n_nodes; i++)
        for (uint32_t k = 0; k < safekeepers[i].n; k++) {
            const struct check_entry *e = &safekeepers[i].e[k];
            if (is_of(e, only) && !seen_before(safekeepers, i, &e->id))
                compare_stored(r, e, pageserver, safekeepers);
        }
}
