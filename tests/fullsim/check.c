/* check.c - at the end, everything healed: each timeline through SQLite, and each page of it at
 * some moments as the pageserver serves it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "compute-vfs/pageserver_sock.h"
#include "tests/fullsim/client.h"

#define MOMENTS  6u
#define AT_ONCE  200u
#define PATIENCE 120000000u

static void check_pages(struct cv_pages *pages, struct timeline *t, lsn_t lsn)
{
    static struct cv_page page[AT_ONCE];
    static uint8_t data[AT_ONCE][65536];
    uint32_t n = size_at(t, lsn);
    uint64_t until = sim.now + PATIENCE;
    for (pgno_t first = 1; first <= n; first += AT_ONCE) {
        uint32_t m = n - first + 1 < AT_ONCE ? n - first + 1 : AT_ONCE;
        for (uint32_t i = 0; i < m; i++)
            page[i] = (struct cv_page){.pgno = first + i, .data = data[i]};
        int rc = pages->ops->get(pages, &t->id, lsn, lsn, t->page_size, page, m, 20000);
        if (rc && sim.restored && sim.now < until) {
            task_sleep(100000); /* all of it comes anew */
            first -= AT_ONCE;
            continue;
        }
        if (rc)
            violation("pages of %s at %llx cannot be had: %s", t->branch, (unsigned long long)lsn,
                      co_sentence());
        for (uint32_t i = 0; i < m; i++) {
            const uint8_t *want = page_at(t, first + i, lsn);
            if (!want || page[i].status || memcmp(want, data[i], t->page_size) != 0)
                violation("I13: page %u of %s at %llx, asked of the pageserver: status %d",
                          first + i, t->branch, (unsigned long long)lsn, page[i].status);
            run_stats.pages_checked++;
        }
    }
}

static void check_moments(struct cv_pages *pages, struct timeline *t)
{
    for (uint32_t i = 0; i <= MOMENTS; i++) {
        struct record *r = gold_at(t, i ? any_lsn(t) : NEVER);
        /* What a minority has of a sealed log, or had and lost, is not shown. */
        if (r && !(t->sealed && r->h.end_lsn > sealed_told(t)))
            check_pages(pages, t, r->h.end_lsn);
    }
}

static void check_timeline(struct conn *c, struct timeline *t)
{
    int rc = 1;
    struct conn other = {0};
    trace("check %s", t->branch);
    while (sealed_owes(t))
        task_sleep(20000);
    while (rc) {
        if (!other.db)
            other = work_other(c, t, 0);
        long long bad = other.db ? client_int(&other, &rc,
                                              "select count(*) from pragma_integrity_check "
                                              "where integrity_check <> 'ok'")
                                 : 0;
        if (!rc && bad != 0)
            violation("%s: integrity_check finds %lld errors", t->branch, bad);
        if (rc)
            task_sleep(20000);
    }
    work_read(&other, "at the end");
    sqlite3_close(other.db);
}

void check_timelines(uint32_t server)
{
    struct cv_pages *pages;
    char host[32];
    snprintf(host, sizeof host, "10.0.255.%u:6400", HOST_PAGES + server);
    co_assert(cv_pageserver_open(host, &pages) == 0);
    for (uint32_t i = 0; i < n_timelines; i++)
        if (!timelines[i].gone)
            check_moments(pages, &timelines[i]);
    pages->ops->close(pages);
}

void check_all(struct conn *c)
{
    for (uint32_t i = 0; i < n_timelines; i++)
        if (!timelines[i].gone)
            check_timeline(c, &timelines[i]);
    for (uint32_t k = 0; k < pages_count(); k++)
        check_timelines(k);
    work_check_drops(c);
    if (!sim.w.archive_ms)
        return;
    work_check_pins(c);
    archive_check();
}
