/* test_segment_file.c - segments and the records over them. */
#include "common/crc32c.h"
#include "tests/unit/safekeeper/fixture.h"

TestSuite(segment_file, .init = fixture_setup, .fini = fixture_teardown, .timeout = 60);

static struct sk_log new_log(void)
{
    struct sk_log log;
    char path[SK_PATH_MAX];
    struct wal_digest zero = {{0}};
    snprintf(path, sizeof path, "%s/log", fixture()->dir);
    cr_assert_eq(sk_log_create(path, &fixture()->owner, LSN_FIRST, &zero, &log), 0);
    return log;
}

static void append(struct sk_log *log, const struct co_buf *records)
{
    cr_assert_eq(sk_log_append(log, log->end_lsn, co_buf_span(records)), 0, "%s", co_sentence());
}

static bool zero_from(struct sk_segments *s, lsn_t lsn)
{
    uint8_t bytes[4096];
    while (lsn < sk_segments_end(s)) {
        size_t n = sk_segments_end(s) - lsn < sizeof bytes ? (size_t)(sk_segments_end(s) - lsn)
                                                           : sizeof bytes;
        cr_assert_eq(sk_segments_read(s, lsn, bytes, n), 0);
        for (size_t i = 0; i < n; i++)
            if (bytes[i])
                return false;
        lsn += n;
    }
    return true;
}

Test(segment_file, file_is_16_mib_and_named_by_its_first_lsn)
{
    /* The rule: segment k holds [k*P, (k+1)*P), header page first. */
    struct sk_log log = new_log();
    char path[SK_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/log/0000000000000000.seg", fixture()->dir);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_size, 16 * 1024 * 1024);
    sk_log_close(&log);
}

Test(segment_file, records_span_segments_and_read_back)
{
    /* The rule: a record may lie across two or more segments. */
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF all = {0}, back = {0};
    struct sk_part part;
    for (int i = 0; i < 9; i++) {
        AUTO_BUF one = {0};
        make_record(&tip, 1000, &one); /* 4 MiB: the fourth and the eighth lie across */
        append(&log, &one);
        cr_assert_eq(co_buf_append(&all, one.data, one.len), 0);
    }
    cr_assert_eq(sk_log_sync(&log), 0);
    cr_assert_eq(log.end_lsn, tip.lsn);
    cr_assert_eq(log.segments.last, 2);
    for (lsn_t at = LSN_FIRST; at < tip.lsn;) {
        back.len = 0;
        do {
            size_t had = back.len;
            cr_assert_eq(sk_log_read(&log, at, had, tip.lsn, CO_BATCH_BYTES, &back, &part), 0, "%s",
                         co_sentence());
            cr_assert(part.fragment && part.at == had && back.len - had <= CO_BATCH_BYTES);
        } while (at + back.len < part.record_end);
        cr_assert(back.len > 4000000 && back.len < 5000000, "a large record comes in fragments");
        cr_assert_eq(memcmp(back.data, all.data + (at - LSN_FIRST), back.len), 0);
        at += back.len;
    }
    sk_log_close(&log);
}

Test(segment_file, read_gives_whole_records_within_the_bound)
{
    /* The rule: as many whole records as fit, at least one, none above `to`. */
    struct sk_log log = new_log();
    struct sk_part part;
    struct tip tip = tip_first();
    AUTO_BUF records = {0}, back = {0};
    lsn_t ends[10];
    for (int i = 0; i < 10; i++) {
        make_record(&tip, 1, &records);
        ends[i] = tip.lsn;
    }
    append(&log, &records);
    cr_assert_eq(sk_log_read(&log, LSN_FIRST, 0, tip.lsn, ends[2] - LSN_FIRST + 17, &back, &part),
                 0);
    cr_assert_eq(back.len, ends[2] - LSN_FIRST);
    back.len = 0;
    cr_assert_eq(sk_log_read(&log, ends[0], 0, ends[3], CO_BATCH_BYTES, &back, &part), 0);
    cr_assert_eq(back.len, ends[3] - ends[0]);
    back.len = 0;
    cr_assert_eq(sk_log_read(&log, ends[0], 0, ends[3], 1, &back, &part), 0);
    cr_assert_eq(back.len, ends[1] - ends[0]);
    back.len = 0;
    cr_assert_eq(sk_log_read(&log, ends[0], 0, ends[0] + 100, CO_BATCH_BYTES, &back, &part), 0);
    cr_assert_eq(back.len, 0, "a record that ends above `to` stays");
    cr_assert_eq(sk_log_read(&log, ends[0] + 8, 0, tip.lsn, CO_BATCH_BYTES, &back, &part),
                 CO_ERR_INVAL);
    sk_log_close(&log);
}

/* What the scan and the reader would say of the record at `lsn`. */
static struct wal_header header_of(const struct co_buf *record)
{
    struct wal_header h;
    cr_assert_eq(wal_check(co_buf_span(record), &h), 0);
    return h;
}

Test(segment_file, staged_bytes_are_no_part_of_the_log_until_the_record_is_whole)
{
    /* S10: the log never holds half a record; what is dropped is zeros again. */
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF first = {0}, large = {0}, back = {0};
    struct sk_part part;
    make_record(&tip, 1, &first);
    append(&log, &first);
    lsn_t begin = tip.lsn;
    make_record(&tip, 5000, &large); /* 20 MiB: over a segment's end */
    struct wal_header h = header_of(&large);
    for (int round = 0; round < 2; round++) {
        size_t some = round ? large.len - 1 : large.len / 2;
        for (size_t at = 0; at < some;) {
            size_t n = some - at < 700001 ? some - at : 700001;
            cr_assert_eq(sk_log_stage(&log, begin, at, co_span_of(large.data + at, n), NULL), 0);
            at += n;
        }
        cr_assert_eq(sk_log_sync(&log), 0);
        cr_assert(log.end_lsn == begin && log.flushed_lsn == begin && log.staged_flushed == some);
        cr_assert_eq(sk_log_append(&log, begin, co_buf_span(&first)), CO_ERR_BUG);
        cr_assert_eq(sk_log_stage(&log, begin, some + 8, co_buf_span(&first), NULL), CO_ERR_BUG);
        if (round == 0)
            cr_assert_eq(sk_log_truncate(&log, begin), 0, "%s", co_sentence());
    }
    cr_assert_eq(
        sk_log_stage(&log, begin, large.len - 1, co_span_of(large.data + large.len - 1, 1), &h), 0);
    cr_assert(log.end_lsn == tip.lsn && log.staged == 0 && log.flushed_lsn == begin);
    cr_assert_eq(sk_log_sync(&log), 0);
    cr_assert(log.flushed_lsn == tip.lsn);
    while (back.len < large.len)
        cr_assert_eq(sk_log_read(&log, begin, back.len, tip.lsn, CO_BATCH_BYTES, &back, &part), 0);
    cr_assert_eq(memcmp(back.data, large.data, large.len), 0);
    struct wal_digest digest;
    struct wal_config config;
    cr_assert_eq(sk_log_at(&log, tip.lsn, &digest, &config), 0);
    cr_assert_eq(memcmp(&digest, &h.digest, sizeof digest), 0);
    sk_log_close(&log);
}

Test(segment_file, dropped_staging_leaves_only_zeros)
{
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF large = {0};
    make_record(&tip, 5000, &large);
    cr_assert_eq(sk_log_stage(&log, LSN_FIRST, 0, co_span_of(large.data, large.len - 8), NULL), 0);
    cr_assert_eq(log.segments.last, 1);
    cr_assert_eq(sk_log_truncate(&log, LSN_FIRST), 0);
    cr_assert_eq(log.segments.last, 0, "a segment that holds nothing else is gone");
    uint64_t len = sk_segments_end(&log.segments) - LSN_FIRST;
    uint8_t *bytes = malloc(len);
    cr_assert_eq(sk_segments_read(&log.segments, LSN_FIRST, bytes, len), 0);
    for (uint64_t i = 0; i < len; i++)
        cr_assert_eq(bytes[i], 0, "byte %lu", i);
    free(bytes);
    sk_log_close(&log);
}

Test(segment_file, the_last_fragment_of_a_damaged_record_is_withheld)
{
    /* R3, of a reader who goes through it in order. */
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF large = {0}, back = {0};
    struct sk_part part;
    char path[SK_PATH_MAX];
    int rc = 0;
    make_record(&tip, 1000, &large);
    append(&log, &large);
    cr_assert_eq(sk_log_sync(&log), 0);
    snprintf(path, sizeof path, "%s/log/0000000000000000.seg", fixture()->dir);
    flip(path, segment_offset(LSN_FIRST + 1000000));
    while (!rc && back.len < large.len)
        rc = sk_log_read(&log, LSN_FIRST, back.len, tip.lsn, CO_BATCH_BYTES, &back, &part);
    cr_assert_eq(rc, CO_ERR_CORRUPT);
    cr_assert(back.len < large.len && strstr(co_sentence(), "damaged"), "%s", co_sentence());
    sk_log_close(&log);
}

Test(segment_file, read_of_a_damaged_record_is_an_error_that_names_it)
{
    /* The rule: rot is an error, never data. */
    struct sk_log log = new_log();
    struct sk_part part;
    struct tip tip = tip_first();
    AUTO_BUF records = {0}, back = {0};
    char path[SK_PATH_MAX];
    make_record(&tip, 1, &records);
    lsn_t second = tip.lsn;
    make_record(&tip, 1, &records);
    append(&log, &records);
    cr_assert_eq(sk_log_sync(&log), 0);
    snprintf(path, sizeof path, "%s/log/0000000000000000.seg", fixture()->dir);
    flip(path, segment_offset(second + 300));
    cr_assert_eq(sk_log_read(&log, LSN_FIRST, 0, tip.lsn, CO_BATCH_BYTES, &back, &part), 0);
    cr_assert_eq(back.len, second - LSN_FIRST, "the sound one before it is served");
    back.len = 0;
    cr_assert_eq(sk_log_read(&log, second, 0, tip.lsn, CO_BATCH_BYTES, &back, &part),
                 CO_ERR_CORRUPT);
    char at[LSN_TEXT];
    cr_assert(strstr(co_sentence(), lsn_format(second, at)), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "0000000000000000.seg"), "%s", co_sentence());
    sk_log_close(&log);
}

Test(segment_file, truncation_leaves_zeros_so_no_remnant_lives)
{
    /* L3: remnants of an old log are never taken for records behind a shorter new one. */
    struct sk_log log = new_log();
    struct tip tip = tip_first(), cut = {0};
    for (int i = 0; i < 9; i++) {
        AUTO_BUF one = {0};
        if (i == 3)
            cut = tip;
        make_record(&tip, 1000, &one);
        append(&log, &one);
    }
    cr_assert_eq(sk_log_sync(&log), 0);
    cr_assert_eq(log.segments.last, 2);
    cr_assert_eq(sk_log_truncate(&log, cut.lsn), 0, "%s", co_sentence());
    cr_assert_eq(log.end_lsn, cut.lsn);
    cr_assert_eq(memcmp(log.end_digest.b, cut.digest.b, 16), 0);
    cr_assert_eq(log.segments.last, 0);
    cr_assert(zero_from(&log.segments, cut.lsn));
    /* Other records of the same total length: the third old boundary would line up again. */
    AUTO_BUF one = {0};
    make_record(&cut, 1000, &one);
    append(&log, &one);
    cr_assert(zero_from(&log.segments, cut.lsn));
    sk_log_close(&log);
}

Test(segment_file, truncation_elsewhere_than_at_a_boundary_is_refused)
{
    /* The rule: every LSN is a record boundary. */
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF records = {0};
    make_record(&tip, 1, &records);
    append(&log, &records);
    cr_assert_eq(sk_log_truncate(&log, LSN_FIRST + 8), CO_ERR_INVAL);
    cr_assert_eq(sk_log_truncate(&log, tip.lsn + 8), CO_ERR_BUG);
    cr_assert_eq(log.end_lsn, tip.lsn);
    sk_log_close(&log);
}

Test(segment_file, digest_and_config_at_an_lsn)
{
    /* The rule: TRUNCATED tells the digest and the configuration in force at its LSN. */
    struct sk_log log = new_log();
    struct tip tip = tip_first(), at[12];
    struct wal_digest digest;
    struct wal_config config;
    for (uint32_t i = 0; i < 12; i++) {
        AUTO_BUF one = {0};
        at[i] = tip;
        if (i == 0 || i == 6)
            make_config(&tip, i ? 2 : 1, &one);
        else
            make_record(&tip, 300, &one); /* over a MiB: marks in between */
        append(&log, &one);
    }
    cr_assert(log.n_marks > 5);
    for (uint32_t i = 0; i < 12; i++) {
        cr_assert_eq(sk_log_at(&log, at[i].lsn, &digest, &config), 0, "%s", co_sentence());
        cr_assert_eq(memcmp(digest.b, at[i].digest.b, 16), 0, "record %u", i);
        cr_assert_eq(config.version, i == 0 ? 0u : i <= 6 ? 1u : 2u, "record %u", i);
    }
    cr_assert_eq(sk_log_at(&log, at[3].lsn + 8, &digest, &config), CO_ERR_INVAL);
    sk_log_close(&log);
}

Test(segment_file, zeros_and_the_next_segment_are_prepared_ahead)
{
    /* L4: what a record will overwrite was written before; the next file is there before its time.
     */
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    bool more = true;
    char path[SK_PATH_MAX];
    struct stat st;
    for (int i = 0; i < 3; i++) {
        AUTO_BUF one = {0};
        make_record(&tip, 1300, &one);
        append(&log, &one);
    }
    cr_assert_eq(log.segments.last, 0);
    for (int steps = 0; more; steps++) {
        cr_assert(steps < 10);
        cr_assert_eq(sk_segments_prepare(&log.segments, log.end_lsn, 2 * CO_MIB, &more), 0);
    }
    cr_assert_geq(log.segments.prepared_lsn, log.end_lsn + 2 * CO_MIB);
    cr_assert_eq(log.segments.last, 1);
    snprintf(path, sizeof path, "%s/log/%016llx.seg", fixture()->dir,
             (unsigned long long)SK_SEGMENT_DATA);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_size, 16 * 1024 * 1024);
    cr_assert_geq(st.st_blocks * 512, 1024 * 1024, "zeros are written, not left as a hole");
    cr_assert(zero_from(&log.segments, log.end_lsn));
    lsn_t before = log.segments.prepared_lsn;
    AUTO_BUF one = {0};
    make_record(&tip, 10, &one);
    append(&log, &one);
    cr_assert_eq(log.segments.prepared_lsn, before, "an append inside does not move it");
    sk_log_close(&log);
}

/* Each class of damage to the files themselves. */
static int open_again(struct sk_segments *s)
{
    char path[SK_PATH_MAX];
    snprintf(path, sizeof path, "%s/log", fixture()->dir);
    return sk_segments_open(path, &fixture()->owner, LSN_FIRST, s);
}

static void two_segments(void)
{
    struct sk_log log = new_log();
    struct tip tip = tip_first();
    AUTO_BUF one = {0};
    make_record(&tip, 4500, &one);
    append(&log, &one);
    cr_assert_eq(sk_log_sync(&log), 0);
    cr_assert_eq(log.segments.last, 1);
    sk_log_close(&log);
}

Test(segment_file, what_was_never_written_is_skipped_and_nothing_else)
{
    /* The rule: between lsn and next_data every byte reads as zero; written bytes are never
     * skipped, wherever they lie, also behind a whole segment of nothing. */
    struct sk_log log = new_log();
    struct sk_segments *s = &log.segments;
    const lsn_t places[] = {LSN_FIRST, 3000000, 2 * (lsn_t)SK_SEGMENT_DATA + 77777 * 8};
    uint8_t byte = 0xa5;
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(sk_segments_write(s, places[i], co_span_of(&byte, 1)), 0, "%s", co_sentence());
    cr_assert_eq(s->last, 2);
    lsn_t lsn = 0, from = LSN_FIRST + 4096;
    for (size_t i = 1; i < 3; i++) {
        cr_assert_eq(sk_segments_next_data(s, from, &lsn), 0, "%s", co_sentence());
        cr_assert(lsn <= places[i] && lsn >= from, "found %llu, written was %llu",
                  (unsigned long long)lsn, (unsigned long long)places[i]);
        cr_assert_eq(lsn % 8, 0);
        for (lsn_t at = from; at < lsn; at++) {
            uint8_t read = 1;
            cr_assert_eq(sk_segments_read(s, at, &read, 1), 0);
            cr_assert_eq(read, 0);
            at += at % 4096 == 0 ? 0 : 510; /* every byte would take long */
        }
        from = places[i] + 4096 - places[i] % 4096;
    }
    lsn_t within;
    cr_assert_eq(sk_segments_next_data(s, places[1], &within), 0);
    cr_assert_eq(within, places[1], "what is written is not skipped");
    cr_assert_eq(sk_segments_next_data(s, from + 4096, &lsn), 0);
    cr_assert(lsn >= from && lsn <= sk_segments_end(s));
    sk_log_close(&log);
}

Test(segment_file, every_byte_of_the_header_counts)
{
    /* The rule: a segment that is not ours, byte for byte, is refused by name. */
    struct sk_segments s;
    char path[SK_PATH_MAX];
    two_segments();
    snprintf(path, sizeof path, "%s/log/%016llx.seg", fixture()->dir,
             (unsigned long long)SK_SEGMENT_DATA);
    for (uint64_t offset = 0; offset < SK_SEGMENT_HEADER; offset += offset < 64 ? 1 : 97) {
        flip(path, offset);
        cr_assert_eq(open_again(&s), CO_ERR_CORRUPT, "offset %llu", (unsigned long long)offset);
        cr_assert(strstr(co_sentence(), path));
        flip(path, offset);
    }
    cr_assert_eq(open_again(&s), 0);
    sk_segments_close(&s);
}

Test(segment_file, missing_short_and_foreign_segments_are_refused)
{
    /* L1, L2: contiguous, whole, ours. */
    struct sk_segments s;
    char first[SK_PATH_MAX], second[SK_PATH_MAX], aside[SK_PATH_MAX], other[SK_PATH_MAX];
    two_segments();
    snprintf(first, sizeof first, "%s/log/0000000000000000.seg", fixture()->dir);
    snprintf(second, sizeof second, "%s/log/%016llx.seg", fixture()->dir,
             (unsigned long long)SK_SEGMENT_DATA);
    snprintf(aside, sizeof aside, "%s/aside", fixture()->dir);
    cr_assert_eq(rename(first, aside), 0);
    cr_assert_eq(open_again(&s), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "missing"), "%s", co_sentence());
    cr_assert_eq(rename(aside, first), 0);

    cr_assert_eq(truncate(second, 1000000), 0);
    cr_assert_eq(open_again(&s), CO_ERR_CORRUPT);
    cr_assert_eq(truncate(second, 16 * 1024 * 1024), 0);

    snprintf(other, sizeof other, "%s/log/hello.txt", fixture()->dir);
    int fd = open(other, O_CREAT | O_WRONLY, 0600);
    close(fd);
    cr_assert_eq(open_again(&s), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "hello.txt"));
    unlink(other);

    struct sk_owner mine = fixture()->owner;
    fixture()->owner.timeline.b[5] = 9;
    cr_assert_eq(open_again(&s), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "another timeline"), "%s", co_sentence());
    fixture()->owner = mine;

    /* What a crash in the making of a segment leaves is swept away. */
    snprintf(other, sizeof other, "%s/log/%016llx.tmp", fixture()->dir,
             (unsigned long long)(2 * SK_SEGMENT_DATA));
    fd = open(other, O_CREAT | O_WRONLY, 0600);
    close(fd);
    cr_assert_eq(open_again(&s), 0, "%s", co_sentence());
    cr_assert_neq(access(other, F_OK), 0);
    sk_segments_close(&s);
}

Test(segment_file, newer_format_is_said_to_be_newer)
{
    /* U2, O9: a newer format is refused with a sentence that says so. */
    struct sk_segments s;
    char path[SK_PATH_MAX];
    uint8_t page[SK_SEGMENT_HEADER];
    two_segments();
    snprintf(path, sizeof path, "%s/log/0000000000000000.seg", fixture()->dir);
    read_at(path, 0, page, sizeof page);
    page[8] = 2;
    co_put32(page + 56, co_crc32c(0, page, 56));
    write_at(path, 0, page, sizeof page);
    cr_assert_eq(open_again(&s), CO_ERR_VERSION);
    cr_assert(strstr(co_sentence(), "newer"), "%s", co_sentence());
}
