/*
 * fuzz_archive.c - what an archive hands out: names of objects, manifests, logs in pieces.
 *
 *   byte 0, modulo 6: 0 a name or a URL, 1 a manifest, 4 a part of a snapshot, 5 an index of one,
 *   else a log
 *   manifest, part, index: byte 1, bit 0: mend the header
 *   log: byte 1: the pieces of the second walk are of so many bytes
 *
 * What holds: a name that was parsed is made again from what it said; a manifest that was decoded
 * is encoded, decoded, and has the same lines; a part or an index that was unpacked is packed and
 * unpacked to the same; a log gives the same records, the same end and the
 * same verdict however it is cut, and what is told to the sink adds up to the end.
 */
#include "archive/state.h"
#include "archive/store_int.h"
#include "archive/walk.h"
#include "common/crc32c.h"
#include "tests/fuzz/fuzz.h"

static void names(struct fuzz_in in)
{
    AUTO_FREE char *text = (char *)fuzz_copy(co_span_of(in.p, in.n), true);
    char again[AR_NAME_TEXT];
    struct co_id cluster, timeline;
    struct ar_chunk chunk;
    struct ar_place place;
    struct ar_store *store;
    uint64_t generation;
    bool of_cluster = ar_parse_cluster(text, &cluster);
    if (ar_parse_log(text, &timeline, &chunk)) {
        FUZZ_CHECK(of_cluster && chunk.begin < chunk.end);
        FUZZ_CHECK(strcasecmp(ar_name_log(&cluster, &timeline, &chunk, again), text) == 0);
        FUZZ_CHECK(ar_name_check(again) == 0);
    }
    if (ar_parse_state(text, &place))
        FUZZ_CHECK(strcasecmp(ar_name_state(&place, again), text) == 0);
    struct ar_snap_name snap;
    if (ar_parse_snap(text, &timeline, &snap)) {
        FUZZ_CHECK(of_cluster);
        FUZZ_CHECK(strcasecmp(ar_name_snap(&cluster, &timeline, &snap, again), text) == 0);
        FUZZ_CHECK(ar_name_check(again) == 0);
    }
    if (ar_parse_writer(text, &generation))
        FUZZ_CHECK(of_cluster &&
                   strcasecmp(ar_name_writer(&cluster, generation, again), text) == 0);
    if (ar_name_check(text) == 0)
        FUZZ_CHECK(text[0] != '/' && text[0] != '.' && !strstr(text, "/.") && !strstr(text, "//"));
    if (ar_open(text, &(struct ar_options){.read_only = true}, &store) == 0)
        ar_close(store);
}

static void manifest(struct fuzz_in in)
{
    bool mended = fuzz_bool(&in);
    size_t n = in.n;
    AUTO_FREE uint8_t *bytes = fuzz_copy(co_span_of(in.p, n), false);
    AUTO_BUF again = {0};
    Corallite__ArchiveState *state, *other;
    struct ar_line a, b;
    if (mended && n >= 24) {
        memcpy(bytes, "CORALARS", 8);
        co_put32(bytes + 8, AR_STATE_VERSION);
        co_put32(bytes + 12, co_crc32c(0, bytes + 24, n - 24));
        co_put64(bytes + 16, n - 24);
    }
    if (ar_state_decode(co_span_of(bytes, n), "name", &state))
        return;
    if (fuzz_has_unknown(&state->base)) {
        corallite__archive_state__free_unpacked(state, NULL);
        return;
    }
    Corallite__ArchiveState head = *state;
    head.n_lines = head.n_pins = 0;
    FUZZ_CHECK(ar_state_begin(&head, &again) == 0);
    for (size_t i = 0; i < state->n_lines; i++)
        FUZZ_CHECK(ar_state_add_line(state->lines[i], &again) == 0);
    for (size_t i = 0; i < state->n_pins; i++)
        FUZZ_CHECK(ar_state_add_pin(state->pins[i], &again) == 0);
    FUZZ_CHECK(ar_state_seal(&again, true) == 0);
    FUZZ_CHECK(ar_state_decode(co_buf_span(&again), "again", &other) == 0);
    FUZZ_CHECK(other->n_lines == state->n_lines && other->n_pins == state->n_pins);
    for (size_t i = 0; i < state->n_lines; i++) {
        FUZZ_CHECK(ar_line_read(state->lines[i], &a) == 0 &&
                   ar_line_read(other->lines[i], &b) == 0);
        FUZZ_CHECK(co_id_eq(&a.id, &b.id) && a.end == b.end && strcmp(a.name, b.name) == 0);
        FUZZ_CHECK(a.kept.lsn == b.kept.lsn && a.kept.config.version == b.kept.config.version &&
                   ar_line_from(&a) >= a.start && ar_line_from(&a) <= a.end);
    }
    corallite__archive_state__free_unpacked(state, NULL);
    corallite__archive_state__free_unpacked(other, NULL);
}

/* The header as its writer would have made it, if it is to be mended. */
static uint8_t *sealed(struct fuzz_in *in, const char *magic, size_t from, bool with_length)
{
    bool mended = fuzz_bool(in);
    uint8_t *bytes = fuzz_copy(co_span_of(in->p, in->n), false);
    if (mended && in->n >= 56) {
        memcpy(bytes, magic, 8);
        co_put32(bytes + 8, AR_SNAP_VERSION);
        if (with_length)
            co_put64(bytes + 16, in->n - 24);
        co_put32(bytes + 12, co_crc32c(0, bytes + from, in->n - from));
    }
    return bytes;
}

static void part(struct fuzz_in in)
{
    AUTO_FREE uint8_t *bytes = sealed(&in, "CORALSNP", 16, false);
    AUTO_BUF rows = {0};
    AUTO_BUF object = {0};
    AUTO_BUF again = {0};
    struct co_id timeline = {{0}};
    struct ar_snap_name at = {.lsn = 0};
    if (in.n >= 56) {
        memcpy(timeline.b, bytes + 32, sizeof timeline.b);
        at.lsn = co_get64(bytes + 24);
        at.number = co_get32(bytes + 48);
    }
    /* What a part says of its length is believed up to the bound: not by a machine of a fuzzer. */
    if (in.n >= 24 && co_get64(bytes + 16) > CO_MIB)
        return;
    if (ar_snap_unpack(co_span_of(bytes, in.n), "name", &timeline, &at, &rows))
        return;
    FUZZ_CHECK(ar_snap_pack(&timeline, &at, co_buf_span(&rows), &object) == 0);
    FUZZ_CHECK(ar_snap_unpack(co_buf_span(&object), "again", &timeline, &at, &again) == 0);
    FUZZ_CHECK(again.len == rows.len && (!rows.len || !memcmp(again.data, rows.data, rows.len)));
}

static void snapshot_index(struct fuzz_in in)
{
    AUTO_FREE uint8_t *bytes = sealed(&in, "CORALSNI", 24, true);
    AUTO_BUF object = {0};
    Corallite__ArchiveSnapshot *one, *two;
    if (ar_snap_index_unpack(co_span_of(bytes, in.n), "name", &one))
        return;
    /* A field of number 0 that is not written in the shortest way is kept by the library as
     * unknown, written in the shortest way, and then not read again. */
    if (!one->base.n_unknown_fields) {
        FUZZ_CHECK(ar_snap_index_pack(one, &object) == 0);
        FUZZ_CHECK(ar_snap_index_unpack(co_buf_span(&object), "again", &two) == 0);
        FUZZ_CHECK(one->n_parts == two->n_parts && one->lsn == two->lsn);
        corallite__archive_snapshot__free_unpacked(two, NULL);
    }
    corallite__archive_snapshot__free_unpacked(one, NULL);
}

struct told {
    uint64_t bytes, records;
};

static int whole(void *owner, struct co_span record, const struct wal_header *h)
{
    struct told *t = owner;
    FUZZ_CHECK(record.len == h->total_bytes);
    t->bytes += record.len;
    t->records++;
    return 0;
}

static int piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                 const struct wal_header *last)
{
    struct told *t = owner;
    if (last) {
        FUZZ_CHECK(last->begin_lsn == lsn && at + bytes.len == last->total_bytes);
        t->bytes += last->total_bytes;
        t->records++;
    }
    return 0;
}

static int walk_in(struct ar_walk *w, struct co_span log, size_t step, lsn_t start)
{
    struct told told = {0};
    struct ar_sink sink = {&told, whole, piece};
    int rc = 0;
    for (size_t at = 0; at < log.len && !rc; at += step) {
        size_t n = log.len - at < step ? log.len - at : step;
        AUTO_FREE uint8_t *bytes = fuzz_copy(co_span_of(log.data + at, n), false);
        rc = ar_walk_feed(w, co_span_of(bytes, n), &sink);
    }
    FUZZ_CHECK(told.bytes == w->end - start && told.records == w->records);
    if (!rc)
        FUZZ_CHECK(ar_walk_next(w) == start + log.len);
    return rc;
}

static void log_in_pieces(struct fuzz_in in)
{
    size_t step = 1 + fuzz_number(&in, 1);
    struct co_span log = co_span_of(in.p, in.n);
    struct wal_header h;
    struct ar_walk a, b;
    if (wal_peek(log, &h) || log.len == 0)
        return;
    ar_walk_init(&a, &h.cluster, &h.timeline, h.begin_lsn, &h.prev_digest);
    ar_walk_init(&b, &h.cluster, &h.timeline, h.begin_lsn, &h.prev_digest);
    int ra = walk_in(&a, log, log.len, h.begin_lsn), rb = walk_in(&b, log, step, h.begin_lsn);
    FUZZ_CHECK(ra == rb && a.end == b.end && a.records == b.records && a.time_us == b.time_us);
    FUZZ_CHECK(memcmp(&a.digest, &b.digest, sizeof a.digest) == 0);
    ar_walk_free(&a);
    ar_walk_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned which = fuzz_number(&in, 1) % 6;
    if (which == 0)
        names(in);
    else if (which == 1)
        manifest(in);
    else if (which == 4)
        part(in);
    else if (which == 5)
        snapshot_index(in);
    else
        log_in_pieces(in);
    return 0;
}
