#include "archive/s3_url.h"

#include <stdio.h>
#include <string.h>

#include "common/http_text.h"

struct arguments {
    char endpoint[300], region[64], style[16];
};

static const char lower[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
static const char path_bytes[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";

static int take_bucket(const char *text, size_t len, struct s3_url *out)
{
    bool good = len >= 3 && len <= 63 && strspn(text, lower) >= len && text[0] != '-' &&
                text[0] != '.' && text[len - 1] != '-' && text[len - 1] != '.';
    if (memchr(text, '@', len))
        return co_fail(CO_ERR_INVAL, "an archive's URL holds no credentials; they are taken from "
                                     "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY alone");
    if (!good)
        return co_fail(CO_ERR_INVAL,
                       "an archive in a bucket is s3://bucket/prefix, the bucket's name 3 to 63 of "
                       "a-z 0-9 - . ; '%.*s' is none",
                       (int)(len < 80 ? len : 80), text);
    memcpy(out->bucket, text, len);
    return 0;
}

/* Parts between single slashes; none begins with a dot, so that nobody's server rewrites the path.
 */
static bool is_path(const char *text, size_t len)
{
    if (strspn(text, path_bytes) < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((i == 0 || text[i - 1] == '/') && (text[i] == '/' || text[i] == '.'))
            return false;
    return true;
}

static int take_prefix(const char *text, size_t len, struct s3_url *out)
{
    if (len && text[len - 1] == '/')
        len--;
    if (len > S3_PREFIX_MAX_BYTES || !is_path(text, len))
        return co_fail(CO_ERR_INVAL,
                       "an archive's prefix is at most %d of a-z A-Z 0-9 - . _ ~ in parts between "
                       "single slashes, none of which begins with a dot; '%.*s' is not",
                       S3_PREFIX_MAX_BYTES, (int)(len < 80 ? len : 80), text);
    if (len)
        snprintf(out->prefix, sizeof out->prefix, "%.*s/", (int)len, text);
    return 0;
}

static int take_argument(const char *text, size_t len, struct arguments *a)
{
    struct {
        const char *name;
        char *value;
        size_t cap;
    } known[] = {{"endpoint", a->endpoint, sizeof a->endpoint},
                 {"region", a->region, sizeof a->region},
                 {"style", a->style, sizeof a->style}};
    const char *equal = memchr(text, '=', len);
    size_t name_len = equal ? (size_t)(equal - text) : len;
    for (size_t i = 0; equal && i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == name_len && memcmp(text, known[i].name, name_len) == 0)
            return co_http_unescape(known[i].name, equal + 1, len - name_len - 1, known[i].value,
                                    known[i].cap);
    return co_fail(CO_ERR_INVAL,
                   "an archive's URL takes endpoint=, region= and style=; '%.*s' is none of them",
                   (int)(name_len < 40 ? name_len : 40), text);
}

/* "http(s)://host[:port][/path]" into the origin's scheme and host, and the path. */
static int take_endpoint(const char *text, const char **host, size_t *host_len, const char **path)
{
    static const char host_bytes[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";
    *host = strncmp(text, "https://", 8) == 0  ? text + 8
            : strncmp(text, "http://", 7) == 0 ? text + 7
                                               : NULL;
    if (*host) {
        *host_len = strspn(*host, host_bytes);
        *path = *host + *host_len;
        size_t len = strlen(*path);
        if (len && (*path)[len - 1] == '/')
            len--;
        if (*host_len > 0 && len < 200 &&
            (len == 0 || (**path == '/' && is_path(*path + 1, len - 1))))
            return 0;
    }
    return co_fail(CO_ERR_INVAL,
                   "the endpoint of an archive is http://HOST[:PORT] or https://HOST[:PORT], "
                   "without credentials; '%.80s' is not",
                   strchr(text, '@') ? "(one with an @)" : text);
}

static int locate(const struct arguments *a, struct s3_url *out)
{
    char amazon[120];
    bool at_amazon = !a->endpoint[0];
    snprintf(amazon, sizeof amazon, "https://s3.%s.amazonaws.com", out->region);
    const char *endpoint = at_amazon ? amazon : a->endpoint, *host = "", *path = "";
    size_t host_len = 0;
    int rc = take_endpoint(endpoint, &host, &host_len, &path);
    if (rc)
        return rc;
    bool in_path = a->style[0] ? strcmp(a->style, "path") == 0
                               : !at_amazon || strchr(out->bucket, '.') != NULL;
    int scheme_len = (int)(host - endpoint);
    if (in_path)
        snprintf(out->origin, sizeof out->origin, "%.*s%.*s", scheme_len, endpoint, (int)host_len,
                 host);
    else
        snprintf(out->origin, sizeof out->origin, "%.*s%s.%.*s", scheme_len, endpoint, out->bucket,
                 (int)host_len, host);
    size_t path_len = strlen(path);
    if (path_len && path[path_len - 1] == '/')
        path_len--;
    snprintf(out->root, sizeof out->root, "%.*s/%s%s", (int)path_len, path,
             in_path ? out->bucket : "", in_path ? "/" : "");
    return 0;
}

int s3_url_parse(const char *rest, const char *environment_endpoint, const char *environment_region,
                 struct s3_url *out)
{
    struct arguments a = {.endpoint = ""};
    *out = (struct s3_url){.bucket = ""};
    if (strncmp(rest, "//", 2) != 0)
        return co_fail(CO_ERR_INVAL, "an archive in a bucket is s3://bucket/prefix");
    rest += 2;
    size_t len = strcspn(rest, "/?");
    int rc = take_bucket(rest, len, out);
    rest += len;
    if (!rc && *rest == '/') {
        len = strcspn(++rest, "?");
        rc = take_prefix(rest, len, out);
        rest += len;
    }
    while (!rc && *rest) { /* at '?' or '&' */
        len = strcspn(++rest, "&");
        rc = take_argument(rest, len, &a);
        rest += len;
    }
    if (rc)
        return rc;
    if (!a.endpoint[0] && environment_endpoint)
        snprintf(a.endpoint, sizeof a.endpoint, "%s", environment_endpoint);
    const char *region = a.region[0]                                 ? a.region
                         : environment_region && *environment_region ? environment_region
                                                                     : "us-east-1";
    if (strspn(region, lower) != strlen(region) || strlen(region) >= sizeof out->region)
        return co_fail(CO_ERR_INVAL, "a region is a word like eu-central-1; '%.40s' is not",
                       region);
    snprintf(out->region, sizeof out->region, "%s", region);
    if (a.style[0] && strcmp(a.style, "path") && strcmp(a.style, "virtual"))
        return co_fail(CO_ERR_INVAL, "style= is path or virtual; '%.40s' is not", a.style);
    return locate(&a, out);
}
