/* main.c - corallite-damage KIND DIR [--timeline ID] [--other DIR]; --list: the kinds. */
#include <stdio.h>
#include <string.h>

#include "common/error.h"
#include "tests/damage/damage.h"

static const struct damage_kind *const tables[] = {damage_store, damage_log, damage_archive};
static const char *const whose[] = {"pageserver", "safekeeper", "archive"};
#define TABLES (sizeof tables / sizeof *tables)

static int list(void)
{
    for (size_t t = 0; t < TABLES; t++)
        for (const struct damage_kind *k = tables[t]; k->name; k++)
            printf("%s\t%s\t%s\n", whose[t], k->name, k->what);
    return 0;
}

static const struct damage_kind *find(const char *name)
{
    for (size_t t = 0; t < TABLES; t++)
        for (const struct damage_kind *k = tables[t]; k->name; k++)
            if (strcmp(k->name, name) == 0)
                return k;
    return NULL;
}

int main(int argc, char **argv)
{
    struct damage_target t = {0};
    bool have = false;
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    const struct damage_kind *k = argc >= 3 ? find(argv[1]) : NULL;
    t.dir = argc >= 3 ? argv[2] : NULL;
    for (int i = 3; k && i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--timeline") == 0)
            have = co_id_parse(argv[i + 1], &t.timeline) == 0;
        else if (strcmp(argv[i], "--other") == 0)
            t.other = argv[i + 1];
        else
            k = NULL;
    }
    if (!k || (k->needs_timeline && !have) || (k->needs_other && !t.other)) {
        fprintf(stderr, "usage: corallite-damage KIND DIR [--timeline ID] [--other DIR]; --list\n");
        return 2;
    }
    if (k->seed(&t)) {
        fprintf(stderr, "corallite-damage: %s: %s\n", k->name, co_sentence());
        return 1;
    }
    return 0;
}
