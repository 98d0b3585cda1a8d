#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/thread_memory.h"

static struct co_thread_memory sentences;

__attribute__((constructor)) static void make_sentences(void)
{
    co_thread_memory_make(&sentences, CO_SENTENCE_MAX);
}

/* Who has no memory shares one sentence with the others who have none: its last byte stays 0. */
static char *sentence(void)
{
    static char shared[CO_SENTENCE_MAX];
    char *mine = co_thread_memory(&sentences);

    return mine ? mine : shared;
}

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
    memcpy(sentence(), line, sizeof line);
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
    return sentence();
}
