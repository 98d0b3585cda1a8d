/* json.h - one JSON value on standard output. */
#ifndef CORALLITE_CLI_JSON_H
#define CORALLITE_CLI_JSON_H

#include <jansson.h>

#include "common/error.h"

/* Prints the value and a line end, and lets go of it. CO_ERR_NOMEM for NULL, CO_ERR_IO. */
CO_MUST_CHECK int cli_print_json(json_t *value);

#endif
