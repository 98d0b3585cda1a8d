#include "compute-vfs/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int fd = -1;

static void look(void)
{
    const char *text = getenv("CORALLITE_TRACE_FD");

    if (text && *text)
        fd = atoi(text);
}

void cv_trace(enum cv_trace_event event)
{
    char byte = (char)event;

    pthread_once(&once, look);
    if (fd >= 0 && write(fd, &byte, 1) != 1)
        fd = -1;
}
