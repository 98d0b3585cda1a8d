#include "compute-vfs/errors.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/thread_memory.h"
#include "compute-vfs/sqlite.h"

static struct co_thread_memory of_threads;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char of_process[CO_SENTENCE_MAX];

__attribute__((constructor)) static void make_of_threads(void)
{
    co_thread_memory_make(&of_threads, CO_SENTENCE_MAX);
}

static int tell(int sqlite_code, const char *sentence)
{
    const char *where = getenv("CORALLITE_LOG");
    char *of_thread = co_thread_memory(&of_threads);

    if (of_thread)
        snprintf(of_thread, CO_SENTENCE_MAX, "%s", sentence);
    pthread_mutex_lock(&lock);
    snprintf(of_process, sizeof of_process, "%s", sentence);
    pthread_mutex_unlock(&lock);
    if (sqlite3_api) /* not before the extension has been taken in */
        sqlite3_log(sqlite_code, "corallite: %s", sentence);
    if (!where || strcmp(where, "off") != 0)
        fprintf(stderr, "corallite: %s\n", sentence);
    return sqlite_code;
}

int cv_report(int sqlite_code, const char *format, ...)
{
    char sentence[CO_SENTENCE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return tell(sqlite_code, sentence);
}

int cv_report_sentence(int sqlite_code)
{
    return tell(sqlite_code, co_sentence());
}

void cv_last_error(char out[CO_SENTENCE_MAX])
{
    const char *of_thread = co_thread_memory(&of_threads);

    if (of_thread && of_thread[0]) {
        memcpy(out, of_thread, CO_SENTENCE_MAX);
        return;
    }
    pthread_mutex_lock(&lock);
    memcpy(out, of_process, CO_SENTENCE_MAX);
    pthread_mutex_unlock(&lock);
}
