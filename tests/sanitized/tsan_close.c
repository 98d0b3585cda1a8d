/*
 * tsan_close.c - ThreadSanitizer learns of the descriptors that libuv closes. It keeps by number
 * who used a descriptor, and forgets that at close(); but libuv closes by syscall(SYS_close), which
 * it does not see, and openat() it does not see either. So the next file of that number was
 * reported when another thread closed it: against a read of a socket that had long been gone.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) long syscall(long number, ...)
{
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long); /* as libc's own does: what was not given is not looked at */
    va_end(args);
    if (number == SYS_close)
        return close((int)a[0]);
    long (*libc)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return libc(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
