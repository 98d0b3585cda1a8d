/* connect.h - programs to paste, by language. In the texts @E is the extension without its suffix,
 * @D the directory that it lies in, @S the server's address, @U the URI. */
#ifndef CORALLITE_CLI_CONNECT_H
#define CORALLITE_CLI_CONNECT_H

#include <stddef.h>

struct connect_text {
    const char *language, *text;
};

extern const struct connect_text connect_texts[];
extern const size_t connect_n_texts;

#endif
