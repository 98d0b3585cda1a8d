/*
 * seeds.c DIR - writes the first inputs of each harness below DIR/NAME/: small, sound examples of
 * every format, made by the product's own encoders, so that mutation begins from what is right.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/state.h"
#include "common/crc32c.h"
#include "compute-vfs/page_slots.h"
#include "pageserver/page_codec.h"
#include "pageserver/timeline_meta.h"
#include "proto/changes.h"
#include "proto/message.h"
#include "proto/qmsg.h"
#include "proto/wal_delta.h"
#include "tests/fuzz/fuzz.h"

static const char *root;
static unsigned n_files;

static void must(int rc)
{
    FUZZ_CHECK(rc == 0);
}

static void add(struct co_buf *out, const void *data, size_t len)
{
    must(co_buf_append(out, data, len));
}

#define add_literal(out, text) add((out), (text), sizeof(text) - 1)

static void add_number(struct co_buf *out, uint64_t v, unsigned bytes)
{
    uint8_t b[8];
    co_put64(b, v);
    add(out, b, bytes);
}

/* Writes a seed and empties it. Of the second file of a harness: with the byte that says so. */
static void save(const char *harness, struct co_buf *bytes)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", root, harness);
    FUZZ_CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/%s/%04u", root, harness, n_files++);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes->data, bytes->len) == (ssize_t)bytes->len);
    close(fd);
    bytes->len = 0;
}

static void save_second(const char *harness, struct co_buf *bytes)
{
    struct co_buf out = {0};
    add_number(&out, FUZZ_SECOND, 1);
    add(&out, bytes->data, bytes->len);
    save(harness, &out);
    co_buf_free(&out);
    bytes->len = 0;
}

static void pack(const ProtobufCMessage *m, struct co_buf *out)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    must(co_buf_reserve(out, n + 1));
    out->len += protobuf_c_message_pack(m, out->data + out->len);
}

static struct wal_config three(void)
{
    struct wal_config c = {.version = 1, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        c.members[i].node_id = i + 1;
    return c;
}

static struct ps_meta a_timeline(void)
{
    return (struct ps_meta){.id = {{2}},
                            .database = {{7}},
                            .database_name = "shop",
                            .branch = "main",
                            .start_lsn = LSN_FIRST,
                            .config = three(),
                            .state = PS_ACTIVE,
                            .version = 3,
                            .created_us = 1700000000000000u,
                            .pageserver = {{9}}};
}

/* -- Frames ------------------------------------------------------------------------------------ */

/* A message with every scalar field set: {tag, value} as protobuf has them. */
static void full_message(const ProtobufCMessageDescriptor *d, int depth, struct co_buf *out)
{
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        struct co_buf inner = {0};
        uint8_t key[CO_VARINT_MAX];
        bool bytes = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES ||
                     f->type == PROTOBUF_C_TYPE_MESSAGE;
        bool fixed32 = f->type == PROTOBUF_C_TYPE_FIXED32;
        if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
            if (depth == 0)
                continue;
            full_message(f->descriptor, depth - 1, &inner);
        } else if (f->type == PROTOBUF_C_TYPE_STRING) {
            add(&inner, "main", 4);
        } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
            add(&inner, "0123456789abcdef", 16);
        } else {
            add(&inner, "\2", 1);
        }
        unsigned wire = bytes || (f->flags & PROTOBUF_C_FIELD_FLAG_PACKED) ? 2 : fixed32 ? 5 : 0;
        add(out, key, co_put_varint(key, f->id << 3 | wire));
        if (wire == 2)
            add(out, key, co_put_varint(key, inner.len));
        if (fixed32)
            add(&inner, "\0\0\0", 3);
        add(out, inner.data, inner.len);
        co_buf_free(&inner);
    }
}

static void frame(unsigned type, struct co_span message)
{
    struct co_buf out = {0};
    add_number(&out, 2, 1); /* receive sizes from the input */
    add_number(&out, 9, 2);
    must(frame_append(&out, type, 7, message, (struct co_span){0}));
    must(frame_append(&out, FRAME_PING, 8, (struct co_span){0}, (struct co_span){0}));
    save("frames", &out);
    co_buf_free(&out);
}

static void frames(void)
{
#define KIND(type, name)                                                                           \
    {                                                                                              \
        type, &corallite__##name##__descriptor                                                     \
    }
    static const struct {
        unsigned type;
        const ProtobufCMessageDescriptor *d;
    } kinds[] = {KIND(FRAME_HELLO, hello),
                 KIND(FRAME_HELLO_OK, hello_ok),
                 KIND(FRAME_ERROR, error),
                 KIND(FRAME_STREAM, stream),
                 KIND(FRAME_TIMELINE_LIST, timeline_list),
                 KIND(FRAME_NODE_STATUS_OK, node_status),
                 KIND(FRAME_OPEN, open),
                 KIND(FRAME_OPENED, opened),
                 KIND(FRAME_DB_LISTED, db_listed),
                 KIND(FRAME_GET_PAGES, get_pages),
                 KIND(FRAME_PAGES, pages),
                 KIND(FRAME_CHANGES, changes),
                 KIND(FRAME_SERVER_STATUS_OK, server_status),
                 KIND(FRAME_RESOLVED, resolved),
                 KIND(FRAME_BRANCH_CREATE, branch_create),
                 KIND(FRAME_BRANCH_CHANGE, branch_change),
                 KIND(FRAME_RESTORE, restore),
                 KIND(FRAME_BRANCH_LISTED, branch_listed),
                 KIND(FRAME_LOGGED, logged),
                 KIND(FRAME_PINS, pins)};
#undef KIND
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct co_buf m = {0};
        full_message(kinds[i].d, 2, &m);
        frame(kinds[i].type, co_buf_span(&m));
        co_buf_free(&m);
    }
    struct ps_meta meta = a_timeline();
    struct ps_meta_wire wire;
    struct co_buf m = {0};
    Corallite__TimelinePut put = CORALLITE__TIMELINE_PUT__INIT;
    ps_meta_to_wire(&meta, &wire);
    put.timeline = &wire.wire;
    pack(&put.base, &m);
    frame(FRAME_TIMELINE_PUT, co_buf_span(&m));
    Corallite__Timeline *list[] = {&wire.wire, &wire.wire};
    Corallite__TimelineListed listed = CORALLITE__TIMELINE_LISTED__INIT;
    listed.timelines = list;
    listed.n_timelines = 2;
    m.len = 0;
    pack(&listed.base, &m);
    frame(FRAME_TIMELINE_LISTED, co_buf_span(&m));
    co_buf_free(&m);
}

/* -- Quorum messages --------------------------------------------------------------------------- */

static struct q_msg a_message(enum frame_type type)
{
    static const struct q_term terms[] = {{1, 4096}, {2, 8192}, {5, 8192}};
    return (struct q_msg){.type = type,
                          .timeline = {{2}},
                          .config_version = 1,
                          .term = 1,
                          .nonce = {{1}},
                          .begin_lsn = 4096,
                          .start_lsn = 4096,
                          .from_lsn = 4096,
                          .to_lsn = 8192,
                          .flush_lsn = 8192,
                          .write_lsn = 8192,
                          .commit_lsn = 4096,
                          .floor_lsn = 4096,
                          .sent_us = 5,
                          .read_id = 6,
                          .config = three(),
                          .history = {3, terms}};
}

static struct co_span body_of(const struct q_msg *msg, struct co_buf *out)
{
    out->len = 0;
    must(qmsg_encode(msg, out));
    return co_span_of(out->data + FRAME_HEADER_BYTES, out->len - FRAME_HEADER_BYTES);
}

/* One message of a conversation, as fuzz_quorum.c reads it. */
static void say(struct co_buf *out, unsigned slot, enum frame_type type, unsigned how)
{
    struct co_buf text = {0};
    struct q_msg msg = a_message(type);
    if (type == FRAME_ELECTED)
        msg.history.n = 1;
    if (type == FRAME_APPEND)
        msg.history.n = 0;
    struct co_span body = body_of(&msg, &text);
    FUZZ_CHECK(body.len < 256);
    add_number(out, 3, 1);
    add_number(out, slot, 1);
    add_number(out, how, 1);
    add_number(out, body.len, 1);
    add(out, body.data, body.len);
    if (type == FRAME_APPEND && how & 16)
        add(out, "\2\0\0\0\0", 5); /* pages of the record */
    co_buf_free(&text);
}

static void quorum(void)
{
    /* The order of `types` in fuzz_quorum.c. */
    static const enum frame_type types[] = {
        FRAME_VOTE, FRAME_VOTED,   FRAME_FETCH, FRAME_DATA,   FRAME_ELECTED,       FRAME_APPEND,
        FRAME_ACK,  FRAME_RELEASE, FRAME_POS,   FRAME_REJECT, FRAME_REJECT_CONFIG, FRAME_WAITER};
    struct co_buf out = {0}, text = {0};
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        struct q_msg msg = a_message(types[i]);
        struct co_span body = body_of(&msg, &text);
        add_number(&out, 16 + i, 1);
        if (types[i] == FRAME_DATA || types[i] == FRAME_APPEND)
            add_number(&out, 0, 2);
        add(&out, body.data, body.len);
        save("quorum", &out);
    }
    /* A vote, an election, records, fragments, a sync, another vote. */
    add_number(&out, 0, 1);
    say(&out, 0, FRAME_VOTE, 1 + 2);
    say(&out, 4, FRAME_ELECTED, 2 + 4 + 16);
    say(&out, 5, FRAME_APPEND, 2 + 4 + 16);
    add_number(&out, 0, 1);
    say(&out, 5, FRAME_APPEND, 2 + 4 + 8 + 16);
    add_number(&out, 0, 1);
    say(&out, 5, FRAME_APPEND, 2 + 4 + 16 + 32);
    say(&out, 13, FRAME_READ_POS, 2);
    say(&out, 0, FRAME_VOTE, 1 + 2 + 64);
    say(&out, 4, FRAME_ELECTED, 2 + 4 + 16 + 64);
    save("quorum", &out);
    co_buf_free(&out);
    co_buf_free(&text);
}

/* -- Records and pages ------------------------------------------------------------------------- */

static struct wal_stamp a_stamp(lsn_t begin, uint32_t db_pages)
{
    return (struct wal_stamp){.cluster = {{1}},
                              .timeline = {{2}},
                              .term = 1,
                              .begin_lsn = begin,
                              .sealed_lsn = 4096,
                              .time_us = 1700000000000000u,
                              .commit_uuid = {{4}},
                              .db_pages = db_pages};
}

static void transaction(struct wal_builder *b, lsn_t begin, const struct wal_digest *prev,
                        struct co_buf *out, struct wal_digest *digest)
{
    uint8_t base[512], page[512];
    wal_builder_reset(b, sizeof page);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < sizeof base; k++)
            base[k] = (uint8_t)(i == 1 ? 7 : k * 167 + k / 3);
        memcpy(page, base, sizeof page);
        page[40] ^= 1;
        must(wal_builder_page(b, 2 + i, page, i == 2 ? base : NULL, i == 2 ? 4096 : 0));
    }
    struct wal_stamp stamp = a_stamp(begin, 9);
    stamp.prev_digest = *prev;
    co_buf_free(out);
    wal_builder_seal(b, &stamp, out, digest);
}

static void records(void)
{
    struct wal_builder *b;
    struct wal_digest digest = {{0}}, next;
    struct co_buf record = {0}, out = {0}, log = {0};
    struct wal_config config = three();
    struct wal_stamp stamp = a_stamp(4096, 0);
    must(wal_builder_new(&b));
    must(wal_build_config(&config, &stamp, &record, &digest));
    for (unsigned how = 0; how < 2; how++) {
        add_number(&out, how + 4, 1);
        add(&out, record.data, record.len);
        save("records", &out);
    }
    add(&log, record.data, record.len);
    lsn_t lsn = 4096 + record.len;
    for (int i = 0; i < 2; i++) {
        transaction(b, lsn, &digest, &record, &next);
        digest = next;
        lsn += record.len;
        add(&log, record.data, record.len);
    }
    for (unsigned how = 0; how < 2; how++) {
        add_number(&out, how + 8, 1);
        add(&out, record.data, record.len);
        save("records", &out);
    }
    for (unsigned how = 2; how < 4; how++) {
        add_number(&out, how, 1);
        add_literal(&out, "\3\1\10abcdefgh\7\20\0\0\4wxyz\1\0\1\1\2pq\0\0\0\5\0\1\6\0\2");
        save("records", &out);
    }
    for (unsigned how = 0; how < 4; how++) { /* the scan at start: as it is, and mended */
        add_number(&out, 5, 1);
        add_number(&out, how, 1);
        add_number(&out, how & 2 ? 176 : 0, 2);
        add(&out, log.data, log.len);
        save("disk", &out);
    }
    wal_builder_free(b);
    co_buf_free(&record);
    co_buf_free(&out);
    co_buf_free(&log);
}

static void pages(void)
{
    uint8_t base[512], page[512], runs[512];
    struct co_buf out = {0}, list = {0};
    memset(base, 7, sizeof base);
    memcpy(page, base, sizeof page);
    memcpy(page + 100, "changed", 7);
    memcpy(page + 300, "here", 4);
    size_t n = wal_delta_make(base, page, sizeof page, runs, sizeof runs);
    add_literal(&out, "\0\0\7\0");
    add(&out, runs, n);
    save_second("records", &out);
    struct ps_codec *codec;
    struct ps_image image;
    must(ps_codec_new(&codec));
    for (int whole = 0; whole < 2; whole++) {
        if (whole)
            for (size_t i = 0; i < sizeof page; i++)
                page[i] = (uint8_t)(i * 167 + i / 3);
        ps_encode(codec, page, sizeof page, co_crc32c(0, page, sizeof page), (struct co_span){0},
                  PS_CHUNK_MIN, &image);
        add_literal(&out, "\2\0");
        for (uint32_t i = 0; i < image.n_chunks; i++) {
            uint8_t chunk[PS_CHUNK_MAX];
            ps_chunk_write(&image, i, chunk);
            add_number(&out, ps_chunk_bytes(&image, i), 2);
            add(&out, chunk, ps_chunk_bytes(&image, i));
        }
        save_second("records", &out);
        if (!whole) { /* the same compressed image as an entry of a record */
            add_literal(&out, "\1\0\7\0\1\1");
            add(&out, image.body.data, image.body.len);
            save_second("records", &out);
        }
    }
    add_literal(&out, "\3\2\20\0\5\4abcd");
    add(&out, page, sizeof page);
    save_second("records", &out);
    const pgno_t pgnos[] = {1, 2, 9, 300, 70000};
    must(changes_put_pages(&list, pgnos, 5));
    add_literal(&out, "\4");
    add(&out, list.data, list.len);
    save_second("records", &out);
    list.len = 0;
    must(changes_put_commit(&list, 4096, 4304, 300, pgnos, 4));
    must(changes_put_commit(&list, 4304, 9000, 70000, pgnos, 5));
    add_literal(&out, "\5");
    add_number(&out, 4096, 8);
    add(&out, list.data, list.len);
    save_second("records", &out);
    for (size_t len = 14; len <= 20; len += 3) {
        add_literal(&out, "\6");
        must(co_buf_append_zeros(&out, len));
        save_second("records", &out);
    }
    struct cv_slots shape = cv_slots_shape(1u << 20, 4096);
    const struct cv_slot slot = {7, 4096, 4096, 8192, 1, 2, 3};
    uint8_t head[CV_SLOTS_HEAD], kept[CV_SLOT_BYTES];
    add_literal(&out, "\10\1");
    add_number(&out, 7, 4);
    for (int i = 0; i < 3; i++)
        add_number(&out, 8192, 8);
    cv_slots_put(&shape, &(struct co_id){{1}}, head);
    cv_slot_put(&slot, kept);
    add(&out, head, sizeof head);
    add(&out, kept, sizeof kept);
    save_second("records", &out);
    ps_codec_free(codec);
    co_buf_free(&out);
    co_buf_free(&list);
}

/* -- Files ------------------------------------------------------------------------------------- */

static void disk(void)
{
    struct co_buf out = {0}, row = {0};
    add_literal(&out, "\0\1\1"); /* identity */
    add_literal(&out, "CORALID1\1\0\0\0\1\0\0\0");
    must(co_buf_append_zeros(&out, 32));
    add_literal(&out, "safekeeper");
    save("disk", &out);
    add_literal(&out, "\1\3"); /* control block: two slots of 180 bytes */
    for (unsigned i = 0; i < 2; i++) {
        uint8_t slot[180] = {0};
        co_put32(slot + 8, 1);
        co_put64(slot + 16, 4 + i);
        co_put64(slot + 72, 3);
        for (unsigned at = 96; at <= 136; at += 8)
            co_put64(slot + at, at == 104 || at == 112 ? 0 : 4096 + (at > 120 ? 64u : 0));
        co_put32(slot + 144, 1);
        add(&out, slot, sizeof slot);
    }
    save("disk", &out);
    add_literal(&out, "\2\1\0\0"); /* history */
    must(co_buf_append_zeros(&out, 64));
    co_put32(out.data + 4 + 8, 1);
    for (uint64_t i = 1; i < 4; i++) {
        add_number(&out, i, 8);
        add_number(&out, 4096 * i, 8);
    }
    save("disk", &out);
    struct ps_meta meta = a_timeline();
    add_literal(&out, "\3\1"); /* registry */
    must(co_buf_append_zeros(&out, 32));
    co_put32(out.data + 2 + 8, 1);
    for (uint8_t i = 0; i < 2; i++) {
        meta.id.b[0] = (uint8_t)(2 + i);
        row.len = 0;
        must(ps_meta_pack(&meta, &row));
        add_number(&out, row.len, 4);
        add_number(&out, 0, 4);
        add(&out, row.data, row.len);
    }
    save("disk", &out);
    add_literal(&out, "\4"); /* rows of the store: a timeline, a commit, a pin */
    add_number(&out, 0, 1);
    add_number(&out, 16, 1);
    add_number(&out, row.len + 8, 1);
    must(co_buf_append_zeros(&out, 16));
    add_literal(&out, "\1\0\0\0\1\0\0\0");
    add(&out, row.data, row.len);
    add_literal(&out, "\3\16\44");
    must(co_buf_append_zeros(&out, 14));
    out.data[out.len - 4] = 16;
    must(co_buf_append_zeros(&out, 32));
    add_literal(&out, "\3\1\1\1");
    add_literal(&out, "\5\24\60");
    must(co_buf_append_zeros(&out, 16));
    add_literal(&out, "tag1\1");
    must(co_buf_append_zeros(&out, 47));
    save("disk", &out);
    co_buf_free(&out);
    co_buf_free(&row);
}

/* -- Databases of SQLite ----------------------------------------------------------------------- */

static void run(sqlite3 *db, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fprintf(stderr, "seeds: %s: %s\n", sql, why);
        exit(1);
    }
}

static void btree(void)
{
    static const char *const schemas[] = {
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)",
        "PRAGMA auto_vacuum=1; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)",
        "CREATE TABLE t(a TEXT PRIMARY KEY, b BLOB) WITHOUT ROWID",
    };
    struct co_buf out = {0};
    for (unsigned i = 0; i < 3; i++) {
        sqlite3 *db;
        sqlite3_int64 n[2];
        FUZZ_CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
        run(db, "PRAGMA page_size=512");
        run(db, schemas[i]);
        run(db, "WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40) INSERT INTO t "
                "SELECT i*3, substr(hex(zeroblob(2000)), 1, (i%9)*(i%9)*20) FROM n");
        run(db, "DELETE FROM t WHERE a%5=0");
        unsigned char *before = sqlite3_serialize(db, "main", &n[0], 0);
        run(db, "UPDATE t SET b='changed' WHERE a%7=0");
        unsigned char *after = sqlite3_serialize(db, "main", &n[1], 0);
        size_t least = (size_t)(n[0] < n[1] ? n[0] : n[1]);
        least = least < 12 * 512 ? least : 12 * 512;
        add_number(&out, i == 2 ? 8 : 0, 1);
        add(&out, before, least);
        add(&out, after, least);
        save("btree", &out);
        sqlite3_free(before);
        sqlite3_free(after);
        sqlite3_close(db);
    }
    add_literal(&out, "\4\1\0\1");
    add_literal(&out, "\6\1\2\7\33\17\1\2\100\11\41\373\124\104\55\30abcdefgabc");
    save("btree", &out);
    co_buf_free(&out);
}

/* -- Text -------------------------------------------------------------------------------------- */

static void text(unsigned which, const char *words)
{
    struct co_buf out = {0};
    add_number(&out, which, 1);
    add(&out, words, strlen(words));
    save("text", &out);
    co_buf_free(&out);
}

static void request(unsigned how, const char *words)
{
    struct co_buf out = {0};
    add_number(&out, how, 1);
    add(&out, words, strlen(words));
    save_second("text", &out);
    co_buf_free(&out);
}

static void texts(void)
{
    static const struct {
        unsigned which;
        const char *words;
    } all[] = {
        {0, "shop/main\nserver=127.0.0.1:6400\nat=-5m\ncommit_timeout=3s\nstaleness=250"},
        {0, "shop\ncreate=no\nmode=ro\ndurability=normal\ncache_mb=64\npage_size=4096\n_x=1"},
        {1, "file:shop/main?vfs=corallite&server=[::1]:6400&at=lsn:0/1A40"},
        {1, "corallite://127.0.0.1:6401/shop/main@0000000000001a40"},
        {1, "/home/me/file:shop?vfs=corallite"},
        {2, "2026-01-02T03:04:05.678901+02:00"},
        {2, "-2h30m"},
        {2, "5 minutes ago"},
        {2, "pin:release-1"},
        {2, "time:1700000000"},
        {2, "shop/main@2023-01-02"},
        {3, "0000000000001a40"},
        {3, "lsn:0/1A40"},
        {3, "12:0000000000001a40"},
        {3, "00112233445566778899aabbccddeeff"},
        {4, "my shop!/main"},
        {4, "*.db,/var/lib/*/data-?.sqlite\n/var/lib/x/data-1.sqlite"},
        {5, "[::1]:6400"},
        {5, "localhost:0"},
        {5, "16M"},
        {5, "250ms"},
        {5, "info"},
        {6, "shop/main@-10m"},
        {6, "shop@pin:a"},
        {7, "corallite-cluster 1\nid 00112233445566778899aabbccddeeff\nport-base 6400\n"},
        {7, "123 4567 0a1b2c3d-0000-0000-0000-000000000000\n"},
        {7, "12 (a b) c) S 1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 4567 1 1"},
        {7, "sk2"},
        {8, "--dir=/d\n-y\nword\n--json\n--\n-word"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        text(all[i].which, all[i].words);
    request(0, "GET /v1/databases/shop/branches/main/log?at=-5m&limit=10\n\n");
    request(0, "POST /v1/databases\napplication/json; charset=utf-8\n{\"name\":\"shop\"}");
    request(0, "PATCH /v1/databases/a%2Fb/branches/m\n24h\n{\"expires\":null,\"protected\":true}");
    request(0, "DELETE /v1/databases/shop/pins/x\n2027-01-02T03:04:05Z\n");
    request(32 + 5, "{\"name\":\"b\",\"from\":\"main\",\"at\":\"-5m\",\"expires\":\"24h\"}");
    request(64, "a%20b%C3%A9");
    request(128, "/a b/%2F+\xc3\xa4");
    request(
        160,
        "//attic/a/b?endpoint=https%3A%2F%2F[::1]:9000/s3&region=eu-1&style=path\nhttp://h\nx-1");
    request(192,
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>"
            "<Contents><Key>a&amp;&#xe4;<![CDATA[b]]></Key><Size>1</Size></Contents><c/></"
            "ListBucketResult>");
    request(192, "<Error><Code>SlowDown</Code><Message>m</Message><Region>r</Region></Error>");
    static const ProtobufCMessageDescriptor *const kinds[] = {
        &corallite__db_listed__db__descriptor, &corallite__branch_listed__branch__descriptor,
        &corallite__resolved__descriptor,      &corallite__pins__one__descriptor,
        &corallite__logged__descriptor,        &corallite__branched__descriptor,
        &corallite__server_status__descriptor, &corallite__node_status__per_timeline__descriptor,
        &corallite__node_status__descriptor};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct co_buf out = {0};
        add_number(&out, 16 + i, 1);
        full_message(kinds[i], 2, &out);
        save_second("text", &out);
        co_buf_free(&out);
    }
}

/* -- The archive ------------------------------------------------------------------------------- */

static void a_manifest(void)
{
    struct co_buf out = {0}, object = {0};
    Corallite__ArchiveState head = CORALLITE__ARCHIVE_STATE__INIT;
    Corallite__ArchiveState__Line line = CORALLITE__ARCHIVE_STATE__LINE__INIT;
    Corallite__ArchiveState__Pin pin = CORALLITE__ARCHIVE_STATE__PIN__INIT;
    Corallite__ArchiveSnapshotAt snap = CORALLITE__ARCHIVE_SNAPSHOT_AT__INIT;
    Corallite__ArchiveKept kept = CORALLITE__ARCHIVE_KEPT__INIT;
    struct ps_meta meta = a_timeline();
    struct ps_meta_wire wire;
    ps_meta_to_wire(&meta, &wire);
    head.has_generation = head.has_sequence = head.has_cluster = 1;
    head.generation = head.sequence = 1;
    head.cluster = msg_bytes16(meta.id.b);
    line.timeline = &wire.wire;
    line.has_end_lsn = line.has_digest = 1;
    line.end_lsn = 8192;
    line.digest = msg_bytes16(meta.id.b);
    snap.has_lsn = snap.has_sum = 1;
    snap.lsn = 8192;
    snap.sum = msg_bytes16(meta.id.b);
    kept.has_lsn = kept.has_term = kept.has_digest = 1;
    kept.lsn = 8192;
    kept.term = 3;
    kept.digest = msg_bytes16(meta.id.b);
    line.snapshot = &snap;
    line.kept = &kept;
    pin.name = (char *)"pin";
    must(ar_state_begin(&head, &object));
    must(ar_state_add_line(&line, &object));
    must(ar_state_add_pin(&pin, &object));
    must(ar_state_seal(&object, true));
    add_number(&out, 1, 1);
    add_number(&out, 1, 1);
    add(&out, object.data, object.len);
    save("archive", &out);
    co_buf_free(&object);
    co_buf_free(&out);
}

static void a_log(void)
{
    struct co_buf out = {0}, record = {0};
    struct wal_config config = three();
    struct wal_digest digest = {{0}};
    struct wal_stamp stamp = {.cluster = {{1}}, .timeline = {{2}}, .term = 1};
    add_number(&out, 2, 1);
    add_number(&out, 99, 1);
    stamp.begin_lsn = LSN_FIRST;
    for (int i = 0; i < 3; i++) {
        stamp.prev_digest = digest;
        stamp.sealed_lsn = stamp.begin_lsn;
        config.version++;
        must(wal_build_config(&config, &stamp, &record, &digest));
        add(&out, record.data, record.len);
        stamp.begin_lsn += record.len;
        co_buf_free(&record);
    }
    save("archive", &out);
    co_buf_free(&out);
}

static void a_snapshot(void)
{
    struct co_buf out = {0}, object = {0};
    Corallite__ArchiveSnapshot index = CORALLITE__ARCHIVE_SNAPSHOT__INIT;
    Corallite__ArchiveSnapshot__Part part = CORALLITE__ARCHIVE_SNAPSHOT__PART__INIT;
    Corallite__ArchiveSnapshot__Part *parts[] = {&part};
    struct co_id id = {{1}};
    struct ar_snap_name at = {.lsn = 8192};
    must(ar_snap_pack(&id, &at, co_span_of("rows and rows and rows", 22), &object));
    add_number(&out, 4, 1);
    add_number(&out, 1, 1);
    add(&out, object.data, object.len);
    save("archive", &out);
    object.len = 0;
    index.has_cluster = index.has_timeline = index.has_digest = index.has_lsn = 1;
    index.cluster = index.timeline = index.digest = part.sum = msg_bytes16(id.b);
    index.lsn = at.lsn;
    part.has_sum = part.has_bytes = 1;
    part.bytes = 80;
    index.n_parts = 1;
    index.parts = parts;
    must(ar_snap_index_pack(&index, &object));
    add_number(&out, 5, 1);
    add_number(&out, 1, 1);
    add(&out, object.data, object.len);
    save("archive", &out);
    co_buf_free(&object);
    co_buf_free(&out);
}

static void archive(void)
{
    char name[AR_NAME_TEXT];
    struct co_buf out = {0};
    struct co_id a = {{1}}, b = {{2}};
    struct ar_chunk chunk = {.begin = LSN_FIRST, .end = 8192};
    struct ar_place place = {a, 1, 2};
    const char *all[] = {ar_name_log(&a, &b, &chunk, (char[AR_NAME_TEXT]){0}),
                         ar_name_state(&place, (char[AR_NAME_TEXT]){0}),
                         ar_name_writer(&a, 7, name), "dir:/tmp/archive"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        add_number(&out, 0, 1);
        add(&out, all[i], strlen(all[i]));
        save("archive", &out);
    }
    co_buf_free(&out);
    a_manifest();
    a_snapshot();
    a_log();
}

int main(int argc, char **argv)
{
    struct co_buf canary = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: seeds DIR\n");
        return 2;
    }
    root = argv[1];
    FUZZ_CHECK(mkdir(root, 0755) == 0 || errno == EEXIST);
    frames();
    quorum();
    records();
    pages();
    disk();
    btree();
    texts();
    archive();
    add(&canary, "COR\1ab", 6);
    save("canary", &canary);
    co_buf_free(&canary);
    printf("%u seeds\n", n_files);
    return 0;
}
