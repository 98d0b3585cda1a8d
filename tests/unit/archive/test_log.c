/* Names, manifests and logs of an archive: what is read back is what was put, or an error that
 * names it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/read.h"
#include "archive/report.h"
#include "proto/message.h"

static char base[64], url[80];
static struct ar_store *store;
static const struct co_id cluster = {{1, 2, 3}}, timeline = {{4, 5, 6}};

static void setup(void)
{
    snprintf(base, sizeof base, "/tmp/co_archlog_XXXXXX");
    cr_assert(mkdtemp(base));
    snprintf(url, sizeof url, "dir:%s", base);
    cr_assert_eq(ar_open(url, NULL, &store), 0);
}

static void teardown(void)
{
    char command[100];
    ar_close(store);
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(archive_log, .init = setup, .fini = teardown, .timeout = 60);

/* -- A log ------------------------------------------------------------------------------------- */

struct made {
    struct co_buf bytes;
    lsn_t at[64]; /* boundaries */
    unsigned n;
    struct wal_digest digest;
};

/* Appends a transaction; a page of 64 KiB of noise each, so that a few dozen make a large record.
 */
static void commit(struct made *m, unsigned pages, term_t term)
{
    static uint8_t page[65536];
    static uint32_t x = 1;
    struct wal_builder *b;
    struct co_buf record = {0};
    if (!m->n)
        m->at[m->n++] = LSN_FIRST;
    struct wal_stamp stamp = {.cluster = cluster,
                              .timeline = timeline,
                              .term = term,
                              .begin_lsn = LSN_FIRST + m->bytes.len,
                              .sealed_lsn = LSN_FIRST,
                              .time_us = 1700000000000000u + m->n,
                              .prev_digest = m->digest,
                              .db_pages = 100};
    cr_assert_eq(wal_builder_new(&b), 0);
    wal_builder_reset(b, sizeof page);
    for (pgno_t p = 1; p <= pages; p++) {
        for (size_t i = 0; i < sizeof page; i++)
            page[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        cr_assert_eq(wal_builder_page(b, p, page, NULL, 0), 0);
    }
    wal_builder_seal(b, &stamp, &record, &m->digest);
    cr_assert_eq(co_buf_append(&m->bytes, record.data, record.len), 0);
    m->at[m->n++] = LSN_FIRST + m->bytes.len;
    co_buf_free(&record);
    wal_builder_free(b);
}

static lsn_t end_of(const struct made *m)
{
    return LSN_FIRST + m->bytes.len;
}

static void put(const struct made *m, lsn_t begin, lsn_t end, struct ar_chunk *out)
{
    char name[AR_NAME_TEXT];
    struct co_span bytes = co_span_of(m->bytes.data + (begin - LSN_FIRST), (size_t)(end - begin));
    *out = (struct ar_chunk){.begin = begin, .end = end};
    ar_sum(bytes, &out->sum);
    cr_assert_eq(ar_put(store, ar_name_log(&cluster, &timeline, out, name), bytes), 0);
}

struct seen {
    unsigned whole, pieces, last;
};

static int see_whole(void *owner, struct co_span record, const struct wal_header *h)
{
    cr_assert_eq(record.len, h->total_bytes);
    ((struct seen *)owner)->whole++;
    return 0;
}

static int see_piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                     const struct wal_header *last)
{
    struct seen *s = owner;
    (void)lsn, (void)at;
    cr_assert_leq(bytes.len, CO_BATCH_BYTES);
    s->pieces++;
    s->last += last != NULL;
    return 0;
}

/* Reads up to `end`. */
static int read_to(const struct made *m, lsn_t end, struct seen *seen)
{
    struct ar_walk walk;
    struct ar_line line = {.id = timeline, .start = LSN_FIRST, .end = end, .name = "shop/main"};
    struct ar_sink sink = {seen, see_whole, see_piece};
    line.digest = m->digest;
    *seen = (struct seen){0};
    ar_walk_init(&walk, &cluster, &timeline, LSN_FIRST, &line.base);
    int rc = ar_read_log(store, &cluster, &line, &walk, &sink);
    ar_walk_free(&walk);
    return rc;
}

Test(archive_log, comes_back_however_it_was_cut)
{
    /* Chunks that end within records, overlap, reach beyond the end; a record larger than a batch.
     */
    struct made m = {0};
    struct seen seen;
    struct ar_chunk c;
    for (int i = 0; i < 5; i++)
        commit(&m, 1, 1);
    commit(&m, 40, 2); /* 2.5 MiB */
    commit(&m, 1, 2);
    lsn_t end = end_of(&m);
    struct wal_digest digest = m.digest;
    put(&m, LSN_FIRST, m.at[2] + 40, &c);
    put(&m, m.at[2], m.at[3], &c);
    put(&m, m.at[2] + 40, m.at[5] + 1000000, &c);
    put(&m, m.at[5], m.at[6], &c);
    commit(&m, 1, 2); /* archived, but no manifest tells of it */
    put(&m, m.at[6], end_of(&m), &c);
    m.digest = digest;
    cr_assert_eq(read_to(&m, end, &seen), 0, "%s", co_sentence());
    cr_assert_eq(seen.whole, 6u);
    cr_assert_eq(seen.last, 1u);
    cr_assert_geq(seen.pieces, 3u);
    co_buf_free(&m.bytes);
}

Test(archive_log, what_is_missing_is_named)
{
    /* In the middle, at the end, all of it. */
    struct made m = {0};
    struct seen seen;
    struct ar_chunk c;
    char lsn[LSN_TEXT];
    for (int i = 0; i < 4; i++)
        commit(&m, 1, 1);
    cr_assert_eq(read_to(&m, end_of(&m), &seen), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "lacks a part of shop/main"), "%s", co_sentence());
    put(&m, LSN_FIRST, m.at[1], &c);
    put(&m, m.at[2], end_of(&m), &c);
    cr_assert_eq(read_to(&m, end_of(&m), &seen), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), lsn_format(m.at[1], lsn)), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), lsn_format(m.at[2], lsn)), "%s", co_sentence());
    cr_assert_eq(seen.whole, 1u);
    co_buf_free(&m.bytes);
}

Test(archive_log, another_end_than_the_manifest_tells_is_refused)
{
    /* Sound objects of another history: the chain ends with another digest. */
    struct made m = {0};
    struct seen seen;
    struct ar_chunk c;
    commit(&m, 1, 1);
    commit(&m, 1, 1);
    put(&m, LSN_FIRST, end_of(&m), &c);
    m.digest.b[3] ^= 1;
    cr_assert_eq(read_to(&m, end_of(&m), &seen), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "end differently"), "%s", co_sentence());
    m.digest.b[3] ^= 1;
    cr_assert_eq(read_to(&m, end_of(&m) - 8, &seen), CO_ERR_CORRUPT, "an end within a record");
    co_buf_free(&m.bytes);
}

Test(archive_log, every_flipped_byte_and_every_cut_is_noticed)
{
    /* Of a small object: each byte, each length; the sentence has its name. */
    struct made m = {0};
    struct seen seen;
    struct ar_chunk c;
    char name[AR_NAME_TEXT], path[300];
    commit(&m, 0, 1);
    commit(&m, 0, 1);
    put(&m, LSN_FIRST, end_of(&m), &c);
    ar_name_log(&cluster, &timeline, &c, name);
    snprintf(path, sizeof path, "%s/%s", base, name);
    cr_assert_eq(chmod(path, 0600), 0);
    for (size_t i = 0; i < m.bytes.len; i++) {
        FILE *f = fopen(path, "r+");
        cr_assert(f);
        fseek(f, (long)i, SEEK_SET);
        fputc(m.bytes.data[i] ^ (1 << (i % 8)), f);
        fclose(f);
        cr_assert_eq(read_to(&m, end_of(&m), &seen), CO_ERR_CORRUPT, "byte %zu", i);
        cr_assert(strstr(co_sentence(), name), "%s", co_sentence());
        f = fopen(path, "r+");
        fseek(f, (long)i, SEEK_SET);
        fputc(m.bytes.data[i], f);
        fclose(f);
    }
    for (size_t len = m.bytes.len; len-- > 0;) {
        cr_assert_eq(truncate(path, (off_t)len), 0);
        cr_assert_eq(read_to(&m, end_of(&m), &seen), CO_ERR_CORRUPT, "%zu bytes", len);
        cr_assert(strstr(co_sentence(), name), "%s", co_sentence());
    }
    co_buf_free(&m.bytes);
}

Test(archive_log, a_walk_takes_only_what_chains)
{
    /* Another timeline, a repeated record, a gap, an older term. */
    struct made m = {0};
    struct ar_walk w;
    struct wal_digest zero = {{0}};
    struct co_id other = {{9}};
    commit(&m, 0, 2);
    commit(&m, 0, 2);
    size_t first = (size_t)(m.at[1] - LSN_FIRST);
    ar_walk_init(&w, &cluster, &other, LSN_FIRST, &zero);
    cr_assert_eq(ar_walk_feed(&w, co_buf_span(&m.bytes), NULL), CO_ERR_CORRUPT);
    ar_walk_free(&w);
    ar_walk_init(&w, &cluster, &timeline, LSN_FIRST, &zero);
    cr_assert_eq(ar_walk_feed(&w, co_span_of(m.bytes.data, first), NULL), 0);
    cr_assert_eq(ar_walk_feed(&w, co_span_of(m.bytes.data, first), NULL), CO_ERR_CORRUPT);
    ar_walk_free(&w);
    ar_walk_init(&w, &cluster, &timeline, m.at[1], &zero);
    cr_assert_eq(ar_walk_feed(&w, co_span_of(m.bytes.data + first, m.bytes.len - first), NULL),
                 CO_ERR_CORRUPT);
    ar_walk_free(&w);
    commit(&m, 0, 1);
    ar_walk_init(&w, &cluster, &timeline, LSN_FIRST, &zero);
    cr_assert_eq(ar_walk_feed(&w, co_buf_span(&m.bytes), NULL), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "older term"), "%s", co_sentence());
    cr_assert_eq(w.end, m.at[2]);
    ar_walk_free(&w);
    co_buf_free(&m.bytes);
}

/* -- Names and manifests ----------------------------------------------------------------------- */

Test(archive_log, names_say_what_they_are)
{
    /* Back and forth; what is none is none. */
    char name[AR_NAME_TEXT];
    struct ar_chunk c = {.begin = 0x1000, .end = 0x1320, .sum = {{7}}}, d;
    struct ar_place p = {cluster, 3, 0x11}, q;
    struct co_id t;
    uint64_t g;
    cr_assert(ar_parse_log(ar_name_log(&cluster, &timeline, &c, name), &t, &d));
    cr_assert(co_id_eq(&t, &timeline) && d.begin == c.begin && d.end == c.end && d.sum.b[0] == 7);
    cr_assert_eq(ar_name_check(name), 0);
    cr_assert(ar_parse_state(ar_name_state(&p, name), &q));
    cr_assert(q.generation == 3 && q.sequence == 0x11);
    cr_assert(ar_parse_writer(ar_name_writer(&cluster, 77, name), &g) && g == 77);
    cr_assert(!ar_parse_log(name, &t, &d) && !ar_parse_state(name, &q));
    name[strlen(name) - 1] = 0;
    cr_assert(!ar_parse_writer(name, &g));
}

static void put_state(struct co_id of, uint64_t generation, uint64_t sequence)
{
    char name[AR_NAME_TEXT];
    struct co_buf out = {0};
    struct ar_place place = {cluster, generation, sequence};
    Corallite__ArchiveState head = CORALLITE__ARCHIVE_STATE__INIT;
    head.has_cluster = head.has_generation = head.has_sequence = 1;
    head.cluster = msg_bytes16(of.b);
    head.generation = generation;
    head.sequence = sequence;
    cr_assert_eq(ar_state_begin(&head, &out), 0);
    cr_assert_eq(ar_state_seal(&out, false), 0);
    cr_assert_eq(ar_put_if_absent(store, ar_name_state(&place, name), co_buf_span(&out)), 0);
    co_buf_free(&out);
}

Test(archive_log, the_greatest_generation_counts_however_late_another_writes)
{
    /* V3: a writer that was deposed may go on numbering; nobody looks at it. */
    Corallite__ArchiveState *state;
    struct ar_place place;
    cr_assert_eq(ar_newest_state(store, &cluster, &place, &state), CO_ERR_NOT_FOUND);
    put_state(cluster, 1, 900);
    put_state(cluster, 2, 1);
    put_state(cluster, 1, 901);
    cr_assert_eq(ar_newest_state(store, &cluster, &place, &state), 0, "%s", co_sentence());
    cr_assert(place.generation == 2 && place.sequence == 1);
    corallite__archive_state__free_unpacked(state, NULL);
}

Test(archive_log, a_manifest_of_another_cluster_is_refused)
{
    /* Somebody copied objects around. */
    Corallite__ArchiveState *state;
    put_state(timeline, 1, 1);
    cr_assert_eq(ar_newest_state(store, &cluster, NULL, &state), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "/state/"), "%s", co_sentence());
}

Test(archive_log, all_clusters_are_found)
{
    /* Each once, in order, whatever lies beside them. */
    struct co_id found[AR_CLUSTERS_MAX];
    uint32_t n;
    cr_assert_eq(ar_clusters(store, found, &n), CO_ERR_NOT_FOUND);
    put_state(cluster, 1, 1);
    put_state(cluster, 1, 2);
    cr_assert_eq(ar_put(store, "00000000000000000000000000000001/log/x", co_span_of("", 0)), 0);
    cr_assert_eq(ar_put(store, "readme", co_span_of("", 0)), 0);
    cr_assert_eq(ar_clusters(store, found, &n), 0, "%s", co_sentence());
    cr_assert_eq(n, 2u);
    cr_assert(found[0].b[15] == 1 && co_id_eq(&found[1], &cluster));
}

/* -- What came back ---------------------------------------------------------------------------- */

static void add_line(struct co_buf *out, struct co_id id, struct co_id up, const char *branch,
                     lsn_t from, lsn_t end, lsn_t known)
{
    static const struct co_id zero;
    Corallite__Timeline t = CORALLITE__TIMELINE__INIT;
    Corallite__ArchiveState__Line line = CORALLITE__ARCHIVE_STATE__LINE__INIT;
    t.has_id = t.has_start_lsn = 1;
    t.id = msg_bytes16(id.b);
    t.has_ancestor = t.has_ancestor_lsn = !co_id_eq(&up, &zero);
    t.ancestor = msg_bytes16(up.b);
    t.start_lsn = t.ancestor_lsn = from;
    t.database_name = (char *)"shop";
    t.branch = (char *)(uintptr_t)branch;
    line.timeline = &t;
    line.has_end_lsn = line.has_known_lsn = 1;
    line.end_lsn = end;
    line.known_lsn = known;
    cr_assert_eq(ar_state_add_line(&line, out), 0);
}

Test(archive_log, a_branch_without_its_past_is_told)
{
    /* Of what it grew from too little is archived: it cannot be read, nor can what grew from it. */
    struct co_buf out = {0};
    Corallite__ArchiveState head = CORALLITE__ARCHIVE_STATE__INIT, *state;
    struct co_id zero = {{0}}, a = {{1}}, b = {{2}}, c = {{3}};
    struct ar_line line, lacks;
    char *text;
    size_t len;
    cr_assert_eq(ar_state_begin(&head, &out), 0);
    add_line(&out, a, zero, "main", LSN_FIRST, 8000, 9000);
    add_line(&out, b, a, "b", 8008, 8008, 8008);
    add_line(&out, c, b, "c", 8008, 8104, 8104);
    cr_assert_eq(ar_state_seal(&out, false), 0);
    cr_assert_eq(ar_state_decode(co_buf_span(&out), "x", &state), 0, "%s", co_sentence());
    cr_assert(ar_line_find(state, &a, &line) && ar_line_whole(state, &line, &lacks));
    cr_assert(ar_line_find(state, &b, &line) && !ar_line_whole(state, &line, &lacks));
    cr_assert_str_eq(lacks.name, "shop/main");
    cr_assert(ar_line_find(state, &c, &line) && !ar_line_whole(state, &line, &lacks));
    FILE *f = open_memstream(&text, &len);
    ar_report(state, f);
    fclose(f);
    cr_assert(strstr(text, "1000 bytes of its log, committed by then, are MISSING"), "%s", text);
    cr_assert(strstr(text, "shop/b                   NOT THERE: it grew from shop/main"), "%s",
              text);
    cr_assert(strstr(text, "may be missing"), "%s", text);
    free(text);
    corallite__archive_state__free_unpacked(state, NULL);
    co_buf_free(&out);
}
