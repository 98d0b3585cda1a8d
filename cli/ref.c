#include "cli/ref.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ref_parse(const char *text, uint64_t now_us, struct ref *out)
{
    struct when when;
    int rc = when_split_ref(text, out->db, out->branch, out->at);
    if (rc)
        return rc;
    return when_parse(out->at, now_us, &when);
}

int ref_parse_head(const char *text, const char *what, struct ref *out)
{
    if (strchr(text, '@'))
        return co_fail(CO_ERR_INVAL, "'%s' names a moment, and %s is wanted: leave out '%s'", text,
                       what, strchr(text, '@'));
    return ref_parse(text, 0, out);
}

int ref_parse_branch(const char *text, const char *of_verb, struct ref *out)
{
    int rc = ref_parse_head(text, "a branch", out);
    if (!rc && !strchr(text, '/'))
        return co_fail(CO_ERR_INVAL,
                       "'%s' names a database, and a branch is wanted: corallite %s %s/NAME", text,
                       of_verb, text);
    return rc;
}

int ref_parse_source(const char *text, const struct ref *of, uint64_t now_us, struct ref *out)
{
    struct when when;
    size_t n = strcspn(text, "/@");
    bool named = text[n] && n == strlen(of->db) && strncmp(text, of->db, n) == 0;
    if (!named && !strchr(text, '@')) {
        *out = *of;
        if (strlen(text) >= sizeof out->at)
            return co_fail(CO_ERR_INVAL, "'%.60s...' is no moment: it is too long", text);
        snprintf(out->at, sizeof out->at, "%s", text);
        return when_parse(out->at, now_us, &when);
    }
    int rc = ref_parse(text, now_us, out);
    if (!rc && strcmp(out->db, of->db) != 0)
        return co_fail(CO_ERR_INVAL,
                       "'%s' is of another database than %s; `corallite db create NAME --from %s` "
                       "makes a database of it",
                       text, of->db, text);
    return rc;
}

int ref_parse_lifetime(const char *text, uint64_t *us)
{
    static const struct {
        char letter;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    errno = 0;
    unsigned long long n = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (n > 0 && errno == 0 && n <= 1000000 && end[0] && !end[1])
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (end[0] == units[i].letter) {
                *us = n * units[i].seconds * 1000000u;
                return 0;
            }
    return co_fail(CO_ERR_INVAL,
                   "'%s' is no time to live: a number with s, m, h, d or w behind it is wanted, "
                   "such as 24h",
                   text);
}

char *ref_format(const char *db, const char *branch, char out[REF_TEXT])
{
    bool is_main = !branch[0] || strcmp(branch, "main") == 0;
    snprintf(out, REF_TEXT, "%s%s%s", db, is_main ? "" : "/", is_main ? "" : branch);
    return out;
}

char *ref_uri(const struct ref *r, lsn_t lsn, char out[REF_URI])
{
    char name[REF_TEXT], text[LSN_TEXT];
    if (lsn)
        snprintf(out, REF_URI, "file:%s?vfs=corallite&at=lsn:%s",
                 ref_format(r->db, r->branch, name), lsn_format(lsn, text));
    else
        snprintf(out, REF_URI, "file:%s?vfs=corallite", ref_format(r->db, r->branch, name));
    return out;
}
