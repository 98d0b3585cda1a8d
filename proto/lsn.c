/* lsn.c - spellings of log positions and commit ids. Pure; any thread. */
#include "proto/lsn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/id.h"

#define BARE_DIGITS 16u /* of an unbroken LSN, so that nobody takes it for a time */
#define HALF_DIGITS 8u

char *lsn_format(lsn_t lsn, char text[LSN_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    for (unsigned i = 0; i < BARE_DIGITS; i++)
        text[i] = hex[lsn >> (60 - 4 * i) & 15];
    text[BARE_DIGITS] = 0;
    return text;
}

/* Reads hex digits up to the first other character; returns how many, at most max + 1. */
static unsigned read_hex(const char *text, unsigned max, uint64_t *out)
{
    uint64_t v = 0;
    unsigned n = 0;
    for (int d; n <= max && (d = co_hex_digit(text[n])) >= 0; n++)
        v = v << 4 | (uint64_t)d;
    *out = v;
    return n;
}

/* Is it a number of some kind? Then the refusal shows how to say which kind. */
static bool looks_like_number(const char *text)
{
    size_t n = strspn(text, "0123456789abcdefABCDEF");
    return n > 0 && n <= BARE_DIGITS && text[n] == 0;
}

int lsn_parse(const char *text, lsn_t *out)
{
    bool marked = strncmp(text, "lsn:", 4) == 0;
    const char *p = marked ? text + 4 : text;
    uint64_t high, low;
    unsigned n = read_hex(p, BARE_DIGITS, &high);

    if (n >= 1 && n <= HALF_DIGITS && p[n] == '/') {
        unsigned m = read_hex(p + n + 1, HALF_DIGITS, &low);
        if (m >= 1 && m <= HALF_DIGITS && p[n + 1 + m] == 0) {
            *out = high << 32 | low;
            return 0;
        }
    } else if (p[n] == 0 && (n == BARE_DIGITS || (marked && n >= 1 && n < BARE_DIGITS))) {
        *out = high;
        return 0;
    }
    if (looks_like_number(text))
        return co_fail(CO_ERR_INVAL,
                       "'%.32s' could be a log position or a time; write lsn:%.32s or time:%.32s",
                       text, text, text);
    return co_fail(CO_ERR_INVAL,
                   "a log position is 16 hex digits, or X/Y in hex, with or without 'lsn:' before "
                   "it; '%.40s' is not",
                   text);
}

/* Which of the database's timelines it is, whatever archives the cluster was made of since. */
static term_t number_of(term_t term)
{
    return term % TERMS_A_CLUSTER / TERMS_A_TIMELINE;
}

bool term_is_of(term_t term, term_t born)
{
    return term > 0 && number_of(term - 1) == number_of(born);
}

char *lsn_commit_id_format(term_t term, lsn_t begin, char text[LSN_COMMIT_ID_TEXT])
{
    char position[LSN_TEXT];
    snprintf(text, LSN_COMMIT_ID_TEXT, "%" PRIu64 ":%s", term, lsn_format(begin, position));
    return text;
}

/* A decimal term of at least 1; returns what follows it, NULL if it is none. */
static const char *read_term(const char *p, term_t *out)
{
    term_t v = 0;
    const char *start = p;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (unsigned)(*p - '0'), &v))
            return NULL;
    *out = v;
    return p == start || v == 0 ? NULL : p;
}

int lsn_commit_id_parse(const char *text, term_t *term, lsn_t *begin)
{
    term_t t;
    lsn_t lsn;
    const char *p = read_term(text, &t);
    /* Only the printed spelling of the position: a commit id is copied, never typed. */
    if (!p || *p != ':' || strlen(p + 1) != BARE_DIGITS || lsn_parse(p + 1, &lsn) != 0)
        return co_fail(CO_ERR_INVAL,
                       "a commit id is TERM:LSN, such as 7:0000000000001a40; '%.60s' is not", text);
    *term = t;
    *begin = lsn;
    return 0;
}
