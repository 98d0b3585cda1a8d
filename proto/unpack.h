/*
 * unpack.h - protobuf messages from untrusted bytes, with a budget.
 *
 * protobuf-c copies every field and submessage into memory of its own: a megabyte of empty
 * submessages becomes sixty. Here unpacking stops at UNPACK_BUDGET_FACTOR times the input (and
 * never below UNPACK_BUDGET_MIN_BYTES), which every message of ours stays far below.
 */
#ifndef CORALLITE_PROTO_UNPACK_H
#define CORALLITE_PROTO_UNPACK_H

#include <protobuf-c/protobuf-c.h>

#include "common/bytes.h"

#define UNPACK_BUDGET_MIN_BYTES ((size_t)65536)
#define UNPACK_BUDGET_FACTOR    16

/* NULL and a sentence (CO_ERR_PROTOCOL is its code) when the bytes are no message of this type or
 * pass the budget. The caller's to free with protobuf_c_message_free_unpacked(m, NULL). */
void *message_unpack(const ProtobufCMessageDescriptor *type, struct co_span message);

#endif
