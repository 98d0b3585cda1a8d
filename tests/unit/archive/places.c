#include "places.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char dir[64];

static void dir_up(char url[AR_URL_MAX_BYTES])
{
    snprintf(dir, sizeof dir, "/tmp/co_archive_XXXXXX");
    cr_assert(mkdtemp(dir));
    snprintf(url, AR_URL_MAX_BYTES, "dir:%s", dir);
}

static void dir_down(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

const struct place places[] = {
    {"dir", dir_up, dir_down},
};
const int places_n = sizeof places / sizeof *places;
