/*
 * progress_file.h - a bar on the terminal for what takes longer than a second.
 *
 * Only where standard error is a terminal that can go back to the begin of a line.
 * CORALLITE_PROGRESS is `off`, or after how many milliseconds the bar appears (1000).
 */
#ifndef CORALLITE_CLI_PROGRESS_FILE_H
#define CORALLITE_CLI_PROGRESS_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "importing" */
    uint64_t began_us, shown_us, after_us;
    bool on_terminal, shown;
};

/* `what` is borrowed until progress_end. */
void progress_begin(struct progress *p, const char *what);
/* Bytes; drawn at most ten times a second. total 0: how much there is to do is not known. */
void progress_show(struct progress *p, uint64_t done, uint64_t total);
/* Takes the bar away. May be called twice. */
void progress_end(struct progress *p);

#endif
