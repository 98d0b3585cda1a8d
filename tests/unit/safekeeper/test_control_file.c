/* test_control_file.c - control block and term history. */
#include "common/crc32c.h"
#include "tests/unit/safekeeper/fixture.h"

TestSuite(control_file, .init = fixture_setup, .fini = fixture_teardown, .timeout = 30);

static char path[SK_PATH_MAX];

static struct sk_control sample(term_t term)
{
    return (struct sk_control){.owner = fixture()->owner,
                               .term = term,
                               .voted_nonce = {{(uint8_t)term, 9}},
                               .start_lsn = 4096,
                               .commit_lsn = 8000,
                               .sealed_lsn = 9000,
                               .floor_lsn = 4096,
                               .no_lease = true,
                               .history_n = 0};
}

/* Slots: sequence 1 (term 1) in slot 1, 2 (term 1) in slot 0, then 3 (term 2) in slot 1. */
static void write_three(void)
{
    struct sk_control c = sample(1), back;
    struct sk_control_file file;
    snprintf(path, sizeof path, "%s/control", fixture()->dir);
    cr_assert_eq(sk_control_create(path, &c), 0);
    cr_assert_eq(sk_control_open(path, &fixture()->owner, &file, &back), 0);
    cr_assert_eq(back.sequence, 2);
    c = sample(2);
    cr_assert_eq(sk_control_write(&file, &c), 0);
    sk_control_close(&file);
}

static int read_back(struct sk_control *out)
{
    struct sk_control_file file;
    int rc = sk_control_open(path, &fixture()->owner, &file, out);
    if (!rc)
        sk_control_close(&file);
    return rc;
}

Test(control_file, newest_slot_wins_with_every_field)
{
    /* C1 */
    struct sk_control c;
    write_three();
    cr_assert_eq(read_back(&c), 0);
    cr_assert_eq(c.sequence, 3);
    cr_assert_eq(c.term, 2);
    cr_assert_eq(c.voted_nonce.b[0], 2);
    cr_assert_eq(c.commit_lsn, 8000);
    cr_assert_eq(c.sealed_lsn, 9000);
    cr_assert_eq(c.start_lsn, 4096);
    cr_assert(c.no_lease && !c.clean && !c.halted[0]);
}

Test(control_file, torn_write_of_either_slot_leaves_the_other)
{
    /* D9: whatever sectors of the interrupted write arrived, the older slot holds. */
    struct sk_control c;
    write_three();
    uint8_t both[8192];
    read_at(path, 0, both, sizeof both);
    for (size_t slot = 0; slot < 2; slot++)
        for (size_t sectors = 0; sectors < 8; sectors++) {
            static const uint8_t zeros[4096];
            write_at(path, slot * 4096 + sectors * 512, zeros, 4096 - sectors * 512);
            cr_assert_eq(read_back(&c), 0);
            cr_assert_eq(c.term, slot == 1 ? 1 : 2, "slot %zu sectors %zu", slot, sectors);
            write_at(path, 0, both, sizeof both);
        }
}

Test(control_file, flip_of_any_byte_makes_a_slot_unsound)
{
    /* C1: a CRC over all of it. */
    struct sk_control c;
    write_three();
    for (uint64_t offset = 4096; offset < 8192; offset += offset < 4096 + 720 ? 1 : 31) {
        flip(path, offset);
        cr_assert_eq(read_back(&c), 0);
        cr_assert_eq(c.sequence, 2, "offset %llu", (unsigned long long)offset);
        flip(path, offset);
    }
}

Test(control_file, both_slots_bad_is_refused)
{
    /* C2: what was voted is not guessed. */
    struct sk_control c;
    write_three();
    flip(path, 80);
    flip(path, 4096 + 4000);
    cr_assert_eq(read_back(&c), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), path), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), "Replace"), "%s", co_sentence());
}

Test(control_file, slot_in_the_wrong_place_is_unsound)
{
    /* C1: parity; a misdirected write is no vote. */
    struct sk_control c;
    uint8_t slot[4096];
    write_three();
    read_at(path, 4096, slot, sizeof slot);
    write_at(path, 0, slot, sizeof slot);
    flip(path, 4096 + 100);
    cr_assert_eq(read_back(&c), CO_ERR_CORRUPT);
}

Test(control_file, foreign_owner_is_refused)
{
    /* O1, O2: another timeline, node, disk or cluster. */
    struct sk_control c;
    struct sk_control_file file;
    write_three();
    for (int i = 0; i < 4; i++) {
        struct sk_owner other = fixture()->owner;
        if (i == 0)
            other.cluster.b[3] ^= 1;
        else if (i == 1)
            other.timeline.b[3] ^= 1;
        else if (i == 2)
            other.disk.b[3] ^= 1;
        else
            other.node++;
        cr_assert_eq(sk_control_open(path, &other, &file, &c), CO_ERR_NODE, "%d", i);
    }
}

Test(control_file, newer_format_is_refused_as_such)
{
    /* O9 */
    struct sk_control c;
    uint8_t slot[4096];
    write_three();
    read_at(path, 4096, slot, sizeof slot);
    slot[8] = SK_CONTROL_VERSION + 1;
    co_put32(slot + 4092, co_crc32c(0, slot, 4092));
    write_at(path, 4096, slot, sizeof slot);
    cr_assert_eq(read_back(&c), CO_ERR_VERSION);
    cr_assert(strstr(co_sentence(), "newer"));
}

/* Slot `at` gets this sequence, and is sound but for that. */
static void set_sequence(unsigned at, uint64_t sequence)
{
    uint8_t slot[4096];
    read_at(path, at * sizeof slot, slot, sizeof slot);
    co_put64(slot + 16, sequence);
    co_put32(slot + 4092, co_crc32c(0, slot, 4092));
    write_at(path, at * sizeof slot, slot, sizeof slot);
}

Test(control_file, slot_that_nothing_could_follow_is_unsound)
{
    /* C1: with the largest sequence the next write would look older. Found by tests/fuzz. */
    struct sk_control c;
    write_three();
    set_sequence(1, UINT64_MAX);
    cr_assert_eq(read_back(&c), 0);
    cr_assert_eq(c.sequence, 2);
}

Test(control_file, nothing_is_written_that_could_not_be_read)
{
    struct sk_control c;
    struct sk_control_file file;
    write_three();
    set_sequence(0, SK_CONTROL_LAST - 2);
    set_sequence(1, SK_CONTROL_LAST - 1);
    cr_assert_eq(sk_control_open(path, &fixture()->owner, &file, &c), 0);
    cr_assert_eq(sk_control_write(&file, &c), 0);
    cr_assert_eq(sk_control_write(&file, &c), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "the last sequence"), "%s", co_sentence());
    sk_control_close(&file);
    cr_assert_eq(read_back(&c), 0);
    cr_assert_eq(c.sequence, SK_CONTROL_LAST);
}

/* -- History ---------------------------------------------------------------------------------- */

static void open_history(struct sk_history_file *h)
{
    snprintf(path, sizeof path, "%s/history", fixture()->dir);
    cr_assert_eq(sk_history_open(path, &fixture()->owner.timeline, true, h), 0);
}

Test(control_file, history_of_the_largest_size_comes_back)
{
    /* M16: up to CO_HISTORY_MAX entries in one copy. */
    static struct q_term e[CO_HISTORY_MAX];
    struct sk_history_file h;
    struct wal_digest digest;
    struct q_term *back;
    for (uint32_t i = 0; i < CO_HISTORY_MAX; i++)
        e[i] = (struct q_term){i + 1, 4096 + 8 * (lsn_t)(i / 2)};
    struct q_history history = {.n = CO_HISTORY_MAX, .e = e};
    open_history(&h);
    cr_assert_eq(sk_history_write(&h, 1, &history, &digest), 0);
    cr_assert_eq(sk_history_read(&h, 1, CO_HISTORY_MAX, &digest, &back), 0, "%s", co_sentence());
    for (uint32_t i = 0; i < CO_HISTORY_MAX; i++)
        cr_assert(back[i].term == e[i].term && back[i].start == e[i].start);
    free(back);
    sk_history_close(&h);
}

Test(control_file, interrupted_history_leaves_the_named_one)
{
    /* C3, T2: the copy that the block names is not the one that is being written. */
    struct q_term one[] = {{1, 4096}}, two[] = {{1, 4096}, {2, 5000}};
    struct q_history h1 = {.n = 1, .e = one}, h2 = {.n = 2, .e = two};
    struct sk_history_file h;
    struct wal_digest d1, d2;
    struct q_term *back;
    open_history(&h);
    cr_assert_eq(sk_history_write(&h, 1, &h1, &d1), 0);
    cr_assert_eq(sk_history_write(&h, 2, &h2, &d2), 0);
    flip(path, 70); /* copy 0: sequence 2 was torn, and the block still names 1 */
    cr_assert_eq(sk_history_read(&h, 1, 1, &d1, &back), 0);
    cr_assert_eq(back[0].term, 1);
    free(back);
    cr_assert_eq(sk_history_read(&h, 2, 2, &d2, &back), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), path));
    sk_history_close(&h);
}

Test(control_file, other_copy_with_the_same_entries_serves)
{
    /* After idle time both copies hold the same: rot of one costs nothing. */
    struct q_term two[] = {{1, 4096}, {2, 5000}};
    struct q_history h2 = {.n = 2, .e = two};
    struct sk_history_file h;
    struct wal_digest digest;
    struct q_term *back;
    open_history(&h);
    cr_assert_eq(sk_history_write(&h, 1, &h2, &digest), 0);
    cr_assert_eq(sk_history_write(&h, 2, &h2, &digest), 0);
    for (uint64_t offset = 0; offset < 64 + 32; offset++) {
        flip(path, offset);
        cr_assert_eq(sk_history_read(&h, 2, 2, &digest, &back), 0, "offset %llu: %s",
                     (unsigned long long)offset, co_sentence());
        free(back);
        flip(path, offset);
    }
    sk_history_close(&h);
}
