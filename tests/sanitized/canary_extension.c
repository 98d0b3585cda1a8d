/*
 * canary_extension.c - the same mistakes as canary.c inside a stock program: a loadable extension
 * of SQLite that leaks and races as soon as it is loaded. So it is seen that a sanitized library in
 * a program that is not is watched.
 */
#include <pthread.h>
#include <sqlite3ext.h>
#include <stdlib.h>
SQLITE_EXTENSION_INIT1

int sqlite3_canaryextension_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);

static int shared;

static void *work(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        shared++;
    return NULL;
}

__attribute__((visibility("default"))) int
sqlite3_canaryextension_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    pthread_t a, b;
    char *volatile lost = malloc(4711);
    (void)db, (void)error;
    SQLITE_EXTENSION_INIT2(api);
    if (lost)
        lost[0] = 1;
    lost = NULL;
    if (pthread_create(&a, NULL, work, NULL) != 0 || pthread_create(&b, NULL, work, NULL) != 0)
        return SQLITE_ERROR;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return SQLITE_OK;
}
