/*
 * first.c - a library that is preloaded beside the sanitizer's, and is the first of all that is
 * initialised (-z initfirst). Its call of malloc has the sanitizer begin here. Else that happens at
 * the first malloc of whatever library comes first: p11-kit, which curl and newsboat load, makes a
 * locale then, and holds the lock that the sanitizer takes too when it asks for dlerror(); the lock
 * is spoilt, and the program hangs in its first setlocale().
 */
#include <stdlib.h>

static void *volatile memory;

__attribute__((constructor)) static void begin(void)
{
    memory = malloc(1);
    free(memory);
}
