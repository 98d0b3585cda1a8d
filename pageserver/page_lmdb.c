/*
 * page_lmdb.c - table page: versions in, versions out.
 *
 * A *group* is an image and the pack of small changes behind it (page_codec.h); both lie under the
 * image's LSN, so that one seek finds the group of the newest version at or below an LSN and reads
 * on to its pack. A group lies in one timeline: a branch's first version of a page is an image.
 */
#include "common/assert.h"
#include "common/mutation.h"
#include "pageserver/store_int_lmdb.h"

#define NODE_BYTES (8 + PS_PAGE_KEY_BYTES) /* of an entry beside its value */

/* Where the cursor of the pages stands: on a chunk of this page, or (false) elsewhere. */
static bool on_page(MDB_val key, tlno_t no, pgno_t pgno, struct ps_page_key *found)
{
    return ps_page_key_get(ps_span(key), found) && found->no == no && found->pgno == pgno;
}

/* Puts the cursor on the newest image of a page at or below lsn. CO_ERR_NOT_FOUND: none. */
static int seek_image(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn,
                      struct ps_page_key *found, MDB_val *value)
{
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    struct ps_page_key want = {.no = no, .pgno = pgno, .lsn = lsn};
    ps_page_key_put(bytes, &want);
    MDB_val key = ps_val(bytes, sizeof bytes);
    int rc = mdb_cursor_get(txn->page, &key, value, MDB_SET_RANGE);
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "looking a page up");
    if (!rc && key.mv_size != PS_PAGE_KEY_BYTES)
        return co_fail(CO_ERR_CORRUPT, "%s: a key of table page has %zu bytes instead of %u",
                       txn->store->dir, key.mv_size, PS_PAGE_KEY_BYTES);
    return !rc && on_page(key, no, pgno, found) ? 0 : CO_ERR_NOT_FOUND;
}

struct group {
    lsn_t image_lsn, lsn; /* of the version that was made */
    uint32_t crc, image_bytes;
    struct co_span pack; /* whole; borrowed from the map */
    size_t used;         /* of the pack, up to that version */
};

/* Moves on to the next entry. False: it is another group's, or there is none. */
static int next_entry(struct ps_txn *txn, const struct ps_page_key *first, struct ps_page_key *k,
                      MDB_val *value, bool *same)
{
    MDB_val key;
    int rc = mdb_cursor_get(txn->page, &key, value, MDB_NEXT);
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "reading a page");
    *same = !rc && on_page(key, first->no, first->pgno, k) && k->lsn == first->lsn;
    return 0;
}

/* The cursor stands on the image's chunk 0: makes the image in `out` and finds the pack. The CRC is
 * still to be checked. */
static int read_image(struct ps_txn *txn, const struct ps_page_key *first, MDB_val value,
                      uint32_t page_size, uint8_t *out, struct group *g)
{
    struct ps_page_key k;
    uint32_t n;
    bool same = false;
    int rc = first->chunk == 0 ? ps_decode_begin(txn->codec, ps_span(value), page_size, &n)
                               : co_fail(CO_ERR_CORRUPT, "its first chunk is missing");
    *g = (struct group){.image_lsn = first->lsn, .lsn = first->lsn};
    g->image_bytes = (uint32_t)value.mv_size;
    for (uint32_t i = 1; !rc && i <= n; i++) {
        rc = next_entry(txn, first, &k, &value, &same);
        if (!rc && i < n && (!same || k.chunk != i))
            rc = co_fail(CO_ERR_CORRUPT, "chunk %u of %u is missing", i + 1, n);
        else if (!rc && i < n)
            rc = ps_decode_more(txn->codec, ps_span(value));
        if (i < n)
            g->image_bytes += (uint32_t)value.mv_size;
    }
    if (!rc && same && k.chunk == PS_PACK_CHUNK)
        g->pack = ps_span(value);
    return rc ? rc : ps_decode_page(txn->codec, out, &g->crc);
}

/* Applies what the pack has up to lsn. One CRC tells of all: what is made of a damaged image has
 * not the CRC of the version, unless it took nothing from where the damage is. */
static int apply_pack(lsn_t lsn, uint32_t page_size, uint8_t *out, struct group *g)
{
    struct co_span rest = g->pack;
    struct ps_pack_entry e;
    int rc;
    while (!(rc = ps_pack_next(&rest, g->lsn, &e)) && e.lsn <= lsn) {
        rc = ps_pack_apply(&e, out, page_size);
        if (rc)
            return rc;
        g->lsn = e.lsn;
        g->crc = e.crc;
        g->used = g->pack.len - rest.len;
    }
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    return ps_check_crc(out, page_size, g->crc);
}

/* What lies in the page's slot goes there first; the pack is copied only where it is needed. */
static int remember(struct ps_txn *txn, tlno_t no, pgno_t pgno, const struct group *g,
                    uint32_t page_size, const uint8_t *page)
{
    if (!txn->recent)
        return 0;
    struct ps_recent *r = ps_recent_of(txn, pgno);
    int rc = ps_recent_flush(txn, r);
    if (rc)
        return rc;
    r->no = no;
    r->pgno = pgno;
    r->image_lsn = g->image_lsn;
    r->image_bytes = g->image_bytes;
    r->lsn = g->lsn;
    r->pack_bytes = (uint32_t)g->used;
    r->crc = g->crc;
    r->newest = r->dirty = false;
    r->page_size = page_size;
    if (r->page != page)
        memcpy(r->page, page, page_size);
    return 0;
}

/* The newest version at or below lsn of this timeline alone. */
static int read_version(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn, uint32_t page_size,
                        uint8_t *out, struct group *g)
{
    struct ps_page_key found;
    MDB_val value;
    int rc = ps_recent_settle(txn, no, pgno);
    if (!rc)
        rc = seek_image(txn, no, pgno, lsn, &found, &value);
    if (rc)
        return rc;
    rc = read_image(txn, &found, value, page_size, out, g);
    if (!rc)
        rc = apply_pack(lsn, page_size, out, g);
    return rc;
}

/* -- In ----------------------------------------------------------------------------------------
 */

static int put_image(struct ps_txn *txn, struct ps_page_key k, const struct ps_image *image)
{
    uint8_t key[PS_PAGE_KEY_BYTES], value[PS_CHUNK_MAX + 16];
    struct ps_usage_change change = {.versions = 1, .images = 1};
    for (uint32_t i = 0; i < image->n_chunks; i++) {
        k.chunk = (uint8_t)i;
        size_t n = ps_chunk_bytes(image, i);
        co_assert(n <= sizeof value);
        ps_chunk_write(image, i, value);
        ps_page_key_put(key, &k);
        int rc = ps_put(txn, T_PAGE, co_span_of(key, sizeof key), co_span_of(value, n));
        if (rc)
            return rc;
        change.page_bytes += (int64_t)(n + NODE_BYTES);
    }
    return ps_usage_add(txn, k.no, &change);
}

/* Replaces the pack of a group. */
static int put_pack(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t image_lsn,
                    struct co_span pack)
{
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    struct ps_page_key k = {.no = no, .pgno = pgno, .lsn = image_lsn, .chunk = PS_PACK_CHUNK};
    struct ps_usage_change change = {.versions = (int64_t)ps_pack_count(pack)};
    ps_page_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), old;
    int rc = mdb_get(txn->txn, txn->store->dbi[T_PAGE], &key, &old);
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "looking a pack up");
    if (!rc) {
        change.versions -= (int64_t)ps_pack_count(ps_span(old));
        change.page_bytes -= (int64_t)(old.mv_size + NODE_BYTES);
    }
    if (pack.len) {
        change.page_bytes += (int64_t)(pack.len + NODE_BYTES);
        rc = ps_put(txn, T_PAGE, co_span_of(bytes, sizeof bytes), pack);
    } else {
        bool had;
        rc = ps_del(txn, T_PAGE, co_span_of(bytes, sizeof bytes), &had);
    }
    return rc ? rc : ps_usage_add(txn, no, &change);
}

/* Takes image and pack of a group away. */
static int delete_group(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t image_lsn)
{
    struct ps_usage_change change = {0};
    int settled = ps_recent_leave(txn, no, pgno);
    if (settled)
        return settled;
    for (;;) {
        struct ps_page_key k;
        MDB_val value;
        int rc = seek_image(txn, no, pgno, image_lsn, &k, &value);
        if (rc == CO_ERR_NOT_FOUND || (!rc && k.lsn != image_lsn))
            return ps_usage_add(txn, no, &change);
        if (rc)
            return rc;
        if (k.chunk == PS_PACK_CHUNK)
            change.versions -= (int64_t)ps_pack_count(ps_span(value));
        else
            change.versions -= k.chunk == 0;
        change.images -= k.chunk == 0;
        change.page_bytes -= (int64_t)(value.mv_size + NODE_BYTES);
        rc = mdb_cursor_del(txn->page, 0);
        if (rc)
            return ps_lmdb_fail(txn->store, rc, "deleting a page");
        txn->cost += PS_PUT_COST;
    }
}

/* Is what is remembered the last version of that group, and below lsn? Then its pack is taken. */
static bool is_last(struct ps_txn *txn, struct ps_recent *r, const struct ps_page_key *image,
                    lsn_t lsn, uint32_t page_size)
{
    uint8_t bytes[PS_PAGE_KEY_BYTES];
    struct ps_page_key k = *image;
    k.chunk = PS_PACK_CHUNK;
    if (r->no != k.no || r->pgno != k.pgno || r->image_lsn != k.lsn || r->page_size != page_size ||
        r->lsn >= lsn)
        return false;
    ps_page_key_put(bytes, &k);
    MDB_val key = ps_val(bytes, sizeof bytes), value = {0};
    int rc = mdb_get(txn->txn, txn->store->dbi[T_PAGE], &key, &value);
    if ((rc && rc != MDB_NOTFOUND) || value.mv_size != r->pack_bytes)
        return false;
    if (value.mv_size)
        memcpy(r->pack, value.mv_data, value.mv_size);
    return true;
}

/* The group that a version at lsn joins: the slot then has the version before it, as the newest.
 * What lies at or above lsn in it was left by an ingest that a crash cut off, and goes.
 * CO_ERR_NOT_FOUND: none. */
static int join_group(struct ps_txn *txn, struct ps_recent *r, tlno_t no, pgno_t pgno, lsn_t lsn,
                      uint32_t page_size)
{
    struct ps_page_key found;
    struct group g;
    MDB_val value;
    int rc = ps_recent_flush(txn, r);
    if (!rc)
        rc = seek_image(txn, no, pgno, lsn, &found, &value);
    if (!rc && found.lsn == lsn) {
        rc = delete_group(txn, no, pgno, lsn);
        if (!rc)
            rc = seek_image(txn, no, pgno, lsn, &found, &value);
    }
    if (rc)
        return rc;
    if (value.mv_size < PS_HEAD_BYTES || page_size != 1u << (((uint8_t *)value.mv_data)[3] & 31))
        return CO_ERR_NOT_FOUND; /* nothing is to hang on what is damaged */
    if (is_last(txn, r, &found, lsn, page_size))
        return 0;
    r->no = 0;
    rc = read_version(txn, no, pgno, lsn - 1, page_size, r->page, &g);
    if (rc == CO_ERR_CORRUPT || rc == CO_ERR_VERSION)
        return CO_ERR_NOT_FOUND;
    if (!rc)
        rc = remember(txn, no, pgno, &g, page_size, r->page);
    if (rc)
        return rc;
    if (g.used)
        memcpy(r->pack, g.pack.data, g.used);
    return g.used < g.pack.len ? put_pack(txn, no, pgno, g.image_lsn, co_span_of(r->pack, g.used))
                               : 0;
}

/* Does the slot have the version that one at lsn is to stand behind? Nothing of an ingest that was
 * cut off may lie in between. */
static bool is_newest(struct ps_txn *txn, const struct ps_recent *r, tlno_t no, pgno_t pgno,
                      lsn_t lsn, uint32_t page_size)
{
    struct ps_page_key found;
    MDB_val value;
    return r->no == no && r->pgno == pgno && r->newest && r->lsn < lsn &&
           r->page_size == page_size && seek_image(txn, no, pgno, lsn, &found, &value) == 0 &&
           found.lsn == r->image_lsn;
}

/* The version goes behind the one in the slot. False: it is to be an image. */
static bool put_behind(struct ps_txn *txn, struct ps_recent *r, lsn_t lsn, const uint8_t *page,
                       uint32_t crc, int *rc)
{
    size_t more = ps_pack_make(r->page, r->lsn, page, r->page_size, crc, lsn, r->image_bytes / 2,
                               r->pack + r->pack_bytes, sizeof r->pack - r->pack_bytes);
    struct ps_usage_change change = {.versions = 1, .page_bytes = (int64_t)more};
    if (!more)
        return false;
    if (!r->pack_bytes)
        change.page_bytes += NODE_BYTES;
    r->pack_bytes += (uint32_t)more;
    r->dirty = r->newest = true;
    r->lsn = lsn;
    r->crc = crc;
    memcpy(r->page, page, r->page_size);
    *rc = ps_usage_add(txn, r->no, &change);
    return true;
}

int ps_page_put(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn, const uint8_t *page,
                uint32_t page_size, uint32_t crc, struct co_span zstd)
{
    struct ps_recent *r = ps_recent_of(txn, pgno);
    struct ps_page_key k = {.no = no, .pgno = pgno, .lsn = lsn};
    struct group g = {.image_lsn = lsn, .lsn = lsn, .crc = crc};
    struct ps_image image;
    int rc = is_newest(txn, r, no, pgno, lsn, page_size)
                 ? 0
                 : join_group(txn, r, no, pgno, lsn, page_size);
    if (rc && rc != CO_ERR_NOT_FOUND)
        return rc;
    if (rc == 0 && put_behind(txn, r, lsn, page, crc, &rc))
        return rc;
    ps_encode(txn->codec, page, page_size, crc, zstd, txn->store->chunk_max, &image);
    g.image_bytes = (uint32_t)(PS_HEAD_BYTES + image.body.len);
    rc = put_image(txn, k, &image);
    if (!rc)
        rc = remember(txn, no, pgno, &g, page_size, page);
    r->newest = rc == 0;
    return rc;
}

/* Does all behind the first version that is kept stay? Then *first is that. */
static bool keeps_a_tail(const struct group *g, struct co_span pack, ps_keep_fn keep, void *arg,
                         lsn_t *first)
{
    struct ps_pack_entry e = {.lsn = g->image_lsn};
    bool found = keep(arg, e.lsn);
    *first = e.lsn;
    while (ps_pack_next(&pack, e.lsn, &e) == 0) {
        if (found && !keep(arg, e.lsn))
            return false;
        if (!found)
            *first = e.lsn;
        found |= keep(arg, e.lsn);
    }
    return found;
}

/* The usual case: what is old goes. The first version that stays becomes the image, and what
 * follows it in the pack is what it was: each entry is the difference to the version before. */
static int put_tail(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t first, uint8_t *page,
                    uint32_t size, struct group *g, struct co_span pack)
{
    struct ps_page_key k = {.no = no, .pgno = pgno, .lsn = first};
    struct ps_pack_entry e;
    struct ps_image image;
    for (e.lsn = g->image_lsn; e.lsn < first;) {
        int rc = ps_pack_next(&pack, e.lsn, &e);
        if (!rc)
            rc = ps_pack_apply(&e, page, size);
        if (rc)
            return rc;
        g->crc = e.crc;
    }
    ps_encode(txn->codec, page, size, g->crc, co_span_of(NULL, 0), txn->store->chunk_max, &image);
    int rc = put_image(txn, k, &image);
    return rc || !pack.len ? rc : put_pack(txn, no, pgno, first, pack);
}

static int put_kept(struct ps_txn *txn, tlno_t no, pgno_t pgno, uint8_t *page, uint32_t size,
                    const struct group *g, struct co_span pack, ps_keep_fn keep, void *arg)
{
    struct ps_pack_entry e = {.lsn = g->image_lsn};
    int rc = 0;
    if (keep(arg, e.lsn))
        rc = ps_page_put(txn, no, pgno, e.lsn, page, size, g->crc, co_span_of(NULL, 0));
    while (!rc && !(rc = ps_pack_next(&pack, e.lsn, &e))) {
        rc = ps_pack_apply(&e, page, size);
        if (!rc && keep(arg, e.lsn))
            rc = ps_page_put(txn, no, pgno, e.lsn, page, size, e.crc, co_span_of(NULL, 0));
    }
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int ps_group_rewrite(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t image_lsn, ps_keep_fn keep,
                     void *arg)
{
    struct ps_page_key found;
    uint8_t bytes[PS_PACK_MAX], *page = txn->scratch;
    struct group g;
    lsn_t first;
    MDB_val value;
    int rc = ps_recent_settle(txn, no, pgno);
    if (!rc)
        rc = seek_image(txn, no, pgno, image_lsn, &found, &value);
    if (rc || found.lsn != image_lsn || found.chunk != 0 || value.mv_size < PS_HEAD_BYTES)
        return rc ? rc : CO_ERR_NOT_FOUND;
    uint32_t size = 1u << (((uint8_t *)value.mv_data)[3] & 31);
    if (size < CO_PAGE_SIZE_MIN || size > CO_PAGE_SIZE_MAX)
        return co_fail(CO_ERR_CORRUPT, "page %u has a head that makes no sense", pgno);
    rc = read_image(txn, &found, value, size, page, &g);
    if (!rc)
        rc = ps_check_crc(page, size, g.crc);
    if (!rc && g.pack.len > sizeof bytes)
        rc = co_fail(CO_ERR_CORRUPT, "page %u has a pack of %zu bytes", pgno, g.pack.len);
    if (rc)
        return rc;
    if (g.pack.len)
        memcpy(bytes, g.pack.data, g.pack.len);
    struct co_span pack = co_span_of(bytes, g.pack.len);
    bool tail = keeps_a_tail(&g, pack, keep, arg, &first);
    rc = delete_group(txn, no, pgno, image_lsn);
    if (!rc && tail)
        rc = put_tail(txn, no, pgno, first, page, size, &g, pack);
    else if (!rc)
        rc = put_kept(txn, no, pgno, page, size, &g, pack, keep, arg);
    return rc ? rc : ps_recent_leave(txn, no, pgno); /* what was put is not its page's newest */
}

static bool is_other(void *arg, lsn_t lsn)
{
    return lsn != *(const lsn_t *)arg;
}

int ps_page_delete(struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn)
{
    struct ps_page_key found;
    MDB_val value;
    int rc = ps_recent_settle(txn, no, pgno);
    if (!rc)
        rc = seek_image(txn, no, pgno, lsn, &found, &value);
    if (!rc)
        rc = ps_group_rewrite(txn, no, pgno, found.lsn, is_other, &lsn);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

/* -- Out ---------------------------------------------------------------------------------------
 */

/* "page N of timeline T at LSN L: <what>" */
static int damaged(const struct ps_line *line, pgno_t pgno, lsn_t lsn, int code)
{
    char id[CO_ID_TEXT], at[LSN_TEXT], why[CO_SENTENCE_MAX];
    size_t n = strlen(co_sentence());
    if (n > 400)
        n = 400;
    memcpy(why, co_sentence(), n);
    why[n] = 0;
    return co_fail(code == CO_ERR_VERSION ? code : CO_ERR_CORRUPT,
                   "page %u of timeline %s at LSN %s cannot be read: %s", pgno,
                   co_id_format(&line->id, id), lsn_format(lsn, at), why);
}

/* The same from what a write transaction put last: the base of a change is often that. */
static bool read_recent(const struct ps_txn *txn, tlno_t no, pgno_t pgno, lsn_t lsn,
                        uint32_t page_size, uint8_t *out, struct group *g)
{
    const struct ps_recent *r = txn->recent ? ps_recent_of(txn, pgno) : NULL;
    if (!r || r->no != no || r->pgno != pgno || !r->newest || r->lsn > lsn ||
        r->page_size != page_size)
        return false;
    memcpy(out, r->page, page_size);
    g->lsn = r->lsn;
    g->crc = r->crc;
    return true;
}

int ps_page_get(struct ps_txn *txn, const struct ps_line *line, pgno_t pgno, lsn_t lsn,
                uint32_t page_size, uint8_t *out, lsn_t *version, uint32_t *crc)
{
    co_assert(txn->live);
    if (co_mutated(PAGES_NEWEST))
        lsn = UINT64_MAX;
    for (; line; line = line->ancestor) {
        struct group g = {.lsn = lsn};
        bool recent = read_recent(txn, line->no, pgno, lsn, page_size, out, &g);
        int rc = recent ? 0 : read_version(txn, line->no, pgno, lsn, page_size, out, &g);
        if (!rc && !recent)
            rc = remember(txn, line->no, pgno, &g, page_size, out);
        if (!rc) {
            *version = g.lsn;
            *crc = g.crc;
            return 0;
        }
        if (rc == CO_ERR_CORRUPT || rc == CO_ERR_VERSION)
            return damaged(line, pgno, g.lsn, rc);
        if (rc != CO_ERR_NOT_FOUND)
            return rc;
        if (line->ancestor_lsn < lsn && !co_mutated(BRANCH_ABOVE))
            lsn = line->ancestor_lsn;
    }
    char at[LSN_TEXT];
    return co_fail(CO_ERR_NOT_FOUND, "page %u has no version at or below LSN %s", pgno,
                   lsn_format(lsn, at));
}
