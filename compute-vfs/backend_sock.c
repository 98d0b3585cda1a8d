/* backend_sock.c - the default backend: pages and log over the network. */
#include "compute-vfs/backend.h"
#include "compute-vfs/pageserver_sock.h"
#include "compute-vfs/quorum_sock.h"

const struct cv_backend cv_backend_sock = {
    .pages = cv_pageserver_open,
    .log = cv_quorum_open,
};
