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

static struct co_metric x2 = {
    .name = "corallite_x_total", .help = "X.", .kind = CO_COUNTER, .labels = "code=\"2xx\""};
static struct co_metric x4 = {
    .name = "corallite_x_total", .help = "X.", .kind = CO_COUNTER, .labels = "code=\"4xx\""};
static struct co_metric cpu = {
    .name = "corallite_cpu_seconds_total", .help = "C.", .kind = CO_COUNTER, .micros = true};

static const char *rendered(void)
{
    static struct co_buf out;
    out.len = 0;
    cr_assert_eq(co_metrics_render(&out), 0);
    cr_assert_eq(co_buf_append(&out, "", 1), 0);
    return (const char *)out.data;
}

Test(metrics, of_one_name_are_one_family)
{
    /* HELP and TYPE stand once and the samples together, in whatever order they were registered;
     * microseconds are told in seconds. */
    co_metric_register(&x2);
    co_metric_register(&cpu);
    co_metric_register(&x4);
    co_metric_add(&x2, 3);
    co_metric_sub(&x2, 1);
    co_metric_set(&cpu, 1500001);
    cr_assert_str_eq(rendered(), "# HELP corallite_x_total X.\n"
                                 "# TYPE corallite_x_total counter\n"
                                 "corallite_x_total{code=\"2xx\"} 2\n"
                                 "corallite_x_total{code=\"4xx\"} 0\n"
                                 "# HELP corallite_cpu_seconds_total C.\n"
                                 "# TYPE corallite_cpu_seconds_total counter\n"
                                 "corallite_cpu_seconds_total 1.500001\n");
}

Test(metrics, a_histogram_counts_up_to_each_end)
{
    /* Buckets are cumulative, an end belongs to its bucket, and the last one is the count. */
    static struct co_histogram h = CO_HISTOGRAM_OF("corallite_h_seconds", "H.");
    co_metric_register(&h.metric);
    co_histogram_add(&h, 0);
    co_histogram_add(&h, 100);
    co_histogram_add(&h, 101);
    co_histogram_add(&h, 200000000);
    const char *text = rendered();
    cr_assert(strstr(text, "# TYPE corallite_h_seconds histogram\n"
                           "corallite_h_seconds_bucket{le=\"0.0001\"} 2\n"
                           "corallite_h_seconds_bucket{le=\"0.0002\"} 3\n"),
              "%s", text);
    cr_assert(strstr(text, "{le=\"100\"} 3\ncorallite_h_seconds_bucket{le=\"+Inf\"} 4\n"
                           "corallite_h_seconds_sum 200.000201\ncorallite_h_seconds_count 4\n"),
              "%s", text);
}

Test(metrics, a_series_is_replaced_as_a_whole)
{
    /* What is no more is not told any more; values of labels are escaped. */
    static struct co_series s = CO_SERIES_OF("corallite_s_bytes", "S.");
    const char *const one[][2] = {{"database", "a\"b\\c\nd"}, {"branch", "main"}};
    struct co_buf text = {0};
    co_metric_register(&s.metric);
    cr_assert_eq(co_series_line(&text, &s, one, 2, 7), 0);
    co_series_set(&s, &text);
    cr_assert_eq(text.len, 0u);
    cr_assert(strstr(rendered(),
                     "# TYPE corallite_s_bytes gauge\n"
                     "corallite_s_bytes{database=\"a\\\"b\\\\c\\nd\",branch=\"main\"} 7\n"),
              "%s", rendered());
    co_series_set(&s, &text);
    cr_assert_not(strstr(rendered(), "main"));
}

static void count_call(void)
{
    co_metric_add(&a, 1);
}

Test(metrics, are_looked_up_before_they_are_told)
{
    /* Values that nobody counts are read when somebody asks. */
    co_metric_register(&a);
    co_metrics_before(count_call);
    cr_assert(strstr(rendered(), "corallite_a_total 1\n"));
    cr_assert(strstr(rendered(), "corallite_a_total 2\n"));
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
