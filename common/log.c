#include "common/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const words[] = {"debug", "info", "warn", "error", "off"};
static _Atomic int threshold = CO_LOG_INFO;

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

void co_log(enum co_log_level level, const char *module, const char *format, ...)
{
    if ((int)level < threshold || level >= CO_LOG_OFF)
        return;
    char line[2048];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%06ldZ %s %s: ", now.tv_nsec / 1000,
                          words[level], module);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    if (m > 0)
        n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
    line[n++] = '\n';
    /* One write, so that lines of several threads and processes do not mix. */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
