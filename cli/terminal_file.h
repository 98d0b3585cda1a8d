/*
 * terminal_file.h - manners towards whoever reads: colour, width, and lines that are drawn again.
 *
 * Colour is for terminals only, and not where NO_COLOR is set (to anything) or TERM is `dumb`.
 */
#ifndef CORALLITE_CLI_TERMINAL_FILE_H
#define CORALLITE_CLI_TERMINAL_FILE_H

#include <stdbool.h>

enum tone { TONE_PLAIN, TONE_GOOD, TONE_BAD, TONE_CHANGED, TONE_STRONG };

/* The bytes that begin and end a tone on standard output; "" where there is to be no colour. */
const char *terminal_tone(enum tone tone);
const char *terminal_end(void);
/* Columns of the terminal behind descriptor `fd`; $COLUMNS or 80 where there is none. */
unsigned terminal_width(int fd);
/* Standard error is a terminal on which a line can be drawn again. */
bool terminal_moves(void);

#endif
