#include "safekeeper/followers.h"

#include <stdio.h>
#include <string.h>

#include "proto/message.h"

uint32_t sk_followers_find(const struct sk_followers *f, const struct co_id *disk)
{
    uint32_t i = 0;
    while (i < SK_FOLLOWERS_MAX && !co_id_eq(&f->e[i].disk, disk))
        i++;
    return i;
}

uint32_t sk_followers_count(const struct sk_followers *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < SK_FOLLOWERS_MAX; i++)
        n += !co_id_is_zero(&f->e[i].disk);
    return n;
}

int sk_followers_add(struct sk_followers *f, const struct co_id *disk, const char *address,
                     uint32_t *slot, bool *changed)
{
    static const struct co_id none;
    char text[CO_ID_TEXT];
    uint32_t i = sk_followers_find(f, disk);
    *changed = false;
    *slot = SK_FOLLOWERS_MAX;
    if (co_id_is_zero(disk))
        return co_fail(CO_ERR_PROTOCOL, "a pageserver that follows names no disk");
    if (i == SK_FOLLOWERS_MAX) {
        i = sk_followers_find(f, &none);
        if (i == SK_FOLLOWERS_MAX)
            return co_fail(CO_ERR_FULL,
                           "%u pageservers follow this safekeeper already, and %s is one more; "
                           "`corallite pageserver forget` takes one away that is gone for good",
                           SK_FOLLOWERS_MAX, co_id_format(disk, text));
        f->e[i] = (struct sk_follower){.disk = *disk};
        *changed = true;
    }
    if (address && strcmp(f->e[i].address, address) != 0 &&
        strlen(address) < sizeof f->e[i].address) {
        snprintf(f->e[i].address, sizeof f->e[i].address, "%s", address);
        *changed = true;
    }
    *slot = i;
    return 0;
}

void sk_followers_forget(struct sk_followers *f, uint32_t slot)
{
    f->e[slot] = (struct sk_follower){0};
}

lsn_t sk_followers_floor(const struct sk_followers *f, const lsn_t durable[SK_FOLLOWERS_MAX])
{
    lsn_t floor = LSN_NONE;
    for (uint32_t i = 0; i < SK_FOLLOWERS_MAX; i++) {
        if (co_id_is_zero(&f->e[i].disk))
            continue;
        if (durable[i] == LSN_NONE)
            return LSN_NONE;
        if (floor == LSN_NONE || durable[i] < floor)
            floor = durable[i];
    }
    return floor;
}

int sk_followers_from_wire(const Corallite__Pageservers *message, struct sk_followers *out)
{
    *out = (struct sk_followers){0};
    for (size_t i = 0; i < message->n_pageservers; i++) {
        const Corallite__Pageservers__One *one = message->pageservers[i];
        struct co_id disk;
        uint32_t slot;
        bool fresh;
        int rc = msg_get16("disk", one->has_disk, &one->disk, disk.b);
        if (!rc && (co_id_is_zero(&disk) || sk_followers_find(out, &disk) < SK_FOLLOWERS_MAX))
            rc = co_fail(CO_ERR_PROTOCOL, "a pageserver is listed twice, or without its disk");
        if (!rc)
            rc = sk_followers_add(out, &disk, one->address ? one->address : "", &slot, &fresh);
        if (rc)
            return CO_ERR_PROTOCOL;
    }
    return 0;
}

void sk_followers_to_wire(const struct sk_followers *f, struct sk_followers_message *out)
{
    corallite__pageservers__init(&out->pb);
    out->pb.pageservers = out->list;
    for (uint32_t i = 0; i < SK_FOLLOWERS_MAX; i++) {
        if (co_id_is_zero(&f->e[i].disk))
            continue;
        size_t n = out->pb.n_pageservers++;
        Corallite__Pageservers__One *one = out->list[n] = &out->one[n];
        corallite__pageservers__one__init(one);
        one->has_disk = 1;
        one->disk = msg_bytes16(f->e[i].disk.b);
        one->address = (char *)(uintptr_t)f->e[i].address;
        out->slot[n] = i;
    }
}
