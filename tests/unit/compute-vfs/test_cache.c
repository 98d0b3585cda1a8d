/* test_cache.c - which version of a page is valid when, and what is evicted. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/cache.h"
#include "compute-vfs/change_map.h"

#define SIZE 512u

static struct cv_cache *c;

static void setup(void)
{
    cr_assert_eq(cv_cache_new(100 * SIZE, 50 * SIZE, &c), 0);
    cv_cache_begin(c, 100);
}

static void teardown(void)
{
    cv_cache_free(c);
}

TestSuite(cache, .init = setup, .fini = teardown, .timeout = 20);

static struct cv_version *page(pgno_t pgno, int fill)
{
    struct cv_version *v = cv_version_new(pgno, SIZE);

    memset(cv_version_data(v), fill, SIZE);
    return v;
}

/* The first byte of the version valid at lsn, -1 for a miss. */
static int at(pgno_t pgno, lsn_t lsn)
{
    uint8_t out[SIZE];
    lsn_t version;

    return cv_cache_get(c, pgno, lsn, out, SIZE, &version) ? out[0] : -1;
}

Test(cache, a_fetched_page_is_valid_until_it_is_known_to_change)
{
    cv_cache_fetched(c, page(7, 1), 50, 100);
    cr_assert_eq(at(7, 50), 1);
    cr_assert_eq(at(7, 49), -1);
    cr_assert_eq(at(7, 5000), 1);
    cv_cache_change(c, 7, 200);
    cr_assert_eq(at(7, 199), 1);
    cr_assert_eq(at(7, 200), -1);
}

Test(cache, a_page_fetched_for_an_old_reader_is_not_taken_for_the_newest)
{
    cv_cache_change(c, 7, 200);
    cv_cache_fetched(c, page(7, 1), 50, 150);
    cr_assert_eq(at(7, 150), 1);
    cr_assert_eq(at(7, 151), -1, "it is only known up to the reader");
    cv_cache_fetched(c, page(8, 1), 50, 90);
    cr_assert_eq(at(8, 91), -1, "before knowledge began");
    cv_cache_fetched(c, page(7, 2), 200, 210);
    cr_assert_eq(at(7, 300), 2);
}

Test(cache, the_same_version_fetched_again_only_extends_it)
{
    struct cv_cache_stats stats;

    cv_cache_change(c, 7, 200);
    cv_cache_fetched(c, page(7, 1), 50, 120);
    cv_cache_fetched(c, page(7, 1), 50, 180);
    cv_cache_fetched(c, page(7, 1), 50, 130);
    cr_assert_eq(at(7, 180), 1);
    cv_cache_stats(c, &stats);
    cr_assert_eq(stats.pages, 1);
}

Test(cache, an_own_commit_closes_the_version_before)
{
    cv_cache_fetched(c, page(7, 1), 50, 100);
    cv_cache_publish(c, page(7, 2), 200);
    cv_cache_publish(c, page(7, 3), 300);
    cr_assert_eq(at(7, 199), 1);
    cr_assert_eq(at(7, 200), 2);
    cr_assert_eq(at(7, 299), 2);
    cr_assert_eq(at(7, 300), 3);
}

Test(cache, a_rollback_brings_back_what_was_valid)
{
    /* M8 */
    cv_cache_fetched(c, page(7, 1), 50, 100);
    cv_cache_fetched(c, page(8, 1), 50, 100);
    cv_cache_publish(c, page(7, 2), 200);
    cv_cache_publish(c, page(7, 3), 300);
    cv_cache_publish(c, page(8, 3), 300);
    cv_cache_rollback(c, 200);
    cr_assert_eq(at(7, 300), 2);
    cr_assert_eq(at(8, 300), 1);
    cr_assert_eq(cv_cache_not_modified_since(c, 7, 250), 200);
    cr_assert_leq(cv_cache_not_modified_since(c, 8, 250), 200);
    cv_cache_publish(c, page(7, 4), 300);
    cr_assert_eq(at(7, 300), 4, "the same LSN again");
}

Test(cache, what_no_snapshot_sees_goes_when_its_successor_is_durable)
{
    struct cv_cache_stats stats;

    for (lsn_t lsn = 200; lsn <= 1000; lsn += 100) {
        cv_cache_publish(c, page(7, (int)(lsn / 100)), lsn);
        cv_cache_durable(c, lsn, lsn - 100);
    }
    cv_cache_stats(c, &stats);
    cr_assert_eq(stats.pages, 2);
    cr_assert_eq(at(7, 1000), 10);
    cr_assert_eq(at(7, 950), 9, "of the oldest snapshot");
    cv_cache_publish(c, page(7, 11), 1100);
    cv_cache_publish(c, page(7, 12), 1200);
    cv_cache_durable(c, 1100, 1100);
    cr_assert_eq(at(7, 1100), 11);
    cr_assert_eq(at(7, 1050), -1);
    cv_cache_rollback(c, 1100);
    cr_assert_eq(at(7, 5000), 11, "open again");
}

Test(cache, what_is_not_durable_is_never_evicted)
{
    struct cv_cache_stats stats;

    for (unsigned i = 1; i <= 1000; i++)
        cv_cache_publish(c, page(i, (int)(i % 200)), 200);
    for (unsigned i = 1; i <= 1000; i++)
        cr_assert_eq(at(i, 200), (int)(i % 200));
    cv_cache_durable(c, 200, 0);
    cv_cache_stats(c, &stats);
    cr_assert_eq(stats.pending, 0);
    cr_assert_leq(stats.bytes, 150 * SIZE);
    cr_assert_eq(stats.fresh, 50);
    cv_cache_ingested(c, 200);
    cv_cache_stats(c, &stats);
    cr_assert_eq(stats.fresh, 0);
    cr_assert_leq(stats.bytes, 100 * SIZE);
}

Test(cache, a_scan_does_not_drive_out_what_is_used)
{
    for (unsigned i = 1; i <= 40; i++)
        cv_cache_fetched(c, page(i, 1), 50, 100);
    for (unsigned i = 1; i <= 40; i++)
        cr_assert_eq(at(i, 100), 1);
    for (unsigned i = 1000; i < 5000; i++)
        cv_cache_fetched(c, page(i, 2), 50, 100);
    for (unsigned i = 1; i <= 40; i++)
        cr_assert_eq(at(i, 100), 1);
}

Test(cache, it_asks_only_for_what_a_page_needs)
{
    cr_assert_eq(cv_cache_not_modified_since(c, 7, 500), 100, "no change since knowledge began");
    cv_cache_change(c, 7, 300);
    cr_assert_eq(cv_cache_not_modified_since(c, 7, 500), 300);
    cr_assert_eq(cv_cache_not_modified_since(c, 7, 299), 299, "what was before is not known");
    cr_assert_eq(cv_cache_not_modified_since(c, 8, 50), 50);
}

Test(cache, beginning_anew_forgets_all_but_what_is_on_its_way)
{
    cv_cache_fetched(c, page(7, 1), 50, 100);
    cv_cache_publish(c, page(8, 2), 200);
    cv_cache_begin(c, 200);
    cr_assert_eq(at(7, 200), -1);
    cr_assert_eq(at(8, 200), 2);
    cr_assert_eq(cv_cache_not_modified_since(c, 7, 300), 200);
}

/* A model: every version ever, against random histories of fetches, commits and rollbacks. */
Test(cache, it_never_answers_with_another_version_than_the_model)
{
    enum { PAGES = 20, STEPS = 60000 };
    static struct {
        lsn_t lsn;
        int fill;
    } history[PAGES + 1][STEPS + 2];
    static unsigned n[PAGES + 1];
    lsn_t durable = 100, tip = 100;

    srand(1234);
    for (int p = 1; p <= PAGES; p++) {
        history[p][0].lsn = 10;
        history[p][0].fill = p;
        n[p] = 1;
    }
    for (int step = 0; step < STEPS; step++) {
        int what = rand() % 100, p = 1 + rand() % PAGES;

        if (what < 20) {
            tip += 8;
            history[p][n[p]].lsn = tip;
            history[p][n[p]].fill = rand() % 250;
            cv_cache_publish(c, page((pgno_t)p, history[p][n[p]].fill), tip);
            n[p]++;
        } else if (what < 30) {
            durable += (tip - durable) / 16 * 8;
            cv_cache_durable(c, durable, 0);
        } else if (what < 31) {
            tip = durable;
            cv_cache_rollback(c, durable);
            for (int q = 1; q <= PAGES; q++)
                while (history[q][n[q] - 1].lsn > durable)
                    n[q]--;
        } else if (what < 35) {
            cv_cache_ingested(c, durable);
        } else if (what < 36 && tip == durable) {
            cv_cache_begin(c, durable);
        } else {
            lsn_t lsn = tip - (lsn_t)(rand() % 10) * 8;
            unsigned i = n[p] - 1;
            int have;

            if (lsn < 100)
                lsn = 100;
            while (history[p][i].lsn > lsn)
                i--;
            have = at((pgno_t)p, lsn);
            if (have >= 0)
                cr_assert_eq(have, history[p][i].fill, "step %d page %d", step, p);
            else /* the pageserver has only what is durable */
                cr_assert_leq(history[p][i].lsn, durable, "step %d: a pending version is gone",
                              step);
            if (have < 0)
                cv_cache_fetched(c, page((pgno_t)p, history[p][i].fill), history[p][i].lsn, lsn);
        }
    }
}

TestSuite(change_map, .timeout = 20);

Test(change_map, it_knows_the_newest_change_of_each_page)
{
    struct cv_change_map m = {0};

    cv_change_map_begin(&m, 1000);
    for (unsigned i = 1; i <= 20000; i++)
        cv_change_map_note(&m, i * 3, 1000 + i * 8);
    cr_assert_eq(cv_change_map_newest(&m, 3 * 12345), 1000 + 12345 * 8);
    cr_assert_eq(cv_change_map_newest(&m, 4), 1000);
    cv_change_map_rollback(&m, 1000 + 8 * 100);
    cr_assert_eq(cv_change_map_newest(&m, 3 * 50), 1000 + 8 * 50);
    cr_assert_eq(cv_change_map_newest(&m, 3 * 12345), 1000 + 8 * 100);
    cv_change_map_free(&m);
}
