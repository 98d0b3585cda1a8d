#define OPENSSL_SUPPRESS_DEPRECATED /* as in wal_digest.c: these cannot fail */
#include "proto/plain_path.h"

#include <fnmatch.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "proto/name.h"

#define HASH_BYTES 16 /* of the digest, in hex behind "_h" */
#define TAIL       (CO_NAME_MAX_BYTES - 2 - 2 * HASH_BYTES)

/* -- patterns ------------------------------------------------------------------------------------
 */

/* Copies the pattern that begins at *at, moves *at behind it and its comma; false at the end. */
static bool next_pattern(const char **at, char out[PLAIN_PATTERNS_MAX_BYTES + 1])
{
    size_t n;

    if (!*at)
        return false;
    n = strcspn(*at, ",");
    memcpy(out, *at, n);
    out[n] = 0;
    *at = (*at)[n] ? *at + n + 1 : NULL;
    return true;
}

int plain_path_check(const char *patterns)
{
    char one[PLAIN_PATTERNS_MAX_BYTES + 1];

    if (strlen(patterns) > PLAIN_PATTERNS_MAX_BYTES)
        return co_fail(CO_ERR_INVAL, "the patterns of plain paths are longer than %u bytes",
                       PLAIN_PATTERNS_MAX_BYTES);
    while (next_pattern(&patterns, one)) {
        if (one[0] == 0)
            return co_fail(CO_ERR_INVAL, "an empty pattern matches no path; write GLOB[,GLOB...], "
                                         "such as '*.db' or '/srv/app/*.sqlite'");
        if (strchr(one, '/') && !strchr("/*?[", one[0]))
            return co_fail(CO_ERR_INVAL,
                           "the pattern '%.200s' matches no path: with a / in it it is compared "
                           "with whole absolute paths; write '*/%.200s'",
                           one, one);
    }
    return 0;
}

bool plain_path_matches(const char *patterns, const char *path)
{
    char one[PLAIN_PATTERNS_MAX_BYTES + 1];
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;

    if (path[0] != '/' || !*last || strlen(patterns) > PLAIN_PATTERNS_MAX_BYTES)
        return false;
    while (next_pattern(&patterns, one))
        if (fnmatch(one, strchr(one, '/') ? path : last, 0) == 0)
            return true;
    return false;
}

/* -- names ---------------------------------------------------------------------------------------
 */

/* One byte of a path as it is written in a name; its length. */
static size_t encode(unsigned char c, char out[4])
{
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.')
        return (size_t)snprintf(out, 4, "%c", c);
    if (c == '/')
        return (size_t)snprintf(out, 4, "-");
    if (c == '-' || c == '_')
        return (size_t)snprintf(out, 4, "_%c", c);
    return (size_t)snprintf(out, 4, "_%02x", c);
}

/* The whole path in a name; false when that is none. */
static bool readable(const char *path, char out[CO_NAME_MAX_BYTES + 1])
{
    char piece[4];
    size_t n = 0;

    for (; *path; path++) {
        size_t more = encode((unsigned char)*path, piece);

        if (n + more > CO_NAME_MAX_BYTES)
            return false;
        memcpy(out + n, piece, more);
        n += more;
    }
    out[n] = 0;
    return n > 0 && out[0] != '.' && out[0] != '_' && out[0] != '-';
}

/* The last characters of the path as they are written, from a letter or digit on. */
static size_t tail_of(const char *path, char out[TAIL + 1])
{
    char text[TAIL + 4], piece[4];
    size_t n = 0, skip = 0;

    for (const char *at = path + strlen(path); at > path && n < TAIL; at--) {
        size_t more = encode((unsigned char)at[-1], piece);

        if (n + more > TAIL)
            break;
        memmove(text + more, text, n);
        memcpy(text, piece, more);
        n += more;
    }
    while (skip < n && strchr("._-", text[skip]))
        skip++;
    memcpy(out, text + skip, n - skip);
    out[n - skip] = 0;
    return n - skip;
}

void plain_path_database(const char *path, char out[CO_NAME_MAX_BYTES + 1])
{
    const char *text = path[0] == '/' ? path + 1 : path;
    unsigned char full[SHA256_DIGEST_LENGTH];
    size_t n;

    if (readable(text, out))
        return;
    SHA256((const unsigned char *)path, strlen(path), full);
    n = tail_of(text, out);
    if (n == 0)
        n = (size_t)snprintf(out, CO_NAME_MAX_BYTES + 1, "db");
    n += (size_t)snprintf(out + n, CO_NAME_MAX_BYTES + 1 - n, "_h");
    for (size_t i = 0; i < HASH_BYTES; i++)
        n += (size_t)snprintf(out + n, CO_NAME_MAX_BYTES + 1 - n, "%02x", full[i]);
}
