#include "common/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "common/assert.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list */
static struct co_metric *first, **last = &first;

void co_metric_register(struct co_metric *metric)
{
    pthread_mutex_lock(&lock);
    for (const struct co_metric *m = first; m; m = m->next)
        co_assert(strcmp(m->name, metric->name) != 0);
    metric->next = NULL;
    *last = metric;
    last = &metric->next;
    pthread_mutex_unlock(&lock);
}

/* A help text is one line: the format escapes backslash and newline. */
static int append_help(struct co_buf *out, const char *help)
{
    int rc = 0;
    for (const char *p = help; *p && !rc; p++)
        rc = *p == '\n'   ? co_buf_append(out, "\\n", 2)
             : *p == '\\' ? co_buf_append(out, "\\\\", 2)
                          : co_buf_append(out, p, 1);
    return rc;
}

static int append(struct co_buf *out, const char *text)
{
    return co_buf_append(out, text, strlen(text));
}

static int render_one(struct co_buf *out, struct co_metric *m)
{
    char line[256];
    int rc = append(out, "# HELP ");
    if (!rc)
        rc = append(out, m->name);
    if (!rc)
        rc = append(out, " ");
    if (!rc)
        rc = append_help(out, m->help);
    if (rc)
        return rc;
    int n = snprintf(line, sizeof line, "\n# TYPE %s %s\n%s %" PRIu64 "\n", m->name,
                     m->kind == CO_COUNTER ? "counter" : "gauge", m->name, co_metric_get(m));
    co_assert(n > 0 && (size_t)n < sizeof line); /* names are ours, and short */
    return co_buf_append(out, line, (size_t)n);
}

int co_metrics_render(struct co_buf *out)
{
    size_t len = out->len;
    int rc = 0;
    pthread_mutex_lock(&lock);
    for (struct co_metric *m = first; m && !rc; m = m->next)
        rc = render_one(out, m);
    pthread_mutex_unlock(&lock);
    if (rc)
        out->len = len;
    return rc;
}
