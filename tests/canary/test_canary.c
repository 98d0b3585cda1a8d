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

TestSuite(canary, .timeout = 30);

Test(canary, passes)
{
    cr_assert_eq(2 + 2, 4);
}

/* Many blocks, from a frame of its own: one whose address stays behind somewhere on the stack would
 * not count as lost. */
__attribute__((noinline)) static int lose_blocks(void)
{
    int n = 0;
    for (int i = 0; i < 100; i++) {
        char *volatile lost = malloc(100);
        n += lost != NULL;
    }
    return n;
}

/* Criterion calls this passed; only the report that LeakSanitizer writes at exit tells. */
Test(canary, leaks)
{
    cr_assert_eq(lose_blocks(), 100);
}

Test(canary, fails_an_assertion)
{
    cr_assert_eq(2 + 2, 5, "a canary: this failure is wanted");
}

Test(canary, dies_of_a_signal)
{
    raise(SIGSEGV);
}

Test(canary, never_returns, .timeout = 1)
{
    for (;;)
        pause();
}
