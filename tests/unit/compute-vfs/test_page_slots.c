/* test_page_slots.c - how pages lie in the file of cache_dir, and which of them are believed. */
#include <criterion/criterion.h>
#include <string.h>

#include "compute-vfs/page_slots.h"

#define SIZE 1024u

static const struct co_id ours = {{1, 2, 3}}, other = {{1, 2, 4}};
static struct cv_slots shape;
static struct cv_slot set[CV_SLOT_WAYS];

static void setup(void)
{
    shape = cv_slots_shape(1u << 20, SIZE);
    memset(set, 0, sizeof set);
}

TestSuite(page_slots, .init = setup, .timeout = 20);

static struct cv_slot slot(pgno_t pgno, lsn_t from, lsn_t known_to)
{
    return (struct cv_slot){.pgno = pgno, .page_size = SIZE, .from = from, .known_to = known_to};
}

static bool serves(struct cv_slot s, pgno_t pgno, lsn_t lsn, lsn_t newest)
{
    struct cv_want want = {pgno, lsn, newest, 1000, 0};

    return cv_slot_serves(&s, &want, SIZE);
}

Test(page_slots, a_slot_is_good_for_what_it_says_and_as_long_as_the_page_is_known_not_to_change)
{
    cr_assert(serves(slot(7, 100, 200), 7, 100, 500), "a moment of the past");
    cr_assert(serves(slot(7, 100, 200), 7, 200, 500));
    cr_assert(!serves(slot(7, 100, 200), 7, 99, 0), "from before it was written");
    cr_assert(!serves(slot(7, 100, 200), 7, 201, 500), "it may have changed");
    cr_assert(!serves(slot(7, 100, 200), 7, 201, 201), "it has changed");
    cr_assert(serves(slot(7, 100, 200), 7, 900, 200));
    cr_assert(serves(slot(7, 100, 200), 7, 900, 150));
    cr_assert(!serves(slot(8, 100, 200), 7, 150, 0), "another page");
    cr_assert(!cv_slot_serves(&(struct cv_slot){7, 512, 100, 200, 0, 0, 0},
                              &(struct cv_want){7, 150, 0, 1000, 0}, SIZE),
              "another size");
    cr_assert(serves(slot(7, 100, 1000), 7, 1000, 0));
    cr_assert(!serves(slot(7, 100, 1001), 7, 1000, 0), "of a time that the reader does not know");
    cr_assert(!serves(slot(7, 100, 50), 7, 100, 0), "nonsense");
    cr_assert(!serves(slot(0, 0, 0), 7, 0, 0), "an empty one");
}

Test(page_slots, the_check_covers_every_bit_of_slot_and_page_and_the_timeline)
{
    uint8_t page[SIZE], bytes[CV_SLOT_BYTES];
    struct cv_slot s = slot(7, 100, 200), got;

    for (uint32_t i = 0; i < SIZE; i++)
        page[i] = (uint8_t)(i * 7);
    s.crc = cv_slot_crc(&s, &ours, page);
    cv_slot_put(&s, bytes);
    cv_slot_get(bytes, &got);
    cr_assert_eq(cv_slot_crc(&got, &ours, page), got.crc);
    cr_assert_neq(cv_slot_crc(&got, &other, page), got.crc);
    for (uint32_t bit = 0; bit < 44 * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cv_slot_get(bytes, &got);
        if (got.page_size <= SIZE)
            cr_assert_neq(cv_slot_crc(&got, &ours, page), got.crc, "bit %u", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t bit = 0; bit < SIZE * 8; bit += 11) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert_neq(cv_slot_crc(&s, &ours, page), s.crc, "bit %u of the page", bit);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(page_slots, the_head_is_of_one_format_and_timeline)
{
    uint8_t head[CV_SLOTS_HEAD];
    struct cv_slots got;

    shape.base = 100;
    shape.next = 200;
    cv_slots_put(&shape, &ours, head);
    cr_assert(cv_slots_get(head, &ours, &got));
    cr_assert_eq(memcmp(&got, &shape, sizeof got), 0);
    cr_assert(!cv_slots_get(head, &other, &got));
    for (uint32_t bit = 0; bit < 60 * 8; bit++) {
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
        cr_assert(!cv_slots_get(head, &ours, &got), "bit %u", bit);
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(head, 0, sizeof head);
    cr_assert(!cv_slots_get(head, &ours, &got));
}

Test(page_slots, no_two_pages_share_a_place_and_none_lies_beyond_the_file)
{
    static const struct {
        uint64_t bytes;
        uint32_t page_size;
    } files[] = {{1u << 20, 512}, {1u << 20, 65536}, {3u << 20, 4096}, {1ull << 40, 512}};

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct cv_slots s = cv_slots_shape(files[i].bytes, files[i].page_size);
        pgno_t last = s.n_sets - 1;

        cr_assert_leq(cv_slots_bytes(&s), files[i].bytes);
        cr_assert_geq(cv_slots_bytes(&s) + 9ull * (files[i].page_size + 1024), files[i].bytes);
        cr_assert_eq(cv_slots_set_at(&s, last) + CV_SLOTS_SET_BYTES,
                     4096 + (uint64_t)s.n_sets * CV_SLOTS_SET_BYTES);
        cr_assert_geq(cv_slots_page_at(&s, 0, 0), cv_slots_set_at(&s, last) + CV_SLOTS_SET_BYTES);
        cr_assert_eq(cv_slots_page_at(&s, last, CV_SLOT_WAYS - 1) + s.page_size,
                     cv_slots_bytes(&s));
        cr_assert_eq(cv_slots_page_at(&s, 0, 1), cv_slots_page_at(&s, last, 0) + s.page_size);
        if (last > 1)
            cr_assert_eq(cv_slots_page_at(&s, 2, 0), cv_slots_page_at(&s, 1, 0) + s.page_size);
        cr_assert_eq(cv_slots_set_at(&s, s.n_sets + 1), cv_slots_set_at(&s, 1));
    }
    cr_assert_eq(cv_slots_shape(1000, 4096).n_sets, 1, "always something");
}

Test(page_slots, the_base_moves_on_in_two_generations_when_much_has_changed)
{
    uint64_t most = (uint64_t)shape.n_sets * CV_SLOT_WAYS / 4;

    cr_assert(cv_slots_advance(&shape, 100, 0, false), "the first time");
    cr_assert_eq(shape.base, 100);
    cr_assert_eq(shape.next, 100);
    cr_assert(!cv_slots_advance(&shape, 200, most, false));
    cr_assert(cv_slots_advance(&shape, 300, most + 1, false));
    cr_assert_eq(shape.base, 100, "what is not used goes with the next one");
    cr_assert_eq(shape.next, 300);
    cr_assert(cv_slots_advance(&shape, 400, most + 1, false));
    cr_assert_eq(shape.base, 300);
    cr_assert_eq(shape.next, 400);
    cr_assert(!cv_slots_advance(&shape, 390, most + 1, false), "never back");
    cr_assert(cv_slots_advance(&shape, 900, 0, true), "nobody can tell what changed since");
    cr_assert_eq(shape.base, 900);
    cr_assert_eq(shape.next, 900);
}

static uint32_t choose(pgno_t pgno, lsn_t from, lsn_t known_to)
{
    struct cv_slot s = slot(pgno, from, known_to);

    return cv_slots_choose(&shape, set, &s);
}

Test(page_slots, a_new_slot_takes_the_place_of_what_is_worth_least)
{
    pgno_t n = shape.n_sets;

    cr_assert_eq(choose(7, 100, 200), 0, "in order as long as there is room");
    cr_assert_eq(choose(7 + n, 100, 200), 1);
    cr_assert_eq(choose(7 + 9 * n, 100, 200), 1);
    for (uint32_t i = 0; i < CV_SLOT_WAYS; i++)
        set[i] = slot(7 + i * n, 100, 500 + i);
    set[3].known_to = 300;
    cr_assert_eq(choose(7 + 9 * n, 100, 600), 3, "of use longest ago");
    cr_assert_eq(choose(7 + 5 * n, 100, 600), 5, "the same version");
    cr_assert_eq(choose(7 + 5 * n, 550, 600), 5, "an older one");
    cr_assert_eq(choose(7 + 5 * n, 50, 600), 3, "not a newer one");
    set[4].known_to = 700;
    cr_assert_eq(choose(7 + 9 * n, 100, 600), 4, "of a history that is gone, as it seems");
    set[6] = slot(0, 0, 0);
    set[4].known_to = 400;
    cr_assert_eq(choose(7 + 4 * n, 50, 600), 6);
}

static enum cv_proven proven(const struct cv_proofs *p, uint64_t session, lsn_t known_to)
{
    struct cv_slot s = {.session = session, .known_to = known_to};

    return cv_proofs_find(p, &s);
}

Test(page_slots, a_session_is_proven_up_to_a_commit_and_refuted_from_one_on)
{
    static struct cv_proofs p;

    memset(&p, 0, sizeof p);
    cr_assert_eq(proven(&p, 1, 100), CV_UNPROVEN);
    cv_proofs_note(&p, &(struct cv_slot){.session = 1, .known_to = 100}, true);
    cr_assert_eq(proven(&p, 1, 100), CV_PROVEN);
    cr_assert_eq(proven(&p, 1, 99), CV_PROVEN);
    cr_assert_eq(proven(&p, 1, 101), CV_UNPROVEN);
    cr_assert_eq(proven(&p, 2, 99), CV_UNPROVEN);
    cv_proofs_note(&p, &(struct cv_slot){.session = 1, .known_to = 300}, false);
    cv_proofs_note(&p, &(struct cv_slot){.session = 1, .known_to = 400}, false);
    cr_assert_eq(proven(&p, 1, 100), CV_PROVEN);
    cr_assert_eq(proven(&p, 1, 299), CV_UNPROVEN);
    cr_assert_eq(proven(&p, 1, 300), CV_REFUTED);
    cr_assert_eq(proven(&p, 1, 500), CV_REFUTED);
    cv_proofs_note(&p, &(struct cv_slot){.session = 1, .known_to = 90}, true);
    cr_assert_eq(proven(&p, 1, 100), CV_PROVEN, "no less than before");
    for (uint64_t i = 0; i < CV_PROOFS; i++)
        cv_proofs_note(&p, &(struct cv_slot){.session = 10 + i, .known_to = 5}, true);
    cr_assert_eq(proven(&p, 1, 100), CV_UNPROVEN, "the oldest is forgotten");
    cr_assert_eq(proven(&p, 10, 5), CV_PROVEN);
}
