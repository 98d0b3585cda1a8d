#include "common/thread_memory.h"

#include <errno.h>
#include <stdlib.h>

void co_thread_memory_make(struct co_thread_memory *m, size_t bytes)
{
    m->bytes = bytes;
    m->made = pthread_key_create(&m->key, free) == 0;
}

void *co_thread_memory(const struct co_thread_memory *m)
{
    void *mine = m->made ? pthread_getspecific(m->key) : NULL;
    int kept = errno;

    if (mine || !m->made)
        return mine;
    mine = calloc(1, m->bytes);
    if (mine && pthread_setspecific(m->key, mine) != 0) {
        free(mine);
        mine = NULL;
    }
    errno = kept;
    return mine;
}
