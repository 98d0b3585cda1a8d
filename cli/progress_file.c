#include "cli/progress_file.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/text.h"
#include "common/clock_file.h"

#define FIRST_US 1000000u
#define EVERY_US 100000u
#define BAR      30

void progress_begin(struct progress *p, const char *what)
{
    *p = (struct progress){
        .what = what, .began_us = co_now_us(), .on_terminal = isatty(STDERR_FILENO) != 0};
}

void progress_show(struct progress *p, uint64_t done, uint64_t total)
{
    static const char full[] = "##############################";
    uint64_t now = co_now_us();
    char a[TEXT_MAX], b[TEXT_MAX], rate[TEXT_MAX];
    if (!p->on_terminal || now - p->began_us < FIRST_US || now - p->shown_us < EVERY_US)
        return;
    p->shown_us = now;
    p->shown = true;
    int filled = total ? (int)(done * BAR / total) : 0;
    if (filled > BAR)
        filled = BAR;
    fprintf(stderr, "\r%s [%.*s%*s] %s of %s, %s/s\033[K", p->what, filled, full, BAR - filled, "",
            text_bytes(done, a), text_bytes(total, b),
            text_bytes(done * 1000000u / (now - p->began_us), rate));
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
