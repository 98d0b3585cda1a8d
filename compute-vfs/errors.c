#include "compute-vfs/errors.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/sqlite.h"

static _Thread_local char of_thread[CO_SENTENCE_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char of_process[CO_SENTENCE_MAX];

static int tell(int sqlite_code)
{
    const char *where = getenv("CORALLITE_LOG");

    pthread_mutex_lock(&lock);
    memcpy(of_process, of_thread, sizeof of_process);
    pthread_mutex_unlock(&lock);
    if (sqlite3_api) /* not before the extension has been taken in */
        sqlite3_log(sqlite_code, "corallite: %s", of_thread);
    if (!where || strcmp(where, "off") != 0)
        fprintf(stderr, "corallite: %s\n", of_thread);
    return sqlite_code;
}

int cv_report(int sqlite_code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(of_thread, sizeof of_thread, format, args);
    va_end(args);
    return tell(sqlite_code);
}

int cv_report_sentence(int sqlite_code)
{
    snprintf(of_thread, sizeof of_thread, "%s", co_sentence());
    return tell(sqlite_code);
}

void cv_last_error(char out[CO_SENTENCE_MAX])
{
    if (of_thread[0]) {
        memcpy(out, of_thread, CO_SENTENCE_MAX);
        return;
    }
    pthread_mutex_lock(&lock);
    memcpy(out, of_process, CO_SENTENCE_MAX);
    pthread_mutex_unlock(&lock);
}
