/* queue.h - what turn.c needs of queue.c. All with the database's lock held. */
#ifndef CORALLITE_COMPUTE_VFS_QUEUE_H
#define CORALLITE_COMPUTE_VFS_QUEUE_H

#include "compute-vfs/database.h"

/* A place in the queue, or the one that it has; h was seen now. */
void cv_queue_add(struct cv_database *db, struct cv_handle *h);
/* Takes h out of queue and reservation. */
void cv_queue_remove(struct cv_database *db, struct cv_handle *h);
/* The turn, which is free, is reserved for h; who sleeps for it is woken. */
void cv_queue_reserve(struct cv_database *db, struct cv_handle *h, uint64_t now);
/* The turn is free: it goes to the first who is still there. */
void cv_queue_next(struct cv_database *db);
/* Ends a reservation whose time has come. */
void cv_queue_lapse(struct cv_database *db);

#endif
