/* followers_file.c - see followers_file.h. */
#include "safekeeper/followers_file.h"

#include "proto/unpack.h"
#include "safekeeper/message_file.h"

#define PACKED_MAX_BYTES (8 * CO_KIB)

_Static_assert(SK_FOLLOWERS_MAX *(sizeof(struct sk_follower) + 16) <= PACKED_MAX_BYTES,
               "all of them fit");

static const struct sk_message_file file = {
    .name = "followers",
    .magic = "CORALFOL",
    .recovery = "remove it: every pageserver that runs says again that it follows",
    .max_bytes = PACKED_MAX_BYTES};

static int parse(const char *dir, struct co_span message, struct sk_followers *out)
{
    Corallite__Pageservers *m = message_unpack(&corallite__pageservers__descriptor, message);
    if (!m)
        return sk_message_damaged(&file, dir, "its content cannot be decoded");
    int rc = sk_followers_from_wire(m, out);
    corallite__pageservers__free_unpacked(m, NULL);
    return rc ? sk_message_damaged(&file, dir, "its content makes no sense") : 0;
}

int sk_followers_load(const char *dir, struct sk_followers *out)
{
    struct co_buf buf = {0};
    struct co_span message;
    *out = (struct sk_followers){0};
    int rc = sk_message_load(&file, dir, &buf, &message);
    if (!rc)
        rc = parse(dir, message, out);
    co_buf_free(&buf);
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int sk_followers_save(const char *dir, const struct sk_followers *followers)
{
    struct co_buf buf = {0};
    struct sk_followers_message m;
    sk_followers_to_wire(followers, &m);
    int rc = co_buf_reserve(&buf, SK_MESSAGE_HEADER_BYTES +
                                      corallite__pageservers__get_packed_size(&m.pb));
    if (!rc) {
        buf.len = SK_MESSAGE_HEADER_BYTES +
                  corallite__pageservers__pack(&m.pb, buf.data + SK_MESSAGE_HEADER_BYTES);
        rc = sk_message_save(&file, dir, &buf);
    }
    co_buf_free(&buf);
    return rc;
}
