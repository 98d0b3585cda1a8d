#include "common/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "common/assert.h"

#define BEFORE_MAX 4u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list, and of series' texts */
static struct co_metric *first;
static void (*before[BEFORE_MAX])(void);
static unsigned n_before;

/* -- Registering ------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

/* A family stays together: behind the last of its name, else at the end. */
void co_metric_register(struct co_metric *metric)
{
    struct co_metric **at = &first, **behind = NULL;
    pthread_mutex_lock(&lock);
    for (; *at; at = &(*at)->next) {
        if (strcmp((*at)->name, metric->name) != 0)
            continue;
        co_assert(!same_text((*at)->labels, metric->labels));
        co_assert((*at)->kind == metric->kind && same_text((*at)->help, metric->help));
        behind = &(*at)->next;
    }
    if (!behind)
        behind = at;
    metric->next = *behind;
    *behind = metric;
    pthread_mutex_unlock(&lock);
}

void co_metrics_before(void (*fn)(void))
{
    pthread_mutex_lock(&lock);
    co_assert(n_before < BEFORE_MAX);
    before[n_before++] = fn;
    pthread_mutex_unlock(&lock);
}

/* -- Histograms and series --------------------------------------------------------------------- */

/* Upper ends of the buckets: in us to compare, and as they are told. */
#define END(us, text)                                                                              \
    {                                                                                              \
        (us), (text)                                                                               \
    }
static const struct {
    uint64_t us;
    const char *seconds;
} ends[CO_BUCKETS] = {
    END(100, "0.0001"),  END(200, "0.0002"),  END(500, "0.0005"),   END(1000, "0.001"),
    END(2000, "0.002"),  END(5000, "0.005"),  END(10000, "0.01"),   END(20000, "0.02"),
    END(50000, "0.05"),  END(100000, "0.1"),  END(200000, "0.2"),   END(500000, "0.5"),
    END(1000000, "1"),   END(2000000, "2"),   END(5000000, "5"),    END(10000000, "10"),
    END(20000000, "20"), END(50000000, "50"), END(100000000, "100")};

void co_histogram_add(struct co_histogram *h, uint64_t us)
{
    unsigned i = 0;
    while (i < CO_BUCKETS && us > ends[i].us)
        i++;
    atomic_fetch_add_explicit(&h->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

void co_series_set(struct co_series *series, struct co_buf *text)
{
    pthread_mutex_lock(&lock);
    struct co_buf old = series->text;
    series->text = *text;
    pthread_mutex_unlock(&lock);
    *text = (struct co_buf){0};
    co_buf_free(&old);
}

/* -- Rendering --------------------------------------------------------------------------------- */

static int append(struct co_buf *out, const char *text)
{
    return co_buf_append(out, text, strlen(text));
}

/* The format escapes backslash and newline, and in a label's value the quote. */
static int append_escaped(struct co_buf *out, const char *text, bool label)
{
    int rc = 0;
    for (const char *p = text; *p && !rc; p++)
        rc = *p == '\n'           ? append(out, "\\n")
             : *p == '\\'         ? append(out, "\\\\")
             : *p == '"' && label ? append(out, "\\\"")
                                  : co_buf_append(out, p, 1);
    return rc;
}

int co_series_line(struct co_buf *text, const struct co_series *series,
                   const char *const labels[][2], unsigned n, uint64_t value)
{
    size_t len = text->len;
    char number[32];
    int rc = append(text, series->metric.name);
    for (unsigned i = 0; i < n && !rc; i++) {
        rc = append(text, i ? "," : "{");
        if (!rc)
            rc = append(text, labels[i][0]);
        if (!rc)
            rc = append(text, "=\"");
        if (!rc)
            rc = append_escaped(text, labels[i][1], true);
        if (!rc)
            rc = append(text, "\"");
    }
    snprintf(number, sizeof number, "%s %" PRIu64 "\n", n ? "}" : "", value);
    if (!rc)
        rc = append(text, number);
    if (rc)
        text->len = len;
    return rc;
}

/* One sample: name, suffix, labels, value. */
static int sample(struct co_buf *out, const char *name, const char *suffix, const char *labels,
                  uint64_t value, bool micros)
{
    char line[400];
    int n = snprintf(line, sizeof line, "%s%s%s%s%s ", name, suffix, labels ? "{" : "",
                     labels ? labels : "", labels ? "}" : "");
    co_assert(n > 0 && (size_t)n < sizeof line - 40); /* names are ours, and short */
    if (micros)
        snprintf(line + n, sizeof line - (size_t)n, "%" PRIu64 ".%06" PRIu64 "\n", value / 1000000,
                 value % 1000000);
    else
        snprintf(line + n, sizeof line - (size_t)n, "%" PRIu64 "\n", value);
    return append(out, line);
}

/* The count is the last bucket by construction, whatever is added meanwhile. */
static int render_histogram(struct co_buf *out, struct co_histogram *h)
{
    uint64_t n = 0;
    int rc = 0;
    for (unsigned i = 0; i <= CO_BUCKETS && !rc; i++) {
        char le[40];
        snprintf(le, sizeof le, "le=\"%s\"", i < CO_BUCKETS ? ends[i].seconds : "+Inf");
        n += atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
        rc = sample(out, h->metric.name, "_bucket", le, n, false);
    }
    if (!rc)
        rc = sample(out, h->metric.name, "_sum", NULL,
                    atomic_load_explicit(&h->sum_us, memory_order_relaxed), true);
    return rc ? rc : sample(out, h->metric.name, "_count", NULL, n, false);
}

static int render_head(struct co_buf *out, const struct co_metric *m)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", "gauge"};
    int rc = append(out, "# HELP ");
    if (!rc)
        rc = append(out, m->name);
    if (!rc)
        rc = append(out, " ");
    if (!rc)
        rc = append_escaped(out, m->help, false);
    if (!rc)
        rc = append(out, "\n# TYPE ");
    if (!rc)
        rc = append(out, m->name);
    if (!rc)
        rc = append(out, " ");
    if (!rc)
        rc = append(out, kinds[m->kind]);
    return rc ? rc : append(out, "\n");
}

static int render_one(struct co_buf *out, struct co_metric *m, const char *previous)
{
    int rc = strcmp(m->name, previous) == 0 ? 0 : render_head(out, m);
    if (rc)
        return rc;
    if (m->kind == CO_HISTOGRAM)
        return render_histogram(out, (struct co_histogram *)m);
    if (m->kind == CO_SERIES) {
        const struct co_buf *text = &((struct co_series *)m)->text;
        return co_buf_append(out, text->data, text->len);
    }
    return sample(out, m->name, "", m->labels, co_metric_get(m), m->micros);
}

int co_metrics_render(struct co_buf *out)
{
    size_t len = out->len;
    const char *previous = "";
    int rc = 0;
    for (unsigned i = 0; i < BEFORE_MAX; i++) {
        pthread_mutex_lock(&lock);
        void (*fn)(void) = i < n_before ? before[i] : NULL;
        pthread_mutex_unlock(&lock);
        if (fn)
            fn();
    }
    pthread_mutex_lock(&lock);
    for (struct co_metric *m = first; m && !rc; m = m->next) {
        rc = render_one(out, m, previous);
        previous = m->name;
    }
    pthread_mutex_unlock(&lock);
    if (rc)
        out->len = len;
    return rc;
}
