/* main_file.h - what the mains of the daemons and the CLI share: addresses, sizes and durations on
 * a command line. */
#ifndef CORALLITE_COMMON_MAIN_FILE_H
#define CORALLITE_COMMON_MAIN_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

/* "HOST:PORT", "[V6]:PORT"; port 0 stands for "any" where one listens. CO_ERR_INVAL with a sentence
 * naming `option`. */
CO_MUST_CHECK int co_parse_address(const char *option, const char *text, char host[256],
                                   uint16_t *port);
/* As co_parse_address; "HOST" and "[V6]" alone stand for that host and `default_port` (0: a port
 * must be given). `what` names the thing in the sentence. */
CO_MUST_CHECK int co_split_address(const char *what, const char *text, uint16_t default_port,
                                   char host[256], uint16_t *port);
/* A loopback address or "localhost". */
bool co_is_loopback(const char *host);
/* "64", "64K", "16M", "1G", "1T" (powers of 1024). */
CO_MUST_CHECK int co_parse_size(const char *option, const char *text, uint64_t *out_bytes);
/* "250" (ms), "250ms", "3s", "5m", "2h", "7d". */
CO_MUST_CHECK int co_parse_duration(const char *option, const char *text, uint64_t *out_ms);

#endif
