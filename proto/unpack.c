#include "proto/unpack.h"

#include <stdbool.h>
#include <stdlib.h>

/* What malloc adds to an allocation, about; so that many tiny ones are counted too. */
#define MALLOC_OVERHEAD_BYTES 16u

struct budget {
    size_t left;
    bool passed;
};

static void *alloc_some(void *data, size_t size)
{
    struct budget *budget = data;
    if (size > budget->left || budget->left - size < MALLOC_OVERHEAD_BYTES) {
        budget->passed = true;
        return NULL;
    }
    budget->left -= size + MALLOC_OVERHEAD_BYTES;
    return malloc(size);
}

static void free_some(void *data, void *memory)
{
    (void)data;
    free(memory);
}

void *message_unpack(const ProtobufCMessageDescriptor *type, struct co_span message)
{
    struct budget budget = {.left = UNPACK_BUDGET_MIN_BYTES};
    if (message.len > UNPACK_BUDGET_MIN_BYTES / UNPACK_BUDGET_FACTOR)
        budget.left = message.len * UNPACK_BUDGET_FACTOR;
    ProtobufCAllocator allocator = {
        .alloc = alloc_some, .free = free_some, .allocator_data = &budget};
    void *m = protobuf_c_message_unpack(type, &allocator, message.len, message.data);
    if (!m)
        (void)co_fail(CO_ERR_PROTOCOL, "%zu bytes that should be a message %s %s", message.len,
                      type->short_name,
                      budget.passed ? "would need far more memory than a sound one does"
                                    : "cannot be decoded; do both sides run the same release?");
    return m;
}
