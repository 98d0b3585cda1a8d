#include "cli/import_pages_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress_file.h"
#include "cli/sqlite_file.h"
#include "proto/bulk.h"

struct import {
    sqlite3 *from, *to;
    const char *path;
    uint32_t page_size, pages; /* of the source */
    uint32_t there;            /* pages that are in the branch */
    uint32_t most;             /* of one commit */
    uint8_t *page, *other;     /* `most` pages each */
    uint8_t *same;             /* a byte for each commit: all its pages are there */
    struct progress bar;
};

/* -- the source ----------------------------------------------------------------------------------
 */

/* Does the file hold all that the read transaction of `from` sees? Then nobody changes it as long
 * as that runs: with a rollback journal because of the lock that it holds, with an empty WAL
 * because a checkpoint waits for a reader that uses the file alone. */
static bool is_whole(sqlite3 *from)
{
    sqlite3_file *journal = NULL;
    sqlite3_int64 size = 0;
    char *mode = NULL;
    sqlite3_stmt *s = NULL;
    bool wal = true;
    if (sqlite3_prepare_v2(from, "PRAGMA journal_mode", -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW) {
        mode = (char *)(uintptr_t)sqlite3_column_text(s, 0);
        wal = !mode || strcmp(mode, "wal") == 0;
    }
    sqlite3_finalize(s);
    if (!wal)
        return true;
    return sqlite3_file_control(from, "main", SQLITE_FCNTL_JOURNAL_POINTER, &journal) ==
               SQLITE_OK &&
           journal && journal->pMethods &&
           journal->pMethods->xFileSize(journal, &size) == SQLITE_OK && size == 0;
}

/* A copy of it, in a file that has no name while there is anything in it. Nothing is asked of it by
 * SQL: as a file that has a WAL it would want one beside its name. */
static int copy_aside(sqlite3 *from, const char *path, sqlite3 **out)
{
    char name[512];
    const char *dir = getenv("TMPDIR");
    uint64_t bytes;
    snprintf(name, sizeof name, "%.400s/corallite-import-XXXXXX", dir && *dir ? dir : "/var/tmp");
    int fd = mkstemp(name);
    if (fd < 0)
        return co_fail(CO_ERR_IO, "%s has content in its WAL, and no copy of it can be made as %s",
                       path, name);
    close(fd);
    int rc = sqlite_open(name, SQLITE_OPEN_READWRITE, out);
    unlink(name);
    if (!rc)
        rc = sqlite_exec(*out, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", name);
    return rc ? rc : sqlite_copy(from, *out, "copying the file and its WAL", &bytes);
}

static int read_source(const struct import *i, pgno_t first, uint32_t n, uint8_t *out)
{
    sqlite3_file *file = NULL;
    int rc = sqlite3_file_control(i->from, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (rc == SQLITE_OK)
        rc = file->pMethods->xRead(file, out, (int)(n * i->page_size),
                                   (sqlite3_int64)(first - 1) * i->page_size);
    if (rc != SQLITE_OK)
        return co_fail(CO_ERR_IO, "%s cannot be read at page %u: %s", i->path, first,
                       sqlite3_errstr(rc));
    if (first == 1)
        out[18] = out[19] = 2; /* as it is kept: whoever opens it opens it in WAL mode */
    return 0;
}

/* -- the branch ----------------------------------------------------------------------------------
 */

static int ask(const struct import *i, struct bulk_request *r)
{
    int rc = sqlite3_file_control(i->to, "main", BULK_CONTROL, r);
    if (rc == SQLITE_OK)
        return 0;
    return sqlite_fail(rc == SQLITE_FULL   ? CO_ERR_FULL
                       : rc == SQLITE_BUSY ? CO_ERR_BUSY
                                           : CO_ERR_IO,
                       "importing", sqlite3_errstr(rc));
}

static uint32_t commits_of(const struct import *i, uint32_t pages)
{
    return (pages + i->most - 1) / i->most;
}

/* The pages of commit k, of `pages` in all. */
static uint32_t range(const struct import *i, uint32_t k, uint32_t pages, pgno_t *first)
{
    *first = k * i->most + 1;
    return pages - k * i->most < i->most ? pages - k * i->most : i->most;
}

static int begin(struct import *i)
{
    struct bulk_request r = {.what = BULK_BEGIN};
    int rc = ask(i, &r);
    if (rc)
        return rc;
    if (r.page_size && r.page_size != i->page_size)
        return co_fail(
            CO_ERR_EXISTS,
            "what an earlier import has left has pages of %u bytes, %s has %u: `corallite "
            "db drop` it first",
            r.page_size, i->path, i->page_size);
    i->there = r.db_pages < i->pages ? r.db_pages : i->pages;
    i->most = bulk_most(i->page_size);
    size_t bytes = (size_t)i->most * i->page_size;
    i->page = malloc(bytes);
    i->other = malloc(bytes);
    i->same = calloc(commits_of(i, i->pages), 1);
    return i->page && i->other && i->same ? 0 : co_fail(CO_ERR_NOMEM, "no memory for an import");
}

static int interrupted(void)
{
    return sqlite_interrupted()
               ? co_fail(CO_ERR_CANCELED, "importing was interrupted; nothing was kept")
               : 0;
}

static bool is_lock_page(const struct import *i, pgno_t pgno)
{
    return (uint64_t)(pgno - 1) * i->page_size == 1ull << 30;
}

/* What lies there already, of an import that was cut off. */
static int compare(struct import *i, uint64_t *kept)
{
    int rc = 0;
    progress_begin(&i->bar, "comparing what is there");
    for (uint32_t k = 0; !rc && k < i->there / i->most; k++) {
        struct bulk_request r = {
            .what = BULK_READ, .page_size = i->page_size, .db_pages = i->there, .data = i->other};
        r.n = range(i, k, i->there, &r.first);
        rc = interrupted();
        if (!rc)
            rc = read_source(i, r.first, r.n, i->page);
        if (!rc)
            rc = ask(i, &r);
        if (rc)
            break;
        for (uint32_t p = 0; p < r.n; p++)
            if (is_lock_page(i, r.first + p))
                memset(i->page + (size_t)p * i->page_size, 0, i->page_size);
        i->same[k] = memcmp(i->page, i->other, (size_t)r.n * i->page_size) == 0;
        *kept += i->same[k] ? (uint64_t)r.n * i->page_size : 0;
        progress_show(&i->bar, (uint64_t)k * i->most * i->page_size,
                      (uint64_t)i->there * i->page_size);
    }
    progress_end(&i->bar);
    return rc;
}

static int copy(struct import *i, uint64_t bytes)
{
    uint32_t n = commits_of(i, i->pages);
    int rc = 0;
    progress_begin(&i->bar, "importing");
    for (uint32_t k = 0; !rc && k < n; k++) {
        struct bulk_request r = {.what = BULK_WRITE, .page_size = i->page_size, .data = i->page};
        if (i->same[k] && k + 1 < n) /* the last one says how many pages there are */
            continue;
        r.n = range(i, k, i->pages, &r.first);
        r.db_pages = r.first + r.n - 1;
        if (r.db_pages < i->there)
            r.db_pages = i->there;
        if (k + 1 == n)
            r.db_pages = i->pages;
        rc = interrupted();
        if (!rc)
            rc = read_source(i, r.first, r.n, i->page);
        if (!rc)
            rc = ask(i, &r);
        progress_show(&i->bar, (uint64_t)r.first * i->page_size, bytes);
    }
    progress_end(&i->bar);
    struct bulk_request end = {.what = BULK_END};
    return rc ? rc : ask(i, &end);
}

static int measure(struct import *i, struct import_pages *out)
{
    int64_t page_size = 0, pages = 0;
    int rc = sqlite_number(i->from, "PRAGMA page_size", i->path, &page_size);
    if (!rc)
        rc = sqlite_number(i->from, "PRAGMA page_count", i->path, &pages);
    i->page_size = (uint32_t)page_size;
    i->pages = (uint32_t)pages;
    out->bytes = (uint64_t)page_size * (uint64_t)pages;
    return rc;
}

int import_pages(sqlite3 *from, const char *path, const char *uri, struct import_pages *out)
{
    struct import i = {.from = from, .path = path};
    sqlite3 *aside = NULL;
    *out = (struct import_pages){0};
    int rc = measure(&i, out);
    if (!rc && !is_whole(from))
        rc = copy_aside(from, path, &aside);
    if (aside)
        i.from = aside;
    if (!rc)
        rc = sqlite_open(uri, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, &i.to);
    if (!rc)
        rc = begin(&i);
    if (!rc && i.there)
        rc = compare(&i, &out->kept);
    if (!rc)
        rc = copy(&i, out->bytes);
    sqlite3_close(i.to);
    sqlite3_close(aside);
    free(i.page);
    free(i.other);
    free(i.same);
    return rc;
}
