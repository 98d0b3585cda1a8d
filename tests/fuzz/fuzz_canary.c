/* fuzz_canary.c - a decoder with a mistake: it must be found, or the others' silence means nothing.
 * "COR", a length, and one byte too many is read when the length is all that is there. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5 || memcmp(data, "COR", 3) != 0)
        return 0;
    AUTO_FREE uint8_t *exact = fuzz_copy(co_span_of(data, size), false);
    unsigned sum = 0;
    for (unsigned i = 0; i <= exact[3]; i++) /* wrong: 4 + i < size is never asked */
        sum += exact[4 + i];
    return sum == 0x12345 ? 1 : 0;
}
