#include "compute-vfs/uri.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/name.h"

#define KNOWN                                                                                      \
    "server, create, durability, commit_timeout, staleness, cache_mb, page_size, immutable, "      \
    "mode, "                                                                                       \
    "cache, psow, vfs, modeof"

void cv_uri_init(struct cv_uri *uri)
{
    memset(uri, 0, sizeof *uri);
    snprintf(uri->server, sizeof uri->server, "%s", CV_SERVER_DEFAULT);
    uri->commit_timeout_ms = CO_COMMIT_TIMEOUT_MS;
    uri->cache_mb = 64;
    uri->create = true;
}

int cv_uri_name(struct cv_uri *uri, const char *name)
{
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

static int parse_server(struct cv_uri *uri, const char *value)
{
    const char *colon = strrchr(value, ':');
    size_t host = colon ? (size_t)(colon - value) : 0;
    uint32_t port;

    if (host == 0 || host > CO_HOST_MAX_BYTES || strchr(value, '/') ||
        parse_number("server", colon + 1, 1, 65535, &port))
        return co_fail(CO_ERR_INVAL,
                       "server=%.300s is not HOST:PORT of a pageserver, such as 127.0.0.1:6400",
                       value);
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

static bool one_of(const char *key, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(key, *words) == 0)
            return true;
    return false;
}

int cv_uri_param(struct cv_uri *uri, const char *key, const char *value)
{
    static const char *const of_sqlite[] = {"mode", "cache", "psow", "vfs", "modeof", NULL};
    static const char *const later[] = {"at", "token", "cache_dir", NULL};
    bool yes;

    if (strcmp(key, "server") == 0)
        return parse_server(uri, value);
    if (strcmp(key, "create") == 0)
        return parse_bool(key, value, &uri->create);
    if (strcmp(key, "durability") == 0)
        return parse_durability(uri, value);
    if (strcmp(key, "commit_timeout") == 0)
        return cv_parse_ms(key, value, &uri->commit_timeout_ms);
    if (strcmp(key, "staleness") == 0)
        return cv_parse_ms(key, value, &uri->staleness_ms);
    if (strcmp(key, "cache_mb") == 0)
        return parse_number(key, value, 1, CV_CACHE_MB_MAX, &uri->cache_mb);
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
    if (one_of(key, of_sqlite))
        return 0;
    if (one_of(key, later))
        return co_fail(CO_ERR_INVAL, "%s= is not in this version", key);
    return co_fail(CO_ERR_INVAL, "unknown parameter %.60s in the URI; known are: " KNOWN, key);
}

void cv_uri_path(const struct cv_uri *uri, char out[CV_PATH_MAX])
{
    snprintf(out, CV_PATH_MAX, "/%s/%s/%s", uri->server, uri->db, uri->branch);
}

int cv_uri_from_path(struct cv_uri *uri, const char *path)
{
    const char *slash = path[0] == '/' ? strchr(path + 1, '/') : NULL;
    size_t n = slash ? (size_t)(slash - path - 1) : 0;

    if (n == 0 || n >= sizeof uri->server)
        return co_fail(CO_ERR_NAME, "%.300s is not /SERVER/DB/BRANCH", path);
    memcpy(uri->server, path + 1, n);
    uri->server[n] = 0;
    return name_split(slash + 1, uri->db, uri->branch);
}
