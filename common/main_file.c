#include "common/main_file.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 255

/* -- Addresses --------------------------------------------------------------------------------- */

static int bad_address(const char *what, const char *text, const char *why)
{
    return co_fail(CO_ERR_INVAL,
                   "%s wants HOST:PORT ([V6]:PORT for an IPv6 address), as in 127.0.0.1:6400; "
                   "'%.80s' %s",
                   what, text, why);
}

static bool host_char(char c, bool bracketed)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return bracketed ? c == ':' || c == '.' || c == '%' : c == '.' || c == '-' || c == '_';
}

/* Decimal digits only, at most `max`; false otherwise. */
static bool parse_number(const char *text, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v) || v > max)
            return false;
    }
    *out = v;
    return true;
}

static int split(const char *what, const char *text, bool need_port, uint16_t default_port,
                 char host[256], uint16_t *port)
{
    bool bracketed = text[0] == '[';
    const char *begin = bracketed ? text + 1 : text;
    const char *end = bracketed ? strchr(begin, ']') : strchr(begin, ':');
    if (bracketed && !end)
        return bad_address(what, text, "has no closing bracket");
    if (!end)
        end = begin + strlen(begin);
    const char *rest = bracketed ? end + 1 : end;
    if (!bracketed && *rest && strchr(rest + 1, ':'))
        return bad_address(what, text, "has more than one colon; put an IPv6 address in brackets");
    if (end == begin)
        return bad_address(what, text, "names no host");
    if ((size_t)(end - begin) > HOST_MAX)
        return bad_address(what, text, "has a host of more than 255 characters");
    for (const char *p = begin; p < end; p++)
        if (!host_char(*p, bracketed))
            return bad_address(what, text, "has a character that no host name has");
    uint64_t number = default_port;
    if (*rest == 0 && need_port)
        return bad_address(what, text, "has no port");
    if (*rest && (*rest != ':' || !parse_number(rest + 1, strlen(rest + 1), 65535, &number)))
        return bad_address(what, text, "has no port between 0 and 65535 after the host");
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = 0;
    *port = (uint16_t)number;
    return 0;
}

int co_parse_address(const char *option, const char *text, char host[256], uint16_t *port)
{
    return split(option, text, true, 0, host, port);
}

int co_split_address(const char *what, const char *text, uint16_t default_port, char host[256],
                     uint16_t *port)
{
    int rc = split(what, text, default_port == 0, default_port, host, port);
    if (!rc && *port == 0)
        return bad_address(what, text, "has port 0, to which nobody can connect");
    return rc;
}

bool co_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

/* -- Numbers with a unit ----------------------------------------------------------------------- */

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* A bare number takes the unit with the empty suffix. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t n, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    if (!parse_number(text, digits, UINT64_MAX, &number))
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(text + digits, units[i].suffix) == 0)
            return !__builtin_mul_overflow(number, units[i].factor, out);
    return false;
}

int co_parse_size(const char *option, const char *text, uint64_t *out_bytes)
{
    static const struct unit units[] = {
        {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40},
    };
    if (parse_with_unit(text, units, sizeof units / sizeof *units, out_bytes))
        return 0;
    return co_fail(CO_ERR_INVAL,
                   "%s wants a number of bytes, with K, M, G or T behind it or nothing, as in 64M; "
                   "'%.40s' is not one",
                   option, text);
}

int co_parse_duration(const char *option, const char *text, uint64_t *out_ms)
{
    static const struct unit units[] = {
        {"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    if (parse_with_unit(text, units, sizeof units / sizeof *units, out_ms))
        return 0;
    return co_fail(CO_ERR_INVAL,
                   "%s wants a time in milliseconds, or with s, m, h or d behind it, as in 30s; "
                   "'%.40s' is not one",
                   option, text);
}
