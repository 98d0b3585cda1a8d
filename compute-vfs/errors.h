/*
 * errors.h - the error channel.
 *
 * SQLite shows its own text for a VFS's error, so the sentence takes other ways: sqlite3_log(), one
 * line on stderr (unless CORALLITE_LOG=off), and corallite_last_error(): the last sentence of the
 * calling thread, else of the process.
 *
 * Threads: any.
 */
#ifndef CORALLITE_COMPUTE_VFS_ERRORS_H
#define CORALLITE_COMPUTE_VFS_ERRORS_H

#include "common/error.h"

/* Tells the sentence everywhere and returns `sqlite_code`. */
int cv_report(int sqlite_code, const char *format, ...) CO_PRINTF(2, 3);
/* The same with the sentence that co_fail() left in this thread. */
int cv_report_sentence(int sqlite_code);

/* Copies the last sentence of this thread, else of the process; "" when nothing went wrong yet. */
void cv_last_error(char out[CO_SENTENCE_MAX]);

#endif
