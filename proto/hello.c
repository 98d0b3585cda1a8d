#include "proto/hello.h"

#include <stdio.h>
#include <string.h>

#include "common/id.h"
#include "proto/limits.h"

int hello_check_range(const Corallite__Hello *hello)
{
    uint32_t min = hello->has_protocol_min ? hello->protocol_min : CO_PROTOCOL_VERSION;
    uint32_t max = hello->has_protocol_max ? hello->protocol_max : CO_PROTOCOL_VERSION;
    if (min <= CO_PROTOCOL_VERSION && CO_PROTOCOL_VERSION <= max)
        return 0;
    return co_fail(
        CO_ERR_VERSION,
        "the caller speaks protocol %u to %u and this build speaks %u; run releases that "
        "belong together",
        min, max, CO_PROTOCOL_VERSION);
}

static int check_id(const char *what, int code, protobuf_c_boolean want_it,
                    const ProtobufCBinaryData *want, protobuf_c_boolean have_it,
                    const ProtobufCBinaryData *have, const char *address)
{
    struct co_id a, b;
    char text_a[CO_ID_TEXT], text_b[CO_ID_TEXT];
    if (!want_it || want->len != sizeof a.b)
        return 0;
    memcpy(a.b, want->data, sizeof a.b);
    if (co_id_is_zero(&a))
        return 0;
    if (!have_it || have->len != sizeof b.b)
        return co_fail(CO_ERR_PROTOCOL, "%s answered Hello without its %s", address, what);
    memcpy(b.b, have->data, sizeof b.b);
    if (co_id_eq(&a, &b))
        return 0;
    return co_fail(code,
                   "%s %s was wanted at %s, but %s is there; check the address, and that its data "
                   "directory was not exchanged",
                   what, co_id_format(&a, text_a), address, co_id_format(&b, text_b));
}

int hello_check_answer(const Corallite__Hello *hello, const Corallite__HelloOk *ok,
                       const char *address)
{
    if (ok->has_protocol && ok->protocol != CO_PROTOCOL_VERSION)
        return co_fail(CO_ERR_VERSION,
                       "%s chose protocol %u and this build speaks %u; run releases that belong "
                       "together",
                       address, ok->protocol, CO_PROTOCOL_VERSION);
    int rc = check_id("cluster", CO_ERR_CLUSTER, hello->has_cluster, &hello->cluster,
                      ok->has_cluster, &ok->cluster, address);
    if (rc)
        return rc;
    if (hello->has_expect_node && hello->expect_node && ok->node != hello->expect_node)
        return co_fail(CO_ERR_NODE,
                       "safekeeper %u was wanted at %s, but node %u is there; check the addresses",
                       hello->expect_node, address, ok->node);
    return check_id("disk", CO_ERR_NODE, hello->has_expect_disk, &hello->expect_disk, ok->has_disk,
                    &ok->disk, address);
}

const char *hello_wanted(const Corallite__Hello *hello, char text[32])
{
    if (hello->has_expect_node && hello->expect_node) {
        snprintf(text, 32, "safekeeper %u", hello->expect_node);
        return text;
    }
    if (hello->has_role && hello->role == CORALLITE__ROLE__ROLE_PAGESERVER)
        return "a safekeeper";
    return "the pageserver";
}

int error_take(const Corallite__Error *error, const char *address)
{
    char text[CO_SENTENCE_MAX - 64];
    int code = error->has_code ? error->code : 0;
    if (code >= 0 || strcmp(co_error_name(code), "?") == 0)
        return co_fail(CO_ERR_PROTOCOL, "%s answered with an error of an unknown code (%d)",
                       address, code);
    const char *said = error->sentence && *error->sentence ? error->sentence : co_error_text(code);
    snprintf(text, sizeof text, "%s", said);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return co_fail(code, "%s", text);
}
