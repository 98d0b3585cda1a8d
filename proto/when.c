/*
 * when.c - moments as people write them: spellings to a struct, and a time to text. The calendar is
 * the proleptic Gregorian one without leap seconds, counted in whole days. Pure; any thread.
 */
#include "proto/when.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SECOND 1000000u /* in microseconds */

/* -- Text -------------------------------------------------------------------------------------- */

/* The text without blanks around it, printable: it may come from a network and go into a sentence.
 * False: too long, or other characters in it. */
static bool take_text(const char *text, char out[WHEN_AT_MAX])
{
    size_t n = 0, kept = 0;
    bool clean = true;
    text += strspn(text, " \t");
    for (; text[n] && n < WHEN_AT_MAX - 1; n++) {
        bool printable = text[n] >= ' ' && text[n] <= '~';
        clean &= printable || text[n] == '\t';
        out[n] = text[n];
        if (!printable)
            out[n] = text[n] == '\t' ? ' ' : '?';
        if (out[n] != ' ')
            kept = n + 1;
    }
    out[kept] = 0;
    return clean && text[n] == 0;
}

static int not_a_moment(const char *text)
{
    return co_fail(
        CO_ERR_INVAL,
        "'%.79s' is no moment; write latest, -10m, '5 minutes ago', 2026-01-02T03:04:05Z, "
        "lsn:0000000000001a40 or pin:NAME",
        text);
}

/* Exactly `digits` decimal digits at *p, which moves behind them. */
static bool take_digits(const char **p, unsigned digits, uint32_t *out)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = (*p)[i];
        if (c < '0' || c > '9')
            return false;
        v = v * 10 + (uint32_t)(c - '0');
    }
    *p += digits;
    *out = v;
    return true;
}

/* A number of any length at *p; false: none, or too large. */
static bool take_number(const char **p, uint64_t *out)
{
    const char *at = *p;
    uint64_t v = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*at - '0'), &v))
            return false;
    if (at == *p)
        return false;
    *p = at;
    *out = v;
    return true;
}

/* -- Calendar ---------------------------------------------------------------------------------- */

static bool is_leap(uint32_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static uint32_t month_days(uint32_t year, uint32_t month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year) ? 1u : 0u);
}

/* Days of the years before this one, counted from 0001-01-01. */
static uint64_t days_before(uint64_t year)
{
    uint64_t y = year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400;
}

static uint64_t days_since_1970(uint32_t year, uint32_t month, uint32_t day)
{
    uint64_t days = days_before(year) - days_before(1970) + day - 1;
    for (uint32_t m = 1; m < month; m++)
        days += month_days(year, m);
    return days;
}

char *when_format(uint64_t time_us, char text[WHEN_TEXT])
{
    uint64_t seconds = time_us / SECOND, days = seconds / 86400 + days_before(1970);
    uint32_t in_day = (uint32_t)(seconds % 86400);
    uint64_t year = days / 366 + 1; /* too early or right: at most a few hundred steps on */
    while (days_before(year + 1) <= days) {
        uint64_t jump = (days - days_before(year)) / 366;
        year += jump ? jump : 1;
    }
    uint32_t day = (uint32_t)(days - days_before(year)), month = 1;
    uint32_t y = (uint32_t)year;
    for (; day >= month_days(y, month); month++)
        day -= month_days(y, month);
    snprintf(text, WHEN_TEXT, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", y % 1000000, month % 100,
             (day + 1) % 100, in_day / 3600 % 100, in_day / 60 % 60, in_day % 60,
             (uint32_t)(time_us % SECOND));
    return text;
}

static int check_future(const char *text, uint64_t time_us, uint64_t now_us)
{
    char now[WHEN_TEXT];
    if (time_us <= now_us)
        return 0;
    return co_fail(CO_ERR_INVAL, "'%.79s' is in the future: it is %s now (UTC)", text,
                   when_format(now_us, now));
}

/* -- Dates ------------------------------------------------------------------------------------- */

struct date {
    uint32_t year, month, day, hour, minute, second, micro;
    int32_t east_minutes; /* of UTC */
};

/* ".678": cut to microseconds. */
static bool take_fraction(const char **p, struct date *d)
{
    uint32_t scale = SECOND / 10;
    if (**p != '.')
        return true;
    ++*p;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; ++*p, scale /= 10)
        d->micro += (uint32_t)(**p - '0') * scale;
    return true;
}

static bool take_zone(const char **p, struct date *d)
{
    uint32_t hours, minutes;
    char sign = **p;
    if (sign == 0)
        return true;
    ++*p;
    if (sign == 'Z' || sign == 'z')
        return true;
    if ((sign != '+' && sign != '-') || !take_digits(p, 2, &hours) || hours > 23)
        return false;
    if (**p == ':')
        ++*p;
    if (!take_digits(p, 2, &minutes) || minutes > 59)
        return false;
    d->east_minutes = (int32_t)(hours * 60 + minutes) * (sign == '-' ? -1 : 1);
    return true;
}

static bool take_clock(const char **p, struct date *d)
{
    if (!take_digits(p, 2, &d->hour) || *(*p)++ != ':' || !take_digits(p, 2, &d->minute))
        return false;
    if (**p == ':') {
        ++*p;
        if (!take_digits(p, 2, &d->second) || !take_fraction(p, d))
            return false;
    }
    if (**p == ' ')
        ++*p;
    /* 60: a leap second, which is the first of the next minute here. */
    return take_zone(p, d) && d->hour < 24 && d->minute < 60 && d->second <= 60;
}

/* Does it begin as a date does? Then what is wrong with it is told as such. */
static bool looks_like_date(const char *text)
{
    const char *p = text;
    uint32_t year;
    return take_digits(&p, 4, &year) && *p == '-';
}

static bool take_date(const char *p, struct date *d)
{
    if (!take_digits(&p, 4, &d->year) || *p++ != '-' || !take_digits(&p, 2, &d->month) ||
        *p++ != '-' || !take_digits(&p, 2, &d->day))
        return false;
    if (d->year < 1970 || d->month < 1 || d->month > 12 || d->day < 1 ||
        d->day > month_days(d->year, d->month))
        return false;
    if (*p == 0)
        return true;
    if (*p != 'T' && *p != 't' && *p != ' ')
        return false;
    p++;
    return take_clock(&p, d) && *p == 0;
}

static int parse_date(const char *text, uint64_t now_us, uint64_t *out)
{
    struct date d = {0};
    if (!take_date(text, &d))
        return co_fail(CO_ERR_INVAL,
                       "'%.79s' is no time; one is 2026-01-02, 2026-01-02T03:04:05.678Z or "
                       "2026-01-02T03:04+02:00, from 1970 on",
                       text);
    int64_t seconds = (int64_t)days_since_1970(d.year, d.month, d.day) * 86400 +
                      (int64_t)(d.hour * 3600 + d.minute * 60 + d.second) -
                      (int64_t)d.east_minutes * 60;
    *out = seconds < 0 ? 0 : (uint64_t)seconds * SECOND + d.micro;
    return check_future(text, *out, now_us);
}

/* -- Before now -------------------------------------------------------------------------------- */

static uint64_t unit_seconds(const char *word, size_t n)
{
    static const struct {
        const char *word;
        uint32_t seconds;
    } units[] = {
        {"s", 1},        {"sec", 1},       {"secs", 1},       {"second", 1},  {"seconds", 1},
        {"m", 60},       {"min", 60},      {"mins", 60},      {"minute", 60}, {"minutes", 60},
        {"h", 3600},     {"hr", 3600},     {"hrs", 3600},     {"hour", 3600}, {"hours", 3600},
        {"d", 86400},    {"day", 86400},   {"days", 86400},   {"w", 604800},  {"wk", 604800},
        {"wks", 604800}, {"week", 604800}, {"weeks", 604800},
    };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].word) == n && strncasecmp(units[i].word, word, n) == 0)
            return units[i].seconds;
    return 0;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " ");
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "a", "an" and "one" before a unit. */
static bool take_one(const char **p)
{
    static const char *const words[] = {"a", "an", "one"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (strncasecmp(*p, words[i], n) == 0 && (*p)[n] == ' ') {
            *p += n;
            return true;
        }
    }
    return false;
}

/* One or more of "5m", "1 hour", "2h 30m", "an hour" at *p. False: it is none. */
static bool take_span(const char **p, uint64_t *us)
{
    const char *at = skip_blanks(*p);
    uint64_t sum = 0;
    bool any = false;
    for (;;) {
        uint64_t n = 1, part;
        const char *number = at;
        if (!take_number(&at, &n) && !take_one(&at))
            break;
        at = skip_blanks(at);
        size_t len = 0;
        while (is_letter(at[len]))
            len++;
        uint64_t seconds = unit_seconds(at, len);
        if (!seconds) {
            at = number;
            break;
        }
        if (__builtin_mul_overflow(n, seconds * SECOND, &part) ||
            __builtin_add_overflow(sum, part, &sum))
            sum = UINT64_MAX; /* refused as being before 1970 */
        at = skip_blanks(at + len);
        any = true;
    }
    *p = at;
    *us = sum;
    return any;
}

/* True: `text` is a span before now (*rc tells whether a usable one). */
static bool parse_span(const char *text, uint64_t now_us, uint64_t *out, int *rc)
{
    const char *p = text + (*text == '-' || *text == '+');
    uint64_t back;
    if (!take_span(&p, &back))
        return false;
    bool ago = strcasecmp(p, "ago") == 0;
    if (*p && !ago)
        return false;
    *rc = 0;
    if (*text == '+')
        *rc = check_future(text, UINT64_MAX, now_us);
    else if (*text == '-' && ago)
        *rc = co_fail(CO_ERR_INVAL, "'%.79s' says twice that it is past; leave - or ago out", text);
    else if (*text != '-' && !ago)
        *rc = co_fail(CO_ERR_INVAL,
                      "'%.79s' does not say from where; write -%.70s for so long before now", text,
                      text);
    else if (back > now_us)
        *rc = co_fail(CO_ERR_INVAL, "'%.79s' reaches back before 1970", text);
    if (!*rc)
        *out = now_us - back;
    return true;
}

/* -- All spellings ----------------------------------------------------------------------------- */

#define EPOCH_DIGITS_MIN 9u /* less would be 1970 to 1973, or a year, or a typing error */

/* Behind "time:". */
static int parse_epoch(const char *text, uint64_t now_us, uint64_t *out)
{
    const char *p = text;
    struct date fraction = {0};
    uint64_t seconds = 0, us = 0;
    bool sound = take_number(&p, &seconds);
    size_t digits = (size_t)(p - text);
    if (!sound || !take_fraction(&p, &fraction) || *p || digits < EPOCH_DIGITS_MIN)
        return co_fail(CO_ERR_INVAL,
                       "'time:%.70s' is no time; a number there is seconds since 1970, such as "
                       "time:1767323045; a date is 2026-01-02T03:04:05Z",
                       text);
    if (__builtin_mul_overflow(seconds, SECOND, &us) ||
        __builtin_add_overflow(us, fraction.micro, &us))
        us = UINT64_MAX;
    *out = us;
    return check_future(text, us, now_us);
}

static int parse_time(const char *text, uint64_t now_us, uint64_t *out)
{
    int rc = 0;
    text = skip_blanks(text);
    if (looks_like_date(text))
        return parse_date(text, now_us, out);
    if (parse_span(text, now_us, out, &rc))
        return rc;
    return parse_epoch(text, now_us, out);
}

static bool is_head(const char *text)
{
    return *text == 0 || strcasecmp(text, "latest") == 0 || strcasecmp(text, "now") == 0;
}

static bool is_lsn(const char *text)
{
    /* With a slash, or hexadecimal digits only: lsn_parse tells what is one, and what might be. */
    return strncmp(text, "lsn:", 4) == 0 || text[strspn(text, "0123456789abcdefABCDEF/")] == 0;
}

int when_parse(const char *given, uint64_t now_us, struct when *out)
{
    char text[WHEN_AT_MAX];
    int rc = 0;
    *out = (struct when){.kind = WHEN_HEAD};
    if (!take_text(given, text))
        return not_a_moment(text);
    if (is_head(text))
        return 0;
    /* The marks are words, so their case does not matter; names and digits stay as they are. */
    for (char *c = text; strncasecmp(text, "lsn:", 4) == 0 && c < text + 3; c++)
        *c |= 32;
    if (strncasecmp(text, "pin:", 4) == 0) {
        rc = name_check(text + 4);
        if (rc)
            return rc;
        out->kind = WHEN_PIN;
        memcpy(out->pin, text + 4, strlen(text + 4) + 1);
        return 0;
    }
    if (is_lsn(text)) {
        out->kind = WHEN_LSN;
        return lsn_parse(text, &out->lsn);
    }
    out->kind = WHEN_TIME;
    if (strncasecmp(text, "time:", 5) == 0)
        return parse_time(text + 5, now_us, &out->time_us);
    if (looks_like_date(text))
        return parse_date(text, now_us, &out->time_us);
    if (parse_span(text, now_us, &out->time_us, &rc))
        return rc;
    return not_a_moment(text);
}

int when_split_ref(const char *ref, char db[CO_NAME_MAX_BYTES + 1],
                   char branch[CO_NAME_MAX_BYTES + 1], char at[WHEN_AT_MAX])
{
    /* A name has no @, and both names with their / fit; what is longer is refused for that. */
    char head[2 * CO_NAME_MAX_BYTES + 4];
    const char *sign = strchr(ref, '@');
    size_t n = sign ? (size_t)(sign - ref) : strlen(ref);
    if (n > sizeof head - 1)
        n = sizeof head - 1;
    memcpy(head, ref, n);
    head[n] = 0;
    int rc = name_split(head, db, branch);
    if (rc)
        return rc;
    at[0] = 0;
    if (!sign)
        return 0;
    size_t len = strlen(sign + 1);
    if (len == 0)
        return co_fail(CO_ERR_INVAL,
                       "'%.140s' ends with @; behind it stands a moment, such as @-10m", ref);
    if (len >= WHEN_AT_MAX)
        return co_fail(CO_ERR_INVAL, "the moment behind @ has %zu characters; the most is %d", len,
                       WHEN_AT_MAX - 1);
    memcpy(at, sign + 1, len + 1);
    return 0;
}
