/* down_file.h - stopping the daemons of a local cluster. */
#ifndef CORALLITE_CLI_DOWN_FILE_H
#define CORALLITE_CLI_DOWN_FILE_H

#include <stdbool.h>

#include "cli/cluster.h"

/* SIGTERM to the nodes of `which` (NULL: all), then waits until they have ended. CO_ERR_TIMEOUT
 * with a sentence naming those that have not; nothing is killed. */
CO_MUST_CHECK int down_stop(const struct cluster *c, unsigned timeout_ms,
                            const bool which[CLUSTER_NODES_MAX]);

#endif
