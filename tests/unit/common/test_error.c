#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "common/error.h"

TestSuite(error, .timeout = 20);

Test(error, every_code_has_its_own_number_name_and_text)
{
    /* The numbers travel in Error messages: they are part of the protocol. */
    static const struct {
        int code;
        const char *name;
    } rows[] = {
#define X(name, number, cls, text) {CO_ERR_##name, #name},
        CO_ERRORS(X)
#undef X
    };
    size_t n = sizeof rows / sizeof *rows;
    for (size_t i = 0; i < n; i++) {
        cr_expect_lt(rows[i].code, 0);
        cr_expect_str_eq(co_error_name(rows[i].code), rows[i].name);
        cr_expect_gt(strlen(co_error_text(rows[i].code)), 5);
        for (size_t k = 0; k < i; k++) {
            cr_expect_neq(rows[k].code, rows[i].code);
            cr_expect_str_neq(co_error_text(rows[k].code), co_error_text(rows[i].code));
        }
    }
    cr_expect_eq(CO_ERR_NOT_FOUND, -3);
    cr_expect_eq(CO_ERR_LAG, -21);
    cr_expect_eq(CO_ERR_PROTOCOL, -40);
    cr_expect_eq(CO_ERR_CORRUPT, -61);
}

Test(error, classes_say_what_can_be_done)
{
    static const struct {
        int code;
        enum co_error_class cls;
    } rows[] = {{CO_OK, CO_CLASS_NONE},           {CO_ERR_NAME, CO_CLASS_INPUT},
                {CO_ERR_TIMEOUT, CO_CLASS_RETRY}, {CO_ERR_STALE_TERM, CO_CLASS_PEER},
                {CO_ERR_FULL, CO_CLASS_STORAGE},  {CO_ERR_BUG, CO_CLASS_BUG}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(co_error_class(rows[i].code), rows[i].cls, "%s", co_error_name(rows[i].code));
}

Test(error, unknown_codes_are_answered_too)
{
    /* A code may come from a peer of another release. */
    static const int codes[] = {1, -1000, INT_MAX, INT_MIN, -19};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        cr_expect_str_eq(co_error_name(codes[i]), "?");
        cr_expect_str_eq(co_error_text(codes[i]), "unknown error");
        cr_expect_eq(co_error_class(codes[i]), CO_CLASS_BUG);
    }
    cr_expect_str_eq(co_error_name(0), "OK");
}

Test(error, a_sentence_can_be_made_from_the_one_before)
{
    cr_assert_str_eq(co_sentence(), "");
    cr_assert_eq(co_fail(CO_ERR_IO, "disk %d is gone", 7), CO_ERR_IO);
    cr_assert_eq(co_fail(CO_ERR_CORRUPT, "no log: %s", co_sentence()), CO_ERR_CORRUPT);
    cr_assert_str_eq(co_sentence(), "no log: disk 7 is gone");
}

Test(error, errno_is_put_into_words)
{
    cr_assert_eq(co_fail_errno(CO_ERR_IO, ENOSPC, "writing %s", "x"), CO_ERR_IO);
    cr_assert_str_eq(co_sentence(), "writing x: No space left on device");
    cr_assert_eq(co_fail_errno(CO_ERR_IO, 98765, "y"), CO_ERR_IO);
    cr_assert(strncmp(co_sentence(), "y: ", 3) == 0 && strstr(co_sentence(), "98765"));
}

Test(error, long_sentences_are_cut)
{
    char longer[2 * CO_SENTENCE_MAX];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    cr_assert_eq(co_fail(CO_ERR_IO, "%s", longer), CO_ERR_IO);
    cr_assert_eq(strlen(co_sentence()), CO_SENTENCE_MAX - 1);
    cr_assert_eq(co_fail_errno(CO_ERR_IO, EIO, "%s", longer), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), ": Input/output error"), "the reason is kept");
}

static void *other_thread(void *found)
{
    *(size_t *)found = strlen(co_sentence());
    return co_fail(CO_ERR_IO, "theirs") ? NULL : found;
}

Test(error, each_thread_has_its_own_sentence)
{
    pthread_t thread;
    size_t found = 99;
    cr_assert_eq(co_fail(CO_ERR_IO, "mine"), CO_ERR_IO);
    cr_assert_eq(pthread_create(&thread, NULL, other_thread, &found), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(found, 0);
    cr_assert_str_eq(co_sentence(), "mine");
}
