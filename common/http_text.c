#include "common/http_text.h"

#include <string.h>
#include <strings.h>

#include "common/id.h"

/* How many bytes the sequence that begins with `lead` has; 0: none begins so. */
static size_t sequence(unsigned char lead)
{
    return lead < 0x80   ? 1
           : lead < 0xc2 ? 0
           : lead < 0xe0 ? 2
           : lead < 0xf0 ? 3
           : lead < 0xf5 ? 4
                         : 0;
}

bool co_is_utf8(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    while (p < end) {
        size_t n = sequence(*p);
        if (!n || n > (size_t)(end - p))
            return false;
        for (size_t i = 1; i < n; i++)
            if ((p[i] & 0xc0) != 0x80)
                return false;
        bool is_long = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
        bool is_surrogate = p[0] == 0xed && p[1] > 0x9f;
        bool is_beyond = p[0] == 0xf4 && p[1] > 0x8f;
        if (is_long || is_surrogate || is_beyond)
            return false;
        p += n;
    }
    return true;
}

int co_http_unescape(const char *what, const char *text, size_t len, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            bool has_two = i + 2 < len;
            int high = has_two ? co_hex_digit(text[i + 1]) : -1;
            int low = has_two ? co_hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return co_fail(CO_ERR_INVAL,
                               "%s has a %% that is not followed by two hex digits; %%25 stands "
                               "for a %% itself",
                               what);
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (!c)
            return co_fail(CO_ERR_INVAL, "%s has a NUL in it", what);
        if (n + 1 >= cap)
            return co_fail(CO_ERR_INVAL, "%s is longer than %zu bytes", what, cap - 1);
        out[n++] = c;
    }
    out[n] = 0;
    return co_is_utf8(out, n) ? 0 : co_fail(CO_ERR_INVAL, "%s is not UTF-8", what);
}

bool co_http_is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    if (!content_type || strncasecmp(content_type, json, n) != 0)
        return false;
    n += strspn(content_type + n, " \t");
    return content_type[n] == 0 || content_type[n] == ';';
}
