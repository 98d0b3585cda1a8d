/* What the pageserver's catalog and the safekeepers' registries say of each other. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "cli/check.h"
#include "proto/corallite.pb-c.h"

TestSuite(check, .timeout = 10);

enum {
    ACTIVE = CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE,
    SEALED = CORALLITE__TIMELINE_STATE__TIMELINE_SEALED,
    DROPPED = CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED,
};

static struct check_report report;
static struct check_list pageserver, keeper[CHECK_NODES_MAX];

static void begin(void)
{
    cr_assert_eq(check_begin(&report), 0);
    report.n_nodes = 3;
    for (uint32_t i = 0; i < 3; i++)
        report.nodes[i] = (struct check_node){.node = i + 1, .answered = true};
}

static struct check_entry entry(uint8_t id, const char *name, uint64_t version, int state)
{
    struct check_entry e = {.version = version, .state = state};
    e.id.b[0] = id;
    snprintf(e.name, sizeof e.name, "%s", name);
    return e;
}

static void add(struct check_list *list, struct check_entry e)
{
    cr_assert_eq(check_list_add(list, &e), 0);
}

/* The same on all four. */
static void everywhere(struct check_entry e)
{
    add(&pageserver, e);
    for (int i = 0; i < 3; i++)
        add(&keeper[i], e);
}

static void found(size_t problems, size_t notes, uint32_t compared)
{
    check_catalog(&report, &pageserver, keeper, NULL);
    cr_expect_eq(json_array_size(report.problems), problems, "problems");
    cr_expect_eq(json_array_size(report.notes), notes, "notes");
    cr_expect_eq(report.n_compared, compared);
    cr_expect_eq(check_sound(&report), problems == 0);
}

static void end(void)
{
    free(pageserver.e);
    for (int i = 0; i < 3; i++)
        free(keeper[i].e);
    check_free(&report);
}

Test(check, the_same_everywhere_is_sound, .init = begin, .fini = end)
{
    for (uint8_t i = 1; i < 40; i++) /* the lists grow */
        everywhere(entry(i, "shop/main", i, i % 2 ? ACTIVE : SEALED));
    found(0, 0, 39);
}

Test(check, what_only_the_pageserver_knows_would_not_come_back, .init = begin, .fini = end)
{
    add(&pageserver, entry(1, "shop/main", 2, ACTIVE));
    add(&keeper[0], entry(1, "shop/main", 2, ACTIVE));
    found(1, 0, 1);
}

Test(check, one_that_lacks_it_is_a_note, .init = begin, .fini = end)
{
    everywhere(entry(1, "shop/main", 2, ACTIVE));
    keeper[2].n = 0;
    found(0, 1, 1);
}

Test(check, another_version_state_or_name_is_no_agreement, .init = begin, .fini = end)
{
    everywhere(entry(1, "shop/main", 2, ACTIVE));
    everywhere(entry(2, "shop/try", 2, ACTIVE));
    everywhere(entry(3, "shop/old", 2, ACTIVE));
    for (int i = 0; i < 2; i++) {
        keeper[i].e[0].version = 3;
        keeper[i].e[1].state = DROPPED;
        snprintf(keeper[i].e[2].name, sizeof keeper[i].e[2].name, "shop/new");
    }
    found(3, 0, 3);
}

Test(check, what_a_majority_has_and_the_pageserver_lacks, .init = begin, .fini = end)
{
    for (int i = 0; i < 2; i++) {
        struct check_entry hidden = entry(3, "shop/old", 2, SEALED);
        hidden.hidden = true;
        add(&keeper[i], entry(1, "shop/main", 2, ACTIVE));
        add(&keeper[i], entry(2, "shop/gone", 2, DROPPED));
        add(&keeper[i], hidden);
    }
    add(&keeper[2], entry(4, "shop/half", 1, ACTIVE)); /* nobody was told that it exists */
    found(1, 0, 0);
}

Test(check, one_that_did_not_answer_says_nothing, .init = begin, .fini = end)
{
    everywhere(entry(1, "shop/main", 2, ACTIVE));
    report.nodes[1].answered = false;
    keeper[1].n = 0;
    found(0, 0, 1);
}

Test(check, of_one_database_only, .init = begin, .fini = end)
{
    add(&pageserver, entry(1, "shop/main", 2, ACTIVE));
    add(&pageserver, entry(2, "shopping/main", 2, ACTIVE));
    check_catalog(&report, &pageserver, keeper, "shopping");
    cr_expect_eq(report.n_compared, 1);
    cr_expect_eq(json_array_size(report.problems), 1);
}

Test(check, sentences_of_a_branch_are_bounded_and_counted, .init = begin, .fini = end)
{
    struct check_branch *b = check_add(&report, "shop", "main");
    for (int i = 0; i < 1000; i++)
        check_problem(b, "page %d is damaged", i);
    cr_expect_eq(b->n_problems, 1000);
    cr_expect_eq(json_array_size(b->problems), CHECK_TEXTS_MAX);
    cr_expect(!check_sound(&report));
}
