/*
 * patience.c - the unit tests' bounds of time are multiplied by $SLOWER (kinds.py), for sanitizers.
 * In the binaries of Criterion, whose own --timeout can only make them shorter; shim/ does it by
 * itself.
 */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdlib.h>

ReportHook(PRE_ALL)(struct criterion_test_set *all)
{
    const char *slower = getenv("SLOWER");
    double times = slower ? atof(slower) : 1;
    if (times <= 1)
        return;
    FOREACH_SET(struct criterion_suite_set * suite, all->suites)
    {
        if (suite->suite.data)
            suite->suite.data->timeout *= times;
        FOREACH_SET(struct criterion_test * test, suite->tests)
        test->data->timeout *= times;
    }
}
