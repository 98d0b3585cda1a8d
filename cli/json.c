#include "cli/json.h"

#include <stdio.h>

int cli_print_json(json_t *value)
{
    int rc = 0;
    if (!value)
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    if (json_dumpf(value, stdout, JSON_INDENT(2)) != 0 || fputc('\n', stdout) == EOF)
        rc = co_fail(CO_ERR_IO, "the answer cannot be written");
    json_decref(value);
    return rc;
}
