/* Snapshots as objects, over every place there is (places.h): what is read back is what was put, or
 * an error that names the object. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "archive/snapshot.h"
#include "archive/state.h"
#include "places.h"
#include "proto/message.h"

TestSuite(snapshots, .timeout = 60);

static const struct place *place;
#define EACH_PLACE for (place = places; place < places + places_n; place++)

static const struct co_id cluster = {{1, 2, 3}}, timeline = {{4, 5, 6}};
static char url[AR_URL_MAX_BYTES];
static struct ar_snap snap;

/* The last does not compress, and is larger than one part of an upload. */
#define PARTS 4u
static const size_t lengths[PARTS] = {1, 5000, 300000, 20 * CO_MIB};
static uint8_t content[20 * CO_MIB];

static struct ar_store *up(void)
{
    struct ar_store *s;
    uint32_t x = 7;
    place->up(url);
    cr_assert_eq(ar_open(url, &(struct ar_options){.make = true}, &s), 0, "%s", co_sentence());
    for (size_t i = 0; i < sizeof content; i++)
        content[i] =
            i < 400000 ? (uint8_t)(i / 900) : (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    return s;
}

static void put(struct ar_store *s, const struct ar_snap_name *at, const struct co_buf *object,
                char name[AR_NAME_TEXT])
{
    cr_assert_eq(ar_put(s, ar_name_snap(&cluster, &timeline, at, name), co_buf_span(object)), 0,
                 "%s: %s", place->name, co_sentence());
}

/* Puts a snapshot with these parts; `names` are those of its objects, the index last. */
static void put_all(struct ar_store *s, char names[PARTS + 1][AR_NAME_TEXT])
{
    Corallite__ArchiveSnapshot index = CORALLITE__ARCHIVE_SNAPSHOT__INIT;
    Corallite__ArchiveSnapshot__Part part[PARTS], *list[PARTS];
    struct ar_snap_name at = {.lsn = 0x12340, .generation = 3};
    struct wal_digest sums[PARTS], digest = {{9}};
    struct co_buf object = {0};
    for (uint32_t i = 0; i < PARTS; i++) {
        object.len = 0;
        at.number = i;
        cr_assert_eq(ar_snap_pack(&timeline, &at, co_span_of(content, lengths[i]), &object), 0);
        ar_sum(co_buf_span(&object), &at.sum);
        put(s, &at, &object, names[i]);
        corallite__archive_snapshot__part__init(&part[i]);
        sums[i] = at.sum;
        part[i].has_sum = part[i].has_bytes = 1;
        part[i].sum = msg_bytes16(sums[i].b);
        part[i].bytes = object.len;
        list[i] = &part[i];
    }
    index.has_cluster = index.has_timeline = index.has_lsn = index.has_digest = 1;
    index.has_generation = 1;
    index.cluster = msg_bytes16(cluster.b);
    index.timeline = msg_bytes16(timeline.b);
    index.digest = msg_bytes16(digest.b);
    index.lsn = at.lsn;
    index.generation = at.generation;
    index.n_parts = PARTS;
    index.parts = list;
    object.len = 0;
    cr_assert_eq(ar_snap_index_pack(&index, &object), 0);
    at.number = AR_SNAP_INDEX;
    ar_sum(co_buf_span(&object), &at.sum);
    put(s, &at, &object, names[PARTS]);
    snap = (struct ar_snap){.lsn = at.lsn, .generation = at.generation, .sum = at.sum};
    co_buf_free(&object);
}

/* Reads all of it; the first error. */
static int read_all(struct ar_store *s)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    int rc = ar_snap_index_get(s, &cluster, &timeline, &snap, &index);
    if (rc)
        return rc;
    cr_assert_eq(index->n_parts, PARTS);
    cr_assert_eq(index->digest.data[0], 9);
    for (uint32_t i = 0; i < PARTS && !rc; i++) {
        rows.len = 0;
        rc = ar_snap_part_get(s, &cluster, &timeline, &snap, index, i, &rows);
        if (!rc)
            cr_assert(rows.len == lengths[i] && memcmp(rows.data, content, rows.len) == 0,
                      "%s: part %u is another", place->name, i);
    }
    co_buf_free(&rows);
    corallite__archive_snapshot__free_unpacked(index, NULL);
    return rc;
}

Test(snapshots, come_back_as_they_were_put)
{
    /* Parts of one byte up to more than an upload in one go; compressed where that gains. */
    char names[PARTS + 1][AR_NAME_TEXT];
    EACH_PLACE
    {
        struct ar_store *s = up();
        uint64_t size;
        put_all(s, names);
        cr_assert_eq(read_all(s), 0, "%s: %s", place->name, co_sentence());
        cr_assert_eq(ar_get(s, names[2], 0, 0, &(struct co_buf){0}, &size), 0);
        cr_assert_lt(size, lengths[2] / 10);
        ar_close(s);
        place->down();
    }
}

Test(snapshots, what_is_missing_or_anothers_is_named)
{
    /* Each object in turn; then each under the name of the one before it. */
    char names[PARTS + 1][AR_NAME_TEXT];
    EACH_PLACE
    {
        struct ar_store *s = up();
        put_all(s, names);
        for (uint32_t i = 0; i <= PARTS; i++) {
            struct co_buf bytes = {0}, other = {0};
            cr_assert_eq(ar_get(s, names[i], 0, AR_OBJECT_MAX_BYTES, &bytes, NULL), 0);
            cr_assert_eq(ar_remove(s, names[i]), 0);
            cr_assert_eq(read_all(s), CO_ERR_NOT_FOUND);
            cr_assert(strstr(co_sentence(), names[i]), "%s", co_sentence());
            cr_assert_eq(ar_get(s, names[(i + 1) % 3], 0, AR_OBJECT_MAX_BYTES, &other, NULL), 0);
            cr_assert_eq(ar_put(s, names[i], co_buf_span(&other)), 0);
            cr_assert_eq(read_all(s), CO_ERR_CORRUPT);
            cr_assert(strstr(co_sentence(), names[i]), "%s", co_sentence());
            cr_assert_eq(ar_remove(s, names[i]), 0);
            cr_assert_eq(ar_put(s, names[i], co_buf_span(&bytes)), 0);
            co_buf_free(&bytes);
            co_buf_free(&other);
        }
        cr_assert_eq(read_all(s), 0, "%s", co_sentence());
        ar_close(s);
        place->down();
    }
}

Test(snapshots, every_changed_byte_and_every_cut_is_noticed)
{
    /* Of a part: by its own checksum, before the sum in its name is even looked at. */
    struct ar_snap_name at = {.lsn = 4096, .number = 2}, wrong;
    struct co_buf object = {0}, rows = {0};
    cr_assert_eq(
        ar_snap_pack(&timeline, &at, co_span_of("some rows, some rows, rows", 26), &object), 0);
    cr_assert_eq(ar_snap_unpack(co_buf_span(&object), "x/y", &timeline, &at, &rows), 0);
    cr_assert(rows.len == 26 && memcmp(rows.data, "some rows, some rows, rows", 26) == 0);
    for (size_t i = 0; i < object.len; i++) {
        object.data[i] ^= 1;
        int rc = ar_snap_unpack(co_buf_span(&object), "x/y", &timeline, &at, &rows);
        cr_assert(rc == CO_ERR_CORRUPT || (rc == CO_ERR_VERSION && i >= 8 && i < 12), "byte %zu",
                  i);
        cr_assert(strstr(co_sentence(), "x/y"), "%s", co_sentence());
        cr_assert_eq(ar_snap_unpack(co_span_of(object.data, i), "x/y", &timeline, &at, &rows),
                     CO_ERR_CORRUPT);
        object.data[i] ^= 1;
    }
    wrong = at;
    wrong.lsn += 8;
    cr_assert_eq(ar_snap_unpack(co_buf_span(&object), "x/y", &timeline, &wrong, &rows),
                 CO_ERR_CORRUPT);
    wrong = at;
    wrong.number++;
    cr_assert_eq(ar_snap_unpack(co_buf_span(&object), "x/y", &timeline, &wrong, &rows),
                 CO_ERR_CORRUPT);
    cr_assert_eq(ar_snap_unpack(co_buf_span(&object), "x/y", &cluster, &at, &rows), CO_ERR_CORRUPT);
    cr_assert_eq(rows.len, 26u, "what was refused left something");
    co_buf_free(&object);
    co_buf_free(&rows);
}

Test(snapshots, names_say_what_they_are)
{
    /* Back and forth; their order is that of LSN, generation and number; others are no such names.
     */
    char a[AR_NAME_TEXT], b[AR_NAME_TEXT], prefix[AR_NAME_TEXT];
    struct ar_snap_name at = {0x1000, 2, 7, .sum = {{0xab}}}, next = at, back;
    struct co_id id;
    ar_name_snap(&cluster, &timeline, &at, a);
    cr_assert_eq(ar_name_check(a), 0);
    cr_assert(ar_parse_snap(a, &id, &back));
    cr_assert(co_id_eq(&id, &timeline) && back.lsn == at.lsn && back.generation == 2 &&
              back.number == 7 && back.sum.b[0] == 0xab);
    next.number = AR_SNAP_INDEX;
    cr_assert_lt(strcmp(a, ar_name_snap(&cluster, &timeline, &next, b)), 0);
    cr_assert(ar_parse_snap(b, &id, &back) && back.number == AR_SNAP_INDEX);
    ar_name_snaps(&cluster, &timeline, prefix);
    cr_assert_eq(strncmp(a, prefix, strlen(prefix)), 0);
    for (size_t i = 0; i < strlen(a); i++) {
        char bad[AR_NAME_TEXT];
        memcpy(bad, a, sizeof bad);
        bad[i] = 'x';
        cr_assert_not(ar_parse_snap(bad, &id, &back), "%s", bad);
    }
}

Test(snapshots, a_manifest_tells_of_them_and_refuses_impossible_ones)
{
    /* Behind the end of the log, or with a cut behind itself. */
    Corallite__Timeline t = CORALLITE__TIMELINE__INIT;
    Corallite__ArchiveState__Line line = CORALLITE__ARCHIVE_STATE__LINE__INIT;
    Corallite__ArchiveSnapshotAt at = CORALLITE__ARCHIVE_SNAPSHOT_AT__INIT;
    struct wal_digest sum = {{5}};
    struct ar_line out;
    char name[] = "shop", branch[] = "main";
    t.has_id = t.has_base_digest = 1;
    t.id = msg_bytes16(timeline.b);
    t.base_digest = msg_bytes16(sum.b);
    t.database_name = name;
    t.branch = branch;
    line.timeline = &t;
    line.end_lsn = 8192;
    line.has_digest = 1;
    line.digest = msg_bytes16(sum.b);
    cr_assert_eq(ar_line_read(&line, &out), 0, "%s", co_sentence());
    cr_assert_eq(out.snap.lsn, 0u);
    line.snapshot = &at;
    at.lsn = 8192;
    at.cutoff = 4096;
    at.generation = 3;
    at.has_sum = 1;
    at.sum = msg_bytes16(sum.b);
    cr_assert_eq(ar_line_read(&line, &out), 0, "%s", co_sentence());
    cr_assert(out.snap.lsn == 8192 && out.snap.cutoff == 4096 && out.snap.sum.b[0] == 5);
    at.lsn = 8200;
    cr_assert_eq(ar_line_read(&line, &out), CO_ERR_CORRUPT);
    at.lsn = 8192;
    at.cutoff = 8193;
    cr_assert_eq(ar_line_read(&line, &out), CO_ERR_CORRUPT);
    at.cutoff = 0;
    at.sum.len = 15;
    cr_assert_neq(ar_line_read(&line, &out), 0);
}
