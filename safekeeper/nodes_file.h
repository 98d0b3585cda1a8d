/*
 * nodes_file.h - the safekeeper's copy of who the safekeepers are (proto/nodes.h).
 *
 * DIR/nodes, replaced as a whole; absent: members were never changed.
 * As message_file.h: magic "CORALNOD", a packed Nodes message.
 *
 * Threads: the opener, then any one at a time.
 */
#ifndef CORALLITE_SAFEKEEPER_NODES_FILE_H
#define CORALLITE_SAFEKEEPER_NODES_FILE_H

#include "proto/nodes.h"
#include "safekeeper/io_file.h"

/* *out is empty when there is no file. CO_ERR_CORRUPT, CO_ERR_VERSION, CO_ERR_IO. */
CO_MUST_CHECK int sk_nodes_load(const char *dir, struct nodes *out);
CO_MUST_CHECK int sk_nodes_save(const char *dir, const struct nodes *nodes);

#endif
