#include "compute-vfs/change_map.h"

#include <stdlib.h>
#include <string.h>

void cv_change_map_free(struct cv_change_map *m)
{
    free(m->slots);
    memset(m, 0, sizeof *m);
}

void cv_change_map_begin(struct cv_change_map *m, lsn_t lsn)
{
    cv_change_map_free(m);
    m->began = lsn;
}

static struct cv_change *slot_of(struct cv_change *slots, uint32_t cap, pgno_t pgno)
{
    uint32_t i = (uint32_t)(pgno * 0x9e3779b97f4a7c15ull >> 24) & (cap - 1);

    while (slots[i].pgno && slots[i].pgno != pgno)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static int grow(struct cv_change_map *m)
{
    uint32_t cap = m->cap ? m->cap * 2 : 1024;
    struct cv_change *slots;

    if (m->n >= CV_CHANGE_MAP_MAX)
        return -1;
    slots = calloc(cap, sizeof *slots);
    if (!slots)
        return -1;
    for (uint32_t i = 0; i < m->cap; i++)
        if (m->slots[i].pgno)
            *slot_of(slots, cap, m->slots[i].pgno) = m->slots[i];
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    return 0;
}

void cv_change_map_note(struct cv_change_map *m, pgno_t pgno, lsn_t lsn)
{
    struct cv_change *slot;

    if (m->n + 1 > m->cap / 4 * 3 && grow(m)) {
        cv_change_map_begin(m, lsn);
        return;
    }
    slot = slot_of(m->slots, m->cap, pgno);
    if (!slot->pgno) {
        slot->pgno = pgno;
        m->n++;
    }
    slot->lsn = lsn;
    m->noted++;
}

lsn_t cv_change_map_newest(const struct cv_change_map *m, pgno_t pgno)
{
    struct cv_change *slot;

    if (!m->cap)
        return m->began;
    slot = slot_of(m->slots, m->cap, pgno);
    return slot->pgno ? slot->lsn : m->began;
}

void cv_change_map_rollback(struct cv_change_map *m, lsn_t lsn)
{
    for (uint32_t i = 0; i < m->cap; i++)
        if (m->slots[i].pgno && m->slots[i].lsn > lsn)
            m->slots[i].lsn = lsn;
    if (m->began > lsn)
        m->began = lsn;
}
