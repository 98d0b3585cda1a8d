#include <criterion/criterion.h>
#include <malloc.h>

#include "proto/hello.h"
#include "proto/limits.h"
#include "proto/unpack.h"

TestSuite(hello, .timeout = 20);

static uint8_t id_a[16] = {1, 2, 3}, id_b[16] = {4, 5, 6}, id_zero[16];

static ProtobufCBinaryData id(uint8_t *bytes)
{
    return (ProtobufCBinaryData){16, bytes};
}

Test(hello, accepts_the_range_that_has_this_protocol)
{
    /* min <= ours <= max; an absent bound is ours. */
    Corallite__Hello h = CORALLITE__HELLO__INIT;
    cr_assert_eq(hello_check_range(&h), 0);
    h.has_protocol_min = h.has_protocol_max = 1;
    h.protocol_min = 0;
    h.protocol_max = 5;
    cr_assert_eq(hello_check_range(&h), 0);
    h.protocol_max = 0;
    cr_assert_eq(hello_check_range(&h), CO_ERR_VERSION);
    h.protocol_min = h.protocol_max = CO_PROTOCOL_VERSION + 1;
    cr_assert_eq(hello_check_range(&h), CO_ERR_VERSION);
}

Test(hello, compares_only_what_was_asked_for)
{
    /* Cluster, node and disk of the answer, when the caller named them. */
    Corallite__Hello h = CORALLITE__HELLO__INIT;
    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), 0);
    h.has_cluster = 1;
    h.cluster = id(id_a);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_PROTOCOL, "no cluster in the answer");
    ok.has_cluster = 1;
    ok.cluster = id(id_b);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_CLUSTER);
    cr_assert(strstr(co_sentence(), "04050600"), "%s", co_sentence());
    ok.cluster = id(id_a);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), 0);
    h.has_expect_node = 1;
    h.expect_node = 2;
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_NODE);
    ok.has_node = 1;
    ok.node = 2;
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), 0);
    h.has_expect_disk = 1;
    h.expect_disk = id(id_zero);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), 0, "a zero disk matches any");
    h.expect_disk = id(id_b);
    ok.has_disk = 1;
    ok.disk = id(id_a);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_NODE);
    ok.disk = id(id_b);
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), 0);
    ok.has_protocol = 1;
    ok.protocol = 7;
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_VERSION);
}

Test(hello, does_not_read_ids_of_another_length)
{
    /* Lengths come from the wire. */
    Corallite__Hello h = CORALLITE__HELLO__INIT;
    Corallite__HelloOk ok = CORALLITE__HELLO_OK__INIT;
    h.has_cluster = ok.has_cluster = 1;
    h.cluster = id(id_a);
    ok.cluster = (ProtobufCBinaryData){3, id_a};
    cr_assert_eq(hello_check_answer(&h, &ok, "here"), CO_ERR_PROTOCOL);
}

Test(hello, names_the_one_that_is_wanted)
{
    /* Sentences say whom we could not reach. */
    char text[32];
    Corallite__Hello h = CORALLITE__HELLO__INIT;
    cr_assert_str_eq(hello_wanted(&h, text), "the pageserver");
    h.has_role = 1;
    h.role = CORALLITE__ROLE__ROLE_PAGESERVER;
    cr_assert_str_eq(hello_wanted(&h, text), "a safekeeper");
    h.has_expect_node = 1;
    h.expect_node = 3;
    cr_assert_str_eq(hello_wanted(&h, text), "safekeeper 3");
}

Test(hello, takes_an_error_for_what_it_says)
{
    /* Code and sentence of an Error; a code that is none, or a success, is a protocol error. */
    Corallite__Error e = CORALLITE__ERROR__INIT;
    char sentence[] = "line one\nline two\x1b[31m";
    e.has_code = 1;
    e.code = CO_ERR_LAG;
    e.sentence = sentence;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_LAG);
    cr_assert_str_eq(co_sentence(), "line one line two [31m", "a log line stays one line");
    e.sentence = NULL;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_LAG);
    cr_assert_str_eq(co_sentence(), co_error_text(CO_ERR_LAG));
    e.code = 0;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_PROTOCOL);
    e.code = -9999;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_PROTOCOL);
    e.has_code = 0;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_PROTOCOL);
}

Test(hello, survives_the_longest_sentence)
{
    /* What a peer says is cut, not trusted. */
    Corallite__Error e = CORALLITE__ERROR__INIT;
    char sentence[5000];
    memset(sentence, 'x', sizeof sentence - 1);
    sentence[sizeof sentence - 1] = 0;
    e.has_code = 1;
    e.code = CO_ERR_IO;
    e.sentence = sentence;
    cr_assert_eq(error_take(&e, "there"), CO_ERR_IO);
    cr_assert_lt(strlen(co_sentence()), (size_t)CO_SENTENCE_MAX);
}

/* -- message_unpack ---------------------------------------------------------------------------- */

Test(hello, unpacks_what_was_packed)
{
    /* A sound message comes back, and is freed with the ordinary call. */
    Corallite__GetPages want = CORALLITE__GET_PAGES__INIT;
    uint32_t pages[CO_GETPAGES_MAX];
    uint8_t packed[4096];
    for (uint32_t i = 0; i < CO_GETPAGES_MAX; i++)
        pages[i] = i + 1;
    want.has_lsn = 1;
    want.lsn = 4096;
    want.n_pages = CO_GETPAGES_MAX;
    want.pages = pages;
    size_t n = corallite__get_pages__pack(&want, packed);
    Corallite__GetPages *got =
        message_unpack(&corallite__get_pages__descriptor, co_span_of(packed, n));
    cr_assert_not_null(got);
    cr_assert_eq(got->n_pages, (size_t)CO_GETPAGES_MAX);
    cr_assert_eq(got->lsn, 4096u);
    protobuf_c_message_free_unpacked(&got->base, NULL);
}

Test(hello, has_budget_for_the_fullest_messages)
{
    /* The budget never refuses what we send ourselves: histories, page lists of one byte a number.
     */
    Corallite__Quorum q = CORALLITE__QUORUM__INIT;
    uint64_t *history = malloc(2 * CO_HISTORY_MAX * sizeof *history);
    uint8_t *packed = malloc(CO_FRAME_HISTORY_MAX_BYTES);
    for (size_t i = 0; i < 2 * CO_HISTORY_MAX; i++)
        history[i] = 1;
    q.n_history = 2 * CO_HISTORY_MAX;
    q.history = history;
    size_t n = corallite__quorum__pack(&q, packed);
    Corallite__Quorum *got = message_unpack(&corallite__quorum__descriptor, co_span_of(packed, n));
    cr_assert_not_null(got, "%s", co_sentence());
    protobuf_c_message_free_unpacked(&got->base, NULL);
    free(history);
    free(packed);
}

Test(hello, stops_a_message_that_would_grow_in_memory)
{
    /* A megabyte of empty submessages would be sixty of heap. */
    size_t n = 1 << 20;
    uint8_t *bytes = malloc(n);
    for (size_t i = 0; i < n; i += 2) {
        bytes[i] = 4 << 3 | 2; /* Pages.pages, length-delimited */
        bytes[i + 1] = 0;
    }
    struct mallinfo2 before = mallinfo2();
    cr_assert_null(message_unpack(&corallite__pages__descriptor, co_span_of(bytes, n)));
    cr_assert(strstr(co_sentence(), "more memory"), "%s", co_sentence());
    struct mallinfo2 after = mallinfo2();
    cr_assert_leq(after.uordblks, before.uordblks + 4096, "nothing is left behind");
    free(bytes);
}

Test(hello, has_a_sentence_for_bytes_that_are_no_message)
{
    /* NULL always comes with a sentence. */
    static const uint8_t bad[] = {0x0a, 0x7f, 1, 2};
    cr_assert_null(message_unpack(&corallite__hello__descriptor, co_span_of(bad, sizeof bad)));
    cr_assert(strstr(co_sentence(), "Hello"), "%s", co_sentence());
    Corallite__Hello *empty =
        message_unpack(&corallite__hello__descriptor, (struct co_span){NULL, 0});
    cr_assert_not_null(empty, "a message without fields has no bytes");
    protobuf_c_message_free_unpacked(&empty->base, NULL);
}
