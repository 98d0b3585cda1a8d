#include "cli/btree_seek.h"

#include <stdlib.h>

#include "common/assert.h"
#include "proto/limits.h"

#define KEY_MAX_BYTES   CO_MIB /* of a record, that is decoded */
#define HEADER_BYTES    100u
#define AT_RESERVED     20u
#define AT_FREE_TRUNK   32u
#define AT_FREE_COUNT   36u
#define AT_LARGEST_ROOT 52u
#define MAP_ENTRY_BYTES 5u
#define MAP_FIRST       3 /* first overflow page of a record: its parent is the b-tree's page */
#define MAP_NEXT        4
#define LOCK_BYTE_AT    CO_GIB

static int bad_file(const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "the database makes no sense: %s", what);
}

int bt_file_read(struct bt_file *f, pgno_t pgno, uint8_t *out)
{
    if (pgno == 0 || pgno > f->n_pages)
        return bad_file("a page number lies outside");
    return f->read(f->context, pgno, out);
}

int bt_file_open(struct bt_file *f, int (*read)(void *, pgno_t, uint8_t *), void *context,
                 uint32_t page_size, pgno_t n_pages)
{
    *f = (struct bt_file){
        .read = read, .context = context, .page_size = page_size, .n_pages = n_pages};
    co_assert(page_size >= CO_PAGE_SIZE_MIN);
    f->spare = malloc(page_size);
    for (int i = 0; i < BT_DEPTH_MAX; i++)
        f->levels[i] = malloc(page_size);
    if (!f->spare || !f->levels[BT_DEPTH_MAX - 1])
        return co_fail(CO_ERR_NOMEM, "there is no memory for pages");
    for (int i = 0; i < BT_DEPTH_MAX; i++)
        if (!f->levels[i])
            return co_fail(CO_ERR_NOMEM, "there is no memory for pages");
    int rc = bt_file_read(f, 1, f->spare);
    if (rc)
        return rc;
    f->usable = page_size - f->spare[AT_RESERVED];
    f->auto_vacuum = co_get32be(f->spare + AT_LARGEST_ROOT) != 0;
    return f->usable >= 480 ? 0 : bad_file("too much of each page is reserved");
}

void bt_file_close(struct bt_file *f)
{
    free(f->spare);
    for (int i = 0; i < BT_DEPTH_MAX; i++)
        free(f->levels[i]);
    for (int i = 0; i < 2; i++)
        co_buf_free(&f->key[i]);
}

/* -- rowids --------------------------------------------------------------------------------------
 */

/* Which child of an inner page holds the rowid; narrows the bounds. */
static int row_child(const struct bt_page *page, int64_t rowid, pgno_t *child,
                     struct bt_bounds *bounds)
{
    unsigned from = 0, to = page->n_cells;
    struct bt_cell cell;
    while (from < to) { /* the first cell whose rowid is not below */
        unsigned middle = from + (to - from) / 2;
        int rc = bt_page_cell(page, middle, &cell);
        if (rc)
            return rc;
        if (cell.rowid < rowid) {
            bounds->lo = cell.rowid + 1;
            from = middle + 1;
        } else {
            bounds->hi = cell.rowid;
            to = middle;
        }
    }
    return bt_page_child(page, from, child);
}

/* The page of a tree on the way down. */
static int enter(struct bt_file *f, pgno_t pgno, bool table, struct bt_page *page)
{
    int rc = bt_file_read(f, pgno, f->levels[0]);
    if (!rc)
        rc = bt_page_open(page, f->levels[0], f->usable, pgno);
    if (rc)
        return rc;
    if (table && !bt_kind_is_table(page->kind))
        return bad_file("a table's page is an index's");
    if (!table && !bt_kind_is_index(page->kind))
        return bad_file("an index's page is a table's");
    return 0;
}

int bt_seek_rowid(struct bt_file *f, pgno_t root, int64_t rowid, pgno_t target, bool *found,
                  struct bt_bounds *bounds)
{
    pgno_t pgno = root;
    *bounds = (struct bt_bounds){INT64_MIN, INT64_MAX};
    *found = false;
    for (int depth = 0; depth < BT_DEPTH_MAX; depth++) {
        struct bt_page page;
        if (pgno == target) {
            *found = true;
            return 0;
        }
        int rc = enter(f, pgno, true, &page);
        if (rc || page.kind == BT_TABLE_LEAF)
            return rc;
        rc = row_child(&page, rowid, &pgno, bounds);
        if (rc)
            return rc;
    }
    return bad_file("a b-tree is too deep");
}

/* -- records -------------------------------------------------------------------------------------
 */

/* The first `bytes` bytes of a record. */
static int gather(struct bt_file *f, const struct bt_cell *cell, uint64_t bytes, struct co_buf *out)
{
    size_t first = cell->local_bytes < bytes ? cell->local_bytes : (size_t)bytes;
    pgno_t next = cell->overflow;
    out->len = 0;
    int rc = co_buf_append(out, cell->local, first);
    while (!rc && out->len < bytes) {
        size_t part = f->usable - 4;
        rc = bt_file_read(f, next, f->spare);
        if (rc)
            break;
        if (part > bytes - out->len)
            part = (size_t)bytes - out->len;
        next = co_get32be(f->spare);
        rc = co_buf_append(out, f->spare + 4, part);
    }
    return rc;
}

int bt_cell_values(struct bt_file *f, const struct bt_cell *cell, unsigned want, int slot,
                   struct bt_value *out)
{
    uint64_t need = cell->local_bytes;
    struct co_span record = co_span_of(cell->local, cell->local_bytes);
    for (int round = 0; round < 4; round++) { /* length of the header, header, values */
        int rc = bt_record_values(record, want, out, &need);
        if (rc != CO_ERR_AGAIN)
            return rc;
        if (need > cell->bytes)
            need = cell->bytes;
        if (need <= record.len || need > KEY_MAX_BYTES)
            break;
        rc = gather(f, cell, need, &f->key[slot]);
        if (rc)
            return rc;
        record = co_buf_span(&f->key[slot]);
    }
    return bad_file("a record is cut off, or its key is very long");
}

/* -- keys ----------------------------------------------------------------------------------------
 */

/* The child that holds the key; 0: the key is on this page itself. */
static int key_child(struct bt_file *f, const struct bt_page *page, const struct bt_key *key,
                     const struct bt_value *values, pgno_t *child)
{
    unsigned from = 0, to = page->n_cells;
    struct bt_value at[BT_KEY_COLUMNS_MAX];
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        struct bt_cell cell;
        int rc = bt_page_cell(page, middle, &cell);
        if (!rc)
            rc = bt_cell_values(f, &cell, key->n, 1, at);
        if (rc)
            return rc;
        int order = bt_key_compare(key, at, values);
        *child = 0;
        if (order == 0)
            return 0;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return bt_page_child(page, from, child);
}

int bt_seek_key(struct bt_file *f, pgno_t root, const struct bt_key *key,
                const struct bt_value *values, pgno_t target, bool *found)
{
    pgno_t pgno = root;
    *found = false;
    for (int depth = 0; depth < BT_DEPTH_MAX; depth++) {
        struct bt_page page;
        if (pgno == target) {
            *found = true;
            return 0;
        }
        int rc = enter(f, pgno, false, &page);
        if (rc || page.kind == BT_INDEX_LEAF)
            return rc;
        rc = key_child(f, &page, key, values, &pgno);
        if (rc || !pgno)
            return rc;
    }
    return bad_file("a b-tree is too deep");
}

/* -- free pages ----------------------------------------------------------------------------------
 */

int bt_each_free(struct bt_file *f, bool (*visit)(void *context, pgno_t pgno), void *context)
{
    int rc = bt_file_read(f, 1, f->spare);
    if (rc)
        return rc;
    pgno_t trunk = co_get32be(f->spare + AT_FREE_TRUNK);
    pgno_t left = f->n_pages; /* no more pages can be free than there are */
    while (trunk) {
        if (left-- == 0)
            return bad_file("the list of free pages goes round");
        if (!visit(context, trunk))
            return 0;
        rc = bt_file_read(f, trunk, f->spare);
        if (rc)
            return rc;
        uint32_t n = co_get32be(f->spare + 4);
        if (n > f->usable / 4 - 2)
            return bad_file("a trunk of free pages has more than fit");
        if (n > left)
            return bad_file("its list of free pages is longer than it has pages");
        left -= n;
        for (uint32_t i = 0; i < n; i++)
            if (!visit(context, co_get32be(f->spare + 8 + 4 * i)))
                return 0;
        trunk = co_get32be(f->spare);
    }
    return 0;
}

/* -- the pointer map -----------------------------------------------------------------------------
 */

/* The page of the map that tells about a page; the page itself when it is one. */
static pgno_t map_page(const struct bt_file *f, pgno_t pgno)
{
    if (pgno < 2)
        return 0;
    pgno_t a_page = f->usable / MAP_ENTRY_BYTES + 1;
    pgno_t map = (pgno - 2) / a_page * a_page + 2;
    return map == (pgno_t)(LOCK_BYTE_AT / f->page_size) + 1 ? map + 1 : map;
}

bool bt_is_map_page(const struct bt_file *f, pgno_t pgno)
{
    return f->auto_vacuum && map_page(f, pgno) == pgno;
}

int bt_map_parent(struct bt_file *f, pgno_t pgno, bool *first, pgno_t *parent)
{
    pgno_t map = map_page(f, pgno);
    if (!f->auto_vacuum || map >= pgno)
        return bad_file("a page that no pointer map tells about");
    uint32_t at = MAP_ENTRY_BYTES * (pgno - map - 1);
    int rc = bt_file_read(f, map, f->spare);
    if (rc)
        return rc;
    if (at + MAP_ENTRY_BYTES > f->usable)
        return bad_file("a page that no pointer map tells about");
    const uint8_t *entry = f->spare + at;
    if (entry[0] != MAP_FIRST && entry[0] != MAP_NEXT)
        return bad_file("the pointer map does not know an overflow page");
    *first = entry[0] == MAP_FIRST;
    *parent = co_get32be(entry + 1);
    return 0;
}
