/*
 * name.c - names of databases and branches.
 *
 * A name is [A-Za-z0-9][A-Za-z0-9._-]{0,62}. Whoever is refused gets a valid name made from the
 * text, so that the next try works. Refused text may come from a network: sentences never repeat
 * its control characters. Pure; any thread.
 */
#include "proto/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_name_char(char c)
{
    return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

/* Length of a valid name that is ended by NUL, 0 if it is none. */
static size_t valid_length(const char *name)
{
    size_t n = 0;
    while (n <= CO_NAME_MAX_BYTES && is_name_char(name[n]))
        n++;
    return n >= 1 && n <= CO_NAME_MAX_BYTES && name[n] == 0 && is_alnum(name[0]) ? n : 0;
}

void name_propose(const char *text, char out[CO_NAME_MAX_BYTES + 1])
{
    size_t n = 0;
    bool gap = false; /* something not allowed stood between out[n-1] and here */
    for (; *text && n < CO_NAME_MAX_BYTES; text++) {
        if (!is_name_char(*text) || (n == 0 && !is_alnum(*text))) {
            gap = n > 0;
            continue;
        }
        if (gap && *text != '-' && out[n - 1] != '-') {
            if (n + 1 == CO_NAME_MAX_BYTES)
                break;
            out[n++] = '-';
        }
        gap = false;
        out[n++] = *text;
    }
    out[n] = 0;
    if (n == 0)
        memcpy(out, "db", 3);
}

/* A printable beginning of any text. */
#define SHOWN 48
static const char *shown(const char *text, char out[SHOWN])
{
    size_t n = 0;
    for (; text[n] && n < SHOWN - 1; n++)
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    out[n] = 0;
    if (text[n])
        memcpy(out + SHOWN - 4, "...", 4);
    return out;
}

int name_check(const char *name)
{
    char proposal[CO_NAME_MAX_BYTES + 1], text[SHOWN];
    if (valid_length(name))
        return 0;
    name_propose(name, proposal);
    return co_fail(CO_ERR_NAME,
                   "a name is 1 to %d of A-Z a-z 0-9 . _ - and begins with a letter or a digit; "
                   "'%s' is not, '%s' would be",
                   CO_NAME_MAX_BYTES, shown(name, text), proposal);
}

int name_split(const char *text, char db[CO_NAME_MAX_BYTES + 1], char branch[CO_NAME_MAX_BYTES + 1])
{
    char head[CO_NAME_MAX_BYTES + 2], show[SHOWN];
    const char *slash = strchr(text, '/');
    if (!slash) {
        int rc = name_check(text);
        if (rc)
            return rc;
        memcpy(db, text, strlen(text) + 1);
        memcpy(branch, "main", 5);
        return 0;
    }
    if (strchr(slash + 1, '/'))
        return co_fail(CO_ERR_NAME, "a database is named DB or DB/BRANCH; '%s' has more than one /",
                       shown(text, show));
    /* One byte more than a name may have, so that a long one is still refused for its length. */
    size_t n = (size_t)(slash - text);
    if (n > CO_NAME_MAX_BYTES + 1)
        n = CO_NAME_MAX_BYTES + 1;
    memcpy(head, text, n);
    head[n] = 0;
    int rc = name_check(head);
    if (rc)
        return rc;
    rc = name_check(slash + 1);
    if (rc)
        return rc;
    memcpy(db, head, n + 1);
    memcpy(branch, slash + 1, strlen(slash + 1) + 1);
    return 0;
}
