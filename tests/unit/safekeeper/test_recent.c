/* test_recent.c - the memory ring of the newest records. */
#include "safekeeper/recent.h"
#include "tests/unit/safekeeper/fixture.h"

TestSuite(recent, .init = fixture_setup, .fini = fixture_teardown, .timeout = 30);

static struct sk_recent ring;

/* Puts a message with `records` in the ring, as an APPEND would. */
static void add(lsn_t lsn, const struct co_buf *records, uint64_t max)
{
    struct sk_message *m = calloc(1, sizeof *m);
    m->refs = 1;
    cr_assert_eq(co_buf_append(&m->body, records->data, records->len), 0);
    sk_recent_add(&ring, m, lsn, co_buf_span(&m->body), max);
    sk_message_drop(m);
}

Test(recent, gives_whole_records_from_any_boundary_it_holds)
{
    /* The rule: as sk_log_read, over message borders. */
    struct tip tip = tip_first();
    lsn_t at[13];
    AUTO_BUF all = {0};
    for (int i = 0; i < 6; i++) {
        AUTO_BUF two = {0};
        lsn_t begin = tip.lsn;
        at[2 * i] = begin;
        make_record(&tip, 1, &two);
        at[2 * i + 1] = tip.lsn;
        make_record(&tip, 1, &two);
        add(begin, &two, CO_MIB);
        cr_assert_eq(co_buf_append(&all, two.data, two.len), 0);
    }
    at[12] = tip.lsn;
    for (int from = 0; from < 12; from++)
        for (int to = from + 1; to <= 12; to++) {
            AUTO_BUF out = {0};
            cr_assert(sk_recent_read(&ring, at[from], at[to], CO_MIB, &out));
            cr_assert_eq(out.len, at[to] - at[from], "%d %d", from, to);
            cr_assert_eq(memcmp(out.data, all.data + at[from] - LSN_FIRST, out.len), 0);
            out.len = 0;
            cr_assert(sk_recent_read(&ring, at[from], at[to], 1, &out), "at least one");
            cr_assert_eq(out.len, at[from + 1] - at[from]);
        }
    AUTO_BUF out = {0};
    cr_assert_not(sk_recent_read(&ring, at[3] + 8, tip.lsn, CO_MIB, &out), "not a boundary");
    cr_assert_not(sk_recent_read(&ring, tip.lsn, tip.lsn + 8, CO_MIB, &out), "not there yet");
    cr_assert_eq(out.len, 0);
    sk_recent_clear(&ring);
}

Test(recent, holds_no_more_than_its_bound_and_no_gap)
{
    /* G8: bounded; what fell out is asked of the files. */
    struct tip tip = tip_first();
    AUTO_BUF out = {0};
    lsn_t last = 0;
    for (int i = 0; i < 1000; i++) {
        AUTO_BUF one = {0};
        last = tip.lsn;
        make_record(&tip, 1, &one);
        add(last, &one, 65536);
        cr_assert_leq(ring.bytes, 65536);
        cr_assert_leq(ring.n, SK_RECENT_SLOTS);
    }
    cr_assert_not(sk_recent_read(&ring, LSN_FIRST, tip.lsn, CO_MIB, &out));
    cr_assert(sk_recent_read(&ring, last, tip.lsn, CO_MIB, &out));
    AUTO_BUF big = {0};
    lsn_t begin = tip.lsn;
    make_record(&tip, 100, &big);
    add(begin, &big, 65536);
    cr_assert_eq(ring.n, 0, "a giant is not held, and nothing from before it either");
    AUTO_BUF next = {0};
    begin = tip.lsn;
    make_record(&tip, 1, &next);
    add(begin + 4096, &next, 65536);
    add(begin, &next, 65536);
    cr_assert_eq(ring.n, 1, "a gap empties it");
    sk_recent_clear(&ring);
}
