/*
 * page_dir.h - the directory of cache_dir: DIR/TIMELINE.pages, and which of these may be used.
 *
 * Whoever could write a file or put another in its place could make up pages: the directory and the
 * file have to be the user's own and writable by nobody else.
 *
 * Threads: any.
 */
#ifndef CORALLITE_COMPUTE_VFS_PAGE_DIR_H
#define CORALLITE_COMPUTE_VFS_PAGE_DIR_H

#include <stdint.h>

#include "common/id.h"
#include "compute-vfs/uri.h"

#define CV_PAGE_FILE_PATH (CV_CACHE_DIR_MAX + CO_ID_TEXT + 16)

struct stat;

void cv_page_file_path(const char *dir, const struct co_id *timeline, char out[CV_PAGE_FILE_PATH]);

/* Each: NULL, or why not. */
/* Makes the directory if its parent is there. */
const char *cv_page_dir_ready(const char *dir);
/* Of the directory or of the file. */
const char *cv_page_file_own(const struct stat *st);
/* May a file have so many bytes? A write beyond the limit would end the process by a signal. */
const char *cv_page_file_limit(uint64_t bytes);

/* As long as all files have more than `most` bytes, the one that was opened longest ago goes. A
 * process that has it open goes on with it. */
void cv_page_dir_make_room(const char *dir, uint64_t most);

#endif
