#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>

#include "common/metrics.h"

TestSuite(metrics, .timeout = 20);

static struct co_metric a = {.name = "corallite_a_total", .help = "Things.", .kind = CO_COUNTER};
static struct co_metric b = {
    .name = "corallite_b_bytes", .help = "Two\nlines, one \\.", .kind = CO_GAUGE};

Test(metrics, are_rendered_in_the_text_format)
{
    /* Prometheus text exposition 0.0.4, in the order of registration. */
    struct co_buf out = {0};
    co_metric_register(&a);
    co_metric_register(&b);
    co_metric_add(&a, 41);
    co_metric_add(&a, 1);
    co_metric_set(&b, UINT64_MAX);
    cr_assert_eq(co_metrics_render(&out), 0);
    cr_assert_eq(co_buf_append(&out, "", 1), 0);
    cr_assert_str_eq((char *)out.data, "# HELP corallite_a_total Things.\n"
                                       "# TYPE corallite_a_total counter\n"
                                       "corallite_a_total 42\n"
                                       "# HELP corallite_b_bytes Two\\nlines, one \\\\.\n"
                                       "# TYPE corallite_b_bytes gauge\n"
                                       "corallite_b_bytes 18446744073709551615\n");
    co_buf_free(&out);
}

Test(metrics, are_nothing_before_one_is_registered)
{
    /* An empty registry renders as nothing, behind what the buffer has already. */
    struct co_buf out = {0};
    cr_assert_eq(co_buf_append(&out, "x", 1), 0);
    cr_assert_eq(co_metrics_render(&out), 0);
    cr_assert_eq(out.len, 1u);
    co_buf_free(&out);
}

Test(metrics, have_each_name_once, .signal = SIGABRT)
{
    /* Two metrics of one name would make the page unreadable to its readers. */
    static struct co_metric twin = {.name = "corallite_a_total", .help = "", .kind = CO_GAUGE};
    co_metric_register(&a);
    co_metric_register(&twin);
}

static void *count(void *arg)
{
    for (int i = 0; i < 100000; i++)
        co_metric_add(arg, 1);
    return NULL;
}

Test(metrics, lose_no_update_of_any_thread)
{
    /* Updating is atomic. */
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count, &a), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(co_metric_get(&a), 400000u);
}
