/* nodes_file.c - see nodes_file.h. */
#include "safekeeper/nodes_file.h"

#include "safekeeper/message_file.h"

static const struct sk_message_file file = {
    .name = "nodes",
    .magic = "CORALNOD",
    .recovery = "copy the file `nodes` of another safekeeper of this cluster here",
    .type = &corallite__nodes__descriptor,
    .max_bytes = NODES_PACKED_MAX_BYTES};

int sk_nodes_load(const char *dir, struct nodes *out)
{
    ProtobufCMessage *m;
    *out = (struct nodes){0};
    int rc = sk_message_load(&file, dir, &m);
    if (rc)
        return rc == CO_ERR_NOT_FOUND ? 0 : rc;
    rc = nodes_read((const Corallite__Nodes *)m, out);
    protobuf_c_message_free_unpacked(m, NULL);
    return rc ? sk_message_damaged(&file, dir, "its content makes no sense") : 0;
}

int sk_nodes_save(const char *dir, const struct nodes *nodes)
{
    struct nodes_message m;
    nodes_fill(nodes, &m);
    size_t len = corallite__nodes__get_packed_size(&m.pb);
    if (len > NODES_PACKED_MAX_BYTES)
        return co_fail(CO_ERR_TOO_LARGE, "the list of safekeepers has %zu bytes; %zu are possible",
                       len, (size_t)NODES_PACKED_MAX_BYTES);
    return sk_message_save(&file, dir, &m.pb.base);
}
