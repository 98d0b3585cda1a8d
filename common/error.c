#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char sentence[CO_SENTENCE_MAX];

const char *co_error_name(int code)
{
    switch (code) {
    case CO_OK:
        return "OK";
#define CO_X(name, number, cls, text)                                                              \
    case -(number):                                                                                \
        return #name;
        CO_ERRORS(CO_X)
#undef CO_X
    default:
        return "?";
    }
}

const char *co_error_text(int code)
{
    switch (code) {
    case CO_OK:
        return "no error";
#define CO_X(name, number, cls, text)                                                              \
    case -(number):                                                                                \
        return text;
        CO_ERRORS(CO_X)
#undef CO_X
    default:
        return "unknown error";
    }
}

enum co_error_class co_error_class(int code)
{
    switch (code) {
    case CO_OK:
        return CO_CLASS_NONE;
#define CO_X(name, number, cls, text)                                                              \
    case -(number):                                                                                \
        return CO_CLASS_##cls;
        CO_ERRORS(CO_X)
#undef CO_X
    default:
        return CO_CLASS_BUG;
    }
}

int co_fail(int code, const char *format, ...)
{
    char line[CO_SENTENCE_MAX]; /* the arguments may include the present sentence */
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    memcpy(sentence, line, sizeof line);
    return code;
}

int co_fail_errno(int code, int err_no, const char *format, ...)
{
    char line[CO_SENTENCE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    char reason[128];
    return co_fail(code, "%.800s: %s", line, strerror_r(err_no, reason, sizeof reason));
}

const char *co_sentence(void)
{
    return sentence;
}
