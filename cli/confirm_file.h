/* confirm_file.h - what destroys asks first. */
#ifndef CORALLITE_CLI_CONFIRM_FILE_H
#define CORALLITE_CLI_CONFIRM_FILE_H

#include <stdbool.h>

#include "common/error.h"

/* 0 when `yes` (from --yes) or when somebody at a terminal types "yes". CO_ERR_CANCELED when they
 * type something else; CO_ERR_INVAL when there is no terminal to ask at. */
CO_MUST_CHECK int confirm(const char *question, bool yes);

#endif
