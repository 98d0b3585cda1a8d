/*
 * ubsan_log.c - gcc's UBSan writes to stderr whatever log_path says when ASan is in the process
 * too: both libraries have a function that sets the path, and only ASan's is called. So stderr
 * becomes the file just before a report is written; after it the process ends.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void __ubsan_on_report(void);

__attribute__((visibility("default"))) void __ubsan_on_report(void)
{
    const char *options = getenv("UBSAN_OPTIONS"),
               *path = options ? strstr(options, "log_path=") : NULL;
    char name[512];

    if (!path)
        return;
    path += strlen("log_path=");
    snprintf(name, sizeof name, "%.*s.ubsan.%d", (int)strcspn(path, ":"), path, (int)getpid());
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
        dup2(fd, STDERR_FILENO);
        close(fd);
    }
}
