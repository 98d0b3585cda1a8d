/* followers_file.c - see followers_file.h. */
#include "safekeeper/followers_file.h"

#include "safekeeper/message_file.h"

#define PACKED_MAX_BYTES (8 * CO_KIB)

_Static_assert(SK_FOLLOWERS_MAX *(sizeof(struct sk_follower) + 16) <= PACKED_MAX_BYTES,
               "all of them fit");

static const struct sk_message_file file = {
    .name = "followers",
    .magic = "CORALFOL",
    .recovery = "remove it: every pageserver that runs says again that it follows",
    .type = &corallite__pageservers__descriptor,
    .max_bytes = PACKED_MAX_BYTES};

int sk_followers_load(const char *dir, struct sk_followers *out)
{
    ProtobufCMessage *m;
    *out = (struct sk_followers){0};
    int rc = sk_message_load(&file, dir, &m);
    if (rc)
        return rc == CO_ERR_NOT_FOUND ? 0 : rc;
    rc = sk_followers_from_wire((const Corallite__Pageservers *)m, out);
    protobuf_c_message_free_unpacked(m, NULL);
    return rc ? sk_message_damaged(&file, dir, "its content makes no sense") : 0;
}

int sk_followers_save(const char *dir, const struct sk_followers *followers)
{
    struct sk_followers_message m;
    sk_followers_to_wire(followers, &m);
    return sk_message_save(&file, dir, &m.pb.base);
}
