#include "safekeeper/message_file.h"

#include "common/assert.h"
#include "common/crc32c.h"
#include "proto/unpack.h"

#define HEADER_BYTES 24u
#define FORMAT       1u

int sk_message_damaged(const struct sk_message_file *file, const char *dir, const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "%s/%s is damaged: %s; %s", dir, file->name, what,
                   file->recovery);
}

static int parse(const struct sk_message_file *file, const char *dir, struct co_span bytes,
                 ProtobufCMessage **out)
{
    if (bytes.len < HEADER_BYTES || memcmp(bytes.data, file->magic, 8) != 0)
        return sk_message_damaged(file, dir, "it does not begin as such a file does");
    if (co_get32(bytes.data + 8) != FORMAT)
        return co_fail(CO_ERR_VERSION,
                       "%s/%s has format %u and this build knows %u; use a newer one", dir,
                       file->name, co_get32(bytes.data + 8), FORMAT);
    struct co_span message = co_span_of(bytes.data + HEADER_BYTES, bytes.len - HEADER_BYTES);
    if (co_get32(bytes.data + 12) != message.len ||
        co_get32(bytes.data + 16) != co_crc32c(0, message.data, message.len))
        return sk_message_damaged(file, dir, "its checksum is wrong");
    *out = message_unpack(file->type, message);
    return *out ? 0 : sk_message_damaged(file, dir, "its content cannot be decoded");
}

int sk_message_load(const struct sk_message_file *file, const char *dir, ProtobufCMessage **out)
{
    char path[SK_PATH_MAX];
    struct co_buf buf = {0};
    int rc = sk_io_path(path, "%s/%s", dir, file->name);
    if (!rc)
        rc = sk_io_read_all(path, HEADER_BYTES + file->max_bytes, &buf);
    if (!rc)
        rc = parse(file, dir, co_buf_span(&buf), out);
    co_buf_free(&buf);
    return rc;
}

int sk_message_save(const struct sk_message_file *file, const char *dir,
                    const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    struct co_buf buf = {0};
    co_assert(len <= file->max_bytes);
    int rc = co_buf_append_zeros(&buf, HEADER_BYTES + len);
    if (!rc) {
        uint8_t *bytes = buf.data;
        protobuf_c_message_pack(message, bytes + HEADER_BYTES);
        memcpy(bytes, file->magic, 8);
        co_put32(bytes + 8, FORMAT);
        co_put32(bytes + 12, (uint32_t)len);
        co_put32(bytes + 16, co_crc32c(0, bytes + HEADER_BYTES, len));
        rc = sk_io_replace(dir, file->name, co_buf_span(&buf));
    }
    co_buf_free(&buf);
    return rc;
}
