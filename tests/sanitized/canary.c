/*
 * canary.c - a data race, a leak, a write beyond the end and an overflow that must be reported:
 * else the sanitizer is not at work and its silence about everything else means nothing.
 *
 *   canary race|leak|overrun|undefined
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

static void overrun(void)
{
    volatile size_t size = 7; /* unknown to UBSan, which would be first to complain */
    volatile char *room = malloc(size);

    if (room)
        room[size] = 1;
    free((void *)room);
}

static void undefined(void)
{
    volatile int largest = 0x7fffffff;

    printf("%d\n", largest + 1);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "race") == 0)
        race();
    else if (argc == 2 && strcmp(argv[1], "leak") == 0)
        leak();
    else if (argc == 2 && strcmp(argv[1], "overrun") == 0)
        overrun();
    else if (argc == 2 && strcmp(argv[1], "undefined") == 0)
        undefined();
    else
        return 2;
    return 0;
}
