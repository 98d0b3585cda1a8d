/* http_text.h - what stands in a request line: percent-escapes and their text. Pure. */
#ifndef CORALLITE_COMMON_HTTP_TEXT_H
#define CORALLITE_COMMON_HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/* Is it well-formed UTF-8 (shortest forms only, no surrogates, nothing above U+10FFFF)? */
bool co_is_utf8(const char *text, size_t len);

/* Undoes the percent-escapes of text[0..len) into out (cap bytes, with the end). CO_ERR_INVAL with
 * a sentence that names `what`: an escape that is none, a NUL, text that is no UTF-8, or too long.
 */
CO_MUST_CHECK int co_http_unescape(const char *what, const char *text, size_t len, char *out,
                                   size_t cap);

/* "application/json", with or without parameters behind it. */
bool co_http_is_json(const char *content_type);

#endif
