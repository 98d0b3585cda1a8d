/*
 * fuzz_disk.c - what lies on disks: identity, control block, history, registry, segments and the
 * scan at start; rows of the pageserver's store.
 *
 *   byte 0: which of the functions at the end; byte 1, bit 0: mend the checksums
 *
 * What holds: a file that is accepted is written anew and read as the same; a log that was
 * recovered is recovered again to the same end, with nothing left to cut but what is in doubt; what
 * is refused is refused with a sentence.
 *
 * Files lie in a directory below $TMPDIR (tests/fuzz/run makes it in memory), one a process.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/identity_file.h"
#include "common/log.h"
#include "pageserver/store_int_lmdb.h"
#include "pageserver/verify_lmdb.h"
#include "safekeeper/history_file.h"
#include "safekeeper/lives_file.h"
#include "safekeeper/recover_file.h"
#include "safekeeper/registry_file.h"
#include "safekeeper/witness_file.h"
#include "tests/fuzz/fuzz.h"

static const struct sk_owner owner = {
    .cluster = {{1}}, .timeline = {{2}}, .disk = {{3}}, .node = 1};

static char room[200];

static void room_make(void)
{
    const char *base = getenv("TMPDIR");
    if (room[0])
        return;
    co_log_set_level(CO_LOG_OFF);
    snprintf(room, sizeof room, "%.100s/disk-XXXXXX", base ? base : "/tmp");
    FUZZ_CHECK(mkdtemp(room));
}

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", room, name);
    return path;
}

static void write_file(const char *path, struct co_span bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(bytes.len == 0 || write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
    close(fd);
}

static void said(int rc)
{
    FUZZ_CHECK(rc < 0 && co_sentence()[0]);
}

/* -- Identity ---------------------------------------------------------------------------------- */

static void identity(struct fuzz_in in)
{
    uint8_t file[128] = {0};
    struct co_identity id, again;
    static char dir[300];
    bool mended = fuzz_bool(&in), exact = fuzz_bool(&in);
    snprintf(dir, sizeof dir, "%s/identity.d", room);
    FUZZ_CHECK(mkdir(dir, 0700) == 0 || errno == EEXIST);
    memcpy(file, in.p, in.n < sizeof file ? in.n : sizeof file);
    if (mended) {
        memcpy(file, "CORALID1", 8);
        co_put32(file + 124, co_crc32c(0, file, 124));
    }
    write_file(path_of("identity.d/identity"),
               co_span_of(file, exact ? sizeof file : in.n % sizeof file));
    int rc = co_identity_open(dir, "safekeeper", 1, NULL, &id);
    if (rc) {
        said(rc);
        return;
    }
    FUZZ_CHECK(id.node == 1 && strcmp(id.role, "safekeeper") == 0 && !id.fresh);
    co_identity_close(&id);
    FUZZ_CHECK(co_identity_open(dir, "safekeeper", 1, &id.cluster, &again) == 0);
    FUZZ_CHECK(co_id_eq(&id.disk, &again.disk));
    co_identity_close(&again);
}

/* -- Control block ----------------------------------------------------------------------------- */

static bool same_control(const struct sk_control *a, const struct sk_control *b)
{
    return a->term == b->term && co_id_eq(&a->voted_nonce, &b->voted_nonce) &&
           a->start_lsn == b->start_lsn && a->commit_lsn == b->commit_lsn &&
           a->sealed_lsn == b->sealed_lsn && a->floor_lsn == b->floor_lsn &&
           a->no_lease == b->no_lease && a->clean == b->clean && a->history_n == b->history_n &&
           a->history_sequence == b->history_sequence && strcmp(a->halted, b->halted) == 0;
}

static void mend_slot(uint8_t *slot)
{
    memcpy(slot, "CORALCTL", 8);
    co_put32(slot + 12, owner.node);
    memcpy(slot + 24, owner.cluster.b, 16);
    memcpy(slot + 40, owner.timeline.b, 16);
    memcpy(slot + 56, owner.disk.b, 16);
    co_put32(slot + SK_CONTROL_SLOT_BYTES - 4, co_crc32c(0, slot, SK_CONTROL_SLOT_BYTES - 4));
}

static void control(struct fuzz_in in)
{
    uint8_t slots[2 * SK_CONTROL_SLOT_BYTES] = {0};
    struct sk_control_file file;
    struct sk_control c, again;
    unsigned how = (unsigned)fuzz_number(&in, 1);
    size_t half = in.n / 2;
    memcpy(slots, in.p, half < SK_CONTROL_SLOT_BYTES ? half : SK_CONTROL_SLOT_BYTES);
    memcpy(slots + SK_CONTROL_SLOT_BYTES, in.p + half,
           in.n - half < SK_CONTROL_SLOT_BYTES ? in.n - half : SK_CONTROL_SLOT_BYTES);
    if (how & 1)
        mend_slot(slots);
    if (how & 2)
        mend_slot(slots + SK_CONTROL_SLOT_BYTES);
    const char *path = path_of("control");
    write_file(path, co_span_of(slots, how & 4 ? in.n % sizeof slots : sizeof slots));
    int rc = sk_control_open(path, &owner, &file, &c);
    if (rc) {
        said(rc);
        return;
    }
    FUZZ_CHECK(c.start_lsn <= c.commit_lsn && c.commit_lsn <= c.sealed_lsn);
    FUZZ_CHECK(memchr(c.halted, 0, sizeof c.halted) && c.history_n <= CO_HISTORY_MAX);
    bool last = c.sequence == SK_CONTROL_LAST;
    rc = sk_control_write(&file, &c);
    sk_control_close(&file);
    FUZZ_CHECK(rc == (last ? CO_ERR_CORRUPT : 0));
    if (last) {
        said(rc);
        return;
    }
    FUZZ_CHECK(sk_control_open(path, &owner, &file, &again) == 0);
    FUZZ_CHECK(same_control(&c, &again) && again.sequence == c.sequence);
    sk_control_close(&file);
}

/* -- History ----------------------------------------------------------------------------------- */

static void history(struct fuzz_in in)
{
    struct sk_history_file file;
    struct wal_digest digest = {{0}}, again;
    struct q_term *terms, *more;
    unsigned how = (unsigned)fuzz_number(&in, 1);
    uint32_t n = (uint32_t)fuzz_number(&in, 2) % (CO_HISTORY_MAX + 1);
    AUTO_FREE uint8_t *copy = fuzz_copy(co_span_of(in.p, in.n), false);
    if (how & 1 && in.n >= 64) {
        n = (uint32_t)(in.n - 64) / 16;
        uint8_t sum[SHA256_DIGEST_LENGTH];
        size_t len = 64 + 16 * (size_t)n;
        memcpy(copy, "CORALHIS", 8);
        co_put32(copy + 12, n);
        memcpy(copy + 24, owner.timeline.b, 16);
        co_put32(copy + 40, 0);
        co_put32(copy + 40, co_crc32c(0, copy, len));
        SHA256(copy + 64, len - 64, sum);
        memcpy(digest.b, sum, sizeof digest.b);
    }
    const char *path = path_of("history");
    write_file(path, co_span_of(copy, in.n));
    FUZZ_CHECK(sk_history_open(path, &owner.timeline, false, &file) == 0);
    int rc = sk_history_read(&file, how & 2, n, &digest, &terms);
    if (rc) {
        said(rc);
    } else if (n) {
        struct q_history h = {n, terms};
        FUZZ_CHECK(q_history_valid(&h));
        FUZZ_CHECK(sk_history_write(&file, 7, &h, &again) == 0);
        FUZZ_CHECK(memcmp(again.b, digest.b, sizeof again.b) == 0);
        FUZZ_CHECK(sk_history_read(&file, 7, n, &again, &more) == 0);
        FUZZ_CHECK(memcmp(terms, more, n * sizeof *terms) == 0);
        free(more);
    }
    free(terms);
    sk_history_close(&file);
}

/* -- Witness, and the count of starts --------------------------------------------------------- */

/* What is read is written and read again the same; rubbish is nothing. */
static void witness(struct fuzz_in in)
{
    struct sk_witness_file file, again;
    struct sk_lives lives;
    uint64_t way = fuzz_number(&in, 1);
    bool mends = way & 1;
    AUTO_FREE uint8_t *copy = fuzz_copy(co_span_of(in.p, in.n), false);
    for (size_t at = 0; mends && at + SK_WITNESS_SLOT_BYTES <= in.n; at += SK_WITNESS_SLOT_BYTES) {
        memcpy(copy + at, "CORALWIT", 8);
        co_put32(copy + at + 8, way & 2 ? 1 : 2);
        memcpy(copy + at + 24, owner.timeline.b, 16);
        co_put32(copy + at + SK_WITNESS_SLOT_BYTES - 4,
                 co_crc32c(0, copy + at, SK_WITNESS_SLOT_BYTES - 4));
    }
    const char *path = path_of("witness");
    write_file(path, co_span_of(copy, in.n));
    AUTO_FREE char *dir = strdup(path);
    *strrchr(dir, '/') = 0;
    FUZZ_CHECK(sk_witness_read(dir, &owner.timeline, &file) == 0);
    FUZZ_CHECK(file.n <= Q_KNOWN_MAX);
    struct q_known_list known = {file.n, file.known};
    if (file.sequence + 1 < UINT64_MAX) {
        FUZZ_CHECK(sk_witness_store(dir, &owner.timeline, &known, &file) == 0);
        FUZZ_CHECK(sk_witness_read(dir, &owner.timeline, &again) == 0);
        FUZZ_CHECK(again.n == file.n && again.sequence == file.sequence);
        FUZZ_CHECK(memcmp(again.known, file.known, sizeof file.known) == 0);
    }
    write_file(path_of("starts"), co_span_of(copy, in.n));
    int rc = sk_lives_begin(dir, 3, &lives);
    if (rc)
        said(rc);
    else
        FUZZ_CHECK(lives.start_id == 3);
}

/* -- Registry ---------------------------------------------------------------------------------- */

/* Lengths, checksums and the number of entries, so that the messages are reached. */
static void mend_registry(uint8_t *file, size_t len)
{
    uint32_t n = 0;
    size_t at = 32;
    while (at + 8 <= len) {
        size_t have = len - at - 8, want = co_get32(file + at) % 512;
        want = want < have ? want : have;
        co_put32(file + at, (uint32_t)want);
        co_put32(file + at + 4, co_crc32c(0, file + at + 8, want));
        at += 8 + want;
        n++;
    }
    memcpy(file, "CORALREG", 8);
    co_put32(file + 12, n);
    co_put32(file + 24, co_crc32c(0, file, 24));
    co_put32(file + 28, 0);
}

/* The same with an empty base, and changes in each place of 512 bytes behind it. */
static void mend_changes(uint8_t *file, size_t len)
{
    memset(file, 0, 512);
    memcpy(file, "CORALREG", 8);
    co_put32(file + 8, 2);
    co_put32(file + 24, co_crc32c(0, file, 24));
    for (size_t at = 512; at + 16 <= len; at += 512) {
        size_t have = len - at - 16, want = co_get32(file + at) % 496;
        want = want < have ? want : have;
        if (file[at] & 1) /* one of four is left as it is, and one copy of each is enough */
            co_put32(file + at, (uint32_t)want);
        co_put64(file + at + 8, at / 1024 + (at / 512 & 1 ? 1 : 0) + (file[at + 8] == 7));
        if (file[at + 4] & 3)
            co_put32(file + at + 4, co_crc32c(co_crc32c(0, file + at, 4), file + at + 8, 8 + want));
    }
}

static void registry(struct fuzz_in in)
{
    struct sk_registry r, again;
    bool mended = fuzz_bool(&in);
    AUTO_FREE uint8_t *file = fuzz_copy(co_span_of(in.p, in.n), false);
    if (mended && in.n > 1024 && co_get32(file) % 2)
        mend_changes(file, in.n);
    else if (mended && in.n >= 32)
        mend_registry(file, in.n);
    write_file(path_of("registry"), co_span_of(file, in.n));
    int rc = sk_registry_read(room, &r);
    if (rc) {
        said(rc);
        return;
    }
    for (uint32_t i = 0; i < r.n; i++) {
        FUZZ_CHECK(i == 0 || memcmp(r.e[i - 1].id.b, r.e[i].id.b, 16) < 0);
        FUZZ_CHECK(sk_registry_find(&r, &r.e[i].id) == &r.e[i]);
    }
    if (r.n) { /* the file as it is written when its first entry is put again */
        struct sk_registry_bytes bytes = {0};
        struct sk_entry first;
        enum sk_put what;
        FUZZ_CHECK(sk_entry_parse(r.e[0].message, &first) == 0);
        FUZZ_CHECK(sk_registry_judge(&r, &first, &what) == 0 && what == SK_PUT_NOTHING);
        FUZZ_CHECK(sk_registry_encode(&r, &first, &bytes) == 0);
        FUZZ_CHECK(sk_registry_write(room, &bytes) == 0);
        FUZZ_CHECK(sk_registry_read(room, &again) == 0 && again.n == r.n);
        FUZZ_CHECK(!again.end_bytes || again.end_bytes == again.base_bytes); /* gathered */
        co_buf_free(&bytes.buf);
        FUZZ_CHECK(memcmp(&again.e[0].id, &first.id, 16) == 0);
        sk_registry_free(&again);
        sk_entry_release(&first);
    }
    sk_registry_free(&r);
}

/* -- Segments, and the scan at start ----------------------------------------------------------- */

static void mend_segment(uint8_t header[64])
{
    memset(header, 0, 64);
    memcpy(header, "CORALSEG", 8);
    co_put32(header + 8, CO_FORMAT_VERSION);
    co_put32(header + 12, owner.node);
    memcpy(header + 16, owner.cluster.b, 16);
    memcpy(header + 32, owner.timeline.b, 16);
    co_put32(header + 56, co_crc32c(0, header, 56));
}

/* Makes a chain of records out of the input: each mended as far as lengths, place and CRC go. */
static void chain(uint8_t *log, size_t len)
{
    struct wal_digest prev = {{0}};
    lsn_t lsn = LSN_FIRST;
    while (len >= WAL_HEADER_BYTES + WAL_TRAILER_BYTES) {
        struct wal_header h;
        uint64_t total = co_get64(log + 8);
        if (total < WAL_HEADER_BYTES + WAL_TRAILER_BYTES || total > len || total % 8)
            return;
        memcpy(log + 24, owner.cluster.b, 16);
        memcpy(log + 40, owner.timeline.b, 16);
        co_put64(log + 64, lsn);
        co_put64(log + 72, lsn);
        co_put64(log + 80, lsn + total);
        memcpy(log + 120, prev.b, 16);
        co_put32(log + total - 8, co_crc32c(0, log, (size_t)total - 8));
        if (wal_check(co_span_of(log, (size_t)total), &h))
            return;
        prev = h.digest;
        lsn += total;
        log += total;
        len -= (size_t)total;
    }
}

static void recovery(struct fuzz_in in)
{
    static const struct q_term terms[] = {{1, LSN_FIRST}, {3, LSN_FIRST + 4096}};
    unsigned how = (unsigned)fuzz_number(&in, 1);
    struct sk_recover from = {.owner = owner,
                              .start_lsn = LSN_FIRST,
                              .sealed_lsn = LSN_FIRST + (fuzz_number(&in, 2) & ~7u),
                              .commit_lsn = LSN_FIRST,
                              .floor_lsn = LSN_FIRST,
                              .history = {how & 2 ? 2 : 1, terms}};
    struct sk_recovered found, again;
    struct sk_log log;
    AUTO_FREE uint8_t *bytes = fuzz_copy(co_span_of(in.p, in.n), false);
    if (how & 1)
        chain(bytes, in.n);
    FUZZ_CHECK(mkdir(path_of("log"), 0700) == 0 || errno == EEXIST);
    const char *path = path_of("log/0000000000000000.seg");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    uint8_t header[64];
    if (how & 4 && in.n >= sizeof header)
        memcpy(header, in.p, sizeof header);
    else
        mend_segment(header);
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)CO_SEGMENT_BYTES) == 0);
    FUZZ_CHECK(pwrite(fd, header, sizeof header, 0) == sizeof header);
    FUZZ_CHECK(in.n == 0 || pwrite(fd, bytes, in.n, SK_SEGMENT_HEADER + LSN_FIRST) > 0);
    close(fd);
    int rc = sk_recover_log(path_of("log"), &from, &log, &found);
    if (rc) {
        said(rc);
        return;
    }
    lsn_t end = log.end_lsn;
    FUZZ_CHECK(end >= from.sealed_lsn && log.flushed_lsn == end);
    sk_log_close(&log);
    FUZZ_CHECK(sk_recover_log(path_of("log"), &from, &log, &again) == 0);
    FUZZ_CHECK(log.end_lsn == end && again.records == found.records);
    FUZZ_CHECK(again.suspect_lsn == found.suspect_lsn);
    FUZZ_CHECK(again.torn_bytes == (found.suspect_lsn ? found.torn_bytes : 0));
    for (lsn_t at = LSN_FIRST; at < end;) { /* and all of it can be read */
        AUTO_BUF out = {0};
        struct sk_part part;
        FUZZ_CHECK(sk_log_read(&log, at, 0, end, 1, &out, &part) == 0 && out.len);
        at += out.len;
    }
    sk_log_close(&log);
}

/* -- Rows of the store ------------------------------------------------------------------------- */

static lsn_t newest_only(void *arg, lsn_t after, const char **pin)
{
    (void)arg;
    *pin = NULL;
    return after < UINT64_MAX ? UINT64_MAX : LSN_NONE;
}

/* Whatever lies there, the look through it ends. */
static void walk(struct ps_txn *txn, const struct ps_line *line)
{
    static struct ps_verify_step step;
    struct ps_verify_line of = {
        .line = line, .strict = true, .upto = UINT64_MAX, .moment = newest_only};
    struct ps_verify_at at;
    unsigned steps = 0;
    if (ps_verify_begin(txn, &of, &at))
        return;
    while (at.phase < PS_VERIFY_DONE) {
        step.n = 0;
        step.cost = 0;
        if (ps_verify_step(txn, &of, &at, &step))
            return;
        FUZZ_CHECK(step.n <= PS_VERIFY_FINDINGS_MAX && ++steps < 1000);
    }
}

static struct ps_txn *store_txn(void)
{
    static struct ps_txn *txn;
    struct ps_store *store;
    struct ps_store_options options = {.dir = path_of("store"),
                                       .map_bytes = 64 * CO_MIB,
                                       .cluster = owner.cluster,
                                       .disk = owner.disk,
                                       .no_sync = true};
    if (!txn)
        FUZZ_CHECK(ps_store_open(&options, &store) == 0 && ps_write_new(store, &txn) == 0);
    FUZZ_CHECK(ps_write_begin(txn) == 0);
    return txn;
}

static int on_row(void *arg, tlno_t no, bool purged, const struct ps_meta *meta)
{
    (void)no, (void)purged, (void)arg;
    FUZZ_CHECK(name_check(meta->database_name) == 0);
    if (meta->config.version) /* none: the safekeepers' own */
        FUZZ_CHECK(wal_config_check(&meta->config) == 0);
    return 0;
}

static int on_pin(void *arg, const struct ps_pin_row *pin)
{
    struct ps_pin_row again;
    FUZZ_CHECK(name_check(pin->name) == 0);
    FUZZ_CHECK(ps_pin_get(arg, &pin->database, pin->name, &again) == 0);
    FUZZ_CHECK(again.lsn == pin->lsn && again.created_us == pin->created_us);
    return 0;
}

/* Puts rows {table, u8 key length, u8 value length, key, value} as they come, then reads all. */
static void rows(struct fuzz_in in)
{
    static const enum ps_table tables[] = {T_TIMELINE, T_PROGRESS, T_PAGE, T_COMMIT, T_TIME, T_PIN};
    struct ps_line line = {.no = 1, .id = owner.timeline};
    struct ps_txn *txn = store_txn();
    uint8_t page[512];
    uint32_t crc;
    lsn_t lsn;
    for (int i = 0; i < 8 && in.n; i++) {
        enum ps_table table = tables[fuzz_number(&in, 1) % 6];
        size_t k = (size_t)fuzz_number(&in, 1), v = (size_t)fuzz_number(&in, 1);
        struct co_span key = fuzz_span(&in, k), value = fuzz_span(&in, v);
        if (!key.len)
            continue;
        uint8_t own[256]; /* the row of a line that is asked for */
        memcpy(own, key.data, key.len);
        if (key.len >= 4 && table != T_TIMELINE && table != T_PIN)
            co_put32be(own, 1);
        FUZZ_CHECK(ps_put(txn, table, co_span_of(own, key.len), value) == 0);
    }
    struct ps_commit commit;
    struct ps_progress progress;
    const struct ps_line *whose;
    uint32_t n;
    AUTO_BUF list = {0};
    bool all;
    (void)!ps_timeline_each(txn, on_row, NULL);
    (void)!ps_pin_each(txn, on_pin, txn);
    (void)!ps_progress_get(txn, 1, &progress);
    (void)!ps_commit_at(txn, &line, UINT64_MAX, &commit);
    (void)!ps_commit_whose(txn, &line, UINT64_MAX / 2, &commit, &whose, &n);
    (void)!ps_commit_at_time(txn, &line, UINT64_MAX, &lsn);
    if (ps_commit_changes(txn, &line, 0, UINT64_MAX, 4096, &list, &all) == 0)
        FUZZ_CHECK(list.len <= 4096);
    for (pgno_t pgno = 0; pgno < 3; pgno++)
        if (ps_page_get(txn, &line, pgno, UINT64_MAX, sizeof page, page, &lsn, &crc) == 0)
            FUZZ_CHECK(co_crc32c(0, page, sizeof page) == crc);
    walk(txn, &line);
    ps_write_abort(txn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const all[])(struct fuzz_in) = {identity, control,  history, registry,
                                                  rows,     recovery, witness};
    struct fuzz_in in = {data, size};
    room_make();
    all[fuzz_number(&in, 1) % (sizeof all / sizeof *all)](in);
    return 0;
}
