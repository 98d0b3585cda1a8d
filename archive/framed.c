#include "archive/framed.h"

#include <stdio.h>
#include <string.h>

#include "common/crc32c.h"

int ar_damaged(const char *name, const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "the archive's object %s is damaged: %s", name, what);
}

int ar_other_version(const char *name, uint32_t there, uint32_t known)
{
    return co_fail(CO_ERR_VERSION,
                   "the archive's object %s has format %u and this program knows %u; use a newer "
                   "one",
                   name, there, known);
}

void ar_framed_seal(uint8_t *object, size_t len, const char magic[8], uint32_t version)
{
    memcpy(object, magic, 8);
    co_put32(object + 8, version);
    co_put32(object + 12, co_crc32c(0, object + AR_FRAMED_HEAD, len));
    co_put64(object + 16, len);
}

int ar_framed_open(struct co_span bytes, const char *name, const char magic[8], uint32_t version,
                   const char *kind, struct co_span *message)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < AR_FRAMED_HEAD || memcmp(p, magic, 8) != 0) {
        char what[80];
        snprintf(what, sizeof what, "it is no %s", kind);
        return ar_damaged(name, what);
    }
    if (co_get32(p + 8) < 1 || co_get32(p + 8) > version)
        return ar_other_version(name, co_get32(p + 8), version);
    if (co_get64(p + 16) != bytes.len - AR_FRAMED_HEAD)
        return co_fail(CO_ERR_CORRUPT,
                       "the archive's object %s is cut: it has %zu bytes where %llu were written",
                       name, bytes.len, (unsigned long long)co_get64(p + 16) + AR_FRAMED_HEAD);
    *message = co_span_of(p + AR_FRAMED_HEAD, bytes.len - AR_FRAMED_HEAD);
    if (co_crc32c(0, message->data, message->len) != co_get32(p + 12))
        return ar_damaged(name, "its checksum is another");
    return 0;
}
