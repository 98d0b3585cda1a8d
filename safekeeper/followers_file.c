/* followers_file.c - see followers_file.h. */
#include "safekeeper/followers_file.h"

#include "common/crc32c.h"
#include "proto/unpack.h"

#define MAGIC            "CORALFOL"
#define HEADER_BYTES     24u
#define FORMAT           1u
#define PACKED_MAX_BYTES (8 * CO_KIB)

_Static_assert(SK_FOLLOWERS_MAX *(sizeof(struct sk_follower) + 16) <= PACKED_MAX_BYTES,
               "all of them fit");

static int damaged(const char *path, const char *what)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s is damaged: %s; remove it: every pageserver that runs says again that it "
                   "follows",
                   path, what);
}

static int parse(const char *path, struct co_span bytes, struct sk_followers *out)
{
    if (bytes.len < HEADER_BYTES || memcmp(bytes.data, MAGIC, 8) != 0)
        return damaged(path, "it does not begin as such a file does");
    if (co_get32(bytes.data + 8) != FORMAT)
        return co_fail(CO_ERR_VERSION, "%s has format %u and this build knows %u; use a newer one",
                       path, co_get32(bytes.data + 8), FORMAT);
    struct co_span message = co_span_of(bytes.data + HEADER_BYTES, bytes.len - HEADER_BYTES);
    if (co_get32(bytes.data + 12) != message.len ||
        co_get32(bytes.data + 16) != co_crc32c(0, message.data, message.len))
        return damaged(path, "its checksum is wrong");
    Corallite__Pageservers *m = message_unpack(&corallite__pageservers__descriptor, message);
    if (!m)
        return damaged(path, "its content cannot be decoded");
    int rc = sk_followers_from_wire(m, out);
    corallite__pageservers__free_unpacked(m, NULL);
    return rc ? damaged(path, "its content makes no sense") : 0;
}

int sk_followers_load(const char *dir, struct sk_followers *out)
{
    char path[SK_PATH_MAX];
    struct co_buf bytes = {0};
    *out = (struct sk_followers){0};
    int rc = sk_io_path(path, "%s/followers", dir);
    if (!rc)
        rc = sk_io_read_all(path, HEADER_BYTES + PACKED_MAX_BYTES, &bytes);
    if (!rc)
        rc = parse(path, co_buf_span(&bytes), out);
    co_buf_free(&bytes);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int sk_followers_save(const char *dir, const struct sk_followers *followers)
{
    uint8_t bytes[HEADER_BYTES + PACKED_MAX_BYTES] = {0};
    struct sk_followers_message m;
    sk_followers_to_wire(followers, &m);
    size_t len = corallite__pageservers__get_packed_size(&m.pb);
    corallite__pageservers__pack(&m.pb, bytes + HEADER_BYTES);
    memcpy(bytes, MAGIC, 8);
    co_put32(bytes + 8, FORMAT);
    co_put32(bytes + 12, (uint32_t)len);
    co_put32(bytes + 16, co_crc32c(0, bytes + HEADER_BYTES, len));
    return sk_io_replace(dir, "followers", co_span_of(bytes, HEADER_BYTES + len));
}
