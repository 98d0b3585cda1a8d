#include "cli/tree.h"

#include <stdlib.h>
#include <string.h>

#include "cli/text.h"
#include "proto/when.h"

struct row {
    const Corallite__BranchListed__Branch *b;
    size_t parent; /* index; NO_PARENT: stands at the left */
    bool shown;
};

#define NO_PARENT SIZE_MAX
#define INDENT    3u
/* What a server may send is not bounded by the depth that it allows. */
#define DEPTH_MAX 128u

struct tree {
    struct row *rows;
    size_t n;
    uint64_t now_us;
    int width; /* of the column of names */
    FILE *out;
};

static bool same_id(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    return a.len == b.len && a.len > 0 && memcmp(a.data, b.data, a.len) == 0;
}

static int by_point(const void *a, const void *b)
{
    const Corallite__Timeline *x = ((const struct row *)a)->b->timeline;
    const Corallite__Timeline *y = ((const struct row *)b)->b->timeline;
    if (x->ancestor_lsn != y->ancestor_lsn)
        return x->ancestor_lsn < y->ancestor_lsn ? -1 : 1;
    return strcmp(x->branch, y->branch);
}

static void find_parents(struct tree *t)
{
    for (size_t i = 0; i < t->n; i++) {
        t->rows[i].parent = NO_PARENT;
        for (size_t k = 0; k < t->n; k++)
            if (k != i && same_id(t->rows[i].b->timeline->ancestor, t->rows[k].b->timeline->id))
                t->rows[i].parent = k;
    }
}

static size_t depth(const struct tree *t, size_t i)
{
    size_t d = 0;
    while (t->rows[i].parent != NO_PARENT && d < DEPTH_MAX) {
        i = t->rows[i].parent;
        d++;
    }
    return d;
}

static void print_marks(const struct tree *t, const struct row *r)
{
    const Corallite__Timeline *tl = r->b->timeline;
    char text[TEXT_MAX];
    if (tl->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED)
        fputs("  sealed", t->out);
    if (tl->state == CORALLITE__TIMELINE_STATE__TIMELINE_CREATING)
        fputs("  being made", t->out);
    if (tl->protected_)
        fputs("  protected", t->out);
    if (tl->expires_us > t->now_us)
        fprintf(t->out, "  expires in %s", text_duration(tl->expires_us - t->now_us, text));
    else if (tl->expires_us)
        fputs("  expired", t->out);
    if (tl->ancestor.len && r->parent == NO_PARENT)
        fputs("  (its parent was dropped)", t->out);
}

static void print_row(const struct tree *t, const struct row *r, const char *lead)
{
    char size[TEXT_MAX], point[TEXT_MAX], head[TEXT_MAX];
    const Corallite__BranchListed__Branch *b = r->b;
    int pad = t->width - (int)(strlen(lead) + strlen(b->timeline->branch));
    fprintf(t->out, "%s%s%*s  %-20s  %-20s  %9s", lead, b->timeline->branch, pad > 0 ? pad : 0, "",
            b->timeline->ancestor.len ? text_time(b->ancestor_time_us, point) : "-",
            text_time(b->head_time_us, head),
            text_bytes((uint64_t)b->db_pages * b->page_size, size));
    print_marks(t, r);
    fputc('\n', t->out);
}

static bool is_last(const struct tree *t, size_t i)
{
    for (size_t k = i + 1; k < t->n; k++)
        if (t->rows[k].parent == t->rows[i].parent)
            return false;
    return true;
}

/* One branch and what grew from it. lead: what stands before the names of its children. */
static void print_below(struct tree *t, size_t parent, char *lead, size_t n)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].parent != parent || t->rows[i].shown)
            continue;
        bool root = parent == NO_PARENT, last = is_last(t, i);
        t->rows[i].shown = true;
        if (!root)
            memcpy(lead + n, last ? "`- " : "|- ", INDENT + 1);
        print_row(t, &t->rows[i], lead);
        if (!root)
            memcpy(lead + n, last ? "   " : "|  ", INDENT + 1);
        if (n / INDENT + 1 < DEPTH_MAX)
            print_below(t, i, lead, root ? 0 : n + INDENT);
        lead[n] = 0;
    }
}

int tree_print(const Corallite__BranchListed *list, uint64_t now_us, FILE *out)
{
    char lead[DEPTH_MAX * INDENT + 4] = "";
    struct tree t = {.n = list->n_branches, .now_us = now_us, .out = out, .width = 16};
    t.rows = calloc(t.n ? t.n : 1, sizeof *t.rows);
    if (!t.rows)
        return co_fail(CO_ERR_NOMEM, "there is no memory for %zu branches", t.n);
    for (size_t i = 0; i < t.n; i++) {
        t.rows[i].b = list->branches[i];
        if (!t.rows[i].b->timeline || !t.rows[i].b->timeline->branch) {
            free(t.rows);
            return co_fail(CO_ERR_PROTOCOL, "the pageserver lists a branch without a name");
        }
    }
    qsort(t.rows, t.n, sizeof *t.rows, by_point);
    find_parents(&t);
    for (size_t i = 0; i < t.n; i++) {
        int need = (int)(depth(&t, i) * INDENT + strlen(t.rows[i].b->timeline->branch));
        if (need > t.width)
            t.width = need;
    }
    fprintf(out, "%-*s  %-20s  %-20s  %9s\n", t.width, "BRANCH", "BRANCHED AT", "LAST COMMIT",
            "SIZE");
    print_below(&t, NO_PARENT, lead, 0);
    free(t.rows);
    return 0;
}
