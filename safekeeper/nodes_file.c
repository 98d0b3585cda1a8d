/* nodes_file.c - see nodes_file.h. */
#include "safekeeper/nodes_file.h"

#include "proto/unpack.h"
#include "safekeeper/message_file.h"

static const struct sk_message_file file = {
    .name = "nodes",
    .magic = "CORALNOD",
    .recovery = "copy the file `nodes` of another safekeeper of this cluster here",
    .max_bytes = NODES_PACKED_MAX_BYTES};

static int parse(const char *dir, struct co_span message, struct nodes *out)
{
    Corallite__Nodes *m = message_unpack(&corallite__nodes__descriptor, message);
    if (!m)
        return sk_message_damaged(&file, dir, "its content cannot be decoded");
    int rc = nodes_read(m, out);
    corallite__nodes__free_unpacked(m, NULL);
    return rc ? sk_message_damaged(&file, dir, "its content makes no sense") : 0;
}

int sk_nodes_load(const char *dir, struct nodes *out)
{
    struct co_buf buf = {0};
    struct co_span message;
    *out = (struct nodes){0};
    int rc = sk_message_load(&file, dir, &buf, &message);
    if (!rc)
        rc = parse(dir, message, out);
    co_buf_free(&buf);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int sk_nodes_save(const char *dir, const struct nodes *nodes)
{
    struct co_buf buf = {0};
    struct nodes_message m;
    nodes_fill(nodes, &m);
    size_t len = corallite__nodes__get_packed_size(&m.pb);
    if (len > NODES_PACKED_MAX_BYTES)
        return co_fail(CO_ERR_TOO_LARGE, "the list of safekeepers has %zu bytes; %zu are possible",
                       len, (size_t)NODES_PACKED_MAX_BYTES);
    int rc = co_buf_reserve(&buf, SK_MESSAGE_HEADER_BYTES + len);
    if (!rc) {
        buf.len = SK_MESSAGE_HEADER_BYTES +
                  corallite__nodes__pack(&m.pb, buf.data + SK_MESSAGE_HEADER_BYTES);
        rc = sk_message_save(&file, dir, &buf);
    }
    co_buf_free(&buf);
    return rc;
}
