#include "common/assert.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"

void co_assert_failed(const char *text, const char *file, int line)
{
    if (co_log_format() == CO_LOG_JSON)
        co_error("assert", "assertion failed: %s (%s:%d)", text, file, line);
    else
        fprintf(stderr, "corallite: assertion failed: %s (%s:%d)\n", text, file, line);
    abort();
}
