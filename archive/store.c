#include "archive/store_int.h"

#include <stdio.h>

static const struct {
    const char *scheme;
    ar_open_fn open;
} schemes[] = {
    {"dir:", ar_dir_open},
    {"s3:", ar_s3_open},
};

int ar_open(const char *url, const struct ar_options *options, struct ar_store **out)
{
    static const struct ar_options none;
    *out = NULL;
    if (strlen(url) >= AR_URL_MAX_BYTES)
        return co_fail(CO_ERR_INVAL, "an archive's URL has at most %u bytes, this one has %zu",
                       AR_URL_MAX_BYTES - 1, strlen(url));
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t len = strlen(schemes[i].scheme);
        if (strncmp(url, schemes[i].scheme, len) != 0)
            continue;
        struct ar_options o = options ? *options : none;
        if (!o.timeout_ms)
            o.timeout_ms = 60000;
        int rc = schemes[i].open(url + len, &o, out);
        if (rc)
            return rc;
        (*out)->options = o;
        snprintf((*out)->url, sizeof(*out)->url, "%s", url);
        return 0;
    }
    return co_fail(CO_ERR_INVAL,
                   "an archive is dir:/path (a directory) or s3://bucket/prefix, not '%.200s'",
                   url);
}

void ar_close(struct ar_store *store)
{
    if (store)
        store->ops->close(store);
}

const char *ar_url(const struct ar_store *store)
{
    return store->url;
}

void ar_cancel(struct ar_store *store)
{
    atomic_store(&store->canceled, true);
}

int ar_name_check(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789._-/";
    size_t len = strlen(name);
    bool good = len >= 1 && len <= AR_NAME_MAX_BYTES && strspn(name, allowed) == len &&
                name[len - 1] != '/';
    for (size_t i = 0; good && i < len; i++)
        if (i == 0 || name[i - 1] == '/')
            good = name[i] != '/' && name[i] != '.';
    if (!good)
        return co_fail(CO_ERR_INVAL,
                       "'%.100s' is no name of an archive's object: 1 to %u of a-z 0-9 . _ - in "
                       "parts between single slashes, none of which begins with a dot",
                       name, AR_NAME_MAX_BYTES);
    return 0;
}

static int ready(struct ar_store *store, const char *name)
{
    if (atomic_load(&store->canceled))
        return co_fail(CO_ERR_CANCELED, "the archive %s was closed meanwhile", store->url);
    return name ? ar_name_check(name) : 0;
}

static int writable(struct ar_store *store, const char *name, size_t len)
{
    int rc = ready(store, name);
    if (!rc && store->options.read_only)
        rc = co_fail(CO_ERR_READONLY, "the archive %s was opened for reading", store->url);
    if (!rc && len > AR_OBJECT_MAX_BYTES)
        rc = co_fail(CO_ERR_TOO_LARGE, "an archive's object has at most %llu bytes, %s has %zu",
                     (unsigned long long)AR_OBJECT_MAX_BYTES, name, len);
    return rc;
}

int ar_put(struct ar_store *store, const char *name, struct co_span bytes)
{
    int rc = writable(store, name, bytes.len);
    return rc ? rc : store->ops->put(store, name, bytes);
}

int ar_put_if_absent(struct ar_store *store, const char *name, struct co_span bytes)
{
    int rc = writable(store, name, bytes.len);
    return rc ? rc : store->ops->put_if_absent(store, name, bytes);
}

int ar_get(struct ar_store *store, const char *name, uint64_t offset, size_t length,
           struct co_buf *out, uint64_t *size_bytes)
{
    int rc = ready(store, name);
    return rc ? rc : store->ops->get(store, name, offset, length, out, size_bytes);
}

int ar_list(struct ar_store *store, const char *prefix, const char *after, ar_list_fn fn, void *arg)
{
    int rc = ready(store, NULL);
    return rc ? rc : store->ops->list(store, prefix, after, fn, arg);
}

int ar_remove(struct ar_store *store, const char *name)
{
    int rc = writable(store, name, 0);
    return rc ? rc : store->ops->remove(store, name);
}
