/*
 * default.c - sqlite3_vfs "corallite-default": for programs and drivers that hand over plain paths.
 *
 * As the process's default VFS it decides once, in xFullPathname, whose a name is, and writes the
 * decision into the name: what is ours becomes corallite:DB/BRANCH[@LSN] (S17), anything else is
 * what the platform's VFS makes of it, which always begins with a /. All later calls only look at
 * that, so a database, its -wal and its -journal can never go different ways.
 *
 *   corallite:DB[/BRANCH][@LSN]        ours
 *   ...file:DB...?...vfs=corallite...  ours: a URI that the driver took for a path
 *   a path that a pattern matches      ours, if no file with content lies there
 * (proto/plain_path.h) all others                         the platform's
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"
#include "proto/name.h"
#include "proto/plain_path.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char patterns[PLAIN_PATTERNS_MAX_BYTES + 1]; /* under lock; "": no path matches */
static bool wanted;                                 /* under lock */

static sqlite3_vfs *for_name(const char *name)
{
    return name && cv_uri_is_path(name) ? cv_vfs_ours() : cv_vfs_platform();
}

/* -- names ---------------------------------------------------------------------------------------
 */

/* Branch and moment of all plain paths of the process: such a program cannot name them itself. */
static int from_environment(struct cv_uri *uri)
{
    const char *branch = getenv("CORALLITE_BRANCH"), *at = getenv("CORALLITE_AT");
    char sentence[CO_SENTENCE_MAX];
    int rc = 0;

    if (branch && *branch) {
        rc = name_check(branch);
        if (!rc)
            snprintf(uri->branch, sizeof uri->branch, "%s", branch);
    }
    if (!rc && at && *at)
        rc = cv_uri_param(uri, "at", at);
    if (!rc)
        return 0;
    memcpy(sentence, co_sentence(), sizeof sentence);
    return co_fail(rc, "CORALLITE_BRANCH or CORALLITE_AT in the environment: %.900s", sentence);
}

/* Two contents for one path would be a trap: which of them the program sees must be plain. */
static int refuse_file(const char *path, const struct cv_uri *uri)
{
    sqlite3_vfs *platform = cv_vfs_platform();
    int there = 0;

    if (platform->xAccess(platform, path, SQLITE_ACCESS_EXISTS, &there) != SQLITE_OK || !there)
        return 0;
    return co_fail(CO_ERR_EXISTS,
                   "%s is a file with content, and its path stands for the Corallite database %s: "
                   "take it in with `corallite import %s %s` unless it was already, then move it "
                   "away",
                   path, uri->db, path, uri->db);
}

static int of_path(sqlite3_filename name, const char *path, struct cv_uri *uri)
{
    int rc = cv_conn_parameters(name, true, uri);

    if (rc)
        return rc;
    plain_path_database(path, uri->db);
    snprintf(uri->branch, sizeof uri->branch, "main");
    rc = refuse_file(path, uri);
    return rc ? rc : from_environment(uri);
}

static int of_text(sqlite3_filename name, const char *text, struct cv_uri *uri)
{
    int rc = cv_conn_parameters(name, true, uri);

    return rc ? rc : cv_uri_text(uri, text);
}

/* 0 or CO_ERR_*; *ours: uri is filled in. */
static int decide(sqlite3_filename name, const char *path, bool *ours, struct cv_uri *uri)
{
    const char *text = cv_uri_within(name);

    *ours = true;
    if (cv_uri_is_path(name))
        return cv_conn_uri(name, uri);
    if (text)
        return of_text(name, text, uri);
    pthread_mutex_lock(&lock);
    *ours = plain_path_matches(patterns, path);
    pthread_mutex_unlock(&lock);
    return *ours ? of_path(name, path, uri) : 0;
}

static int default_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    sqlite3_vfs *platform = cv_vfs_platform();
    char identity[CV_PATH_MAX];
    struct cv_uri uri;
    bool ours;
    int rc = platform->xFullPathname(platform, name, n, out), failed;

    (void)vfs;
    if ((rc & 0xff) != SQLITE_OK && !cv_uri_is_path(name) && !cv_uri_within(name))
        return rc;
    failed = decide(name, out, &ours, &uri);
    if (!ours)
        return rc;
    if (failed || cv_moment_of_uri(&uri))
        return cv_report_sentence(SQLITE_CANTOPEN);
    cv_uri_filename(&uri, identity);
    if ((int)strlen(identity) >= n)
        return SQLITE_CANTOPEN;
    snprintf(out, (size_t)n, "%s", identity);
    return (rc & 0xff) == SQLITE_OK ? rc : SQLITE_OK; /* SQLITE_OK_SYMLINK is for SQLite to judge */
}

static int default_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                        int *out_flags)
{
    sqlite3_vfs *to = for_name(name);

    (void)vfs;
    return to->xOpen(to, name, file, flags, out_flags);
}

static int default_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    sqlite3_vfs *to = for_name(name);

    (void)vfs;
    return to->xDelete(to, name, sync_dir);
}

static int default_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    sqlite3_vfs *to = for_name(name);

    (void)vfs;
    return to->xAccess(to, name, flags, out);
}

/* -- registration --------------------------------------------------------------------------------
 */

static sqlite3_vfs shim = {
    .zName = CV_VFS_DEFAULT,
    .xOpen = default_open,
    .xDelete = default_delete,
    .xAccess = default_access,
    .xFullPathname = default_full_pathname,
};

/* What is not about names is the same for both. Once, with the lock held. */
static void complete(const sqlite3_vfs *ours, const sqlite3_vfs *platform)
{
    shim.iVersion = ours->iVersion;
    shim.szOsFile = ours->szOsFile;
    shim.mxPathname =
        ours->mxPathname > platform->mxPathname ? ours->mxPathname : platform->mxPathname;
    shim.xDlOpen = ours->xDlOpen;
    shim.xDlError = ours->xDlError;
    shim.xDlSym = ours->xDlSym;
    shim.xDlClose = ours->xDlClose;
    shim.xRandomness = ours->xRandomness;
    shim.xSleep = ours->xSleep;
    shim.xCurrentTime = ours->xCurrentTime;
    shim.xCurrentTimeInt64 = ours->xCurrentTimeInt64;
    shim.xGetLastError = ours->xGetLastError;
}

static int make_default(void)
{
    sqlite3_vfs *platform = cv_vfs_platform(), *now = sqlite3_vfs_find(NULL);
    bool first;

    pthread_mutex_lock(&lock);
    first = shim.szOsFile == 0;
    if (first)
        complete(cv_vfs_ours(), platform);
    pthread_mutex_unlock(&lock);
    /* A default that the program has chosen since is its own affair. */
    if (now == &shim || (now != platform && !first) || sqlite3_vfs_register(&shim, 1) == SQLITE_OK)
        return 0;
    return co_fail(CO_ERR_NOMEM, "SQLite takes no other VFS");
}

int cv_default_set(const char *text)
{
    int rc = *text ? plain_path_check(text) : 0; /* "": whole URIs only */

    if (rc)
        return rc;
    pthread_mutex_lock(&lock);
    memcpy(patterns, text, strlen(text) + 1);
    wanted = true;
    pthread_mutex_unlock(&lock);
    return make_default();
}

int cv_default_from_environment(bool always)
{
    const char *text = getenv("CORALLITE_DEFAULT");
    char sentence[CO_SENTENCE_MAX];
    bool again;

    pthread_mutex_lock(&lock);
    again = wanted;
    pthread_mutex_unlock(&lock);
    if (again)
        return make_default();
    if (!text || !*text)
        return always ? cv_default_set("") : 0;
    if (cv_default_set(text) == 0)
        return 0;
    memcpy(sentence, co_sentence(), sizeof sentence);
    return co_fail(CO_ERR_INVAL, "CORALLITE_DEFAULT in the environment: %.900s", sentence);
}

char *cv_default_patterns(void)
{
    char *text;

    pthread_mutex_lock(&lock);
    text = wanted ? sqlite3_mprintf("%s", patterns) : NULL;
    pthread_mutex_unlock(&lock);
    return text;
}
