#include "compute-vfs/uri.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/name.h"

#define KNOWN                                                                                      \
    "server, at, create, durability, commit_timeout, staleness, cache_mb, cache_dir, "             \
    "cache_dir_mb, lag_mb, page_size, immutable, mode, "                                           \
    "cache, psow, vfs, modeof"

#define SCHEME "corallite:"

void cv_uri_init(struct cv_uri *uri)
{
    memset(uri, 0, sizeof *uri);
    uri->usual_server = CV_SERVER_DEFAULT;
    snprintf(uri->server, sizeof uri->server, "%s", CV_SERVER_DEFAULT);
    uri->commit_timeout_ms = CO_COMMIT_TIMEOUT_MS;
    uri->cache_mb = 64;
    uri->cache_dir_mb = CV_CACHE_DIR_MB;
    uri->lag_mb = CV_LAG_MB_DEFAULT;
    uri->create = true;
}

/* ATTACH and VACUUM INTO hand on the VFS of main: a path there is meant for another one. */
static bool is_path(const char *name)
{
    return name[0] == '/' || strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0;
}

int cv_uri_name(struct cv_uri *uri, const char *name)
{
    if (is_path(name))
        return co_fail(
            CO_ERR_NAME,
            "%.300s is a path, and Corallite's databases are named DB or DB/BRANCH. For a "
            "plain file write 'file:%.300s?vfs=unix'",
            name, name);
    return name_split(name, uri->db, uri->branch);
}

int cv_parse_ms(const char *what, const char *text, uint32_t *out)
{
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end = NULL;
    unsigned long long n = 0;

    if (isdigit((unsigned char)text[0]))
        n = strtoull(text, &end, 10);
    for (size_t i = 0; end && i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].suffix) != 0)
            continue;
        if (n > UINT32_MAX / units[i].ms)
            break;
        *out = (uint32_t)(n * units[i].ms);
        return 0;
    }
    return co_fail(
        CO_ERR_INVAL,
        "%s=%s is not a duration of up to 49 days: write 250 (milliseconds), 3s, 5m or 2h", what,
        text);
}

static int parse_number(const char *key, const char *value, uint32_t min, uint32_t max,
                        uint32_t *out)
{
    char *end;
    unsigned long long n = isdigit((unsigned char)value[0]) ? strtoull(value, &end, 10) : 0;

    if (!isdigit((unsigned char)value[0]) || *end || n < min || n > max)
        return co_fail(CO_ERR_INVAL, "%s=%s is not a number from %u to %u", key, value, min, max);
    *out = (uint32_t)n;
    return 0;
}

static int parse_bool(const char *key, const char *value, bool *out)
{
    static const char *const yes[] = {"1", "yes", "true", "on"}, *const no[] = {"0", "no", "false",
                                                                                "off"};

    for (size_t i = 0; i < 4; i++) {
        if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
            *out = strcmp(value, yes[i]) == 0;
            return 0;
        }
    }
    return co_fail(CO_ERR_INVAL, "%s=%s is neither 1 nor 0", key, value);
}

/* HOST:PORT in text[0..len) */
static bool is_server(const char *text, size_t len)
{
    char one[CO_HOST_MAX_BYTES + 8], *colon;
    uint32_t port;

    if (len >= sizeof one)
        return false;
    memcpy(one, text, len);
    one[len] = 0;
    colon = strrchr(one, ':');
    return colon && colon > one && !strchr(one, '/') && colon - one <= CO_HOST_MAX_BYTES &&
           parse_number("server", colon + 1, 1, 65535, &port) == 0;
}

/* Is text[0..len) in the list before it? */
static bool named_before(const char *list, const char *text, size_t len)
{
    while (list < text) {
        size_t n = strcspn(list, ",");
        if (n == len && memcmp(list, text, len) == 0)
            return true;
        list += n + 1;
    }
    return false;
}

static int parse_server(struct cv_uri *uri, const char *value)
{
    const char *at = value;
    uint32_t n = 0;

    for (bool more = true; more; n++) {
        size_t len = strcspn(at, ",");
        if (!is_server(at, len))
            return co_fail(CO_ERR_INVAL,
                           "server=%.300s is not HOST:PORT of a pageserver, such as "
                           "127.0.0.1:6400, nor several with commas",
                           value);
        if (named_before(value, at, len))
            return co_fail(CO_ERR_INVAL, "server=%.300s names a pageserver twice", value);
        more = at[len] != 0;
        at += len + more;
    }
    if (n > CV_SERVERS_MAX || strlen(value) >= sizeof uri->server)
        return co_fail(CO_ERR_INVAL,
                       "server= takes at most %u pageservers, in %zu bytes; here are %u in %zu",
                       CV_SERVERS_MAX, sizeof uri->server - 1, n, strlen(value));
    snprintf(uri->server, sizeof uri->server, "%s", value);
    return 0;
}

static int parse_durability(struct cv_uri *uri, const char *value)
{
    static const char *const words[] = {"synchronous", "full", "normal", "off"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(value, words[i]) == 0) {
            uri->durability = (enum cv_durability)i;
            return 0;
        }
    }
    return co_fail(CO_ERR_INVAL,
                   "durability=%s is not one of full (a majority of disks), normal (a majority of "
                   "memories), off (do not wait), synchronous (as PRAGMA synchronous says)",
                   value);
}

static int parse_page_size(struct cv_uri *uri, const char *value)
{
    uint32_t n;
    int rc = parse_number("page_size", value, CO_PAGE_SIZE_MIN, CO_PAGE_SIZE_MAX, &n);

    if (!rc && (n & (n - 1)))
        rc = co_fail(CO_ERR_INVAL, "page_size=%s is not a power of two", value);
    if (!rc)
        uri->page_size = n;
    return rc;
}

/* A program may change its directory. */
static int parse_cache_dir(struct cv_uri *uri, const char *value)
{
    if (value[0] && value[0] != '/')
        return co_fail(CO_ERR_INVAL, "cache_dir=%.300s is not the whole path of a directory",
                       value);
    if (strlen(value) >= sizeof uri->cache_dir)
        return co_fail(CO_ERR_INVAL, "cache_dir=%.60s... is longer than %zu bytes", value,
                       sizeof uri->cache_dir - 1);
    snprintf(uri->cache_dir, sizeof uri->cache_dir, "%s", value);
    return 0;
}

/* What it means is for the pageserver to say, by its clock. */
static int parse_at(struct cv_uri *uri, const char *value)
{
    if (value[0] == 0)
        return co_fail(CO_ERR_INVAL, "at= is empty: leave it out for the live database, or write a "
                                     "moment: at=latest, at=-10m, at=2026-01-02T03:04:05Z");
    if (strlen(value) >= sizeof uri->at)
        return co_fail(CO_ERR_INVAL, "at=%.70s... is no moment: it is longer than %zu bytes", value,
                       sizeof uri->at - 1);
    snprintf(uri->at, sizeof uri->at, "%s", value);
    return 0;
}

static bool one_of(const char *key, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(key, *words) == 0)
            return true;
    return false;
}

static const char *const of_sqlite[] = {"mode", "psow", "vfs", "modeof", "cache", NULL};

bool cv_uri_is_ours(const char *key)
{
    return cv_uri_knows(key) && !one_of(key, of_sqlite);
}

int cv_uri_check(const struct cv_uri *uri)
{
    if (!uri->create_said || !uri->create)
        return 0;
    if (uri->no_create_mode)
        return co_fail(CO_ERR_INVAL,
                       "create=1 and mode=ro or mode=rw contradict each other: leave one "
                       "of them out");
    if (uri->at[0] || uri->immutable)
        return co_fail(CO_ERR_INVAL,
                       "create=1 and %s contradict each other: what is fixed in time is "
                       "never made by opening it. Leave one of them out",
                       uri->at[0] ? "at=" : "immutable=1");
    return 0;
}

int cv_uri_param(struct cv_uri *uri, const char *key, const char *value)
{
    static const char *const later[] = {"token", NULL};
    bool yes;

    if (strcmp(key, "server") == 0) {
        uri->server_said = true;
        return parse_server(uri, value);
    }
    if (strcmp(key, "mode") == 0)
        uri->no_create_mode = strcmp(value, "ro") == 0 || strcmp(value, "rw") == 0;
    if (strcmp(key, "at") == 0)
        return parse_at(uri, value);
    if (strcmp(key, "cache") == 0) {
        uri->shared = strcmp(value, "shared") == 0;
        return 0;
    }
    if (strcmp(key, "create") == 0) {
        uri->create_said = true;
        return parse_bool(key, value, &uri->create);
    }
    if (strcmp(key, "durability") == 0)
        return parse_durability(uri, value);
    if (strcmp(key, "commit_timeout") == 0)
        return cv_parse_ms(key, value, &uri->commit_timeout_ms);
    if (strcmp(key, "staleness") == 0)
        return cv_parse_ms(key, value, &uri->staleness_ms);
    if (strcmp(key, "cache_mb") == 0)
        return parse_number(key, value, 1, CV_CACHE_MB_MAX, &uri->cache_mb);
    if (strcmp(key, "cache_dir") == 0)
        return parse_cache_dir(uri, value);
    if (strcmp(key, "cache_dir_mb") == 0)
        return parse_number(key, value, 1, CV_CACHE_MB_MAX, &uri->cache_dir_mb);
    if (strcmp(key, "lag_mb") == 0)
        return parse_number(key, value, 0, CV_LAG_MB_MAX, &uri->lag_mb);
    if (strcmp(key, "page_size") == 0)
        return parse_page_size(uri, value);
    if (strcmp(key, "immutable") == 0)
        return parse_bool(key, value, &uri->immutable);
    if (strcmp(key, "nolock") == 0) {
        if (parse_bool(key, value, &yes))
            return CO_ERR_INVAL;
        return !yes ? 0
                    : co_fail(CO_ERR_INVAL, "nolock=1 is not possible: without locks there are no "
                                            "snapshots. Use immutable=1 to read one fixed state");
    }
    if (one_of(key, of_sqlite) || key[0] == '_') /* _busy_timeout=, _fk=: the driver's own */
        return 0;
    if (one_of(key, later))
        return co_fail(CO_ERR_INVAL, "%s= is not in this version", key);
    return co_fail(CO_ERR_INVAL, "unknown parameter %.60s in the URI; known are: " KNOWN, key);
}

bool cv_uri_knows(const char *key)
{
    static const char *const ours[] = {"server",     "at",           "cache",     "create",
                                       "durability", "staleness",    "cache_mb",  "lag_mb",
                                       "page_size",  "nolock",       "immutable", "mode",
                                       "psow",       "vfs",          "modeof",    "commit_timeout",
                                       "cache_dir",  "cache_dir_mb", NULL};

    return one_of(key, ours);
}

/* -- a whole URI in the place of a name ----------------------------------------------------------
 */

#define VALUE_MAX 400 /* of a parameter, decoded */

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* text[0..n) without its %XX; false: it does not fit. */
static bool decode(const char *text, size_t n, char *out, size_t size)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];

        if (c == '%' && i + 2 < n && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
            c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        }
        if (k + 1 >= size || c == 0)
            return false;
        out[k++] = c;
    }
    out[k] = 0;
    return true;
}

const char *cv_uri_within(const char *name)
{
    const char *text = strncmp(name, "file:", 5) == 0 ? name : strstr(name, "/file:"), *at;

    if (!text)
        return NULL;
    if (*text == '/')
        text++;
    at = text + strcspn(text, "?#");
    while (*at && *at != '#') {
        size_t n = strcspn(at + 1, "&#");

        if (n == 13 && strncmp(at + 1, "vfs=corallite", n) == 0)
            return text;
        at += n + 1;
    }
    return NULL;
}

static int text_param(struct cv_uri *uri, const char *text, size_t n)
{
    char pair[VALUE_MAX], *value;

    if (!decode(text, n, pair, sizeof pair))
        return co_fail(CO_ERR_INVAL, "a parameter of the URI is longer than %d bytes",
                       VALUE_MAX - 1);
    value = strchr(pair, '=');
    if (!value)
        return co_fail(CO_ERR_INVAL, "the parameter %.60s in the URI has no value", pair);
    *value++ = 0;
    if (strcmp(pair, "vfs") == 0)
        return 0;
    if (strcmp(pair, "server") != 0 && strcmp(pair, "at") != 0)
        return co_fail(
            CO_ERR_INVAL,
            "this driver hands the URI over as a plain name, which can carry server= and "
            "at= only: leave %.60s= out and use the driver's own option, a PRAGMA or the "
            "environment",
            pair);
    return cv_uri_param(uri, pair, value);
}

int cv_uri_text(struct cv_uri *uri, const char *text)
{
    const char *name = text + strlen("file:"), *at = strchr(name, '?');
    char decoded[2 * CO_NAME_MAX_BYTES + 2];
    size_t n = at ? (size_t)(at - name) : strlen(name);
    int rc;

    if (!decode(name, n, decoded, sizeof decoded))
        return co_fail(CO_ERR_NAME, "the name in %.300s is too long", text);
    rc = cv_uri_name(uri, decoded);
    while (!rc && at && *at && *at != '#') {
        n = strcspn(at + 1, "&#");
        if (n)
            rc = text_param(uri, at + 1, n);
        at += n + 1;
    }
    return rc;
}

/* -- identities ----------------------------------------------------------------------------------
 */

void cv_uri_path(const struct cv_uri *uri, char out[CV_PATH_MAX])
{
    if (strcmp(uri->server, uri->usual_server) == 0)
        snprintf(out, CV_PATH_MAX, SCHEME "%s/%s", uri->db, uri->branch);
    else
        snprintf(out, CV_PATH_MAX, SCHEME "//%s/%s/%s", uri->server, uri->db, uri->branch);
}

void cv_uri_filename(const struct cv_uri *uri, char out[CV_PATH_MAX])
{
    char lsn[LSN_TEXT];
    size_t n;

    cv_uri_path(uri, out);
    n = strlen(out);
    if (uri->has_moment)
        snprintf(out + n, CV_PATH_MAX - n, "@%s", lsn_format(uri->moment, lsn));
}

bool cv_uri_is_path(const char *name)
{
    return strncmp(name, SCHEME, strlen(SCHEME)) == 0;
}

static int not_a_path(const char *path)
{
    return co_fail(CO_ERR_NAME, "%.400s is not corallite:[//SERVER/]DB/BRANCH[@LSN]", path);
}

int cv_uri_from_path(struct cv_uri *uri, const char *path)
{
    const char *name = path + strlen(SCHEME), *at;
    char text[2 * CO_NAME_MAX_BYTES + 2];
    size_t n;

    if (!cv_uri_is_path(path))
        return not_a_path(path);
    if (strncmp(name, "//", 2) == 0) {
        n = strcspn(name + 2, "/");
        if (n == 0 || n >= sizeof uri->server || name[2 + n] != '/')
            return not_a_path(path);
        if (uri->server_said && (strlen(uri->server) != n || memcmp(uri->server, name + 2, n) != 0))
            return co_fail(CO_ERR_INVAL,
                           "server=%s and the server in %.400s are two: leave one of "
                           "them out",
                           uri->server, path);
        memcpy(uri->server, name + 2, n);
        uri->server[n] = 0;
        name += n + 3;
    }
    at = strchr(name, '@');
    n = at ? (size_t)(at - name) : strlen(name);
    if (n >= sizeof text || (at && lsn_parse(at + 1, &uri->moment)))
        return not_a_path(path);
    uri->has_moment = at != NULL;
    memcpy(text, name, n);
    text[n] = 0;
    return name_split(text, uri->db, uri->branch);
}
