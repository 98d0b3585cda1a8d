/* message.c - ids, configurations and states in and out of protobuf messages. */
#include "proto/message.h"

#include "common/assert.h"

int msg_get16(const char *what, protobuf_c_boolean has, const ProtobufCBinaryData *field,
              uint8_t out[16])
{
    if (has && field->len != 16)
        return co_fail(CO_ERR_PROTOCOL, "a message came with a %s of %zu bytes instead of 16", what,
                       field->len);
    if (has)
        memcpy(out, field->data, 16);
    else
        memset(out, 0, 16);
    return 0;
}

static void fill_members(const struct wal_member *from, uint32_t n, Corallite__Member *to,
                         Corallite__Member **list)
{
    for (uint32_t i = 0; i < n; i++) {
        corallite__member__init(&to[i]);
        to[i].has_node = 1;
        to[i].node = from[i].node_id;
        to[i].has_disk = !co_id_is_zero(&from[i].disk_uuid);
        to[i].disk = msg_bytes16(from[i].disk_uuid.b);
        list[i] = &to[i];
    }
}

void msg_config_fill(const struct wal_config *config, struct msg_config *out)
{
    co_assert(config->n <= CO_MEMBERS_MAX && config->n_new <= CO_MEMBERS_MAX);
    corallite__config__init(&out->pb);
    out->pb.has_version = 1;
    out->pb.version = config->version;
    fill_members(config->members, config->n, out->member, out->list);
    out->pb.n_members = config->n;
    out->pb.members = out->list;
    fill_members(config->new_members, config->n_new, out->member + config->n,
                 out->list + config->n);
    out->pb.n_new_members = config->n_new;
    out->pb.new_members = out->list + config->n;
}

static int read_members(Corallite__Member *const *from, size_t n, struct wal_member *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i].node_id = from[i]->node;
        int rc = msg_get16("disk id", from[i]->has_disk, &from[i]->disk, to[i].disk_uuid.b);
        if (rc)
            return rc;
    }
    return 0;
}

int msg_config_read(const Corallite__Config *pb, struct wal_config *out)
{
    struct wal_config config = {0};
    if (!pb) {
        *out = config;
        return 0;
    }
    if (pb->n_members > CO_MEMBERS_MAX || pb->n_new_members > CO_MEMBERS_MAX)
        return co_fail(CO_ERR_PROTOCOL,
                       "a configuration of %zu members and %zu new ones came; the limit is %d",
                       pb->n_members, pb->n_new_members, CO_MEMBERS_MAX);
    config.version = pb->version;
    config.n = (uint32_t)pb->n_members;
    config.n_new = (uint32_t)pb->n_new_members;
    int rc = read_members(pb->members, pb->n_members, config.members);
    if (!rc)
        rc = read_members(pb->new_members, pb->n_new_members, config.new_members);
    if (rc)
        return rc;
    if (wal_config_check(&config))
        return co_fail(CO_ERR_PROTOCOL, "a message came with a bad configuration: %s",
                       co_sentence());
    *out = config;
    return 0;
}

const char *msg_state_name(Corallite__TimelineState state)
{
    switch (state) {
    case CORALLITE__TIMELINE_STATE__TIMELINE_CREATING:
        return "creating";
    case CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE:
        return "active";
    case CORALLITE__TIMELINE_STATE__TIMELINE_SEALED:
        return "sealed";
    case CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED:
        return "dropped";
    default:
        return "unknown";
    }
}
