/* import_file.h - a new database made of a file, or of a moment of another database. */
#ifndef CORALLITE_CLI_IMPORT_FILE_H
#define CORALLITE_CLI_IMPORT_FILE_H

#include "cli/args.h"
#include "common/error.h"

/* One of `file` and `reference` is NULL. Prints what it did. CO_ERR_EXISTS: the name is taken. */
CO_MUST_CHECK int import_database(const struct cli_args *args, const char *file,
                                  const char *reference, const char *name);

#endif
