#include "common/id.h"

char *co_id_format(const struct co_id *id, char text[CO_ID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        text[2 * i] = hex[id->b[i] >> 4];
        text[2 * i + 1] = hex[id->b[i] & 15];
    }
    text[32] = 0;
    return text;
}

int co_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int co_id_parse(const char *text, struct co_id *out)
{
    struct co_id id;
    if (strlen(text) != 32)
        return co_fail(CO_ERR_INVAL, "an id is 32 hex digits; '%.40s' is not", text);
    for (int i = 0; i < 16; i++) {
        int hi = co_hex_digit(text[2 * i]), lo = co_hex_digit(text[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return co_fail(CO_ERR_INVAL, "an id is 32 hex digits; '%.40s' is not", text);
        id.b[i] = (uint8_t)(hi << 4 | lo);
    }
    *out = id;
    return 0;
}
