/*
 * log_json.h - an event of log.h as one JSON object on a line, for whoever collects lines by
 * machine. Pure.
 *
 *   {"time":"2026-01-02T03:04:05.678901Z","level":"info","module":"safekeeper/server",
 *    "message":"listening","fields":{"addr":"127.0.0.1:6410"}}          (one line)
 *
 * What is a field is decided by the format of the caller alone, never by what was formatted: `key=`
 * in it, at its begin or behind a space, up to the next space (or `: `, `; `, `, `, or the closing
 * quote). So no peer's sentence and no file name can make a field, and a name with spaces stays one
 * value. A value that is a single %d or %u of any length is a number; everything else is a string.
 */
#ifndef CORALLITE_COMMON_LOG_JSON_H
#define CORALLITE_COMMON_LOG_JSON_H

#include <stdarg.h>
#include <stddef.h>

#include "common/error.h"

/* Longest line, its newline included: a pipe takes so much in one piece (PIPE_BUF). */
#define CO_LOG_JSON_MAX 4096

/* Writes the line with its newline (no NUL) and gives its length. What does not fit is cut between
 * two characters, or a whole field is left out, and the object then has "cut":true; it is complete
 * JSON in any case. Bytes that are no UTF-8 become U+FFFD. `module` and `format` are of the program
 * itself. */
size_t co_log_json(char out[CO_LOG_JSON_MAX], const char *time, const char *level,
                   const char *module, const char *format, va_list args) CO_PRINTF(5, 0);

#endif
