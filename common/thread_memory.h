/*
 * thread_memory.h - a piece of memory for each thread, in place of _Thread_local.
 *
 * The C library allocates the thread-local variables of a library that is loaded at run time when a
 * thread first touches them, and ends the process when there is no memory. That process is somebody
 * else's: here the caller hears about it. Freed when the thread ends.
 */
#ifndef CORALLITE_COMMON_THREAD_MEMORY_H
#define CORALLITE_COMMON_THREAD_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct co_thread_memory {
    size_t bytes;
    pthread_key_t key;
    bool made;
};

/* Once, before any thread asks: from a constructor. */
void co_thread_memory_make(struct co_thread_memory *m, size_t bytes);
/* This thread's, zeros at first. NULL: no memory. Keeps errno. */
void *co_thread_memory(const struct co_thread_memory *m);

#endif
