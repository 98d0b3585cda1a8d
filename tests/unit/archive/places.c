#include "places.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/id.h"
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

static void s3_up_like_ceph(char url[AR_URL_MAX_BYTES])
{
    s3_up("--like=ceph", url);
}

/* A real store, by hand: CORALLITE_TEST_S3='s3://bucket?endpoint=URL', and
 * CORALLITE_TEST_ACCESS_KEY_ID, _SECRET_ACCESS_KEY, _REGION. Each test has a prefix of its own
 * there, and leaves what it put. */
static void theirs_up(char url[AR_URL_MAX_BYTES])
{
    char id[CO_ID_TEXT];
    struct co_id random = co_id_random();
    const char *all = getenv("CORALLITE_TEST_S3"), *question = strchrnul(all, '?');
    for (char *const *names = (char *const[]){"ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", NULL};
         *names; names++) {
        char theirs[60], ours[60]; /* s3_up sets AWS_* */
        snprintf(theirs, sizeof theirs, "CORALLITE_TEST_%s", *names);
        snprintf(ours, sizeof ours, "AWS_%s", *names);
        if (getenv(theirs))
            setenv(ours, getenv(theirs), 1);
    }
    snprintf(url, AR_URL_MAX_BYTES, "%.*s/%s%s", (int)(question - all), all,
             co_id_format(&random, id), question);
}

static void theirs_down(void)
{
}

const struct place places[] = {
    {"dir", dir_up, dir_down},
    {"s3", s3_up_conditional, s3_down},
    {"s3 that overlooks conditions", s3_up_ignoring, s3_down},
    {"s3 like Ceph's", s3_up_like_ceph, s3_down},
    {"s3 of the environment", theirs_up, theirs_down},
};
int places_n = sizeof places / sizeof *places - 1;

__attribute__((constructor)) static void with_the_last(void)
{
    places_n += getenv("CORALLITE_TEST_S3") != NULL;
}
