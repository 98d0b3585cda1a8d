/*
 * generation.h - has this process been forked since? Asked before a lock is taken that a thread of
 * the parent may have held, so on every path of every call: it costs no system call, as getpid()
 * does. A child that was made past the C library (raw clone) is not noticed.
 */
#ifndef CORALLITE_COMPUTE_VFS_GENERATION_H
#define CORALLITE_COMPUTE_VFS_GENERATION_H

/* Counts forks from 1 on; any thread. Whoever remembers it is in a child once it differs. */
unsigned cv_generation(void);

#endif
