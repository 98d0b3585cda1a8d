#include <criterion/criterion.h>

#include "common/id.h"
#include "tests/unit/proto/random.h"

TestSuite(id, .timeout = 20);

Test(id, prints_and_reads_itself)
{
    struct rnd r = rnd_begin("id");
    for (int i = 0; i < 5000; i++) {
        struct co_id id, got;
        char text[CO_ID_TEXT];
        rnd_fill(&r, id.b, sizeof id.b);
        cr_assert_eq(strlen(co_id_format(&id, text)), 32);
        cr_assert_eq(co_id_parse(text, &got), 0);
        cr_assert(co_id_eq(&id, &got));
        got.b[rnd_below(&r, 16)] ^= (uint8_t)(1 + rnd_below(&r, 255));
        cr_assert_not(co_id_eq(&id, &got));
    }
}

Test(id, has_these_very_digits)
{
    struct co_id id;
    char text[CO_ID_TEXT];
    cr_assert_eq(co_id_parse("00112233445566778899aAbBcCdDeEfF", &id), 0);
    for (int i = 0; i < 16; i++)
        cr_assert_eq(id.b[i], 0x11 * i);
    cr_assert_str_eq(co_id_format(&id, text), "00112233445566778899aabbccddeeff");
}

Test(id, zero_is_told_from_all_others)
{
    struct co_id id = {{0}};
    cr_assert(co_id_is_zero(&id));
    for (int i = 0; i < 16; i++) {
        id.b[i] = 1;
        cr_assert_not(co_id_is_zero(&id));
        id.b[i] = 0;
    }
}

Test(id, anything_but_32_hex_digits_is_refused)
{
    static const char *const rows[] = {
        "",
        "0",
        "00112233445566778899aabbccddeef",
        "00112233445566778899aabbccddeeff0",
        "00112233445566778899aabbccddeefg",
        "g0112233445566778899aabbccddeeff",
        "0x112233445566778899aabbccddeeff",
        " 0112233445566778899aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddeeff",
        "00112233445566778899aabbccddeef/",
        "00112233445566778899aabbccddeef:",
        "00112233445566778899aabbccddeef@",
        "00112233445566778899aabbccddeef`",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct co_id id = {{7}}, before = id;
        cr_expect_eq(co_id_parse(rows[i], &id), CO_ERR_INVAL, "'%s'", rows[i]);
        cr_expect(co_id_eq(&id, &before), "'%s' left something behind", rows[i]);
    }
}
