#include <criterion/criterion.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/log_json.h"

TestSuite(log_json, .timeout = 20);

static char line[CO_LOG_JSON_MAX + 1];

__attribute__((format(printf, 1, 2))) static json_t *event(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t n = co_log_json(line, "2026-01-02T03:04:05.678901Z", "info", "m/x", format, args);
    va_end(args);
    cr_assert_leq(n, CO_LOG_JSON_MAX);
    cr_assert_eq(line[n - 1], '\n');
    cr_assert_null(memchr(line, '\n', n - 1));
    line[n] = 0;
    json_error_t error;
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    cr_assert(object, "%s: %s", error.text, line);
    return object;
}

static void expect(json_t *object, const char *text)
{
    cr_expect_str_eq(line, text);
    json_decref(object);
}

#define HEAD                                                                                       \
    "{\"time\":\"2026-01-02T03:04:05.678901Z\",\"level\":\"info\",\"module\":\"m/x\",\"message\":"

Test(log_json, keys_of_the_format_are_fields_and_leave_the_message)
{
    expect(event("ready node=%u addr=%s:%u at=%016llx", 3u, "h", 6410u, 0x1aull), HEAD
           "\"ready\",\"fields\":{\"node\":3,\"addr\":\"h:6410\",\"at\":\"000000000000001a\"}}\n");
    expect(event("stored timeline=%s: %s", "ab", "no room"),
           HEAD "\"stored: no room\",\"fields\":{\"timeline\":\"ab\"}}\n");
    expect(event("x n=%d; of %u, k=%zu", -1, 2u, (size_t)7),
           HEAD "\"x; of 2,\",\"fields\":{\"n\":-1,\"k\":7}}\n");
    expect(event("%s", "plain"), HEAD "\"plain\"}\n");
    expect(event("a=%d of b", 1), HEAD "\"of b\",\"fields\":{\"a\":1}}\n");
    expect(event("90 %% full joint=yes"), HEAD "\"90 % full\",\"fields\":{\"joint\":\"yes\"}}\n");
}

Test(log_json, what_was_formatted_makes_no_field)
{
    /* A peer's sentence, a file name: nobody but the program decides what a field is. */
    expect(event("refused addr=%s reason=\"%s\"", "h a=1", "x\" level=error {\"y\":1}"),
           HEAD "\"refused\",\"fields\":{\"addr\":\"h a=1\",\"reason\":\"x\\\" level=error "
                "{\\\"y\\\":1}\"}}\n");
    expect(event("%s", "a b=c"), HEAD "\"a b=c\"}\n");
    expect(event("dir=%s left", "/a b/%s"), HEAD "\"left\",\"fields\":{\"dir\":\"/a b/%s\"}}\n");
}

Test(log_json, any_bytes_make_valid_json)
{
    /* Control characters are escaped, what is no UTF-8 is replaced. */
    expect(event("%s", "\n\t\x7f\\\""), HEAD "\"\\u000a\\u0009\\u007f\\\\\\\"\"}\n");
    expect(event("%s", "\xc3\xa4\xf0\x9f\x90\xa0"), HEAD "\"\xc3\xa4\xf0\x9f\x90\xa0\"}\n");
    expect(event("%s", "a\xff\xc3"), HEAD "\"a\xef\xbf\xbd\xef\xbf\xbd\"}\n");
    char bytes[3] = "";
    for (int i = 1; i < 256; i++)
        for (int k = 1; k < 256; k++) {
            bytes[0] = (char)i, bytes[1] = (char)k;
            json_decref(event("v=%s and %s", bytes, bytes));
        }
    json_decref(event("%s", "\xed\xa0\x80\xf4\x90\x80\x80\xe0\x80\x80\xc0\x80"));
}

Test(log_json, what_is_too_long_is_cut_and_says_so)
{
    static char longs[5000];
    for (size_t n = 0; n<sizeof longs - 1; n += n> 600 && n < 1100 ? 1 : 61) {
        memset(longs, n % 2 ? '\x01' : 'x', n);
        longs[n] = 0;
        json_t *object = event("%s a=%s b=%s c=%s", longs, longs, longs, longs);
        json_t *fields = json_object_get(object, "fields");
        bool whole = json_string_length(json_object_get(object, "message")) == n;
        for (const char *key = "a\0b\0c\0"; key[0]; key += 2)
            whole = whole && json_object_get(fields, key) &&
                    json_string_length(json_object_get(fields, key)) == n;
        cr_expect_neq(json_is_true(json_object_get(object, "cut")), whole, "%zu", n);
        json_decref(object);
    }
    memset(longs, 'x', sizeof longs - 1);
    json_t *object = event("a=%d %s b=%d", 1, longs, 2);
    cr_expect(json_is_true(json_object_get(object, "cut")));
    cr_expect_eq(json_integer_value(json_object_get(json_object_get(object, "fields"), "b")), 2);
    json_decref(object);
}

Test(log_json, every_conversion_takes_its_own_argument)
{
    /* A conversion that took a wrong size would spoil all that follow. */
    expect(
        event("a=%hhu b=%ld c=%lld d=%llu e=%zu f=%jd g=%.1f h=%c i=%5d j=%-3s| k=%.*s l=%*d m=%x "
              "z=%s",
              (unsigned char)200, -5L, -6LL, 9223372036854775807ull, (size_t)8, (intmax_t)-9, 0.5,
              'q', 10, "r", 2, "stuv", 3, 1, 255u, "end"),
        HEAD
        "\"\",\"fields\":{\"a\":200,\"b\":-5,\"c\":-6,\"d\":9223372036854775807,\"e\":8,\"f\":-9,"
        "\"g\":\"0.5\",\"h\":\"q\",\"i\":\"   10\",\"j\":\"r  |\",\"k\":\"st\",\"l\":\"  1\","
        "\"m\":\"ff\",\"z\":\"end\"}}\n");
}
