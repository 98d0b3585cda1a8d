/* main.c - the command line. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "tests/fullsim/fullsim.h"

int sqlite3_corallite_init(sqlite3 *db, char **error, const void *api);

static void load(void)
{
    sqlite3 *db;
    co_log_set_level(CO_LOG_OFF);
    setenv("CORALLITE_LOG", "off", 1);
    unsetenv("CORALLITE_SERVER");
    sqlite3_auto_extension((void (*)(void))sqlite3_corallite_init);
    sqlite3_open(":memory:", &db);
    sqlite3_close(db);
    sqlite3_cancel_auto_extension((void (*)(void))sqlite3_corallite_init);
}

int main(int argc, char **argv)
{
    struct run_options o = {.seed = 1, .fault_limit = NEVER, .fault_mask = ~0u,
                            .txn_limit = ~0u, .until_us = NEVER};
    uint64_t runs = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--trace"))
            o.trace = true;
        else if (!strcmp(argv[i], "--seed"))
            o.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--runs"))
            runs = strtoull(argv[++i], NULL, 10);
    }
    load();
    for (uint64_t i = 0; i < runs; i++, o.seed++) {
        struct outcome out;
        run_seed(&o, &out);
        printf("seed %llu %s hash=%016llx commits=%llu faults=%llu events=%llu virtual=%.1f pages=%llu %s\n",
               (unsigned long long)o.seed, out.failed ? "FAIL" : "ok",
               (unsigned long long)out.hash, (unsigned long long)out.stats.commits, (unsigned long long)out.faults,
               (unsigned long long)out.events, (double)out.virtual_us / 1e6,
               (unsigned long long)out.stats.pages_checked, out.why);
    }
    return 0;
}
