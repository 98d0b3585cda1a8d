/* store_lmdb.c - damage to the store of a pageserver: rows of its tables, its file. */
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "common/clock_file.h"
#include "pageserver/keys.h"
#include "pageserver/page_codec.h"
#include "pageserver/timeline_meta.h"
#include "proto/changes.h"
#include "tests/damage/damage.h"

#define COMMIT_HEAD 32u
#define TABLES      9

struct store {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi timeline, progress, page, commit, time, pin, usage, gc, meta;
    uint8_t row[65536]; /* of the timeline */
    size_t row_len;
    tlno_t no;
    lsn_t last;
};

static int fail(int rc, const char *what)
{
    return co_fail(CO_ERR_IO, "%s: %s", what, rc ? mdb_strerror(rc) : "there is none");
}

static int open_store(struct store *s, const struct damage_target *t)
{
    static const char *const names[TABLES] = {"timeline", "progress", "page", "commit", "time",
                                              "pin",      "usage",    "gc",   "meta"};
    MDB_dbi *const dbi[TABLES] = {&s->timeline, &s->progress, &s->page, &s->commit, &s->time,
                                  &s->pin,      &s->usage,    &s->gc,   &s->meta};
    char path[600];
    snprintf(path, sizeof path, "%s/store", t->dir);
    int rc = mdb_env_create(&s->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(s->env, TABLES);
    if (!rc)
        rc = mdb_env_set_mapsize(s->env, (size_t)16 << 30);
    if (!rc)
        rc = mdb_env_open(s->env, path, 0, 0600);
    if (!rc)
        rc = mdb_txn_begin(s->env, NULL, 0, &s->txn);
    for (int i = 0; i < TABLES && !rc; i++)
        rc = mdb_dbi_open(s->txn, names[i], 0, dbi[i]);
    if (rc)
        return fail(rc, path);
    if (co_id_is_zero(&t->timeline))
        return 0;
    MDB_val k = {16, (void *)(uintptr_t)t->timeline.b}, v;
    rc = mdb_get(s->txn, s->timeline, &k, &v);
    if (rc)
        return fail(rc, "row of the timeline");
    memcpy(s->row, v.mv_data, v.mv_size);
    s->row_len = v.mv_size;
    s->no = co_get32(s->row + 4);
    uint8_t line[4];
    co_put32be(line, s->no);
    k = (MDB_val){4, line};
    rc = mdb_get(s->txn, s->progress, &k, &v);
    if (rc)
        return fail(rc, "progress of the timeline");
    s->last = co_get64(v.mv_data);
    return 0;
}

static int close_store(struct store *s, int rc)
{
    if (s->txn && !rc) {
        rc = mdb_txn_commit(s->txn);
        rc = rc ? fail(rc, "committing the damage") : 0;
    } else if (s->txn) {
        mdb_txn_abort(s->txn);
    }
    if (s->env)
        mdb_env_close(s->env);
    free(s);
    return rc;
}

static int with_store(const struct damage_target *t, int (*seed)(struct store *s))
{
    struct store *s = calloc(1, sizeof *s);
    int rc = s ? open_store(s, t) : co_fail(CO_ERR_NOMEM, "no memory");
    if (!rc)
        rc = seed(s);
    return s ? close_store(s, rc) : rc;
}

static int put(struct store *s, MDB_dbi table, const void *key, size_t key_len, const void *value,
               size_t len)
{
    MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)value};
    int rc = mdb_put(s->txn, table, &k, &v, 0);
    return rc ? fail(rc, "writing a row") : 0;
}

static int del(struct store *s, MDB_dbi table, const void *key, size_t key_len)
{
    MDB_val k = {key_len, (void *)(uintptr_t)key};
    int rc = mdb_del(s->txn, table, &k, NULL);
    return rc ? fail(rc, "deleting a row") : 0;
}

/* -- Rows of the pages ----------------------------------------------------------------------------
 */

struct entry {
    struct ps_page_key k;
    uint8_t key[PS_PAGE_KEY_BYTES], value[8192];
    size_t len;
};

/* Copies the last entry of the timeline for which `is` holds. */
static int find_page(struct store *s, bool (*is)(const struct ps_page_key *k, struct co_span v),
                     struct entry *out)
{
    MDB_cursor *c;
    MDB_val k, v;
    bool found = false;
    int rc = mdb_cursor_open(s->txn, s->page, &c);
    if (rc)
        return fail(rc, "pages");
    while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
        struct ps_page_key key;
        struct co_span value = co_span_of(v.mv_data, v.mv_size);
        if (!ps_page_key_get(co_span_of(k.mv_data, k.mv_size), &key) || key.no != s->no ||
            key.lsn > s->last || v.mv_size > sizeof out->value || !is(&key, value))
            continue;
        found = true;
        out->k = key;
        memcpy(out->key, k.mv_data, k.mv_size);
        memcpy(out->value, v.mv_data, v.mv_size);
        out->len = v.mv_size;
    }
    mdb_cursor_close(c);
    return found ? 0 : fail(0, "a page that this damage is for");
}

static bool is_image(const struct ps_page_key *k, struct co_span v)
{
    return k->chunk == 0 && v.len > 40;
}
static bool is_small_image(const struct ps_page_key *k, struct co_span v)
{
    return is_image(k, v) && v.data[2] == 1; /* of one piece */
}
static bool is_pack(const struct ps_page_key *k, struct co_span v)
{
    return k->chunk == PS_PACK_CHUNK && v.len > 12;
}
static bool is_second(const struct ps_page_key *k, struct co_span v)
{
    return k->chunk == 1 && v.len > 0;
}

static int flip_entry(struct store *s, bool (*is)(const struct ps_page_key *k, struct co_span v),
                      bool at_end)
{
    struct entry e;
    int rc = find_page(s, is, &e);
    if (rc)
        return rc;
    e.value[at_end ? e.len - 1 : e.len / 2] ^= 0x10;
    return put(s, s->page, e.key, sizeof e.key, e.value, e.len);
}

static int page_bit(struct store *s)
{
    return flip_entry(s, is_image, false);
}
static int pack_bit(struct store *s)
{
    return flip_entry(s, is_pack, true);
}

/* Everything of one page at one image's LSN. */
static int delete_group(struct store *s, const struct ps_page_key *of)
{
    int rc = 0;
    for (unsigned chunk = 0; chunk <= PS_PACK_CHUNK && !rc; chunk++) {
        struct ps_page_key k = {
            .no = of->no, .pgno = of->pgno, .lsn = of->lsn, .chunk = (uint8_t)chunk};
        uint8_t key[PS_PAGE_KEY_BYTES];
        ps_page_key_put(key, &k);
        MDB_val v, at = {sizeof key, key};
        if (mdb_get(s->txn, s->page, &at, &v) == 0)
            rc = del(s, s->page, key, sizeof key);
    }
    return rc;
}

static int page_missing(struct store *s)
{
    struct entry e;
    int rc = find_page(s, is_image, &e);
    return rc ? rc : delete_group(s, &e.k);
}

static int chunk_missing(struct store *s)
{
    struct entry e;
    int rc = find_page(s, is_second, &e);
    return rc ? rc : del(s, s->page, e.key, sizeof e.key);
}

static int version_extra(struct store *s)
{
    struct entry e;
    int rc = find_page(s, is_small_image, &e);
    if (rc)
        return rc;
    e.k.lsn -= LSN_ALIGN; /* within a record: no commit ends there */
    ps_page_key_put(e.key, &e.k);
    return put(s, s->page, e.key, sizeof e.key, e.value, e.len);
}

/* -- Commits, times, progress ---------------------------------------------------------------------
 */

struct commit {
    struct ps_commit_key k;
    uint8_t key[PS_COMMIT_KEY_BYTES], value[4096];
    size_t len;
    uint64_t time_us;
};

/* The n-th commit from the end of the timeline (0: the newest) that fits one row. */
static int find_commit(struct store *s, unsigned from_end, struct commit *out)
{
    MDB_cursor *c;
    MDB_val k, v;
    int rc = mdb_cursor_open(s->txn, s->commit, &c);
    if (rc)
        return fail(rc, "commits");
    for (rc = mdb_cursor_get(c, &k, &v, MDB_LAST); rc == 0;
         rc = mdb_cursor_get(c, &k, &v, MDB_PREV)) {
        if (!ps_commit_key_get(co_span_of(k.mv_data, k.mv_size), &out->k) || out->k.no != s->no ||
            out->k.chunk != 0 || v.mv_size > sizeof out->value || from_end-- > 0)
            continue;
        memcpy(out->key, k.mv_data, k.mv_size);
        memcpy(out->value, v.mv_data, v.mv_size);
        out->len = v.mv_size;
        out->time_us = co_get64(out->value);
        break;
    }
    mdb_cursor_close(c);
    return rc ? fail(rc, "a commit that this damage is for") : 0;
}

static int commit_missing(struct store *s)
{
    struct commit c;
    int rc = find_commit(s, 2, &c);
    return rc ? rc : del(s, s->commit, c.key, sizeof c.key);
}

static int commit_cut(struct store *s)
{
    struct commit c;
    int rc = find_commit(s, 2, &c);
    return rc ? rc : put(s, s->commit, c.key, sizeof c.key, c.value, COMMIT_HEAD - 4);
}

/* Another list of pages for a commit: without its last page, or with one that it did not write. */
static int change_list(struct store *s, bool more)
{
    struct commit c;
    struct co_buf row = {0};
    pgno_t *pgnos = NULL, changed[4096];
    uint32_t n = 0;
    int rc = find_commit(s, 2, &c);
    if (rc)
        return rc;
    struct co_span rest = co_span_of(c.value + COMMIT_HEAD, c.len - COMMIT_HEAD);
    rc = changes_get_pages(&rest, &pgnos, &n);
    if (!rc && (!n || n >= 4096))
        rc = fail(0, "a commit with pages");
    if (rc)
        return rc;
    memcpy(changed, pgnos, n * sizeof *changed);
    free(pgnos);
    if (more)
        changed[n++] = co_get32(c.value + 8) + 7; /* beyond the end of the database */
    else
        n--;
    rc = co_buf_append(&row, c.value, COMMIT_HEAD);
    if (!rc)
        rc = changes_put_pages(&row, changed, n);
    if (!rc)
        rc = put(s, s->commit, c.key, sizeof c.key, row.data, row.len);
    co_buf_free(&row);
    return rc;
}

static int commit_lacks_page(struct store *s)
{
    return change_list(s, false);
}
static int commit_alien_page(struct store *s)
{
    return change_list(s, true);
}

static int time_missing(struct store *s)
{
    struct commit c;
    uint8_t key[PS_TIME_KEY_BYTES];
    int rc = find_commit(s, 2, &c);
    if (rc)
        return rc;
    struct ps_time_key k = {.no = s->no, .time_us = c.time_us, .lsn = c.k.lsn};
    ps_time_key_put(key, &k);
    return del(s, s->time, key, sizeof key);
}

static int time_dangling(struct store *s)
{
    struct commit c;
    uint8_t key[PS_TIME_KEY_BYTES];
    int rc = find_commit(s, 2, &c);
    if (rc)
        return rc;
    struct ps_time_key k = {.no = s->no, .time_us = c.time_us + 1, .lsn = c.k.lsn + LSN_ALIGN};
    ps_time_key_put(key, &k);
    return put(s, s->time, key, sizeof key, "", 0);
}

static int put_progress(struct store *s, lsn_t lsn, const uint8_t digest[16])
{
    uint8_t key[4], row[24];
    co_put32be(key, s->no);
    co_put64(row, lsn);
    memcpy(row + 8, digest, 16);
    return put(s, s->progress, key, sizeof key, row, sizeof row);
}

static int progress_ahead(struct store *s)
{
    const uint8_t digest[16] = {1, 2, 3};
    return put_progress(s, s->last + 65536, digest);
}

static int progress_behind(struct store *s)
{
    struct commit c;
    int rc = find_commit(s, 3, &c);
    return rc ? rc : put_progress(s, c.k.lsn, c.value + 16);
}

static int progress_missing(struct store *s)
{
    uint8_t key[4];
    co_put32be(key, s->no);
    return del(s, s->progress, key, sizeof key);
}

static int progress_digest(struct store *s)
{
    const uint8_t digest[16] = {9, 9, 9};
    return put_progress(s, s->last, digest);
}

static int usage_wrong(struct store *s)
{
    uint8_t key[4], row[40];
    co_put32be(key, s->no);
    MDB_val k = {4, key}, v;
    int rc = mdb_get(s->txn, s->usage, &k, &v);
    if (rc || v.mv_size != sizeof row)
        return fail(rc, "counts of the timeline");
    memcpy(row, v.mv_data, sizeof row);
    co_put64(row, co_get64(row) + 5);
    return put(s, s->usage, key, sizeof key, row, sizeof row);
}

/* -- Timelines, pins, cuts ------------------------------------------------------------------------
 */

static int timeline_damaged_of(struct store *s, const struct co_id *id)
{
    memset(s->row + 8, 0xff, s->row_len - 8);
    return put(s, s->timeline, id->b, 16, s->row, s->row_len);
}

/* Writes the timeline's row with another meta, under the id that this has. */
static int put_meta(struct store *s, const struct ps_meta *meta, tlno_t no)
{
    struct co_buf row = {0};
    uint8_t head[8];
    memcpy(head, s->row, sizeof head);
    co_put32(head + 4, no);
    int rc = co_buf_append(&row, head, sizeof head);
    if (!rc)
        rc = ps_meta_pack(meta, &row);
    if (!rc)
        rc = put(s, s->timeline, meta->id.b, 16, row.data, row.len);
    co_buf_free(&row);
    return rc;
}

static int read_meta(struct store *s, struct ps_meta *out)
{
    return ps_meta_unpack(co_span_of(s->row + 8, s->row_len - 8), out);
}

static int timeline_damaged(struct store *s)
{
    struct ps_meta m;
    int rc = read_meta(s, &m);
    return rc ? rc : timeline_damaged_of(s, &m.id);
}

static int timeline_missing(struct store *s)
{
    struct ps_meta m;
    int rc = read_meta(s, &m);
    return rc ? rc : del(s, s->timeline, m.id.b, 16);
}

static int timeline_ancestor(struct store *s)
{
    struct ps_meta m;
    int rc = read_meta(s, &m);
    if (!rc && co_id_is_zero(&m.ancestor))
        rc = fail(0, "an ancestor");
    m.ancestor = co_id_random();
    return rc ? rc : put_meta(s, &m, s->no);
}

static int name_twice(struct store *s)
{
    struct ps_meta m;
    int rc = read_meta(s, &m);
    m.id = co_id_random();
    m.created_us++;
    return rc ? rc : put_meta(s, &m, 60000);
}

static int pin_dropped(struct store *s)
{
    struct ps_meta m;
    uint8_t key[16 + 4], row[48] = {1};
    struct co_id gone = co_id_random();
    int rc = read_meta(s, &m);
    if (rc)
        return rc;
    memcpy(key, m.database.b, 16);
    memcpy(key + 16, "gone", 4);
    memcpy(row + 8, gone.b, 16);
    co_put64(row + 24, s->last);
    co_put64(row + 32, m.created_us);
    co_put64(row + 40, m.created_us);
    return put(s, s->pin, key, sizeof key, row, sizeof row);
}

static int put_cutoff(struct store *s, lsn_t lsn)
{
    uint8_t key[4], row[8];
    co_put32be(key, s->no);
    co_put64(row, lsn);
    return put(s, s->gc, key, sizeof key, row, sizeof row);
}

static int cutoff_ahead(struct store *s)
{
    return put_cutoff(s, s->last + 65536);
}

/* Garbage collection that does not know of a pin: the cut lies above it, and what it alone needs is
 * gone. */
static int cutoff_above_pin(struct store *s)
{
    MDB_cursor *c;
    MDB_val k, v;
    struct ps_page_key gone[512];
    uint8_t pin_row[48];
    struct ps_meta m;
    lsn_t pin = 0;
    unsigned n = 0;
    int rc = read_meta(s, &m);
    if (!rc)
        rc = mdb_cursor_open(s->txn, s->pin, &c) ? fail(0, "pins") : 0;
    if (rc)
        return rc;
    while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
        if (v.mv_size == sizeof pin_row && !memcmp((uint8_t *)v.mv_data + 8, m.id.b, 16))
            pin = co_get64((uint8_t *)v.mv_data + 24);
    mdb_cursor_close(c);
    if (!pin)
        return fail(0, "a pin of this timeline");
    if (mdb_cursor_open(s->txn, s->page, &c))
        return fail(0, "pages");
    while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
        struct ps_page_key key;
        if (ps_page_key_get(co_span_of(k.mv_data, k.mv_size), &key) && key.no == s->no &&
            key.lsn <= pin && key.pgno > 1 && key.chunk == 0 && n < 512)
            gone[n++] = key;
    }
    mdb_cursor_close(c);
    for (unsigned i = 0; i < n && !rc; i++)
        rc = delete_group(s, &gone[i]);
    return rc ? rc : put_cutoff(s, s->last);
}

/* -- The file -------------------------------------------------------------------------------------
 */

static int data_file(const struct damage_target *t, char path[600])
{
    snprintf(path, 600, "%s/store/data.mdb", t->dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd >= 0 ? fd : co_fail(CO_ERR_IO, "%s cannot be opened", path);
}

/* Where data.mdb lies in memory. */
static uintptr_t map_base(void)
{
    char line[1024];
    uintptr_t base = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && !base && fgets(line, sizeof line, f))
        if (strstr(line, "/data.mdb"))
            base = (uintptr_t)strtoull(line, NULL, 16);
    if (f)
        fclose(f);
    return base;
}

static off_t torn_at; /* of the page that is to be zeroed */

static int find_leaf(struct store *s)
{
    struct commit unused;
    MDB_cursor *c;
    MDB_val k, v;
    int rc = find_commit(s, 0, &unused);
    if (!rc && mdb_cursor_open(s->txn, s->commit, &c))
        rc = fail(0, "commits");
    if (rc)
        return rc;
    rc = mdb_cursor_get(c, &k, &v, MDB_FIRST);
    mdb_cursor_close(c);
    uintptr_t base = map_base();
    if (rc || !base || (uintptr_t)k.mv_data < base)
        return fail(rc, "a leaf");
    torn_at = (off_t)(((uintptr_t)k.mv_data - base) / 4096 * 4096);
    return 0;
}

static int store_torn(const struct damage_target *t)
{
    static const uint8_t zeros[4096];
    char path[600];
    int rc = with_store(t, find_leaf);
    int fd = rc ? -1 : data_file(t, path);
    if (rc || fd < 0)
        return rc ? rc : fd;
    rc = pwrite(fd, zeros, sizeof zeros, torn_at) == sizeof zeros ? 0 : fail(0, "writing");
    close(fd);
    return rc;
}

static int store_cut(const struct damage_target *t)
{
    char path[600];
    int fd = data_file(t, path);
    if (fd < 0)
        return fd;
    off_t end = lseek(fd, 0, SEEK_END);
    int rc = ftruncate(fd, end / 2 / 4096 * 4096) ? fail(0, "cutting the file") : 0;
    close(fd);
    return rc;
}

static int store_meta(const struct damage_target *t)
{
    uint8_t noise[8192];
    char path[600];
    int fd = data_file(t, path);
    if (fd < 0)
        return fd;
    memset(noise, 0x5a, sizeof noise);
    int rc = pwrite(fd, noise, sizeof noise, 0) == sizeof noise ? 0 : fail(0, "writing");
    close(fd);
    return rc;
}

#define ROW(fn)                                                                                    \
    static int seed_##fn(const struct damage_target *t)                                            \
    {                                                                                              \
        return with_store(t, fn);                                                                  \
    }
ROW(page_bit)
ROW(pack_bit)
ROW(page_missing)
ROW(chunk_missing)
ROW(version_extra)
ROW(commit_missing)
ROW(commit_cut)
ROW(commit_lacks_page)
ROW(commit_alien_page)
ROW(time_missing)
ROW(time_dangling)
ROW(progress_ahead)
ROW(progress_behind)
ROW(progress_missing)
ROW(progress_digest)
ROW(usage_wrong)
ROW(timeline_damaged)
ROW(timeline_missing)
ROW(timeline_ancestor)
ROW(name_twice)
ROW(pin_dropped)
ROW(cutoff_ahead)
ROW(cutoff_above_pin)

const struct damage_kind damage_store[] = {
    {"page-bit", "a bit of a page's image", seed_page_bit, true, false},
    {"pack-bit", "a bit of a pack of small changes", seed_pack_bit, true, false},
    {"page-missing", "an image with its pack is gone", seed_page_missing, true, false},
    {"chunk-missing", "the second piece of an image is gone", seed_chunk_missing, true, false},
    {"version-extra", "a version where no commit is", seed_version_extra, true, false},
    {"commit-missing", "the row of a commit is gone", seed_commit_missing, true, false},
    {"commit-cut", "the row of a commit is cut short", seed_commit_cut, true, false},
    {"commit-lacks-page", "a commit's list lacks a page", seed_commit_lacks_page, true, false},
    {"commit-alien-page", "a commit's list has a page too many", seed_commit_alien_page, true,
     false},
    {"time-missing", "a commit's row of the times is gone", seed_time_missing, true, false},
    {"time-dangling", "a row of the times without a commit", seed_time_dangling, true, false},
    {"progress-ahead", "the last-record LSN lies beyond the log", seed_progress_ahead, true, false},
    {"progress-behind", "the last-record LSN lies below the newest commit", seed_progress_behind,
     true, false},
    {"progress-missing", "the row of the last-record LSN is gone", seed_progress_missing, true,
     false},
    {"progress-digest", "another digest at the last-record LSN", seed_progress_digest, true, false},
    {"usage-wrong", "counts of another number of versions", seed_usage_wrong, true, false},
    {"timeline-damaged", "a timeline's row is no message", seed_timeline_damaged, true, false},
    {"timeline-missing", "a timeline's row is gone", seed_timeline_missing, true, false},
    {"timeline-ancestor", "a branch grew from what is not there", seed_timeline_ancestor, true,
     false},
    {"name-twice", "two timelines of one name", seed_name_twice, true, false},
    {"pin-dropped", "a pin of a branch that is not there", seed_pin_dropped, true, false},
    {"cutoff-ahead", "the cut of garbage collection lies beyond the end", seed_cutoff_ahead, true,
     false},
    {"cutoff-above-pin", "garbage collection took what a pin needs", seed_cutoff_above_pin, true,
     false},
    {"store-torn", "a page of the tree of commits is zero", store_torn, true, false},
    {"store-cut", "the file is cut short", store_cut, false, false},
    {"store-meta", "the first pages of the file are noise", store_meta, false, false},
    {NULL, NULL, NULL, false, false},
};
