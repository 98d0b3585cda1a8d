/* verify_pages_lmdb.c - table page: each image and each pack, read as a look-up would read it. */
#include <stdio.h>
#include <stdlib.h>

#include "pageserver/verify_int_lmdb.h"

/* One image with its pack, as it is read. */
struct group {
    struct ps_page_key first;
    uint32_t n_chunks, next, size;
    bool has_image, image_bad;
    struct co_span pack;
};

static void bad_image(struct ps_walk *w, struct group *g, const char *kind, const char *why)
{
    char at[LSN_TEXT];
    if (g->image_bad)
        return;
    g->image_bad = true;
    ps_verify_say(w, kind, g->first.pgno, g->first.lsn, "page %u at LSN %s cannot be read: %.200s",
                  (unsigned)g->first.pgno, lsn_format(g->first.lsn, at), why);
}

static void missing_chunk(struct ps_walk *w, struct group *g)
{
    char why[60];
    snprintf(why, sizeof why, "chunk %u of %u is missing", (unsigned)g->next + 1,
             (unsigned)g->n_chunks);
    bad_image(w, g, "chunk-missing", why);
}

/* An entry of the group: counted, and fed to the decoder. */
static int take_entry(struct ps_walk *w, struct group *g, const struct ps_page_key *k,
                      struct co_span v)
{
    struct ps_usage *u = &w->at->counted;
    int rc = 0;
    u->page_bytes += v.len + PS_PAGE_KEY_BYTES + NODE_BYTES;
    if (k->chunk == PS_PACK_CHUNK) {
        u->versions += ps_pack_count(v);
        g->pack = v;
        return 0;
    }
    if (k->chunk == 0) {
        u->versions++;
        u->images++;
        g->has_image = true;
        uint32_t log2 = v.len >= PS_HEAD_BYTES ? v.data[3] : 0;
        g->size = log2 >= 9 && log2 <= 16 ? 1u << log2 : 0;
        rc = g->size ? ps_decode_begin(w->txn->codec, v, g->size, &g->n_chunks)
                     : co_fail(CO_ERR_CORRUPT, "its head makes no sense");
    } else if (g->image_bad) {
        return 0;
    } else if (!g->has_image || k->chunk != g->next || g->next >= g->n_chunks) {
        missing_chunk(w, g);
    } else {
        rc = ps_decode_more(w->txn->codec, v);
    }
    g->next++;
    if (rc == CO_ERR_NOMEM)
        return rc;
    if (rc)
        bad_image(w, g, "page-damaged", co_sentence());
    return 0;
}

/* A version that is sound: does a commit know it? */
static int look_at_version(struct ps_walk *w, pgno_t pgno, lsn_t lsn)
{
    struct ps_commit c;
    char at[LSN_TEXT];
    w->step->versions++;
    if (!ps_verify_strict(w, lsn))
        return 0;
    w->at->found++;
    int rc = ps_verify_commit(w, w->of->line->no, lsn, &c);
    if (rc == CO_ERR_NOT_FOUND) {
        ps_verify_say(w, "commit-missing", pgno, lsn,
                      "page %u has a version at LSN %s, and no commit is there", (unsigned)pgno,
                      lsn_format(lsn, at));
        rc = 0;
    }
    return rc;
}

static void bad_pack(struct ps_walk *w, const struct group *g, lsn_t behind)
{
    char at[LSN_TEXT];
    ps_verify_say(w, "pack-damaged", g->first.pgno, behind,
                  "the versions of page %u behind LSN %s cannot be read: %.200s",
                  (unsigned)g->first.pgno, lsn_format(behind, at), co_sentence());
}

static int look_at_pack(struct ps_walk *w, struct group *g, uint8_t *page)
{
    struct ps_pack_entry e = {.lsn = g->first.lsn};
    struct co_span rest = g->pack;
    for (;;) {
        lsn_t before = e.lsn;
        int rc = ps_pack_next(&rest, before, &e);
        if (rc == CO_ERR_NOT_FOUND)
            return 0;
        if (!rc)
            rc = ps_pack_apply(&e, page, g->size);
        if (!rc)
            rc = ps_check_crc(page, g->size, e.crc);
        if (rc == CO_ERR_NOMEM)
            return rc;
        if (rc) {
            bad_pack(w, g, before);
            return 0;
        }
        w->step->cost += g->size / 4;
        rc = look_at_version(w, g->first.pgno, e.lsn);
        if (rc)
            return rc;
    }
}

static int look_at_group(struct ps_walk *w, struct group *g, uint8_t *page)
{
    uint32_t crc;
    int rc = 0;
    if (!g->has_image)
        bad_image(w, g, "chunk-missing", "its first chunk is missing");
    else if (!g->image_bad && g->next < g->n_chunks)
        missing_chunk(w, g);
    if (!g->image_bad) {
        rc = ps_decode_end(w->txn->codec, page, &crc);
        if (rc == CO_ERR_NOMEM)
            return rc;
        if (rc)
            bad_image(w, g, "page-damaged", co_sentence());
    }
    w->step->cost += g->size + PS_VERIFY_ROW_BYTES;
    if (g->image_bad)
        return 0;
    rc = look_at_version(w, g->first.pgno, g->first.lsn);
    return rc ? rc : look_at_pack(w, g, page);
}

/* The group that follows (at->pgno, at->lsn) downwards. CO_ERR_NOT_FOUND: there is none. */
static int one_group(struct ps_walk *w, uint8_t *page)
{
    struct ps_verify_at *at = w->at;
    struct ps_page_key k = {.no = w->of->line->no, .pgno = at->pgno, .lsn = at->lsn};
    struct group g = {.n_chunks = 1};
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    ps_page_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), v;
    if (at->index)
        return CO_ERR_NOT_FOUND; /* that was the last key there can be */
    int rc = mdb_cursor_get(w->txn->page, &key, &v, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND ||
        (!rc && (!ps_page_key_get(ps_span(key), &k) || k.no != w->of->line->no)))
        return CO_ERR_NOT_FOUND;
    g.first = k;
    while (!rc && ps_page_key_get(ps_span(key), &k) && k.no == g.first.no &&
           k.pgno == g.first.pgno && k.lsn == g.first.lsn) {
        int bad = take_entry(w, &g, &k, ps_span(v));
        if (bad)
            return bad;
        rc = mdb_cursor_get(w->txn->page, &key, &v, MDB_NEXT);
    }
    if (rc && rc != MDB_NOTFOUND)
        return ps_verify_fail(w, rc);
    rc = look_at_group(w, &g, page);
    at->index = g.first.lsn == 0 && g.first.pgno == UINT32_MAX;
    at->pgno = g.first.pgno + (g.first.lsn == 0);
    at->lsn = g.first.lsn - 1; /* wraps from 0 to the newest of the next page */
    return rc;
}

int ps_verify_pages(struct ps_walk *w)
{
    uint8_t *page = malloc(CO_PAGE_SIZE_MAX);
    int rc = page ? 0 : co_fail(CO_ERR_NOMEM, "no memory for a page");
    while (!rc && !ps_verify_full(w))
        rc = one_group(w, page);
    free(page);
    if (rc != CO_ERR_NOT_FOUND)
        return rc;
    if (w->at->cutoff == w->of->cutoff && w->at->found > w->at->listed)
        ps_verify_say(
            w, "version-unlisted", 0, 0,
            "there are %llu versions of pages, and the commits list %llu: a list of changes lacks "
            "pages",
            (unsigned long long)w->at->found, (unsigned long long)w->at->listed);
    ps_verify_next_phase(w);
    return 0;
}
