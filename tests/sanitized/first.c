/*
 * first.c - a library that is preloaded before the sanitizer's, for what stock programs do that
 * does not go with it.
 *
 * It is the first of all that is initialised (-z initfirst), and its call of malloc has the
 * sanitizer begin there. Else that happens at the first malloc of whatever library comes first:
 * p11-kit, which curl and newsboat load, makes a locale then, and holds the lock that the sanitizer
 * takes too when it asks for dlerror(); the lock is spoilt, and the program hangs in its first
 * setlocale(). PHP loads its extensions with RTLD_DEEPBIND, for which the sanitizer ends the
 * program; without it they are loaded like any other's. And what is loaded stays to the end, so
 * that a report can say whose memory it is about.
 */
#include <dlfcn.h>
#include <stdlib.h>

static void *volatile memory;

__attribute__((constructor)) static void begin(void)
{
    memory = malloc(1);
    free(memory);
}

__attribute__((visibility("default"))) void *dlopen(const char *file, int mode)
{
    void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return next(file, (mode & ~RTLD_DEEPBIND) | RTLD_NODELETE);
}
