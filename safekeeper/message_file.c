#include "safekeeper/message_file.h"

#include "common/crc32c.h"

#define FORMAT 1u

int sk_message_damaged(const struct sk_message_file *file, const char *dir, const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "%s/%s is damaged: %s; %s", dir, file->name, what,
                   file->recovery);
}

static int check(const struct sk_message_file *file, const char *dir, struct co_span bytes,
                 struct co_span *message)
{
    if (bytes.len < SK_MESSAGE_HEADER_BYTES || memcmp(bytes.data, file->magic, 8) != 0)
        return sk_message_damaged(file, dir, "it does not begin as such a file does");
    if (co_get32(bytes.data + 8) != FORMAT)
        return co_fail(CO_ERR_VERSION,
                       "%s/%s has format %u and this build knows %u; use a newer one", dir,
                       file->name, co_get32(bytes.data + 8), FORMAT);
    *message =
        co_span_of(bytes.data + SK_MESSAGE_HEADER_BYTES, bytes.len - SK_MESSAGE_HEADER_BYTES);
    if (co_get32(bytes.data + 12) != message->len ||
        co_get32(bytes.data + 16) != co_crc32c(0, message->data, message->len))
        return sk_message_damaged(file, dir, "its checksum is wrong");
    return 0;
}

int sk_message_load(const struct sk_message_file *file, const char *dir, struct co_buf *buf,
                    struct co_span *message)
{
    char path[SK_PATH_MAX];
    int rc = sk_io_path(path, "%s/%s", dir, file->name);
    if (!rc)
        rc = sk_io_read_all(path, SK_MESSAGE_HEADER_BYTES + file->max_bytes, buf);
    return rc ? rc : check(file, dir, co_buf_span(buf), message);
}

int sk_message_save(const struct sk_message_file *file, const char *dir, struct co_buf *buf)
{
    uint8_t *bytes = buf->data;
    size_t len = buf->len - SK_MESSAGE_HEADER_BYTES;
    memset(bytes, 0, SK_MESSAGE_HEADER_BYTES);
    memcpy(bytes, file->magic, 8);
    co_put32(bytes + 8, FORMAT);
    co_put32(bytes + 12, (uint32_t)len);
    co_put32(bytes + 16, co_crc32c(0, bytes + SK_MESSAGE_HEADER_BYTES, len));
    return sk_io_replace(dir, file->name, co_buf_span(buf));
}
