#include "proto/btree_page.h"

#include "common/assert.h"
#include "common/bytes.h"

#define FILE_HEADER_BYTES  100u
#define LEAF_HEADER_BYTES  8u
#define INNER_HEADER_BYTES 12u

static uint32_t get16be(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

size_t bt_get_varint(const uint8_t *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 9; i++) {
        if (i >= n)
            return 0;
        if (i == 8) {
            *out = v << 8 | p[i];
            return 9;
        }
        v = v << 7 | (p[i] & 0x7fu);
        if (!(p[i] & 0x80u)) {
            *out = v;
            return i + 1;
        }
    }
    return 0;
}

int bt_kind_of(const uint8_t *data, pgno_t pgno)
{
    int kind = data[pgno == 1 ? FILE_HEADER_BYTES : 0];
    return bt_kind_is_table(kind) || bt_kind_is_index(kind) ? kind : 0;
}

static int bad_page(const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "a page of a b-tree makes no sense: %s", what);
}

int bt_page_open(struct bt_page *page, const uint8_t *data, uint32_t usable, pgno_t pgno)
{
    int kind = bt_kind_of(data, pgno);
    if (!kind)
        return bad_page("its kind is none");
    *page = (struct bt_page){.data = data, .usable = usable, .kind = kind};
    page->header = pgno == 1 ? FILE_HEADER_BYTES : 0;
    const uint8_t *h = data + page->header;
    bool leaf = bt_kind_is_leaf(kind);
    uint32_t pointers = page->header + (leaf ? LEAF_HEADER_BYTES : INNER_HEADER_BYTES);
    page->n_cells = get16be(h + 3);
    if (pointers + 2 * page->n_cells > usable)
        return bad_page("it has more cells than fit");
    page->right = leaf ? 0 : co_get32be(h + 8);
    return !leaf && page->right == 0 ? bad_page("it has no right child") : 0;
}

/* Where cell i begins; 0: nowhere. */
static uint32_t cell_offset(const struct bt_page *page, unsigned i)
{
    co_assert(i < page->n_cells);
    bool leaf = bt_kind_is_leaf(page->kind);
    uint32_t pointers = page->header + (leaf ? LEAF_HEADER_BYTES : INNER_HEADER_BYTES);
    uint32_t at = get16be(page->data + pointers + 2 * i);
    return at >= pointers + 2 * page->n_cells && at < page->usable ? at : 0;
}

/* How much of a record of `bytes` bytes is on the page itself (file format, 1.6). */
static uint32_t local_bytes(const struct bt_page *page, uint64_t bytes)
{
    uint32_t u = page->usable;
    uint32_t most = page->kind == BT_TABLE_LEAF ? u - 35 : (u - 12) * 64 / 255 - 23;
    uint32_t least = (u - 12) * 32 / 255 - 23;
    if (bytes <= most)
        return (uint32_t)bytes;
    uint64_t k = least + (bytes - least) % (u - 4);
    return k <= most ? (uint32_t)k : least;
}

int bt_page_cell(const struct bt_page *page, unsigned i, struct bt_cell *out)
{
    uint32_t at = cell_offset(page, i);
    const uint8_t *p = page->data + at;
    size_t left = page->usable - at, n;
    uint64_t rowid = 0;
    *out = (struct bt_cell){0};
    if (!at)
        return bad_page("a cell lies outside");
    if (!bt_kind_is_leaf(page->kind)) {
        if (left < 4)
            return bad_page("a cell is cut off");
        out->child = co_get32be(p);
        p += 4;
        left -= 4;
    }
    if (page->kind != BT_TABLE_INNER) {
        n = bt_get_varint(p, left, &out->bytes);
        if (!n)
            return bad_page("a cell is cut off");
        p += n;
        left -= n;
    }
    if (bt_kind_is_table(page->kind)) {
        n = bt_get_varint(p, left, &rowid);
        if (!n)
            return bad_page("a cell is cut off");
        out->rowid = (int64_t)rowid;
        p += n;
        left -= n;
    }
    if (page->kind == BT_TABLE_INNER)
        return 0;
    out->local = p;
    out->local_bytes = local_bytes(page, out->bytes);
    bool more = out->local_bytes < out->bytes;
    if (left < out->local_bytes + (more ? 4u : 0u))
        return bad_page("a record is cut off");
    if (more && !(out->overflow = co_get32be(p + out->local_bytes)))
        return bad_page("a long record does not go on");
    return 0;
}

int bt_page_child(const struct bt_page *page, unsigned i, pgno_t *out)
{
    co_assert(i <= page->n_cells && !bt_kind_is_leaf(page->kind));
    if (i == page->n_cells) {
        *out = page->right;
        return 0;
    }
    uint32_t at = cell_offset(page, i);
    if (!at || page->usable - at < 4)
        return bad_page("a cell lies outside");
    *out = co_get32be(page->data + at);
    return 0;
}

unsigned bt_page_children(const uint8_t *data, uint32_t usable, pgno_t pgno, pgno_t *out,
                          unsigned most)
{
    const uint8_t *h = data + (pgno == 1 ? FILE_HEADER_BYTES : 0);
    int kind = bt_kind_of(data, pgno);
    if (!kind || bt_kind_is_leaf(kind))
        return 0;
    unsigned n = get16be(h + 3);
    const uint8_t *pointers = h + INNER_HEADER_BYTES;
    if (n >= most || (size_t)(pointers - data) + 2 * n > usable)
        return 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t at = get16be(pointers + 2 * i);
        if (at + 4 > usable)
            return 0;
        out[i] = co_get32be(data + at);
    }
    out[n] = co_get32be(h + 8);
    return n + 1;
}

pgno_t bt_chain_next(const uint8_t *data)
{
    return co_get32be(data);
}
