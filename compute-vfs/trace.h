/*
 * trace.h - a tracing aid: when CORALLITE_TRACE_FD names an open file descriptor, one byte a step
 * of a commit is written to it, so that somebody outside can tell where a process was when it died.
 */
#ifndef CORALLITE_COMPUTE_VFS_TRACE_H
#define CORALLITE_COMPUTE_VFS_TRACE_H

enum cv_trace_event {
    CV_TRACE_COMMIT_FRAME = 'F', /* SQLite wrote the frame that commits; the record is built */
    CV_TRACE_SHIPPED = 'S',      /* the record was given to the log */
    CV_TRACE_WAITING = 'W',      /* COMMIT waits for the quorum */
    CV_TRACE_RETURNED = 'R',     /* COMMIT has its answer */
};

void cv_trace(enum cv_trace_event event);

#endif
