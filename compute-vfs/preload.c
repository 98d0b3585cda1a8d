/*
 * preload.c - LD_PRELOAD=corallite.so: the VFS in programs that load no extension.
 *
 * The library stands before libsqlite3 and sees sqlite3_open, sqlite3_open_v2 and sqlite3_open16
 * first. At the first of them it does what loading the extension does, and then lets the program's
 * own SQLite open. Not earlier: registering a VFS initialises SQLite, and a program may still want
 * to call sqlite3_config() (S20). SQLite's table of functions comes from SQLite itself: our entry
 * point is an automatic extension for the length of one connection to :memory:.
 *
 * The same file is a loadable extension, and SQLite loads those with RTLD_GLOBAL: then a library
 * that is loaded later may find its sqlite3_open here. So where the entry point ran before, these
 * functions hand the call on and do nothing else.
 *
 * Whose sqlite3_open? The next one after ours, as the linker sees it; where there is none (SQLite
 * came with a module that keeps it for itself, as Python's does) the one that the caller was linked
 * with.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include <sqlite3.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/preload.h"

#define PUBLIC __attribute__((visibility("default")))

typedef int open_fn(const char *, sqlite3 **);
typedef int open16_fn(const void *, sqlite3 **);
typedef int open_v2_fn(const char *, sqlite3 **, int, const char *);
typedef int auto_fn(void (*)(void));
typedef int close_fn(sqlite3 *);
typedef const char *errmsg_fn(sqlite3 *);

enum state {
    NOT_YET,
    READY,
    FAILED,   /* told; who asked for plain paths must not get ordinary files instead */
    HANDS_ON, /* it is an ordinary extension of this process */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum state state; /* atomic; written under lock */
static void *served;     /* sqlite3_auto_extension of the SQLite that we serve; under lock */
static _Thread_local bool inside;

/* -- finding SQLite ------------------------------------------------------------------------------
 */

static void *in_library(const char *file, const char *name)
{
    void *library = dlopen(file, RTLD_LAZY | RTLD_NOLOAD), *found = NULL;

    if (library) {
        found = dlsym(library, name);
        dlclose(library); /* it stays: somebody else loaded it */
    }
    return found;
}

static void *find(const char *name, const void *caller)
{
    void *found = dlsym(RTLD_NEXT, name);
    Dl_info info;

    if (!found && dladdr(caller, &info) && info.dli_fname)
        found = in_library(info.dli_fname, name);
    if (!found)
        found = in_library("libsqlite3.so.0", name);
    (void)dlerror(); /* what we did not find is no message for the program */
    return found;
}

/* POSIX lets a pointer to a function come as one to an object; C has no cast for it. */
#define FUNCTION(type, name, caller)                                                               \
    (((union {                                                                                     \
         void *object;                                                                             \
         type *function;                                                                           \
     }){.object = find(name, caller)})                                                             \
         .function)

/* -- the first open ------------------------------------------------------------------------------
 */

static enum state begin(const void *caller)
{
    auto_fn *add = FUNCTION(auto_fn, "sqlite3_auto_extension", caller);
    auto_fn *cancel = FUNCTION(auto_fn, "sqlite3_cancel_auto_extension", caller);
    open_fn *open_it = FUNCTION(open_fn, "sqlite3_open", caller);
    close_fn *close_it = FUNCTION(close_fn, "sqlite3_close", caller);
    errmsg_fn *errmsg = FUNCTION(errmsg_fn, "sqlite3_errmsg", caller);
    sqlite3 *db = NULL;
    int rc;

    if (cv_extension_serves())
        return HANDS_ON;
    if (!add || !cancel || !open_it || !close_it || !errmsg) {
        cv_report(SQLITE_ERROR,
                  "preloaded, but SQLite's functions cannot be found from where it was "
                  "called: it must be a shared library");
        return FAILED;
    }
    served = find("sqlite3_auto_extension", caller);
    rc = add((void (*)(void))sqlite3_corallite_init);
    if (rc == SQLITE_OK)
        rc = open_it(":memory:", &db);
    if (rc != SQLITE_OK)
        cv_report(rc, "preloaded, but not to be used here: %s", db ? errmsg(db) : "out of memory");
    else if (!cv_extension_serves())
        rc = cv_report(SQLITE_ERROR, "preloaded, but this SQLite knows no loadable extensions");
    close_it(db);
    cancel((void (*)(void))sqlite3_corallite_init);
    return rc == SQLITE_OK ? READY : FAILED;
}

/* A program may have two SQLites; ours is the one that opened something first. */
static bool another_sqlite(const void *caller)
{
    static bool told;
    bool other = find("sqlite3_auto_extension", caller) != served;

    pthread_mutex_lock(&lock);
    if (other && !told)
        cv_report(SQLITE_WARNING, "this process has a second SQLite library; its databases are "
                                  "ordinary files");
    told = told || other;
    pthread_mutex_unlock(&lock);
    return other;
}

/* SQLITE_OK: hand the call on. */
static int prepare(const void *caller)
{
    enum state now = __atomic_load_n(&state, __ATOMIC_ACQUIRE);
    const char *globs;

    if (inside || now == HANDS_ON)
        return SQLITE_OK;
    inside = true;
    if (now == NOT_YET) {
        pthread_mutex_lock(&lock);
        if (state == NOT_YET)
            __atomic_store_n(&state, begin(caller), __ATOMIC_RELEASE);
        now = state;
        pthread_mutex_unlock(&lock);
    }
    /* sqlite3_shutdown() forgets extensions and the default VFS. */
    if (now == READY && !another_sqlite(caller) && cv_extension_preloaded() != SQLITE_OK)
        now = FAILED;
    inside = false;
    globs = getenv("CORALLITE_DEFAULT");
    return now == FAILED && globs && *globs ? SQLITE_CANTOPEN : SQLITE_OK;
}

/* -- what the program calls ----------------------------------------------------------------------
 */

/* The reason was told by begin(). */
static int refuse(sqlite3 **db, int rc)
{
    *db = NULL;
    return rc ? rc : SQLITE_ERROR;
}

PUBLIC int sqlite3_open(const char *name, sqlite3 **db)
{
    const void *caller = __builtin_return_address(0);
    int rc = prepare(caller);
    open_fn *real = FUNCTION(open_fn, "sqlite3_open", caller);

    if (!real || rc != SQLITE_OK)
        return refuse(db, rc);
    return real(name, db);
}

PUBLIC int sqlite3_open16(const void *name, sqlite3 **db)
{
    const void *caller = __builtin_return_address(0);
    int rc = prepare(caller);
    open16_fn *real = FUNCTION(open16_fn, "sqlite3_open16", caller);

    if (!real || rc != SQLITE_OK)
        return refuse(db, rc);
    return real(name, db);
}

PUBLIC int sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs)
{
    const void *caller = __builtin_return_address(0);
    int rc = prepare(caller);
    open_v2_fn *real = FUNCTION(open_v2_fn, "sqlite3_open_v2", caller);

    if (!real || rc != SQLITE_OK)
        return refuse(db, rc);
    return real(name, db, flags, vfs);
}
