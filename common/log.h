/*
 * log.h - one line an event: level, module, message with key=value pairs, on stderr.
 *
 *   2026-01-02T03:04:05.678901Z info safekeeper/server: listening addr=127.0.0.1:6410
 *
 * or, asked for by --log-format json, as a JSON object (log_json.h). Logged once, where the matter
 * is decided; never page contents or secrets. Cores do not log. Threads: any.
 */
#ifndef CORALLITE_COMMON_LOG_H
#define CORALLITE_COMMON_LOG_H

#include "common/error.h"

enum co_log_level { CO_LOG_DEBUG, CO_LOG_INFO, CO_LOG_WARN, CO_LOG_ERROR, CO_LOG_OFF };

/* Lines below `level` are dropped. Default INFO. */
void co_log_set_level(enum co_log_level level);
/* "debug", "info", "warn", "error", "off"; CO_ERR_INVAL with the list of words otherwise. */
CO_MUST_CHECK int co_log_parse_level(const char *word, enum co_log_level *out);

enum co_log_format { CO_LOG_TEXT, CO_LOG_JSON };
/* How lines are written from now on. Default TEXT. */
void co_log_set_format(enum co_log_format format);
enum co_log_format co_log_format(void);
/* "text" or "json"; CO_ERR_INVAL with the two words otherwise. */
CO_MUST_CHECK int co_log_parse_format(const char *word, enum co_log_format *out);

void co_log(enum co_log_level level, const char *module, const char *format, ...) CO_PRINTF(3, 4);

#define co_debug(module, ...) co_log(CO_LOG_DEBUG, module, __VA_ARGS__)
#define co_info(module, ...)  co_log(CO_LOG_INFO, module, __VA_ARGS__)
#define co_warn(module, ...)  co_log(CO_LOG_WARN, module, __VA_ARGS__)
#define co_error(module, ...) co_log(CO_LOG_ERROR, module, __VA_ARGS__)

#endif
