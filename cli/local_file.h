/* local_file.h - what `safekeeper replace` leaves to be done in a local cluster. */
#ifndef CORALLITE_CLI_LOCAL_FILE_H
#define CORALLITE_CLI_LOCAL_FILE_H

#include "cli/cluster.h"

/* Safekeeper `old` was replaced: if it is one of this cluster it is stopped, and not known any
 * more. Says on standard error what was done, or why not. */
void local_replaced(const struct cluster *known, uint32_t old);

#endif
