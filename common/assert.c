#include "common/assert.h"

#include <stdio.h>
#include <stdlib.h>

void co_assert_failed(const char *text, const char *file, int line)
{
    fprintf(stderr, "corallite: assertion failed: %s (%s:%d)\n", text, file, line);
    abort();
}
