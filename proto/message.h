/*
 * message.h - parts that several messages share, between protobuf and our own types. Pure.
 */
#ifndef CORALLITE_PROTO_MESSAGE_H
#define CORALLITE_PROTO_MESSAGE_H

#include "proto/corallite.pb-c.h"
#include "proto/wal.h"

/* An id, digest or the like of 16 bytes, borrowed from `bytes`, as a field. */
static inline ProtobufCBinaryData msg_bytes16(const uint8_t bytes[16])
{
    return (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)bytes};
}

/* Reads a field of 16 bytes; zero when it is absent. CO_ERR_PROTOCOL, naming the field `what`, for
 * any other length. */
CO_MUST_CHECK int msg_get16(const char *what, protobuf_c_boolean has,
                            const ProtobufCBinaryData *field, uint8_t out[16]);

/* A Config over memory of its own but for the disk ids, which borrow from the configuration. */
struct msg_config {
    Corallite__Config pb;
    Corallite__Member member[2 * CO_MEMBERS_MAX];
    Corallite__Member *list[2 * CO_MEMBERS_MAX];
};
/* Fills *out from `config`, which passes wal_config_check; &out->pb is the message. *out must not
 * be moved afterwards. */
void msg_config_fill(const struct wal_config *config, struct msg_config *out);
/* The configuration of a message; version 0 when `pb` is NULL. CO_ERR_PROTOCOL with a sentence. */
CO_MUST_CHECK int msg_config_read(const Corallite__Config *pb, struct wal_config *out);

/* "creating", "active" or "sealed", as people and JSON are told; "unknown" for what no list has. */
const char *msg_state_name(Corallite__TimelineState state);

#endif
