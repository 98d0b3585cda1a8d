#include "compute-vfs/chain.h"

#include "proto/btree_page.h"

void cv_chain_saw(struct cv_chain *c, pgno_t pgno, const uint8_t *data, uint32_t db_pages)
{
    int kind = bt_kind_of(data, pgno);

    if (pgno == c->next && c->used < UINT32_MAX)
        c->used++;
    else if (!kind)
        c->used = 1;
    c->next = bt_chain_next(data);
    if (c->next > db_pages)
        c->next = 0;
    c->inner = kind && !bt_kind_is_leaf(kind);
}

uint32_t cv_chain_missed(struct cv_chain *c, pgno_t pgno, bool is_child, uint32_t most)
{
    uint32_t n = 0;

    if (c->refused)
        return 0;
    if (pgno == c->next)
        n = c->used + 1;
    else if (!c->inner && !is_child)
        n = c->used;
    n = n > most ? most : n;
    return n ? n - 1 : 0;
}

void cv_chain_brought(struct cv_chain *c, uint32_t asked, uint32_t came)
{
    if (asked && !came && c->next)
        c->refused = true;
}
