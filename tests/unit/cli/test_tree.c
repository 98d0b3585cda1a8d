#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tree.h"

TestSuite(tree, .timeout = 10);

#define MAX 200
static Corallite__BranchListed list;
static Corallite__BranchListed__Branch branch[MAX], *branches[MAX];
static Corallite__Timeline timeline[MAX];
static uint8_t ids[MAX][16];
static char names[MAX][16];

/* Branch i of the list; parent < 0: a root. */
static Corallite__Timeline *add(const char *name, int parent, uint64_t lsn)
{
    size_t i = list.n_branches++;
    corallite__branch_listed__branch__init(&branch[i]);
    corallite__timeline__init(&timeline[i]);
    snprintf(names[i], sizeof names[i], "%s", name);
    memset(ids[i], (int)i + 1, sizeof ids[i]);
    timeline[i].branch = names[i];
    timeline[i].id = (ProtobufCBinaryData){.len = 16, .data = ids[i]};
    if (parent >= 0)
        timeline[i].ancestor = (ProtobufCBinaryData){.len = 16, .data = ids[parent]};
    timeline[i].ancestor_lsn = lsn;
    branch[i].timeline = &timeline[i];
    branches[i] = &branch[i];
    list.branches = branches;
    return &timeline[i];
}

static char *printed(void)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    cr_assert(f);
    cr_assert_eq(tree_print(&list, 1000000, f), 0);
    fclose(f);
    return text;
}

static void begin(void)
{
    corallite__branch_listed__init(&list);
}

Test(tree, children_stand_below_their_parent_in_the_order_of_their_points, .init = begin)
{
    /* rule: the list is a tree, whatever order the pageserver sends */
    add("late", 2, 500);
    add("early", 2, 100);
    add("main", -1, 0);
    add("deeper", 1, 200);
    char *text = printed();
    const char *m = strstr(text, "\nmain"), *e = strstr(text, "\n|- early"),
               *d = strstr(text, "\n|  `- deeper"), *l = strstr(text, "\n`- late");
    cr_assert(m && e && d && l && m < e && e < d && d < l, "%s", text);
    free(text);
}

Test(tree, what_is_special_is_said, .init = begin)
{
    /* rule: protected, sealed, what is left of a life, and a parent that is gone */
    add("main", -1, 0)->protected_ = 1;
    add("old", 0, 1)->state = CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
    add("short", 0, 2)->expires_us = 61000000;
    add("orphan", 0, 3)->ancestor = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)names};
    char *text = printed();
    cr_assert(strstr(text, "protected\n") && strstr(text, "sealed\n"), "%s", text);
    cr_assert(strstr(text, "expires in 1 min 0 s\n"), "%s", text);
    cr_assert(strstr(text, "\norphan") && strstr(text, "its parent was dropped"), "%s", text);
    free(text);
}

Test(tree, a_list_that_is_no_tree_ends, .init = begin)
{
    /* rule: nothing that a server sends makes the command hang or crash */
    for (int i = 0; i < MAX - 2; i++)
        add("b", i - 1, (uint64_t)i); /* deeper than any server allows */
    add("x", MAX - 1, 5);
    add("y", MAX - 2, 5); /* x and y are each other's parents */
    free(printed());
    branch[3].timeline = NULL;
    cr_assert_eq(tree_print(&list, 0, stderr), CO_ERR_PROTOCOL);
}
