/* test_base.c - the begin of a log goes, or the log begins anew: the files. */
#include "tests/unit/safekeeper/fixture.h"

TestSuite(base, .init = fixture_setup, .fini = fixture_teardown, .timeout = 120);

static struct sk_files *files;

static void grow_to(struct tip *tip, lsn_t lsn)
{
    while (tip->lsn < lsn) {
        AUTO_BUF one = {0};
        make_record(tip, 200, &one);
        cr_assert_eq(sk_log_append(&files->log, files->log.end_lsn, co_buf_span(&one)), 0);
    }
    cr_assert_eq(sk_log_sync(&files->log), 0);
}

static struct sk_durable durable_at(lsn_t lsn, const struct wal_digest *digest)
{
    struct sk_durable d = {.term = files->control.term,
                           .voted_nonce = files->control.voted_nonce,
                           .commit_lsn =
                               lsn > files->control.commit_lsn ? lsn : files->control.commit_lsn,
                           .floor_lsn = files->control.floor_lsn,
                           .base = {.lsn = lsn,
                                    .digest = *digest,
                                    .config = {.version = 4,
                                               .n = 1,
                                               .n_new = 1,
                                               .members = {{.node_id = 3, .disk_uuid = {{5}}}},
                                               .new_members = {{.node_id = 9}}},
                                    .left = true}};
    return d;
}

static bool has_segment(uint64_t number)
{
    char path[SK_PATH_MAX];
    return sk_io_path(path, "%s/log/%016llx.seg", files->dir,
                      (unsigned long long)(number * SK_SEGMENT_DATA)) == 0 &&
           access(path, F_OK) == 0;
}

static void reopen(void)
{
    sk_files_close(files);
    files = NULL;
    cr_assert_eq(fixture_reopen(&files), 0, "%s", co_sentence());
}

/* Three segments, of which the first goes. */
static struct sk_mark drop_one(struct tip *tip)
{
    struct sk_mark at;
    files = fixture_timeline();
    grow_to(tip, 2 * SK_SEGMENT_DATA + 100000);
    cr_assert_not(sk_log_trim_point(&files->log, SK_SEGMENT_DATA - 1, &at), "no segment would go");
    cr_assert(sk_log_trim_point(&files->log, 2 * SK_SEGMENT_DATA - 1, &at));
    cr_assert(at.lsn >= SK_SEGMENT_DATA && at.lsn < 2 * SK_SEGMENT_DATA);
    struct sk_durable d = durable_at(at.lsn, &at.digest);
    cr_assert_eq(sk_files_rebase(files, &d), 0, "%s", co_sentence());
    return at;
}

Test(base, whole_segments_go_and_the_rest_is_as_before)
{
    struct tip tip = tip_first();
    struct sk_mark at = drop_one(&tip);
    struct wal_digest digest;
    struct wal_config config;
    struct sk_part part;
    AUTO_BUF out = {0};
    for (int i = 0; i < 2; i++) {
        cr_assert_not(has_segment(0));
        cr_assert(has_segment(1) && has_segment(2));
        cr_assert_eq(files->log.start_lsn, at.lsn);
        cr_assert_eq(files->log.end_lsn, tip.lsn);
        cr_assert_eq(sk_log_read(&files->log, LSN_FIRST, 0, tip.lsn, 100, &out, &part),
                     CO_ERR_TRUNCATED);
        cr_assert_eq(sk_log_read(&files->log, at.lsn, 0, tip.lsn, 100, &out, &part), 0);
        cr_assert_gt(out.len, 0);
        out.len = 0;
        cr_assert_eq(sk_log_at(&files->log, at.lsn, &digest, &config), 0);
        cr_assert_eq(memcmp(digest.b, at.digest.b, sizeof digest.b), 0);
        reopen();
    }
    const struct sk_base *b = &files->control.base;
    cr_assert(b->left && b->config.version == 4 && b->config.n == 1 && b->config.n_new == 1);
    cr_assert(b->config.members[0].node_id == 3 && b->config.members[0].disk_uuid.b[0] == 5);
    cr_assert_eq(b->config.new_members[0].node_id, 9);
    grow_to(&tip, tip.lsn + 1);
    cr_assert_eq(sk_log_truncate(&files->log, at.lsn), 0, "down to its begin it can be cut");
    sk_files_close(files);
}

Test(base, a_segment_that_a_crash_brought_back_goes_at_the_next_start)
{
    struct tip tip = tip_first();
    struct sk_mark at = drop_one(&tip);
    char path[SK_PATH_MAX];
    cr_assert_eq(sk_io_path(path, "%s/log/%016llx.seg", files->dir, 0ull), 0);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    reopen();
    cr_assert_not(has_segment(0));
    cr_assert_eq(files->log.start_lsn, at.lsn);
    sk_files_close(files);
}

Test(base, a_log_begins_anew_behind_its_end)
{
    struct tip tip = tip_first();
    struct wal_digest there = {{1, 2, 3}};
    lsn_t far = 7 * SK_SEGMENT_DATA + 4096;
    files = fixture_timeline();
    grow_to(&tip, SK_SEGMENT_DATA + 100000);
    struct sk_durable d = durable_at(far, &there);
    cr_assert_eq(sk_files_rebase(files, &d), 0, "%s", co_sentence());
    for (int i = 0; i < 2; i++) {
        cr_assert(!has_segment(0) && !has_segment(1) && has_segment(7));
        cr_assert_eq(files->log.end_lsn, far);
        cr_assert_eq(files->log.flushed_lsn, far);
        cr_assert_eq(files->control.commit_lsn, far);
        cr_assert_not(files->control.emptying);
        reopen();
    }
    tip.lsn = tip.sealed = far;
    tip.digest = there;
    grow_to(&tip, far + 1000);
    reopen();
    cr_assert_eq(files->log.end_lsn, tip.lsn, "and grows from there");
    sk_files_close(files);
}

Test(base, what_was_being_emptied_is_empty_after_a_crash)
{
    /* C5: the block says so before the first file goes. */
    struct tip tip = tip_first();
    lsn_t far = SK_SEGMENT_DATA + 4096;
    files = fixture_timeline();
    grow_to(&tip, SK_SEGMENT_DATA / 2);
    cr_assert_eq(sk_segments_prepare(&files->log.segments, tip.lsn, SK_SEGMENT_DATA, &(bool){0}),
                 0);
    files->control.base = durable_at(far, &(struct wal_digest){{4}}).base;
    files->control.commit_lsn = files->control.sealed_lsn = far;
    files->control.emptying = true;
    cr_assert_eq(sk_control_write(&files->control_file, &files->control), 0);
    reopen();
    cr_assert(!has_segment(0) && has_segment(1));
    cr_assert_eq(files->log.end_lsn, far);
    reopen();
    cr_assert_not(files->control.emptying);
    sk_files_close(files);
}
