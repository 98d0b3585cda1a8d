/* test_registry_file.c - the registry of timelines. */
#include "common/crc32c.h"
#include "proto/message.h"
#include "safekeeper/registry_file.h"
#include "tests/unit/safekeeper/fixture.h"

TestSuite(registry_file, .init = fixture_setup, .fini = fixture_teardown, .timeout = 30);

/* A message of its own memory, for a test's life. */
static Corallite__Timeline *timeline(uint8_t id, uint64_t version, Corallite__TimelineState state)
{
    static struct {
        Corallite__Timeline t;
        uint8_t id[16], database[16];
        struct wal_config config;
        struct msg_config wire;
    } pool[300];
    static int used;
    int i = used++ % 300;
    memset(pool[i].id, id, 16);
    memset(pool[i].database, 0xdb, 16);
    pool[i].config = (struct wal_config){.version = 1, .n = 3};
    for (uint32_t k = 0; k < 3; k++)
        pool[i].config.members[k].node_id = k + 1;
    msg_config_fill(&pool[i].config, &pool[i].wire);
    Corallite__Timeline *t = &pool[i].t;
    corallite__timeline__init(t);
    t->has_id = t->has_database = t->has_start_lsn = t->has_state = t->has_version = 1;
    t->id = msg_bytes16(pool[i].id);
    t->database = msg_bytes16(pool[i].database);
    t->database_name = "shop";
    t->branch = "main";
    t->start_lsn = LSN_FIRST;
    t->state = state;
    t->version = version;
    t->config = &pool[i].wire.pb;
    return t;
}

#define CREATING CORALLITE__TIMELINE_STATE__TIMELINE_CREATING
#define ACTIVE   CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE
#define DROPPED  CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED
#define SEALED   CORALLITE__TIMELINE_STATE__TIMELINE_SEALED

/* What a PUT does, without the directory. */
static int put(struct sk_registry *r, const Corallite__Timeline *t, enum sk_put *what)
{
    struct sk_entry entry;
    struct sk_registry_bytes bytes = {0};
    int rc = sk_entry_parse(t, &entry);
    if (rc)
        return rc;
    rc = sk_registry_judge(r, &entry, what);
    if (!rc && *what != SK_PUT_NOTHING) {
        cr_assert_eq(sk_registry_encode(r, &entry, &bytes), 0);
        cr_assert_eq(sk_registry_write(fixture()->dir, &bytes), 0);
        sk_registry_written(r, &bytes);
        cr_assert_eq(sk_registry_put(r, &entry), 0);
    }
    sk_entry_release(&entry);
    co_buf_free(&bytes.buf);
    return rc;
}

Test(registry_file, higher_version_wins_and_repeats_change_nothing)
{
    /* G2 */
    struct sk_registry r = {0};
    enum sk_put what;
    cr_assert_eq(put(&r, timeline(5, 1, CREATING), &what), 0);
    cr_assert_eq(what, SK_PUT_CREATE);
    cr_assert_eq(put(&r, timeline(5, 1, CREATING), &what), 0);
    cr_assert_eq(what, SK_PUT_NOTHING);
    cr_assert_eq(put(&r, timeline(5, 3, ACTIVE), &what), 0);
    cr_assert_eq(what, SK_PUT_CHANGE);
    cr_assert_eq(put(&r, timeline(5, 2, CREATING), &what), 0);
    cr_assert_eq(what, SK_PUT_NOTHING);
    cr_assert_eq(r.n, 1);
    cr_assert_eq(r.e[0].state, ACTIVE);
    sk_registry_free(&r);
}

Test(registry_file, tombstone_stays_and_survives_the_file)
{
    /* G1: an emptied pageserver must not bring a dropped timeline back. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    cr_assert_eq(put(&r, timeline(5, 1, ACTIVE), &what), 0);
    cr_assert_eq(put(&r, timeline(5, 2, DROPPED), &what), 0);
    cr_assert_eq(put(&r, timeline(5, 3, ACTIVE), &what), CO_ERR_DROPPED);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 1);
    cr_assert_eq(back.e[0].state, DROPPED);
    cr_assert_eq(put(&back, timeline(5, 4, ACTIVE), &what), CO_ERR_DROPPED);
    sk_registry_free(&r);
    sk_registry_free(&back);
}

Test(registry_file, many_come_back_sorted_with_all_fields)
{
    /* The rule: LIST pages by id; names, configuration and start survive. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    for (int i = 0; i < 100; i++) {
        uint8_t id = (uint8_t)(1 + i * 37 % 101);
        cr_assert_eq(put(&r, timeline(id, 1, ACTIVE), &what), 0, "%s", co_sentence());
    }
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 100);
    cr_assert_eq(back.sequence, r.sequence);
    for (uint32_t i = 0; i < 100; i++) {
        if (i)
            cr_assert(memcmp(back.e[i - 1].id.b, back.e[i].id.b, 16) < 0);
        cr_assert_str_eq(back.e[i].name, "shop/main");
        cr_assert_eq(back.e[i].config.n, 3);
        cr_assert_eq(back.e[i].start_lsn, LSN_FIRST);
        cr_assert_eq(sk_registry_find(&back, &back.e[i].id), &back.e[i]);
        cr_assert_eq(sk_registry_after(&back, i ? &back.e[i - 1].id : NULL), &back.e[i]);
    }
    cr_assert_null(sk_registry_after(&back, &back.e[99].id));
    sk_registry_free(&r);
    sk_registry_free(&back);
}

static void path_of_file(char file[SK_PATH_MAX])
{
    snprintf(file, SK_PATH_MAX, "%s/registry", fixture()->dir);
}

/* The whole file, and as it was before: for what a test does to it. */
static struct co_buf keep_file(void)
{
    char file[SK_PATH_MAX];
    struct co_buf bytes = {0};
    path_of_file(file);
    cr_assert_eq(sk_io_read_all(file, 1 << 24, &bytes), 0);
    return bytes;
}

static void bring_back(const struct co_buf *bytes)
{
    cr_assert_eq(sk_io_replace(fixture()->dir, "registry", co_buf_span(bytes)), 0);
}

static uint64_t file_size(void)
{
    char file[SK_PATH_MAX];
    struct stat st;
    path_of_file(file);
    cr_assert_eq(stat(file, &st), 0);
    return (uint64_t)st.st_size;
}

Test(registry_file, any_flipped_byte_and_any_cut_of_the_base_is_refused)
{
    /* The rule: a damaged list of votes is never guessed. Zeros that only fill up count for
     * nothing, and may be anything but changes. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    char file[SK_PATH_MAX];
    path_of_file(file);
    cr_assert_eq(put(&r, timeline(5, 1, ACTIVE), &what), 0);
    cr_assert_eq(put(&r, timeline(6, 1, DROPPED), &what), 0);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0); /* gathers the change */
    sk_registry_free(&back);
    uint64_t size = file_size();
    cr_assert_eq(size, 512, "%llu", (unsigned long long)size);
    for (uint64_t i = 0; i < size; i++) {
        flip(file, i);
        int rc = sk_registry_read(fixture()->dir, &back);
        cr_assert(rc == CO_ERR_CORRUPT || (rc == CO_ERR_VERSION && i >= 8 && i < 12), "byte %llu",
                  (unsigned long long)i);
        flip(file, i);
    }
    for (off_t n = (off_t)size - 1; n >= 0; n -= 7) {
        cr_assert_eq(truncate(file, n), 0);
        cr_assert_eq(sk_registry_read(fixture()->dir, &back), CO_ERR_CORRUPT, "%lld", (long long)n);
    }
    unlink(file);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), CO_ERR_NOT_FOUND);
    sk_registry_free(&r);
}

Test(registry_file, change_is_appended_and_costs_the_same_among_many)
{
    /* The rule: making a timeline does not write all the others. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    for (int i = 1; i <= 100; i++) {
        uint64_t before = i > 1 ? file_size() : 0;
        cr_assert_eq(put(&r, timeline((uint8_t)i, 1, ACTIVE), &what), 0);
        if (i > 1)
            cr_assert_eq(file_size() - before, 1024, "%d", i);
    }
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 100);
    cr_assert_eq(back.sequence, r.sequence);
    cr_assert_eq(back.base_bytes, file_size());
    sk_registry_free(&r);
    sk_registry_free(&back);
}

Test(registry_file, changes_that_outgrow_the_base_are_gathered)
{
    /* The rule: the file stays within a few times what it lists. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    uint64_t most = 0;
    for (uint64_t v = 1; v <= 1000; v++) {
        cr_assert_eq(put(&r, timeline(7, v, CREATING), &what), 0);
        most = file_size() > most ? file_size() : most;
    }
    cr_assert(most <= SK_REWRITE_BYTES + 4096, "%llu", (unsigned long long)most);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 1);
    cr_assert_eq(back.e[0].version, 1000);
    sk_registry_free(&r);
    sk_registry_free(&back);
}

Test(registry_file, one_rotten_byte_of_a_change_loses_nothing)
{
    /* The rule: what was answered is there, wherever one byte rots. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    char file[SK_PATH_MAX];
    path_of_file(file);
    for (uint8_t i = 1; i <= 3; i++)
        cr_assert_eq(put(&r, timeline(i, 1, ACTIVE), &what), 0);
    struct co_buf whole = keep_file();
    for (uint64_t i = r.base_bytes; i < whole.len; i += i % 512 < 24 ? 1 : 17) {
        bring_back(&whole);
        flip(file, i);
        cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "byte %llu: %s",
                     (unsigned long long)i, co_sentence());
        cr_assert_eq(back.n, 3, "byte %llu", (unsigned long long)i);
        sk_registry_free(&back);
    }
    co_buf_free(&whole);
    sk_registry_free(&r);
}

Test(registry_file, change_cut_off_is_dropped_and_one_within_is_damage)
{
    /* The rule: nobody was told of the last one if both copies are unsound; an earlier one was. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    char file[SK_PATH_MAX];
    path_of_file(file);
    for (uint8_t i = 1; i <= 3; i++)
        cr_assert_eq(put(&r, timeline(i, 1, ACTIVE), &what), 0);
    struct co_buf whole = keep_file();
    for (uint64_t cut = 1; cut <= 1024; cut += 11) {
        bring_back(&whole);
        cr_assert_eq(truncate(file, (off_t)(whole.len - cut)), 0);
        cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "cut %llu: %s",
                     (unsigned long long)cut, co_sentence());
        cr_assert(back.n == 2 || (back.n == 3 && cut < 1024), "cut %llu", (unsigned long long)cut);
        cr_assert_eq(back.end_bytes, file_size(), "it goes on behind what counts");
        sk_registry_free(&back);
    }
    bring_back(&whole);
    flip(file, r.base_bytes + 20);
    flip(file, r.base_bytes + 512 + 20);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), CO_ERR_CORRUPT);
    cr_assert(strstr(co_sentence(), "both copies"), "%s", co_sentence());
    co_buf_free(&whole);
    sk_registry_free(&r);
}

Test(registry_file, file_of_format_1_is_read_and_written_anew)
{
    /* The rule: an old directory opens. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    for (uint8_t i = 1; i <= 3; i++)
        cr_assert_eq(put(&r, timeline(i, 1, ACTIVE), &what), 0);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0);
    sk_registry_free(&back);
    struct co_buf old = keep_file();
    while (old.data[old.len - 1] == 0) /* its last field is not zero */
        old.len--;
    co_put32(old.data + 8, 1);
    co_put32(old.data + 24, co_crc32c(0, old.data, 24));
    bring_back(&old);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 3);
    cr_assert_eq(put(&back, timeline(4, 1, ACTIVE), &what), 0);
    sk_registry_free(&back);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_eq(back.n, 4);
    sk_registry_free(&back);
    sk_registry_free(&r);
    co_buf_free(&old);
}

Test(registry_file, malformed_messages_are_refused_with_a_sentence)
{
    /* H8: what comes from the network is checked before it is kept. */
    enum sk_put what;
    struct sk_registry r = {0};
    Corallite__Timeline *t = timeline(5, 1, ACTIVE);
    t->id.len = 15;
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    t = timeline(5, 0, ACTIVE);
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    t = timeline(5, 1, ACTIVE);
    t->start_lsn = LSN_FIRST + 4;
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    t = timeline(5, 1, ACTIVE);
    t->config = NULL;
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    t = timeline(5, 1, (Corallite__TimelineState)9);
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    t = timeline(5, 1, ACTIVE);
    t->database_name = "no spaces please";
    cr_assert_eq(put(&r, t, &what), CO_ERR_NAME);
    cr_assert_eq(r.n, 0);
}

Test(registry_file, timeline_does_not_move_its_begin)
{
    /* G3 */
    struct sk_registry r = {0};
    enum sk_put what;
    cr_assert_eq(put(&r, timeline(5, 1, ACTIVE), &what), 0);
    Corallite__Timeline *t = timeline(5, 2, ACTIVE);
    t->start_lsn = LSN_FIRST + 8;
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    cr_assert_eq(r.e[0].version, 1);
    sk_registry_free(&r);
}

Test(registry_file, sealed_timeline_can_only_be_dropped)
{
    /* G1: what a restore kept is never written again; its name and protection may change. */
    struct sk_registry r = {0}, back;
    enum sk_put what;
    cr_assert_eq(put(&r, timeline(5, 1, ACTIVE), &what), 0);
    cr_assert_eq(put(&r, timeline(5, 2, SEALED), &what), 0);
    cr_assert_eq(put(&r, timeline(5, 3, ACTIVE), &what), CO_ERR_READONLY);
    Corallite__Timeline *t = timeline(5, 4, SEALED);
    t->branch = "kept";
    t->has_protected_ = t->protected_ = t->has_hidden = t->hidden = 1;
    t->has_expires_us = 1;
    t->expires_us = 77;
    cr_assert_eq(put(&r, t, &what), 0);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    const Corallite__Timeline *m = back.e[0].message;
    cr_assert(back.e[0].state == SEALED && m->protected_ && m->hidden && m->expires_us == 77);
    cr_assert_str_eq(back.e[0].name, "shop/kept");
    sk_registry_free(&back);
    cr_assert_eq(put(&r, timeline(5, 5, DROPPED), &what), 0);
    cr_assert_eq(put(&r, timeline(5, 6, SEALED), &what), CO_ERR_DROPPED);
    sk_registry_free(&r);
}

Test(registry_file, intent_of_a_restore_is_kept)
{
    /* An empty pageserver drives it on from what the safekeepers hold. */
    static uint8_t replaces[16] = {9, 9, 9};
    struct sk_registry r = {0}, back;
    enum sk_put what;
    Corallite__Timeline *t = timeline(5, 1, CREATING);
    t->has_replaces = 1;
    t->replaces = msg_bytes16(replaces);
    t->keep_as = "before";
    cr_assert_eq(put(&r, t, &what), 0);
    cr_assert_eq(sk_registry_read(fixture()->dir, &back), 0, "%s", co_sentence());
    cr_assert_str_eq(back.e[0].message->keep_as, "before");
    cr_assert_eq(memcmp(back.e[0].message->replaces.data, replaces, 16), 0);
    t = timeline(6, 1, CREATING);
    t->keep_as = "not a name";
    cr_assert_eq(put(&r, t, &what), CO_ERR_NAME);
    t = timeline(6, 1, CREATING);
    t->has_replaces = 1;
    t->replaces = (ProtobufCBinaryData){.len = 3, .data = replaces};
    cr_assert_eq(put(&r, t, &what), CO_ERR_INVAL);
    sk_registry_free(&r);
    sk_registry_free(&back);
}
