#include "places.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "s3_up.h"

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

static void s3_up_conditional(char url[AR_URL_MAX_BYTES])
{
    s3_up(NULL, url);
}

static void s3_up_ignoring(char url[AR_URL_MAX_BYTES])
{
    s3_up("--conditions=ignore", url);
}

const struct place places[] = {
    {"dir", dir_up, dir_down},
    {"s3", s3_up_conditional, s3_down},
    {"s3 that overlooks conditions", s3_up_ignoring, s3_down},
};
const int places_n = sizeof places / sizeof *places;
