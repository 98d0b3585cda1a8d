/*
 * fuzz_btree.c - pages of SQLite's file format, as `corallite diff`, `corallite check` and a
 * compute that asks for pages ahead read them: a database is whatever somebody wrote.
 *
 *   byte 0: page size (512 << bits 0..1), bit 2: a record alone, bit 3: roots of indexes
 *   the rest: half of it the pages of one moment, half of another
 *
 * What holds: no walk leaves a page, none is without end, and an error has a sentence.
 */
#include "cli/page_diff.h"
#include "compute-vfs/ahead.h"
#include "tests/fuzz/fuzz.h"

#define PAGES_MAX 24u

struct moment {
    const uint8_t *data;
    size_t n;
    uint32_t page_size;
    unsigned reads;
};

/* A page, its end filled with zeros. A walk that reads without end is a failure. */
static int read_page(void *context, pgno_t pgno, uint8_t *out)
{
    struct moment *m = context;
    size_t at = (size_t)(pgno - 1) * m->page_size;
    size_t have = at < m->n ? m->n - at : 0;
    FUZZ_CHECK(++m->reads < 200000);
    memset(out, 0, m->page_size);
    if (have)
        memcpy(out, m->data + at, have < m->page_size ? have : m->page_size);
    return 0;
}

static bool any_page(void *context, pgno_t pgno)
{
    ++*(unsigned *)context;
    (void)pgno;
    return true;
}

static int on_key(void *context, size_t tree, const struct bt_value *values, unsigned n)
{
    (void)context, (void)tree;
    for (unsigned i = 0; i < n; i++)
        FUZZ_CHECK(values[i].type <= BT_BLOB);
    return 0;
}

static void record_alone(struct fuzz_in in)
{
    struct bt_key key = {.n = 1 + (unsigned)fuzz_number(&in, 1) % 4};
    struct bt_value values[8];
    uint64_t need = 0, v;
    for (unsigned i = 0; i < key.n; i++) {
        key.column[i].collation = (enum bt_collation)(fuzz_number(&in, 1) % 4);
        key.column[i].descending = i & 1;
    }
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(in.p, in.n), false);
    FUZZ_CHECK(bt_get_varint(exact, in.n, &v) <= in.n);
    int rc = bt_record_values(co_span_of(exact, in.n), 4, values, &need);
    if (rc == CO_ERR_AGAIN)
        FUZZ_CHECK(need > in.n);
    if (rc)
        return;
    for (unsigned i = 0; i < 4; i++) {
        struct co_span b = values[i].bytes;
        if (values[i].type >= BT_TEXT && b.len)
            FUZZ_CHECK(b.data >= exact && b.data + b.len <= exact + in.n);
    }
    FUZZ_CHECK(bt_key_compare(&key, values, values) == 0);
}

static void one_page(const struct bt_file *f, const uint8_t *data, pgno_t pgno)
{
    struct bt_page page;
    struct bt_cell cell;
    pgno_t child;
    if (bt_page_open(&page, data, f->usable, pgno))
        return;
    for (unsigned i = 0; i < page.n_cells; i++)
        if (bt_page_cell(&page, i, &cell) == 0 && cell.local_bytes)
            FUZZ_CHECK(cell.local >= data && cell.local + cell.local_bytes <= data + f->usable);
    for (unsigned i = 0; !bt_kind_is_leaf(page.kind) && i <= page.n_cells; i++)
        (void)!bt_page_child(&page, i, &child);
}

/* All children at once, within the room that there is; they are those that are told one by one. */
static void children(const struct bt_file *f, const uint8_t *data, pgno_t pgno)
{
    AUTO_FREE pgno_t *out = malloc(f->usable / 7 * sizeof *out);
    unsigned n = bt_page_children(data, f->usable, pgno, out, f->usable / 7);
    struct bt_page page;
    FUZZ_CHECK(n <= f->usable / 7);
    if (n == 0 || bt_page_open(&page, data, f->usable, pgno))
        return;
    FUZZ_CHECK(n == page.n_cells + 1);
    for (unsigned i = 0; i < n; i++) {
        pgno_t child;
        if (bt_page_child(&page, i, &child) == 0)
            FUZZ_CHECK(child == out[i]);
    }
}

/* What a compute makes of pages that it reads: never a page that cannot be asked for. */
static void ahead(struct bt_file *f, pgno_t n_pages, uint32_t page_size)
{
    struct cv_ahead a = {.never = 3};
    struct cv_wish wish;
    AUTO_FREE uint8_t *exact = malloc(page_size);
    pgno_t next = 1;
    for (unsigned i = 0; i < 4 * n_pages; i++) {
        pgno_t pgno = i % 2 && next && next <= n_pages ? next : 1 + i * 7 % n_pages;
        cv_ahead_missed(&a, pgno, n_pages, page_size, &wish);
        FUZZ_CHECK(wish.n + wish.chain < CV_AHEAD_MAX);
        for (uint32_t k = 0; k < wish.n; k++)
            FUZZ_CHECK(wish.also[k] >= 1 && wish.also[k] <= n_pages && wish.also[k] != a.never);
        if (bt_file_read(f, pgno, exact) != 0)
            break;
        next = wish.n ? wish.also[0] : bt_chain_next(exact);
        cv_ahead_saw(&a, pgno, 8 + i / 16, exact, page_size, n_pages);
        cv_chain_brought(&a.chain, wish.chain, i % 3 ? wish.chain : 0);
    }
    cv_ahead_free(&a);
}

static void one_moment(struct moment *m, bool index, pgno_t n_pages)
{
    struct bt_file f;
    unsigned free_pages = 0;
    AUTO_FREE uint8_t *exact = malloc(m->page_size);
    if (bt_file_open(&f, read_page, m, m->page_size, n_pages) == 0) {
        struct bt_value key = {.type = BT_INTEGER, .integer = 5};
        struct bt_key by = {.n = 1};
        (void)!bt_each_free(&f, any_page, &free_pages);
        FUZZ_CHECK(free_pages <= n_pages);
        ahead(&f, n_pages, m->page_size);
        for (pgno_t i = 1; i <= n_pages; i++) {
            struct bt_bounds bounds;
            bool found, first;
            pgno_t parent;
            if (bt_file_read(&f, i, exact) == 0)
                one_page(&f, exact, i), children(&f, exact, i);
            if (index)
                (void)!bt_seek_key(&f, 2, &by, &key, i, &found);
            else
                (void)!bt_seek_rowid(&f, 2, (int64_t)i * 3, i, &found, &bounds);
            if (f.auto_vacuum && !bt_is_map_page(&f, i) && i > 2)
                (void)!bt_map_parent(&f, i, &first, &parent);
        }
    }
    bt_file_close(&f);
}

static void both(struct moment m[2], bool index, pgno_t n_pages)
{
    struct pd_tree trees[2] = {{.root = {1, 1}, .wanted = true},
                               {.root = {2, 2}, .wanted = true, .index = index, .key = {.n = 1}}};
    struct page_diff d = {.trees = trees, .n_trees = 2, .key = on_key};
    pgno_t changed[PAGES_MAX];
    size_t n = 0;
    AUTO_FREE uint8_t *a = malloc(m->page_size), *b = malloc(m->page_size);
    for (pgno_t i = 1; i <= n_pages; i++) {
        (void)!read_page(&m[0], i, a);
        (void)!read_page(&m[1], i, b);
        if (memcmp(a, b, m->page_size) != 0)
            changed[n++] = i;
    }
    bool opened = bt_file_open(&d.file[0], read_page, &m[0], m->page_size, n_pages) == 0;
    opened &= bt_file_open(&d.file[1], read_page, &m[1], m->page_size, n_pages) == 0;
    if (opened && page_diff_run(&d, changed, n) == 0 && !d.whole)
        for (size_t i = 0; i < trees[0].n_ranges; i++) {
            FUZZ_CHECK(trees[0].ranges[i].lo <= trees[0].ranges[i].hi);
            FUZZ_CHECK(i == 0 || trees[0].ranges[i - 1].hi < trees[0].ranges[i].lo);
        }
    page_diff_free(&d); /* closes both files too */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned how = (unsigned)fuzz_number(&in, 1);
    uint32_t page_size = 512u << (how & 3);
    if (how & 4) {
        record_alone(in);
        return 0;
    }
    size_t half = in.n / 2;
    pgno_t n_pages = (pgno_t)(half / page_size) + 1;
    if (n_pages > PAGES_MAX)
        n_pages = PAGES_MAX;
    struct moment m[2] = {{in.p, half, page_size, 0}, {in.p + half, in.n - half, page_size, 0}};
    one_moment(&m[0], how & 8, n_pages);
    m[0].reads = 0;
    both(m, how & 8, n_pages);
    return 0;
}
