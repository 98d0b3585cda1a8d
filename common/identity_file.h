/*
 * identity_file.h - who a data directory is: its cluster, its node, its disk.
 *
 * DIR/identity, written once (temporary file, fsync, rename, fsync of the directory), 128 bytes:
 *    0   8  magic "CORALID1"
 *    8   4  format version (1)
 *   12   4  node id (0: a pageserver)
 *   16  16  cluster id
 *   32  16  disk uuid, drawn when the directory was made
 *   48  16  role, text: "safekeeper", "pageserver"
 *   64  60  zero
 *  124   4  CRC-32C of the bytes before
 *
 * The directory is locked (flock on DIR/lock) for as long as the process lives.
 */
#ifndef CORALLITE_COMMON_IDENTITY_FILE_H
#define CORALLITE_COMMON_IDENTITY_FILE_H

#include <stdbool.h>

#include "common/id.h"

struct co_identity {
    struct co_id cluster, disk;
    uint32_t node;
    char role[16];
    int lock_fd;
    bool fresh; /* made by this call */
};

/* Opens `dir`, making it (mode 0700, parents too) when absent. `cluster` may be NULL where the
 * directory has an identity already; it is required for a new one. Refuses, each with a sentence:
 * another cluster (CO_ERR_CLUSTER), node or role (CO_ERR_NODE), a newer format (CO_ERR_VERSION),
 * damage (CO_ERR_CORRUPT), a directory that another process uses (CO_ERR_BUSY), a directory without
 * identity that is not empty (CO_ERR_EXISTS). After a failure *out may be closed, and nothing is.
 */
CO_MUST_CHECK int co_identity_open(const char *dir, const char *role, uint32_t node,
                                   const struct co_id *cluster, struct co_identity *out);
void co_identity_close(struct co_identity *identity);

#endif
