/*
 * replay.c - the committed transactions on a plain SQLite, one after the other, and the two images
 * compared byte by byte: what was rolled back, refused or lost has left no trace in any page.
 *
 * Left out is what a file counts for itself: in page 1 the journal's kind, the change counter, and
 * the version that wrote it; and bytes that mean nothing.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "proto/btree_page.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"

static void play(sqlite3 *db, struct record *r)
{
    struct txn *x = &txns[r->txn];
    char *error = NULL;
    if (co_buf_append(&x->sql, "", 1))
        abort();
    x->sql.len--;
    if (sqlite3_exec(db, (const char *)x->sql.data, NULL, NULL, &error) ||
        (!sqlite3_get_autocommit(db) && sqlite3_exec(db, "commit", NULL, NULL, &error)))
        violation("transaction %llu is committed, and a plain file refuses it: %s",
                  (unsigned long long)x->id, error ? error : "");
    run_stats.replayed++;
}

/* From its ancestors' beginning up to lsn. */
static void play_line(sqlite3 *db, struct timeline *t, lsn_t upto)
{
    if (t->parent)
        play_line(db, t->parent, t->base < upto ? t->base : upto);
    for (uint32_t i = 0; i < t->n_gold; i++)
        if (t->gold[i]->h.kind == WAL_TXN && t->gold[i]->h.end_lsn <= upto)
            play(db, t->gold[i]);
}

static void blank(uint8_t *page1)
{
    memset(page1 + 18, 0, 2);
    memset(page1 + 24, 0, 4);
    memset(page1 + 92, 0, 8);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The last page of a long record's chain means something up to the record's end. What is behind
 * that after ROLLBACK TO is not the same with a WAL and with the journal of the plain file. */
static void cut_chain(uint32_t *meant, const uint8_t *image, uint32_t pages, uint32_t page_size,
                      const struct bt_cell *cell)
{
    uint64_t left = cell->bytes - cell->local_bytes;
    for (pgno_t at = cell->overflow; at && at <= pages && left;) {
        uint32_t here = left < page_size - 4 ? (uint32_t)left : page_size - 4;
        meant[at] = 4 + here;
        left -= here;
        at = bt_chain_next(image + (size_t)(at - 1) * page_size);
    }
}

static void cut_chains(uint32_t *meant, const uint8_t *image, uint32_t pages, uint32_t page_size)
{
    for (pgno_t i = 1; i <= pages; i++) {
        struct bt_page page;
        struct bt_cell cell;
        const uint8_t *data = image + (size_t)(i - 1) * page_size;
        if (meant[i] == 0 || !bt_kind_of(data, i) || bt_page_open(&page, data, page_size, i))
            continue;
        for (unsigned k = 0; k < page.n_cells; k++)
            if (bt_page_cell(&page, k, &cell) == 0)
                cut_chain(meant, image, pages, page_size, &cell);
    }
}

/* So many bytes of each page mean something. Of the list of free pages a leaf has none, and a trunk
 * ends with the numbers of its leaves: SQLite need not write what is behind that, and whether it
 * does depends on its cache. */
static uint32_t *meant_bytes(const uint8_t *image, uint32_t pages, uint32_t page_size)
{
    uint32_t *meant = malloc((pages + 1) * sizeof *meant);
    co_assert(meant != NULL);
    for (uint32_t i = 0; i <= pages; i++)
        meant[i] = page_size;
    for (uint32_t trunk = be32(image + 32); trunk && trunk <= pages;) {
        const uint8_t *p = image + (size_t)(trunk - 1) * page_size;
        uint32_t n = be32(p + 4) < page_size / 4 - 2 ? be32(p + 4) : page_size / 4 - 2;
        for (uint32_t i = 0; i < n; i++)
            if (be32(p + 8 + 4 * i) <= pages)
                meant[be32(p + 8 + 4 * i)] = 0;
        meant[trunk] = 8 + 4 * n;
        trunk = be32(p);
    }
    cut_chains(meant, image, pages, page_size);
    return meant;
}

static void compare(struct timeline *t)
{
    sqlite3 *db;
    sqlite3_int64 size;
    uint8_t ours[65536];
    char first[100];
    uint32_t pages = size_at(t, NEVER);
    if (!pages)
        return;
    co_assert(sqlite3_open_v2("file:plain?vfs=memdb", &db,
                              SQLITE_OPEN_URI | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                              NULL) == SQLITE_OK);
    snprintf(first, sizeof first, "pragma temp_store=memory; pragma page_size=%u", sim.w.page_size);
    co_assert(sqlite3_exec(db, first, NULL, NULL, NULL) == SQLITE_OK);
    play_line(db, t, NEVER);
    uint8_t *image = sqlite3_serialize(db, "main", &size, 0);
    co_assert(image != NULL);
    if (size != (sqlite3_int64)pages * t->page_size)
        violation("%s has %u pages, the plain file %lld", t->branch, pages,
                  (long long)size / t->page_size);
    uint32_t *meant = meant_bytes(image, pages, t->page_size);
    for (uint32_t i = 1; i <= pages; i++) {
        if (meant[i] == 0)
            continue;
        const uint8_t *page = page_at(t, i, NEVER);
        uint8_t *plain = image + (size_t)(i - 1) * t->page_size;
        co_assert(page != NULL);
        memcpy(ours, page, t->page_size);
        if (i == 1) {
            blank(ours);
            blank(plain);
        }
        if (memcmp(ours, plain, meant[i]) != 0) {
            uint32_t at = 0;
            while (ours[at] == plain[at])
                at++;
            violation("page %u of %u of %s differs from the plain file's from byte %u on", i, pages,
                      t->branch, at);
        }
    }
    free(meant);
    sqlite3_free(image);
    sqlite3_close(db);
}

void replay_all(void)
{
    for (uint32_t i = 0; i < n_timelines; i++)
        if (!timelines[i].gone)
            compare(&timelines[i]);
}
