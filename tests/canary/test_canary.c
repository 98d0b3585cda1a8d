/*
 * test_canary.c - tests that must fail, each in another way, and two that pass.
 *
 * tests/unit/run --canary expects exactly this of the binary made from this file: 2 passed, 3
 * failed (built with ASan one failure more, for the leak). If the runner counts anything else it
 * would overlook failures, and the test run stops there.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

TestSuite(canary, .timeout = 1);

Test(canary, passes)
{
    cr_assert_eq(2 + 2, 4);
}

/* Criterion calls this passed; only the report that LeakSanitizer writes at exit tells. */
Test(canary, leaks)
{
    void *volatile lost = malloc(100);
    lost = NULL;
    cr_assert_null(lost);
}

Test(canary, fails_an_assertion)
{
    cr_assert_eq(2 + 2, 5, "a canary: this failure is wanted");
}

Test(canary, dies_of_a_signal)
{
    raise(SIGSEGV);
}

Test(canary, never_returns)
{
    for (;;)
        pause();
}
