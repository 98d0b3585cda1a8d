/*
 * criterion.h - as much of Criterion as the unit tests use, for ThreadSanitizer, under which
 * Criterion itself does not start. Each test runs in a process of its own (shim.c); leftovers of a
 * failed one do not matter. What a message says is not kept: the line is.
 */
#ifndef CORALLITE_TESTS_SHIM_CRITERION_H
#define CORALLITE_TESTS_SHIM_CRITERION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shim_options {
    void (*init)(void), (*fini)(void);
    int signal, exit_code, disabled;
    double timeout;
    const char *description;
};

struct shim_test {
    const char *suite, *name;
    void (*run)(void);
    struct shim_options options;
    struct shim_test *next;
};

struct shim_suite {
    const char *name;
    struct shim_options options;
    struct shim_suite *next;
};

void shim_add_test(struct shim_test *test);
void shim_add_suite(struct shim_suite *suite);
/* Notes a check; a failed one that is fatal ends the test. */
void shim_check(int good, int fatal, const char *file, int line, const char *what);

#define TestSuite(s, ...)                                                                          \
    static struct shim_suite shim_suite_##s = {#s, {__VA_ARGS__}, NULL};                           \
    __attribute__((constructor)) static void shim_suite_add_##s(void)                              \
    {                                                                                              \
        shim_add_suite(&shim_suite_##s);                                                           \
    }                                                                                              \
    struct shim_suite

#define Test(s, n, ...)                                                                            \
    static void shim_run_##s##_##n(void);                                                          \
    static struct shim_test shim_test_##s##_##n = {                                                \
        #s, #n, shim_run_##s##_##n, {__VA_ARGS__}, NULL};                                          \
    __attribute__((constructor)) static void shim_add_##s##_##n(void)                              \
    {                                                                                              \
        shim_add_test(&shim_test_##s##_##n);                                                       \
    }                                                                                              \
    static void shim_run_##s##_##n(void)

#define SHIM_FIRST(a, ...)              (a)
#define SHIM(fatal, good, what)         shim_check((good) ? 1 : 0, fatal, __FILE__, __LINE__, what)
#define SHIM_CMP(fatal, a, op, b)       SHIM(fatal, (a)op(b), #a " " #op " " #b)
#define SHIM_STR(fatal, a, op, b)       SHIM(fatal, strcmp((a), (b)) op 0, #a " " #op " " #b)
#define SHIM_ARR(fatal, a, op, b, n)    SHIM(fatal, memcmp((a), (b), (n)) op 0, #a " " #op " " #b)

#define cr_assert(...)                  SHIM(1, SHIM_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_assert_not(...)              SHIM(1, !SHIM_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_assert_null(...)             SHIM(1, SHIM_FIRST(__VA_ARGS__, 0) == NULL, #__VA_ARGS__)
#define cr_assert_not_null(...)         SHIM(1, SHIM_FIRST(__VA_ARGS__, 0) != NULL, #__VA_ARGS__)
#define cr_assert_fail(...)             SHIM(1, 0, "" #__VA_ARGS__)
#define cr_assert_eq(a, b, ...)         SHIM_CMP(1, a, ==, b)
#define cr_assert_neq(a, b, ...)        SHIM_CMP(1, a, !=, b)
#define cr_assert_lt(a, b, ...)         SHIM_CMP(1, a, <, b)
#define cr_assert_gt(a, b, ...)         SHIM_CMP(1, a, >, b)
#define cr_assert_leq(a, b, ...)        SHIM_CMP(1, a, <=, b)
#define cr_assert_geq(a, b, ...)        SHIM_CMP(1, a, >=, b)
#define cr_assert_str_eq(a, b, ...)     SHIM_STR(1, a, ==, b)
#define cr_assert_str_neq(a, b, ...)    SHIM_STR(1, a, !=, b)
#define cr_assert_arr_eq(a, b, n, ...)  SHIM_ARR(1, a, ==, b, n)
#define cr_assert_arr_neq(a, b, n, ...) SHIM_ARR(1, a, !=, b, n)

#define cr_expect(...)                  SHIM(0, SHIM_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_expect_not(...)              SHIM(0, !SHIM_FIRST(__VA_ARGS__, 0), #__VA_ARGS__)
#define cr_expect_null(...)             SHIM(0, SHIM_FIRST(__VA_ARGS__, 0) == NULL, #__VA_ARGS__)
#define cr_expect_not_null(...)         SHIM(0, SHIM_FIRST(__VA_ARGS__, 0) != NULL, #__VA_ARGS__)
#define cr_expect_eq(a, b, ...)         SHIM_CMP(0, a, ==, b)
#define cr_expect_neq(a, b, ...)        SHIM_CMP(0, a, !=, b)
#define cr_expect_lt(a, b, ...)         SHIM_CMP(0, a, <, b)
#define cr_expect_gt(a, b, ...)         SHIM_CMP(0, a, >, b)
#define cr_expect_leq(a, b, ...)        SHIM_CMP(0, a, <=, b)
#define cr_expect_geq(a, b, ...)        SHIM_CMP(0, a, >=, b)
#define cr_expect_str_eq(a, b, ...)     SHIM_STR(0, a, ==, b)
#define cr_expect_str_neq(a, b, ...)    SHIM_STR(0, a, !=, b)
#define cr_expect_arr_eq(a, b, n, ...)  SHIM_ARR(0, a, ==, b, n)

#endif
