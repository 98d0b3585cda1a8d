#include "cli/store.h"

#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/terminal_file.h"

#define REBUILD CORALLITE__REPAIR_ACTION__REPAIR_REBUILD
#define NONE    CORALLITE__REPAIR_ACTION__REPAIR_NONE
#define TEXTS   20u /* sentences of one kind; beyond them they are counted */

static const struct store_kind kinds[] = {
    {"page-damaged", REBUILD, NULL},
    {"chunk-missing", REBUILD, NULL},
    {"pack-damaged", REBUILD, NULL},
    {"version-missing", REBUILD, NULL},
    {"version-unlisted", REBUILD, NULL},
    {"page-missing", REBUILD, NULL},
    {"pin-unreadable", REBUILD, NULL},
    {"commit-missing", REBUILD, NULL},
    {"commit-damaged", REBUILD, NULL},
    {"commit-pages", REBUILD, NULL},
    {"time-missing", REBUILD, NULL},
    {"time-dangling", REBUILD, NULL},
    {"progress-ahead", REBUILD, NULL},
    {"progress-wrong", REBUILD, NULL},
    {"cutoff-ahead", REBUILD, NULL},
    {"progress-behind", CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT, NULL},
    {"usage-wrong", CORALLITE__REPAIR_ACTION__REPAIR_RECOUNT, NULL},
    {"pin-dangling", CORALLITE__REPAIR_ACTION__REPAIR_PIN, NULL},
    {"orphan-rows", CORALLITE__REPAIR_ACTION__REPAIR_ORPHAN, NULL},
    {"name-twice", NONE,
     "drop or rename the one that is not wanted, or let a new store take over (docs/damage.md)"},
    {"ancestor-missing", NONE,
     "stop the pageserver, move its store away and start it with --take-over (docs/damage.md)"},
    {"store-damaged", NONE,
     "stop the pageserver, move its store away and start it with --take-over (docs/damage.md)"},
};

const struct store_kind *store_kind_of(const char *word)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].word, word) == 0)
            return &kinds[i];
    return NULL;
}

const char *store_action_word(Corallite__RepairAction action)
{
    static const char *const words[] = {"none", "rebuild", "recount", "drop-pin", "drop-rows"};
    return (unsigned)action < sizeof words / sizeof *words ? words[action] : "none";
}

void store_free(struct store_report *s)
{
    free(s->findings);
    free(s->lines);
    *s = (struct store_report){0};
}

/* Room for one more: the arrays are full at 0, 1, 3, 7, ... */
static int grow(void **array, uint32_t n, size_t element)
{
    if (n & (n + 1))
        return 0;
    void *more = realloc(*array, (2 * (size_t)n + 1) * element);
    if (!more)
        return co_fail(CO_ERR_NOMEM, "there is no memory for a report");
    *array = more;
    return 0;
}

int store_add(struct store_report *s, const struct store_finding *f)
{
    void *p = s->findings;
    if (s->n_findings == STORE_FINDINGS_MAX) {
        s->n_more++;
        return 0;
    }
    int rc = grow(&p, s->n_findings, sizeof *f);
    s->findings = p;
    if (!rc)
        s->findings[s->n_findings++] = *f;
    return rc;
}

int store_add_line(struct store_report *s, const struct store_line *l)
{
    void *p = s->lines;
    int rc = grow(&p, s->n_lines, sizeof *l);
    s->lines = p;
    if (!rc)
        s->lines[s->n_lines++] = *l;
    return rc;
}

void store_print(const struct store_report *s)
{
    bool good = s->n_findings == 0;
    uint32_t shown = 0;
    printf("%s%-8s%s the store: %llu versions of pages and %llu commits of %u timelines\n",
           terminal_tone(good ? TONE_GOOD : TONE_BAD), good ? "sound" : "UNSOUND", terminal_end(),
           (unsigned long long)s->versions, (unsigned long long)s->commits, (unsigned)s->n_lines);
    for (uint32_t i = 0, of_kind = 0; i < s->n_findings; i++) {
        const struct store_finding *f = &s->findings[i];
        of_kind = i && strcmp(f->kind, s->findings[i - 1].kind) == 0 ? of_kind + 1 : 0;
        if (of_kind >= TEXTS)
            continue;
        shown++;
        printf("           %s: %s%s%s\n", f->kind, f->name, *f->name ? ": " : "", f->text);
    }
    if (shown < s->n_findings)
        printf("           and %llu more of these kinds\n",
               (unsigned long long)(s->n_findings - shown + s->n_more));
}

static json_t *finding_json(const struct store_finding *f)
{
    char id[CO_ID_TEXT];
    const struct store_kind *k = store_kind_of(f->kind);
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:s,s:s}", "kind", f->kind, "name", f->name, "timeline",
                     co_id_is_zero(&f->timeline) ? json_null()
                                                 : json_string(co_id_format(&f->timeline, id)),
                     "page", f->pgno ? json_integer(f->pgno) : json_null(), "lsn",
                     f->lsn ? answer_lsn(f->lsn) : json_null(), "text", f->text, "repair",
                     store_action_word(k ? k->action : NONE));
}

json_t *store_json(const struct store_report *s)
{
    json_t *all = json_array();
    int bad = all == NULL;
    for (uint32_t i = 0; i < s->n_findings && !bad; i++)
        bad |= json_array_append_new(all, finding_json(&s->findings[i]));
    if (bad) {
        json_decref(all);
        return NULL;
    }
    return json_pack("{s:I,s:I,s:I,s:o}", "versions", (json_int_t)s->versions, "commits",
                     (json_int_t)s->commits, "timelines", (json_int_t)s->n_lines, "findings", all);
}
