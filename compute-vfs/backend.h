/*
 * backend.h - where the VFS gets its pages and its log from: the one place that knows both seams.
 * The default is the network (backend_sock.c); tests put an in-memory one in its place before the
 * first open.
 */
#ifndef CORALLITE_COMPUTE_VFS_BACKEND_H
#define CORALLITE_COMPUTE_VFS_BACKEND_H

#include "compute-vfs/log.h"
#include "compute-vfs/pages.h"

struct cv_backend {
    /* server: "HOST:PORT" of the pageserver. Connects lazily; does not fail for an absent server.
     */
    int (*pages)(const char *server, struct cv_pages **out);
    /* The log of a timeline. `events` is copied. Connects in the background. */
    int (*log)(const struct cv_timeline *timeline, const struct cv_log_events *events,
               struct cv_log **out);
};

extern const struct cv_backend cv_backend_sock;

/* The one in use; cv_backend_sock to begin with. */
const struct cv_backend *cv_backend(void);
void cv_backend_use(const struct cv_backend *backend);

#endif
