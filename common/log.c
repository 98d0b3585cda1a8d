#include "common/log.h"

#include "common/log_json.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const words[] = {"debug", "info", "warn", "error", "off"};
static _Atomic int threshold = CO_LOG_INFO;
static _Atomic int shape = CO_LOG_TEXT;

void co_log_set_level(enum co_log_level level)
{
    threshold = (int)level;
}

int co_log_parse_level(const char *word, enum co_log_level *out)
{
    for (int i = 0; i <= CO_LOG_OFF; i++)
        if (strcmp(word, words[i]) == 0) {
            *out = (enum co_log_level)i;
            return 0;
        }
    return co_fail(CO_ERR_INVAL, "a log level is debug, info, warn, error or off; '%.40s' is not",
                   word);
}

void co_log_set_format(enum co_log_format format)
{
    shape = (int)format;
}

enum co_log_format co_log_format(void)
{
    return (enum co_log_format)shape;
}

int co_log_parse_format(const char *word, enum co_log_format *out)
{
    if (strcmp(word, "text") && strcmp(word, "json"))
        return co_fail(CO_ERR_INVAL, "a log format is text or json; '%.40s' is not", word);
    *out = strcmp(word, "json") ? CO_LOG_TEXT : CO_LOG_JSON;
    return 0;
}

/* Length of the line in `line`. */
CO_PRINTF(5, 0)
static size_t text_line(char line[CO_LOG_JSON_MAX], const char *time, const char *level,
                        const char *module, const char *format, va_list args)
{
    enum { CAP = 2048 };
    size_t n = (size_t)snprintf(line, CAP, "%s %s %s: ", time, level, module);
    int m = vsnprintf(line + n, CAP - n - 1, format, args);
    if (m > 0)
        n += (size_t)m < CAP - n - 1 ? (size_t)m : CAP - n - 2;
    line[n++] = '\n';
    return n;
}

void co_log(enum co_log_level level, const char *module, const char *format, ...)
{
    if ((int)level < threshold || level >= CO_LOG_OFF)
        return;
    char line[CO_LOG_JSON_MAX], at[40];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(at + n, sizeof at - n, ".%06ldZ", now.tv_nsec / 1000);
    va_list args;
    va_start(args, format);
    n = shape == CO_LOG_JSON ? co_log_json(line, at, words[level], module, format, args)
                             : text_line(line, at, words[level], module, format, args);
    va_end(args);
    /* One write, so that lines of several threads and processes do not mix. */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
