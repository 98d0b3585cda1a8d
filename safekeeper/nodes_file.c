/* nodes_file.c - see nodes_file.h. */
#include "safekeeper/nodes_file.h"

#include "common/crc32c.h"
#include "proto/unpack.h"

#define MAGIC        "CORALNOD"
#define HEADER_BYTES 24u
#define FORMAT       1u

static int damaged(const char *path, const char *what)
{
    return co_fail(CO_ERR_CORRUPT,
                   "%s is damaged: %s; copy the file `nodes` of another safekeeper of this cluster "
                   "here",
                   path, what);
}

static int parse(const char *path, struct co_span bytes, struct nodes *out)
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
    Corallite__Nodes *m = message_unpack(&corallite__nodes__descriptor, message);
    if (!m)
        return damaged(path, "its content cannot be decoded");
    int rc = nodes_read(m, out);
    corallite__nodes__free_unpacked(m, NULL);
    return rc ? damaged(path, "its content makes no sense") : 0;
}

int sk_nodes_load(const char *dir, struct nodes *out)
{
    char path[SK_PATH_MAX];
    struct co_buf bytes = {0};
    *out = (struct nodes){0};
    int rc = sk_io_path(path, "%s/nodes", dir);
    if (!rc)
        rc = sk_io_read_all(path, HEADER_BYTES + NODES_PACKED_MAX_BYTES, &bytes);
    if (!rc)
        rc = parse(path, co_buf_span(&bytes), out);
    co_buf_free(&bytes);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int sk_nodes_save(const char *dir, const struct nodes *nodes)
{
    uint8_t bytes[HEADER_BYTES + NODES_PACKED_MAX_BYTES] = {0};
    struct nodes_message m;
    nodes_fill(nodes, &m);
    size_t len = corallite__nodes__get_packed_size(&m.pb);
    if (len > NODES_PACKED_MAX_BYTES)
        return co_fail(CO_ERR_TOO_LARGE, "the list of safekeepers has %zu bytes; %zu are possible",
                       len, (size_t)NODES_PACKED_MAX_BYTES);
    corallite__nodes__pack(&m.pb, bytes + HEADER_BYTES);
    memcpy(bytes, MAGIC, 8);
    co_put32(bytes + 8, FORMAT);
    co_put32(bytes + 12, (uint32_t)len);
    co_put32(bytes + 16, co_crc32c(0, bytes + HEADER_BYTES, len));
    return sk_io_replace(dir, "nodes", co_span_of(bytes, HEADER_BYTES + len));
}
