/*
 * quorum_sock.h - the log of one timeline over the network: cv_log_ops (log.h) around the proposer
 * core, with sockets to the safekeepers and one background thread.
 *
 * How a commit goes: the committing thread steps the core under the lock and writes to the sockets
 * by itself; no other thread has to wake for that. The acknowledgements come to the background
 * thread, which steps the core and tells the owner through `events`.
 *
 * Events are called on the background thread only, one at a time, in order (durable LSNs grow,
 * lost comes before resolved), with no lock of the log held. lead() returns only after the fate of
 * every earlier term of this log has been told, so a caller of lead() must not hold a lock that an
 * event needs; append(), release() and abandon() may be called with such a lock held.
 *
 * A lost term: the log goes on asking until it knows what was kept. A term that was given back in
 * good order ends with lost and resolved too, with everything kept.
 *
 * After fork() the child can do nothing with it but close(), which then says nothing to anybody: it
 * frees memory and closes descriptors, or leaves all as it is when a thread of the parent was just
 * changing it. Every other call fails or does nothing.
 */
#ifndef CORALLITE_COMPUTE_VFS_QUORUM_SOCK_H
#define CORALLITE_COMPUTE_VFS_QUORUM_SOCK_H

#include "compute-vfs/log.h"
#include "compute-vfs/pages.h"

CO_MUST_CHECK int cv_quorum_open(const struct cv_timeline *timeline,
                                 const struct cv_log_events *events, struct cv_log **out);

#endif
