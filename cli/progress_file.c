#include "cli/progress_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

#define AFTER_US 1000000u
#define EVERY_US 100000u
#define BAR_MAX  30
#define BAR_MIN  5

static uint64_t after_us(bool *off)
{
    const char *text = getenv("CORALLITE_PROGRESS");
    char *end = NULL;
    *off = text && strcmp(text, "off") == 0;
    unsigned long ms = text && *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;
    return end && *end == 0 && ms <= 3600000 ? ms * 1000u : AFTER_US;
}

void progress_begin(struct progress *p, const char *what)
{
    bool off;
    *p = (struct progress){.what = what, .began_us = co_now_us(), .after_us = after_us(&off)};
    p->on_terminal = !off && terminal_moves();
}

/* "importing [####  ] 3.0 MiB of 9.0 MiB, 2.0 MiB/s", as much of it as a line has room for. */
static void draw(const struct progress *p, uint64_t done, uint64_t total, uint64_t took_us)
{
    static const char full[] = "##############################";
    char a[TEXT_MAX], b[TEXT_MAX], rate[TEXT_MAX], right[4 * TEXT_MAX];
    int width = (int)terminal_width(STDERR_FILENO) - 1, bar = 0, filled = 0;
    if (total)
        snprintf(right, sizeof right, "%s of %s, %s/s", text_bytes(done, a), text_bytes(total, b),
                 text_bytes(took_us ? done * 1000000u / took_us : 0, rate));
    else
        text_duration(took_us, right);
    if (total)
        bar = width - (int)strlen(p->what) - (int)strlen(right) - 4;
    if (bar > BAR_MAX)
        bar = BAR_MAX;
    if (bar > 0)
        filled = (int)((done < total ? done : total) * (uint64_t)bar / total);
    if (!total && width > (int)(strlen(p->what) + strlen(right)) + 2)
        fprintf(stderr, "\r%s, %s\033[K", p->what, right);
    else if (bar >= BAR_MIN)
        fprintf(stderr, "\r%s [%.*s%*s] %s\033[K", p->what, filled, full, bar - filled, "", right);
    else
        fprintf(stderr, "\r%.*s\033[K", width, right);
}

void progress_show(struct progress *p, uint64_t done, uint64_t total)
{
    uint64_t now = co_now_us();
    if (!p->on_terminal || now - p->began_us < p->after_us || now - p->shown_us < EVERY_US)
        return;
    p->shown_us = now;
    p->shown = true;
    draw(p, done, total, now - p->began_us);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
