#include "common/log_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/http_text.h"

/* -- text that is written into a string -------------------------------------------------------- */

struct out {
    char *at, *end;
    bool cut;
};

/* Length of the UTF-8 character at s, 0 if there is none. */
static size_t character(const char *s, size_t left)
{
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return n <= left && co_is_utf8(s, n) ? n : 0;
}

static bool put(struct out *o, const char *bytes, size_t n)
{
    if ((size_t)(o->end - o->at) < n) {
        o->cut = true;
        return false;
    }
    memcpy(o->at, bytes, n);
    o->at += n;
    return true;
}

static void put_text(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

/* The inside of a JSON string, cut between characters. */
static void put_escaped(struct out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = character(text + i, len - i);
        char escape[8];
        bool good;
        if (n == 0)
            good = put(o, "\xef\xbf\xbd", 3);
        else if (c == '"' || c == '\\')
            good = put(o, (char[]){'\\', (char)c}, 2);
        else if (c < 0x20 || c == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", c);
            good = put(o, escape, 6);
        } else
            good = put(o, text + i, n);
        if (!good)
            return;
        i += n ? n : 1;
    }
}

/* -- one conversion of the format
 * ------------------------------------------------------------------ */

/* The format is the caller's own and was checked by the compiler at the call (CO_PRINTF). */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

struct arguments {
    va_list list; /* in a struct, so that a function can move it on */
};

static size_t fit(int n, size_t cap)
{
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

/* Formats the conversion that begins at *format, moves it behind that, and gives the length.
 * *plain: it is a decimal integer without width or precision. */
static size_t convert(const char **format, struct arguments *args, char *out, size_t cap,
                      bool *plain)
{
    char spec[32];
    const char *p = *format + 1;
    p += strspn(p, "-+ #0");
    p += strspn(p, "0123456789*");
    if (*p == '.')
        p += 1 + strspn(p + 1, "0123456789*");
    *plain = p == *format + 1;
    const char *length = p;
    p += strspn(p, "hlzjt");
    char kind = *p;
    size_t n = (size_t)(p + 1 - *format);
    co_assert(kind && n < sizeof spec);
    memcpy(spec, *format, n);
    spec[n] = 0;
    int star[2], stars = 0;
    for (size_t i = 0; i < n; i++)
        if (spec[i] == '*')
            star[stars++] = va_arg(args->list, int);
    *format = p + 1;
    *plain = *plain && kind && strchr("diu", kind);
#define FORMAT(type)                                                                               \
    {                                                                                              \
        type v = va_arg(args->list, type);                                                         \
        return fit(stars == 0   ? snprintf(out, cap, spec, v)                                      \
                   : stars == 1 ? snprintf(out, cap, spec, star[0], v)                             \
                                : snprintf(out, cap, spec, star[0], star[1], v),                   \
                   cap);                                                                           \
    }
    switch (kind) {
    case '%':
        return fit(snprintf(out, cap, "%%"), cap);
    case 's':
        FORMAT(const char *)
    case 'p':
        FORMAT(void *)
    case 'a':
    case 'e':
    case 'f':
    case 'g':
        FORMAT(double)
    default:
        if (length[0] == 'l' && length[1] == 'l')
            FORMAT(long long)
        if (length[0] == 'l')
            FORMAT(long)
        if (length[0] == 'z' || length[0] == 't')
            FORMAT(size_t)
        if (length[0] == 'j')
            FORMAT(intmax_t)
        FORMAT(int)
    }
#undef FORMAT
}

#pragma GCC diagnostic pop

/* -- the line
 * --------------------------------------------------------------------------------------- */

static bool is_key(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* Length of the key if "key=" begins here and something follows, else 0. */
static size_t key_len(const char *format, const char *at)
{
    size_t n = 0;
    if ((at > format && at[-1] != ' ') || *at < 'a' || *at > 'z')
        return 0;
    while (is_key(at[n]))
        n++;
    return at[n] == '=' && at[n + 1] && at[n + 1] != ' ' ? n : 0;
}

/* Does the value end before `at`? */
static bool value_ends(const char *at, bool quoted)
{
    if (quoted)
        return *at == 0 || *at == '"';
    return *at == 0 || *at == ' ' || (strchr(":;,", *at) && (at[1] == ' ' || at[1] == 0));
}

/* The value that begins at `at`, formatted; where it ended. A field that does not fit is left out.
 */
static const char *field(const char *key, size_t key_bytes, const char *at, struct arguments *args,
                         struct out *fields, bool first)
{
    char value[1024];
    size_t len = 0;
    bool quoted = *at == '"', number = true, plain;
    at += quoted;
    for (int pieces = 0; !value_ends(at, quoted); pieces++)
        if (*at == '%') {
            len += convert(&at, args, value + len, sizeof value - len, &plain);
            number = number && plain && pieces == 0 && !quoted;
        } else {
            number = false;
            if (len + 1 < sizeof value)
                value[len++] = *at;
            at++;
        }
    struct out trial = *fields;
    trial.cut = false;
    put_text(&trial, first ? "\"" : ",\"");
    put(&trial, key, key_bytes);
    put_text(&trial, number ? "\":" : "\":\"");
    put_escaped(&trial, value, len);
    put_text(&trial, number ? "" : "\"");
    if (trial.cut || len + 1 >= sizeof value)
        fields->cut = true;
    if (!trial.cut)
        fields->at = trial.at;
    return at + (quoted && *at);
}

size_t co_log_json(char out[CO_LOG_JSON_MAX], const char *time, const char *level,
                   const char *module, const char *format, va_list list)
{
    char message[1024], fields_text[CO_LOG_JSON_MAX / 2];
    size_t len = 0, n;
    bool plain;
    struct out fields = {fields_text, fields_text + sizeof fields_text, false};
    struct arguments args;
    va_copy(args.list, list);
    for (const char *at = format; *at;) {
        if ((n = key_len(format, at)) > 0) {
            at = field(at, n, at + n + 1, &args, &fields, fields.at == fields_text);
            if (len && message[len - 1] == ' ')
                len--;
            else if (len == 0)
                at += *at == ' ';
        } else if (*at == '%') {
            len += convert(&at, &args, message + len, sizeof message - len, &plain);
        } else {
            if (len + 1 < sizeof message)
                message[len++] = *at;
            at++;
        }
    }
    va_end(args.list);

    static const char tail[] = "\",\"fields\":{}},\"cut\":true\n";
    struct out o = {out, out + CO_LOG_JSON_MAX - sizeof tail - (size_t)(fields.at - fields_text),
                    false};
    put_text(&o, "{\"time\":\"");
    put_text(&o, time);
    put_text(&o, "\",\"level\":\"");
    put_text(&o, level);
    put_text(&o, "\",\"module\":\"");
    put_text(&o, module);
    put_text(&o, "\",\"message\":\"");
    put_escaped(&o, message, len);
    bool cut = o.cut || fields.cut || len + 1 >= sizeof message;
    o.end = out + CO_LOG_JSON_MAX; /* what was kept free is used now */
    put_text(&o, "\"");
    if (fields.at > fields_text) {
        put_text(&o, ",\"fields\":{");
        put(&o, fields_text, (size_t)(fields.at - fields_text));
        put_text(&o, "}");
    }
    put_text(&o, cut ? ",\"cut\":true}\n" : "}\n");
    return (size_t)(o.at - out);
}
