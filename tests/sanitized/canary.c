/*
 * canary.c - a data race and a leak that must be reported: else the sanitizer is not at work and
 * its silence about everything else means nothing.
 *
 *   canary race|leak
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *work(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++)
        shared++;
    return NULL;
}

static void race(void)
{
    pthread_t a, b;

    if (pthread_create(&a, NULL, work, NULL) != 0 || pthread_create(&b, NULL, work, NULL) != 0)
        exit(2);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    printf("%d\n", shared);
}

static void leak(void)
{
    char *volatile lost = malloc(4711);

    if (lost)
        lost[0] = 1;
    lost = NULL;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "race") == 0)
        race();
    else if (argc == 2 && strcmp(argv[1], "leak") == 0)
        leak();
    else
        return 2;
    return 0;
}
