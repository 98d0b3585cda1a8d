/* text.h - numbers for people, and quoting for shells. Pure; each writes `out` and returns it. */
#ifndef CORALLITE_CLI_TEXT_H
#define CORALLITE_CLI_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define TEXT_MAX 32
/* "17 B", "1.5 KiB", "16.0 MiB" */
char *text_bytes(uint64_t bytes, char out[TEXT_MAX]);
/* "850 ms", "12 s", "3 min 4 s", "5 h 6 min", "7 d 8 h" */
char *text_duration(uint64_t us, char out[TEXT_MAX]);
/* "2026-01-02T03:04:05Z"; "-" for 0 */
char *text_time(uint64_t us, char out[TEXT_MAX]);
/* 'one shell word'; NULL when it does not fit. */
char *text_shell_quote(const char *text, char *out, size_t size);
/* As the value of a parameter of a URI: what is not a letter, digit or one of "-._~:/" as %XX; cut
 * when it does not fit. */
char *text_percent(const char *text, char *out, size_t size);

#endif
