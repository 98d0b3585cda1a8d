/* test_recover_file.c - the scan at start: torn tail or rot; and the files of a timeline as one. */
#include "common/crc32c.h"
#include "tests/unit/safekeeper/fixture.h"

TestSuite(recover_file, .init = fixture_setup, .fini = fixture_teardown, .timeout = 120);

static struct sk_files *files;

static void append(struct tip *tip, uint32_t pages)
{
    AUTO_BUF one = {0};
    make_record(tip, pages, &one);
    cr_assert_eq(sk_log_append(&files->log, files->log.end_lsn, co_buf_span(&one)), 0);
}

/* Closes as kill -9 does: nothing more is written. */
static void crash(void)
{
    sk_files_close(files);
    files = NULL;
}

static void reopen(void)
{
    cr_assert_eq(fixture_reopen(&files), 0, "%s", co_sentence());
}

Test(recover_file, everything_that_was_synced_is_back)
{
    /* P1 */
    struct tip tip = tip_first();
    files = fixture_timeline();
    for (uint32_t i = 0; i < 50; i++)
        append(&tip, 1 + i * 7 % 40);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    crash();
    reopen();
    cr_assert_eq(files->log.end_lsn, tip.lsn);
    cr_assert_eq(files->log.flushed_lsn, tip.lsn);
    cr_assert_eq(memcmp(files->log.end_digest.b, tip.digest.b, 16), 0);
    cr_assert_eq(files->found.records, 50);
    cr_assert_eq(files->found.torn_bytes, 0);
    cr_assert_eq(files->control.term, 1);
    cr_assert_eq(files->control.voted_nonce.b[0], 7);
    cr_assert_eq(files->n_history, 1);
    cr_assert_eq(files->control.sealed_lsn, tip.lsn, "sealed after the tail was written again");
    crash();
}

Test(recover_file, unsealed_tail_is_written_again_the_sealed_part_is_not)
{
    /* 3.9 rule 5: a failed fsync may have left bytes in the page cache only. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 10);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    lsn_t sealed = tip.lsn;
    append(&tip, 600);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    crash();
    reopen();
    cr_assert_eq(files->found.rewritten_bytes, tip.lsn - sealed);
    crash();
    reopen();
    cr_assert_eq(files->found.rewritten_bytes, 0, "it was sealed by the first start");
    crash();
}

Test(recover_file, torn_tail_of_any_length_is_cut_and_zeroed)
{
    /* D1: any part of the last write may have arrived; nobody was told about it. */
    struct tip tip = tip_first();
    char path[SK_PATH_MAX];
    files = fixture_timeline();
    append(&tip, 3);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    lsn_t whole = tip.lsn;
    crash();
    segment_path(path, whole);
    AUTO_BUF last = {0};
    make_record(&tip, 5, &last);
    for (size_t n = 1; n < last.len; n += n < 160 ? 1 : 511) {
        write_at(path, segment_offset(whole), last.data, n);
        reopen();
        cr_assert_eq(files->log.end_lsn, whole, "%zu bytes", n);
        uint8_t after[64];
        cr_assert_eq(sk_segments_read(&files->log.segments, whole, after, sizeof after), 0);
        for (size_t i = 0; i < sizeof after; i++)
            cr_assert_eq(after[i], 0, "%zu bytes", n);
        crash();
    }
    /* Sectors in any order: the first is missing. */
    write_at(path, segment_offset(whole) + 512, last.data + 512, last.len - 512);
    reopen();
    cr_assert_eq(files->log.end_lsn, whole);
    cr_assert_gt(files->found.torn_bytes, 0);
    crash();
    reopen();
    cr_assert_eq(files->found.torn_bytes, 0, "it was zeroed");
    crash();
}

Test(recover_file, remnant_behind_a_torn_record_never_comes_back)
{
    /* 3.13: remnants of an old log accepted after a shorter new one. */
    struct tip tip = tip_first(), at;
    files = fixture_timeline();
    append(&tip, 3);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    at = tip;
    append(&tip, 4);
    append(&tip, 4);
    append(&tip, 4);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    lsn_t x = at.lsn;
    crash();
    flip_lsn(x + 200); /* the first of the three arrived damaged; the writer knew none committed */
    reopen();
    cr_assert_eq(files->log.end_lsn, x);
    append(&at, 4); /* of the same length: the old second record would follow */
    cr_assert_eq(sk_log_sync(&files->log), 0);
    crash();
    reopen();
    cr_assert_eq(files->log.end_lsn, at.lsn);
    cr_assert_eq(files->found.torn_bytes, 0);
    crash();
}

static void expect_refusal(lsn_t lsn, const char *why)
{
    char at[LSN_TEXT], id[CO_ID_TEXT];
    struct sk_files *f = NULL;
    int rc = fixture_reopen(&f);
    cr_assert_eq(rc, CO_ERR_CORRUPT, "%s: rc %d %s", why, rc, co_sentence());
    cr_assert(strstr(co_sentence(), lsn_format(lsn, at)), "%s: %s", why, co_sentence());
    cr_assert(strstr(co_sentence(), ".seg"), "%s: %s", why, co_sentence());
    cr_assert(strstr(co_sentence(), co_id_format(&fixture()->owner.timeline, id)), "%s", why);
    cr_assert(strstr(co_sentence(), "replace"), "%s: %s", why, co_sentence());
}

Test(recover_file, flipped_byte_anywhere_below_the_seal_is_refused_and_named)
{
    /* D5: rot below what was durable is never reported as the end of the log. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    lsn_t begin[4];
    for (int i = 0; i < 3; i++) {
        begin[i] = tip.lsn;
        append(&tip, 2);
    }
    begin[3] = tip.lsn;
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    crash();
    for (int r = 0; r < 3; r++)
        for (lsn_t lsn = begin[r]; lsn < begin[r + 1];) {
            lsn_t in = lsn - begin[r], left = begin[r + 1] - lsn;
            flip_lsn(lsn);
            if (in == 4 || in == 5) { /* the version: newer, or damaged; refused either way */
                struct sk_files *f;
                cr_assert_neq(fixture_reopen(&f), 0);
            } else {
                expect_refusal(begin[r], "flip");
            }
            flip_lsn(lsn);
            lsn += in < WAL_HEADER_BYTES + 16 || left <= WAL_TRAILER_BYTES + 1 ? 1 : 301;
            if (lsn < begin[r + 1] && begin[r + 1] - lsn < 301 &&
                begin[r + 1] - lsn > WAL_TRAILER_BYTES && in >= WAL_HEADER_BYTES + 16)
                lsn = begin[r + 1] - WAL_TRAILER_BYTES;
        }
    reopen();
    cr_assert_eq(files->log.end_lsn, tip.lsn);
    crash();
}

Test(recover_file, log_whose_later_records_say_more_was_committed_is_in_doubt)
{
    /* A later record whose writer knew more to be committed: rot here, or a loss of power while the
     * two others were faster. The start goes on, remembers how far the log may have reached, and
     * forgets it neither at the next start nor with a vote. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    lsn_t first = tip.lsn;
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    tip.sealed = second; /* the writer of the third knew the first to be committed */
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    crash();
    struct tip whole = tip;
    flip_lsn(first + 250);
    reopen();
    cr_assert_eq(files->log.end_lsn, first);
    cr_assert_eq(files->control.suspect_lsn, whole.lsn, "as far as there was anything");
    cr_assert_eq(files->control.suspect_term, files->control.term);
    crash();
    reopen();
    cr_assert_eq(files->found.torn_bytes, 0, "the evidence is gone,");
    cr_assert_eq(files->control.suspect_lsn, whole.lsn, "the doubt is not");
    crash();
}

Test(recover_file, torn_record_that_no_later_one_knows_of_leaves_no_doubt)
{
    struct tip tip = tip_first();
    files = fixture_timeline();
    lsn_t first = tip.lsn;
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    tip.sealed = second;
    lsn_t third = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_lt(first, third);
    crash();
    /* The second was known to nobody when the third was sealed: torn. */
    flip_lsn(second + 250);
    reopen();
    cr_assert_eq(files->log.end_lsn, second);
    cr_assert_geq(files->found.torn_bytes, third - second);
    cr_assert_eq(files->control.suspect_lsn, 0);
    crash();
}

Test(recover_file, commit_lsn_of_the_control_block_counts_as_durable)
{
    /* I5: nothing below the commit LSN is ever given up. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    static const struct q_term terms[] = {{1, LSN_FIRST}};
    struct sk_durable d = {.term = 1,
                           .commit_lsn = tip.lsn,
                           .floor_lsn = LSN_FIRST,
                           .history = (struct q_term *)(uintptr_t)terms,
                           .n_history = 1};
    cr_assert_eq(sk_files_persist(files, &d, false, LSN_FIRST), 0);
    cr_assert_eq(files->control.sealed_lsn, tip.lsn, "never below the commit LSN");
    crash();
    flip_lsn(second + 250);
    expect_refusal(second, "commit");
}

Test(recover_file, record_of_a_term_that_did_not_write_there_is_not_live)
{
    /* The rule of 3.1: adopting a history is the truncation itself. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    struct q_term adopted[] = {{1, LSN_FIRST}, {5, second}};
    struct sk_durable d = {.term = 5,
                           .commit_lsn = LSN_FIRST,
                           .floor_lsn = LSN_FIRST,
                           .history = adopted,
                           .n_history = 2};
    cr_assert_eq(sk_files_persist(files, &d, true, second), 0);
    crash(); /* before the tail was cut */
    reopen();
    cr_assert_eq(files->log.end_lsn, second);
    cr_assert_eq(files->n_history, 2);
    crash();
}

Test(recover_file, below_the_floor_the_chain_alone_decides)
{
    /* M16: entries below the floor are gone. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 2);
    tip.term = 4;
    lsn_t second = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    struct q_term kept[] = {{4, second}};
    struct sk_durable d = {
        .term = 4, .commit_lsn = second, .floor_lsn = second, .history = kept, .n_history = 1};
    cr_assert_eq(sk_files_persist(files, &d, true, 0), 0);
    crash();
    reopen();
    cr_assert_eq(files->log.end_lsn, tip.lsn);
    crash();
}

Test(recover_file, record_of_another_timeline_is_not_live)
{
    /* D7: a misdirected write. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 2);
    lsn_t second = tip.lsn;
    fixture()->owner.timeline.b[9] = 1;
    AUTO_BUF alien = {0};
    struct tip copy = tip;
    make_record(&copy, 2, &alien);
    fixture()->owner.timeline.b[9] = 0;
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    crash();
    char path[SK_PATH_MAX];
    segment_path(path, second);
    write_at(path, segment_offset(second), alien.data, alien.len);
    reopen();
    cr_assert_eq(files->log.end_lsn, second);
    crash();
}

Test(recover_file, newer_record_format_is_said_to_be_newer)
{
    /* U2: not taken for a torn tail, which would cut it off. */
    struct tip tip = tip_first();
    struct sk_files *f;
    files = fixture_timeline();
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    crash();
    char path[SK_PATH_MAX];
    uint8_t version[2] = {3, 0};
    segment_path(path, second);
    write_at(path, segment_offset(second) + 4, version, sizeof version);
    cr_assert_eq(fixture_reopen(&f), CO_ERR_VERSION, "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "newer"), "%s", co_sentence());
}

Test(recover_file, truncation_lowers_the_seal_before_it_cuts)
{
    /* T1: a crash in the middle of a truncation is not mistaken for rot. */
    struct tip tip = tip_first(), cut;
    files = fixture_timeline();
    append(&tip, 2);
    cut = tip;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    cr_assert_eq(files->control.sealed_lsn, tip.lsn);
    cr_assert_eq(sk_files_truncate(files, cut.lsn), 0);
    cr_assert_eq(files->control.sealed_lsn, cut.lsn);
    crash();
    reopen();
    cr_assert_eq(files->log.end_lsn, cut.lsn);
    cr_assert_eq(memcmp(files->log.end_digest.b, cut.digest.b, 16), 0);
    crash();
}

Test(recover_file, truncation_below_the_commit_lsn_is_refused)
{
    /* I5 */
    struct tip tip = tip_first();
    files = fixture_timeline();
    append(&tip, 2);
    lsn_t second = tip.lsn;
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    atomic_store(&files->commit_hint, tip.lsn);
    cr_assert_eq(sk_files_seal(files), 0);
    cr_assert_eq(files->control.commit_lsn, tip.lsn);
    cr_assert_eq(sk_files_truncate(files, second), CO_ERR_BUG);
    crash();
}

Test(recover_file, idle_work_seals_and_fills_both_slots_then_rests)
{
    /* The rule: what was written lately is sealed when it is quiet, and rot of one slot costs no
     * vote. */
    struct tip tip = tip_first();
    bool more = true;
    char path[SK_PATH_MAX];
    files = fixture_timeline();
    append(&tip, 2);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    for (int i = 0; more; i++) {
        cr_assert_lt(i, 10);
        cr_assert_eq(sk_files_idle(files, &more), 0);
    }
    cr_assert_not(sk_files_wants_idle(files));
    cr_assert_eq(files->control.sealed_lsn, tip.lsn);
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        cr_assert_eq(files->log.segments.open[i].fd, -1, "an idle log holds no descriptor");
    crash();
    timeline_path(path, "control");
    for (uint64_t slot = 0; slot < 2; slot++) {
        flip(path, slot * 4096 + 75);
        struct sk_control_file file;
        struct sk_control c;
        cr_assert_eq(sk_control_open(path, &fixture()->owner, &file, &c), 0);
        cr_assert_eq(c.term, 1);
        cr_assert_eq(c.voted_nonce.b[0], 7);
        sk_control_close(&file);
        flip(path, slot * 4096 + 75);
    }
    timeline_path(path, "history");
    for (uint64_t copy = 0; copy < 2; copy++) {
        flip(path, copy * SK_HISTORY_COPY_BYTES + 66);
        reopen();
        cr_assert_eq(files->n_history, 1);
        crash();
        flip(path, copy * SK_HISTORY_COPY_BYTES + 66);
    }
}

Test(recover_file, missing_files_are_a_halt_not_an_empty_timeline)
{
    /* D8: an empty disk with the same id must not vote. */
    struct sk_files *f;
    char path[SK_PATH_MAX];
    files = fixture_timeline();
    crash();
    static const char *const names[] = {"control", "history", "log"};
    for (int i = 0; i < 3; i++) {
        char aside[SK_PATH_MAX];
        timeline_path(path, names[i]);
        timeline_path(aside, "aside");
        cr_assert_eq(rename(path, aside), 0);
        cr_assert_eq(fixture_reopen(&f), CO_ERR_CORRUPT, "%s: %s", names[i], co_sentence());
        cr_assert(strstr(co_sentence(), names[i]), "%s", co_sentence());
        cr_assert_eq(rename(aside, path), 0);
    }
    fixture()->owner.timeline.b[15] = 77;
    cr_assert_eq(fixture_reopen(&f), CO_ERR_HALTED);
    cr_assert(strstr(co_sentence(), "missing"), "%s", co_sentence());
}

Test(recover_file, directory_with_votes_is_not_made_anew)
{
    /* M18: a PUT for a timeline that the registry forgot must not forget its votes. */
    struct sk_birth birth = fixture_birth();
    cr_assert_eq(sk_files_create(fixture()->dir, &birth), 0);
    cr_assert_eq(sk_files_create(fixture()->dir, &birth), 0, "untouched: created again");
    files = fixture_timeline();
    crash();
    cr_assert_eq(sk_files_create(fixture()->dir, &birth), CO_ERR_HALTED);
    cr_assert(strstr(co_sentence(), "registry"), "%s", co_sentence());
}

Test(recover_file, halt_is_remembered)
{
    /* G6: a timeline that contradicted itself stays halted over a restart. */
    files = fixture_timeline();
    cr_assert_eq(sk_files_halt(files, "two contents for one LSN"), 0);
    crash();
    reopen();
    cr_assert_str_eq(files->control.halted, "two contents for one LSN");
    crash();
}

Test(recover_file, log_over_several_segments_with_rot_in_an_early_one)
{
    /* D5 over file borders, and the named file is the right one. */
    struct tip tip = tip_first();
    files = fixture_timeline();
    lsn_t begin[10];
    for (int i = 0; i < 10; i++) {
        begin[i] = tip.lsn;
        append(&tip, 1000);
    }
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(files->log.segments.last, 2);
    cr_assert_eq(sk_files_seal(files), 0);
    crash();
    char name[64];
    lsn_t bad = begin[5] + 2000000; /* its record begins in the second segment */
    flip_lsn(bad);
    expect_refusal(begin[5], "several");
    snprintf(name, sizeof name, "%016llx.seg",
             (unsigned long long)(begin[5] / SK_SEGMENT_DATA * SK_SEGMENT_DATA));
    cr_assert(strstr(co_sentence(), name), "%s", co_sentence());
    flip_lsn(bad);
    reopen();
    cr_assert_eq(files->log.end_lsn, tip.lsn);
    crash();
}
