/*
 * fuzz_pages.c - one page and lists of pages: deltas, compressed images, what lies in the store,
 * and in the file of cache_dir.
 *
 *   byte 0: FUZZ_SECOND (a part of the harness `records`); byte 1: which of the functions at the
 * end
 *
 * What holds: nothing beside the page is written; a page that comes out has the CRC that was
 * stated; what is encoded gives back what it was made from; a list that was read is written again
 * and read as the same.
 */
#include "common/crc32c.h"
#include "compute-vfs/page_slots.h"
#include "pageserver/keys.h"
#include "pageserver/page_codec.h"
#include "pageserver/v1_changes.h"
#include "proto/changes.h"
#include "proto/wal.h"
#include "proto/wal_delta.h"
#include "tests/fuzz/fuzz.h"

static uint32_t page_size_of(struct fuzz_in *in)
{
    return CO_PAGE_SIZE_MIN << (fuzz_number(in, 1) & 7); /* 512 .. 65536 */
}

/* A page in memory of its own, of a pattern that the input begins. */
static uint8_t *page_of(struct fuzz_in *in, uint32_t page_size)
{
    uint8_t *p = malloc(page_size);
    FUZZ_CHECK(p);
    memset(p, (int)fuzz_number(in, 1), page_size);
    struct co_span some = fuzz_span(in, (size_t)fuzz_number(in, 1));
    if (some.len)
        memcpy(p + page_size / 2 - some.len / 2, some.data, some.len);
    return p;
}

static void delta(struct fuzz_in in)
{
    uint32_t size = page_size_of(&in);
    AUTO_FREE uint8_t *base = page_of(&in, size), *page = malloc(size), *again = malloc(size);
    AUTO_FREE uint8_t *runs = fuzz_copy(co_span_of(in.p, in.n), false);
    memcpy(page, base, size);
    if (!wal_delta_apply(co_span_of(runs, in.n), page, size))
        return;
    AUTO_FREE uint8_t *made = malloc(2 * (size_t)size);
    size_t n = wal_delta_make(base, page, size, made, 2 * (size_t)size);
    FUZZ_CHECK(n != WAL_DELTA_NONE);
    memcpy(again, base, size);
    FUZZ_CHECK(wal_delta_apply(co_span_of(made, n), again, size));
    FUZZ_CHECK(memcmp(again, page, size) == 0);
    if (n)
        FUZZ_CHECK(wal_delta_make(base, page, size, made, n - 1) == WAL_DELTA_NONE);
}

static void entry(struct fuzz_in in)
{
    uint32_t size = page_size_of(&in);
    AUTO_FREE uint8_t *base = page_of(&in, size), *out = malloc(size);
    struct wal_entry e = {.pgno = 1, .encoding = (enum wal_encoding)(fuzz_number(&in, 1) % 3)};
    bool mended = fuzz_bool(&in);
    AUTO_FREE uint8_t *data = fuzz_copy(co_span_of(in.p, in.n), false);
    e.data = co_span_of(data, in.n);
    e.base_crc = co_crc32c(0, base, size);
    bool sized = e.encoding == WAL_IMAGE ? in.n == size : in.n < size; /* as wal_check says */
    if (!sized)
        return;
    if (wal_apply(&e, size, e.encoding == WAL_DELTA ? base : NULL, out, NULL) == 0)
        FUZZ_CHECK(co_crc32c(0, out, size) == e.page_crc);
    if (!mended)
        return;
    e.page_crc = co_crc32c(0, out, size); /* of what it made, if it came so far */
    if (wal_apply(&e, size, e.encoding == WAL_DELTA ? base : NULL, out, NULL) == 0)
        FUZZ_CHECK(co_crc32c(0, out, size) == e.page_crc);
}

static struct ps_codec *codec(void)
{
    static struct ps_codec *c;
    if (!c)
        FUZZ_CHECK(ps_codec_new(&c) == 0);
    return c;
}

/* Values of a page as they lie in the store: {u16 length, bytes}, back to back. */
static void stored(struct fuzz_in in)
{
    uint32_t size = page_size_of(&in), n = 0, crc;
    AUTO_FREE uint8_t *out = malloc(size), *first = NULL; /* an only chunk is borrowed */
    for (uint32_t i = 0; i == 0 || i < n; i++) {
        struct co_span s = fuzz_span(&in, (size_t)fuzz_number(&in, 2));
        AUTO_FREE uint8_t *exact = NULL;
        s.data = i == 0 ? (first = fuzz_copy(s, false)) : (exact = fuzz_copy(s, false));
        if (i == 0 ? ps_decode_begin(codec(), s, size, &n) : ps_decode_more(codec(), s))
            return;
        FUZZ_CHECK(n >= 1 && n <= 255);
    }
    if (ps_decode_end(codec(), out, &crc) == 0)
        FUZZ_CHECK(co_crc32c(0, out, size) == crc);
}

static void store_and_back(struct fuzz_in in)
{
    uint32_t size = page_size_of(&in), n, crc;
    uint32_t chunk_max =
        PS_CHUNK_MIN + (uint32_t)fuzz_number(&in, 2) % (PS_CHUNK_MAX - PS_CHUNK_MIN);
    AUTO_FREE uint8_t *page = page_of(&in, size), *out = malloc(size);
    memcpy(page, in.p, in.n < size ? in.n : size);
    struct ps_image image;
    ps_encode(codec(), page, size, co_crc32c(0, page, size), (struct co_span){0}, chunk_max,
              &image);
    AUTO_BUF all = {0};
    FUZZ_CHECK(co_buf_reserve(&all, (size_t)image.n_chunks * chunk_max) == 0);
    for (uint32_t i = 0; i < image.n_chunks; i++) {
        FUZZ_CHECK(ps_chunk_bytes(&image, i) <= chunk_max);
        ps_chunk_write(&image, i, all.data + (size_t)i * chunk_max);
    }
    for (uint32_t i = 0; i < image.n_chunks; i++) {
        struct co_span s = co_span_of(all.data + (size_t)i * chunk_max, ps_chunk_bytes(&image, i));
        FUZZ_CHECK((i ? ps_decode_more(codec(), s) : ps_decode_begin(codec(), s, size, &n)) == 0);
    }
    FUZZ_CHECK(n == image.n_chunks && ps_decode_end(codec(), out, &crc) == 0);
    FUZZ_CHECK(memcmp(out, page, size) == 0 && crc == co_crc32c(0, page, size));
}

/* Small changes of a page, one behind the other. */
static void pack(struct fuzz_in in)
{
    uint32_t size = page_size_of(&in);
    AUTO_FREE uint8_t *page = page_of(&in, size), *before = malloc(size), *again = malloc(size);
    lsn_t prev = fuzz_number(&in, 8);
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(in.p, in.n), false);
    struct co_span rest = co_span_of(exact, in.n), left;
    struct ps_pack_entry e, same;
    while (ps_pack_next(&rest, prev, &e) == 0) {
        FUZZ_CHECK(e.lsn > prev);
        memcpy(before, page, size);
        if (ps_pack_apply(&e, page, size))
            return;
        uint32_t crc = co_crc32c(0, page, size);
        FUZZ_CHECK((ps_check_crc(page, size, e.crc) == 0) == (crc == e.crc));
        uint8_t made[1024];
        size_t n = ps_pack_make(before, prev, page, size, crc, e.lsn, 900, made, sizeof made);
        FUZZ_CHECK(n <= sizeof made);
        left = co_span_of(made, n);
        memcpy(again, before, size);
        if (n) {
            FUZZ_CHECK(ps_pack_next(&left, prev, &same) == 0 && left.len == 0);
            FUZZ_CHECK(same.lsn == e.lsn && same.crc == crc);
            FUZZ_CHECK(ps_pack_apply(&same, again, size) == 0 && memcmp(again, page, size) == 0);
        }
        prev = e.lsn;
    }
}

static void page_list(struct fuzz_in in)
{
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(in.p, in.n), false);
    struct co_span rest = co_span_of(exact, in.n);
    AUTO_FREE pgno_t *list = NULL;
    uint32_t n;
    if (changes_get_pages(&rest, &list, &n)) {
        FUZZ_CHECK(rest.data == exact && rest.len == in.n);
        return;
    }
    FUZZ_CHECK(n <= in.n && (list != NULL) == (n > 0));
    AUTO_BUF out = {0};
    AUTO_FREE pgno_t *again = NULL;
    uint32_t m;
    FUZZ_CHECK(changes_put_pages(&out, list, n) == 0); /* asserts that they ascend */
    rest = co_buf_span(&out);
    FUZZ_CHECK(changes_get_pages(&rest, &again, &m) == 0 && m == n && rest.len == 0);
    FUZZ_CHECK(n == 0 || memcmp(list, again, n * sizeof *list) == 0);
}

static void change_list(struct fuzz_in in)
{
    lsn_t since = fuzz_number(&in, 8), prev = since, lsn;
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(in.p, in.n), false);
    struct co_span rest = co_span_of(exact, in.n);
    AUTO_BUF out = {0}, text = {0}, text_again = {0};
    uint32_t commits = 0, told = 0, told_again = 0;
    for (;;) {
        AUTO_FREE pgno_t *list = NULL;
        uint32_t n, db_pages;
        struct co_span before = rest;
        int rc = changes_get_commit(&rest, prev, &lsn, &db_pages, &list, &n);
        if (rc) {
            FUZZ_CHECK(rest.data == before.data && rest.len == before.len);
            FUZZ_CHECK((rc == CO_ERR_AGAIN) == (rest.len == 0));
            if (rc != CO_ERR_AGAIN)
                FUZZ_CHECK(v1_changes_text(co_span_of(exact, in.n), since, 1000, &text, &told));
            if (rc != CO_ERR_AGAIN)
                return;
            break;
        }
        FUZZ_CHECK(lsn > prev && rest.len < before.len);
        FUZZ_CHECK(changes_put_commit(&out, prev, lsn, db_pages, list, n) == 0);
        prev = lsn;
        commits++;
    }
    FUZZ_CHECK(v1_changes_text(co_span_of(exact, in.n), since, 1000, &text, &told) == 0);
    FUZZ_CHECK(told == commits);
    FUZZ_CHECK(v1_changes_text(co_buf_span(&out), since, 1000, &text_again, &told_again) == 0);
    FUZZ_CHECK(fuzz_same(co_buf_span(&text), co_buf_span(&text_again)));
}

static void numbers(struct fuzz_in in)
{
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(in.p, in.n), false);
    struct co_span all = co_span_of(exact, in.n);
    uint8_t out[PS_TIME_KEY_BYTES];
    struct ps_page_key page;
    struct ps_commit_key commit;
    struct ps_time_key time;
    uint64_t v, again;
    size_t n = co_get_varint(exact, in.n, &v);
    FUZZ_CHECK(n <= in.n && n <= CO_VARINT_MAX);
    if (n) {
        size_t m = co_put_varint(out, v);
        FUZZ_CHECK(m <= n && co_get_varint(out, m, &again) == m && again == v);
    }
    if (ps_page_key_get(all, &page)) {
        ps_page_key_put(out, &page);
        FUZZ_CHECK(fuzz_same(all, co_span_of(out, PS_PAGE_KEY_BYTES)));
    }
    if (ps_commit_key_get(all, &commit)) {
        ps_commit_key_put(out, &commit);
        FUZZ_CHECK(fuzz_same(all, co_span_of(out, PS_COMMIT_KEY_BYTES)));
    }
    if (ps_time_key_get(all, &time)) {
        ps_time_key_put(out, &time);
        FUZZ_CHECK(fuzz_same(all, co_span_of(out, PS_TIME_KEY_BYTES)));
    }
}

/* A file of cache_dir: its head, with the CRC mended or not, and a set of its slots. */
static void kept(struct fuzz_in in)
{
    bool mended = fuzz_bool(&in);
    pgno_t pgno = (pgno_t)fuzz_number(&in, 4);
    uint8_t head[CV_SLOTS_HEAD] = {0}, bytes[CV_SLOT_BYTES] = {0}, again[CV_SLOTS_HEAD];
    struct cv_want want = {pgno, fuzz_number(&in, 8), fuzz_number(&in, 8), fuzz_number(&in, 8), 0};
    struct cv_slot set[CV_SLOT_WAYS], same;
    struct cv_slots s, got;
    struct co_id id;
    struct co_span some = fuzz_span(&in, sizeof head);
    if (some.len)
        memcpy(head, some.data, some.len);
    memcpy(id.b, head + 40, sizeof id.b);
    if (mended)
        co_put32(head + 56, co_crc32c(0, head, 56));
    if (!cv_slots_get(head, &id, &s))
        return;
    cv_slots_put(&s, &id, again);
    FUZZ_CHECK(cv_slots_get(again, &id, &got) && memcmp(&s, &got, sizeof s) == 0);
    for (uint32_t way = 0; way < CV_SLOT_WAYS; way++) {
        some = fuzz_span(&in, sizeof bytes);
        if (some.len)
            memcpy(bytes, some.data, some.len);
        cv_slot_get(bytes, &set[way]);
        cv_slot_put(&set[way], again);
        cv_slot_get(again, &same);
        cv_slot_put(&same, bytes);
        FUZZ_CHECK(memcmp(bytes, again, sizeof bytes) == 0);
        FUZZ_CHECK(cv_slots_page_at(&s, pgno, way) >=
                   cv_slots_set_at(&s, pgno) + CV_SLOTS_SET_BYTES);
        FUZZ_CHECK(cv_slots_page_at(&s, pgno, way) + s.page_size <= cv_slots_bytes(&s));
        if (cv_slot_serves(&set[way], &want, s.page_size))
            FUZZ_CHECK(set[way].from <= want.lsn && set[way].known_to <= want.known);
    }
    FUZZ_CHECK(cv_slots_choose(&s, set, &set[0]) < CV_SLOT_WAYS);
}

void fuzz_pages(struct fuzz_in in)
{
    static void (*const all[])(struct fuzz_in) = {
        delta, entry, stored, store_and_back, page_list, change_list, numbers, pack, kept};
    all[fuzz_number(&in, 1) % (sizeof all / sizeof *all)](in);
}
