#include "cli/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

char *text_bytes(uint64_t bytes, char out[TEXT_MAX])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, TEXT_MAX, "%u B", (unsigned)bytes);
        return out;
    }
    size_t unit = 0;
    double value = (double)bytes / 1024;
    /* 1023.95 would be printed as "1024.0" */
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(out, TEXT_MAX, "%.1f %s", value, units[unit]);
    return out;
}

char *text_duration(uint64_t us, char out[TEXT_MAX])
{
    unsigned long long ms = us / 1000, s = ms / 1000;
    if (s < 1)
        snprintf(out, TEXT_MAX, "%llu ms", ms);
    else if (s < 60)
        snprintf(out, TEXT_MAX, "%llu s", s);
    else if (s < 3600)
        snprintf(out, TEXT_MAX, "%llu min %llu s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, TEXT_MAX, "%llu h %llu min", s / 3600, s % 3600 / 60);
    else
        snprintf(out, TEXT_MAX, "%llu d %llu h", s / 86400, s % 86400 / 3600);
    return out;
}

char *text_time(uint64_t us, char out[TEXT_MAX])
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm utc;
    if (us == 0 || !gmtime_r(&seconds, &utc) ||
        !strftime(out, TEXT_MAX, "%Y-%m-%dT%H:%M:%SZ", &utc))
        snprintf(out, TEXT_MAX, "-");
    return out;
}

char *text_shell_quote(const char *text, char *out, size_t size)
{
    size_t n = 0;
    const char *const quote = "'\\''"; /* leaves the quotes, a quoted quote, enters them again */
    if (size < 3)
        return NULL;
    out[n++] = '\'';
    for (; *text; text++) {
        size_t need = *text == '\'' ? strlen(quote) : 1;
        if (n + need + 2 > size)
            return NULL;
        memcpy(out + n, *text == '\'' ? quote : text, need);
        n += need;
    }
    out[n++] = '\'';
    out[n] = 0;
    return out;
}

char *text_percent(const char *text, char *out, size_t size)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/";
    size_t n = 0;
    for (; *text && n + 4 <= size; text++) {
        if (strchr(plain, *text))
            out[n++] = *text;
        else
            n += (size_t)snprintf(out + n, size - n, "%%%02X", (unsigned)(unsigned char)*text);
    }
    out[n] = 0;
    return out;
}
