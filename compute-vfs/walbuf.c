#include "compute-vfs/walbuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"

void cv_walbuf_init(struct cv_walbuf *w)
{
    memset(w, 0, sizeof *w);
    w->fd = -1;
    w->limit = CV_WALBUF_MEMORY;
}

void cv_walbuf_free(struct cv_walbuf *w)
{
    co_buf_free(&w->memory);
    if (w->fd >= 0)
        close(w->fd);
    cv_walbuf_init(w);
}

/* The places that SQLite itself would try for a temporary file, in its order. */
static int open_file(struct cv_walbuf *w)
{
    const char *dirs[] = {getenv("SQLITE_TMPDIR"), getenv("TMPDIR"), "/var/tmp", "/tmp"};
    const char *first = NULL;
    char path[512];
    int why = 0;

    for (size_t i = 0; i < sizeof dirs / sizeof *dirs && w->fd < 0; i++) {
        if (!dirs[i] || !*dirs[i])
            continue;
        snprintf(path, sizeof path, "%s/corallite-wal-XXXXXX", dirs[i]);
        w->fd = mkostemp(path, 02000000 /* O_CLOEXEC */);
        if (w->fd < 0 && !first) {
            first = dirs[i];
            why = errno;
        }
    }
    if (w->fd < 0)
        return co_fail_errno(CO_ERR_IO, why, "a large transaction needs a temporary file in %s",
                             first);
    unlink(path);
    return 0;
}

static int write_file(struct cv_walbuf *w, uint64_t at, const uint8_t *data, size_t len)
{
    int rc = w->fd < 0 ? open_file(w) : 0;

    while (!rc && len) {
        ssize_t n = pwrite(w->fd, data, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return co_fail_errno(errno == ENOSPC ? CO_ERR_FULL : CO_ERR_IO, errno,
                                 "the temporary file of a large transaction cannot be written");
        data += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return rc;
}

static int read_file(struct cv_walbuf *w, uint64_t at, uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = pread(w->fd, data, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return co_fail_errno(CO_ERR_IO, errno,
                                 "the temporary file of a large transaction cannot be read");
        if (n == 0) {
            memset(data, 0, len); /* a hole before the end */
            return 0;
        }
        data += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* How many of the `len` bytes from `at` on lie below `end`. */
static size_t below(uint64_t end, uint64_t at, size_t len)
{
    if (at >= end)
        return 0;
    return len < end - at ? len : (size_t)(end - at);
}

int cv_walbuf_write(struct cv_walbuf *w, uint64_t at, const void *data, size_t len)
{
    size_t here = below(w->limit, at, len);
    int rc = 0;

    if (here && at + here > w->memory.len) {
        rc = co_buf_append_zeros(&w->memory, (size_t)(at + here) - w->memory.len);
        if (rc)
            return rc;
    }
    if (here)
        memcpy(w->memory.data + at, data, here);
    if (here < len)
        rc = write_file(w, at + here, (const uint8_t *)data + here, len - here);
    if (!rc && at + len > w->len)
        w->len = at + len;
    return rc;
}

/* Memory may end earlier than what lies in the file: a hole reads as zeros. */
static void copy_memory(const struct cv_walbuf *w, uint64_t at, uint8_t *out, size_t len)
{
    size_t have = below(w->memory.len, at, len);

    if (have)
        memcpy(out, w->memory.data + at, have);
    memset(out + have, 0, len - have);
}

int cv_walbuf_read(struct cv_walbuf *w, uint64_t at, void *data, size_t len, bool *short_read)
{
    uint8_t *out = data;
    size_t have = below(w->len, at, len);
    size_t here;

    *short_read = have < len;
    memset(out + have, 0, len - have);
    here = below(w->limit, at, have);
    copy_memory(w, at, out, here);
    return here < have ? read_file(w, at + here, out + here, have - here) : 0;
}

void cv_walbuf_truncate(struct cv_walbuf *w, uint64_t len)
{
    if (len >= w->len)
        return;
    w->len = len;
    if (len < w->memory.len)
        w->memory.len = (size_t)len;
    /* What is cut off must not be read again behind a later, farther write. */
    if (w->fd >= 0 && (len <= w->limit || ftruncate(w->fd, (off_t)len) != 0)) {
        co_assert(len <= w->limit); /* a file of our own can always be made shorter */
        close(w->fd);
        w->fd = -1;
    }
}
