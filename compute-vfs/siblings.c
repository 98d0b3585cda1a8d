#include "compute-vfs/siblings.h"

#include <stdlib.h>
#include <string.h>

#include "proto/btree_page.h"

/* A cell of an inner page is a child and a number of at least one byte, and has a pointer. */
#define CHILD_BYTES 7u
#define NONE        UINT32_MAX

void cv_siblings_free(struct cv_siblings *s)
{
    for (unsigned i = 0; i < CV_PARENTS; i++)
        free(s->parent[i].child);
    memset(s, 0, sizeof *s);
}

static struct cv_parent *parent_at(struct cv_siblings *s, pgno_t pgno)
{
    for (unsigned i = 0; i < CV_PARENTS; i++)
        if (s->parent[i].pgno == pgno)
            return &s->parent[i];
    return NULL;
}

static struct cv_parent *oldest(struct cv_siblings *s)
{
    struct cv_parent *p = s->parent;

    for (unsigned i = 1; i < CV_PARENTS; i++)
        if (s->parent[i].used < p->used)
            p = &s->parent[i];
    return p;
}

/* A child that was cached already is a step of a scan like one that was missed. */
static void step(struct cv_parent *p, pgno_t pgno)
{
    if (p->way >= 0 && p->hi + 1 < p->n && p->child[p->hi + 1] == pgno)
        p->hi++;
    else if (p->way <= 0 && p->lo > 0 && p->child[p->lo - 1] == pgno)
        p->lo--;
}

void cv_siblings_saw(struct cv_siblings *s, pgno_t pgno, lsn_t version, const uint8_t *data,
                     uint32_t page_size)
{
    int kind = bt_kind_of(data, pgno);
    uint32_t room = page_size / CHILD_BYTES + 1;
    struct cv_parent *p;

    if (s->last)
        step(s->last, pgno);
    if (!kind || bt_kind_is_leaf(kind))
        return;
    p = parent_at(s, pgno);
    if (!p)
        p = oldest(s);
    p->used = ++s->clock;
    if (p->pgno == pgno && p->version == version)
        return;
    if (p->room < room) {
        free(p->child);
        p->child = malloc(room * sizeof *p->child);
        p->room = p->child ? room : 0;
    }
    p->pgno = pgno;
    p->version = version;
    p->n = bt_page_children(data, page_size, pgno, p->child, p->room);
    p->lo = p->hi = p->asked = 0;
    p->way = 0;
    if (s->last == p)
        s->last = NULL;
}

/* The parent that was of use last. */
static struct cv_parent *parent_of(struct cv_siblings *s, pgno_t pgno, uint32_t *at)
{
    struct cv_parent *found = NULL;

    for (unsigned i = 0; i < CV_PARENTS; i++) {
        struct cv_parent *p = &s->parent[i];

        for (uint32_t k = 0; k < p->n && (!found || p->used > found->used); k++)
            if (p->child[k] == pgno) {
                found = p;
                *at = k;
                break;
            }
    }
    return found;
}

/* Is `at` where a scan of p goes on, and which way? */
static int continues(const struct cv_parent *p, uint32_t at)
{
    uint32_t up = p->way > 0 ? p->asked : 1, down = p->way < 0 ? p->asked : 1;

    if (at > p->hi && at - p->hi <= up)
        return 1;
    return at < p->lo && p->lo - at <= down ? -1 : 0;
}

/* The first miss in p: has a scan come to the end of the inner page before it? */
static int carries_on(struct cv_siblings *s, const struct cv_parent *p, uint32_t at,
                      uint32_t *asked)
{
    uint32_t mine;
    struct cv_parent *above = parent_of(s, p->pgno, &mine), *beside;

    if (above && at == 0 && mine > 0) {
        beside = parent_at(s, above->child[mine - 1]);
        if (beside && beside->way > 0 && beside->hi == beside->n - 1) {
            *asked = beside->asked;
            return 1;
        }
    }
    if (above && at == p->n - 1 && mine + 1 < above->n) {
        beside = parent_at(s, above->child[mine + 1]);
        if (beside && beside->way < 0 && beside->lo == 0) {
            *asked = beside->asked;
            return -1;
        }
    }
    return 0;
}

/* One that was asked for a moment ago is missed: it could not be had, or is out of the cache again.
 * Two beside each other are a scan that has come back. Is it the first? */
static bool is_stray(struct cv_parent *p, uint32_t at)
{
    if (at < p->lo || at > p->hi)
        return false;
    if (p->again == NONE || (at != p->again + 1 && at + 1 != p->again)) {
        p->again = at;
        return true;
    }
    p->lo = p->hi = p->again;
    p->way = 0;
    return false;
}

static uint32_t list(const struct cv_parent *p, uint32_t at, pgno_t *also)
{
    uint32_t n = 0;

    for (uint32_t k = at; p->way > 0 && k < p->hi; k++)
        also[n++] = p->child[k + 1];
    for (uint32_t k = at; p->way < 0 && k > p->lo; k--)
        also[n++] = p->child[k - 1];
    return n;
}

uint32_t cv_siblings_missed(struct cv_siblings *s, pgno_t pgno, uint32_t most, pgno_t *also,
                            bool *known, bool *scan)
{
    uint32_t at, asked = 1, n;
    struct cv_parent *p = parent_of(s, pgno, &at);
    int way;

    *known = p != NULL;
    *scan = false;
    if (!p)
        return 0;
    p->used = ++s->clock;
    s->last = p;
    if (p->asked && is_stray(p, at)) {
        *scan = p->way != 0;
        return 0;
    }
    if (p->asked) {
        way = continues(p, at);
        asked = way && way == p->way ? p->asked : 1;
    } else {
        way = carries_on(s, p, at, &asked);
    }
    n = way ? 2 * asked : 1;
    n = n > most ? most : n;
    p->asked = n;
    p->way = way;
    p->again = NONE;
    p->lo = way >= 0 ? at : at >= n - 1 ? at - (n - 1) : 0;
    p->hi = way <= 0 ? at : p->n - at > n ? at + n - 1 : p->n - 1;
    *scan = way != 0;
    return list(p, at, also);
}
