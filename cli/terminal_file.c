#include "cli/terminal_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool is_dumb(void)
{
    const char *term = getenv("TERM");
    return !term || !*term || strcmp(term, "dumb") == 0;
}

static bool colours(void)
{
    static int known = -1;
    const char *no = getenv("NO_COLOR");
    if (known < 0)
        known = isatty(STDOUT_FILENO) && !is_dumb() && !(no && *no);
    return known != 0;
}

const char *terminal_tone(enum tone tone)
{
    static const char *const begins[] = {[TONE_PLAIN] = "",
                                         [TONE_GOOD] = "\033[32m",
                                         [TONE_BAD] = "\033[31m",
                                         [TONE_CHANGED] = "\033[33m",
                                         [TONE_STRONG] = "\033[1m"};
    return colours() ? begins[tone] : "";
}

const char *terminal_end(void)
{
    return colours() ? "\033[0m" : "";
}

unsigned terminal_width(int fd)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
        return size.ws_col;
    unsigned long n = columns ? strtoul(columns, NULL, 10) : 0;
    return n >= 20 && n <= 1000 ? (unsigned)n : 80;
}

bool terminal_moves(void)
{
    return isatty(STDERR_FILENO) && !is_dumb();
}
