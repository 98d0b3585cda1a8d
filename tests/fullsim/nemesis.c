/* nemesis.c - what a seed is, and the faults that come over it. */
#include <stdlib.h>

#include "tests/fullsim/fullsim.h"

void swarm_draw(void)
{
    struct swarm *w = &sim.w;
    *w = (struct swarm){.delay_min_us = 50,
                        .delay_max_us = 400,
                        .sync_min_us = 50,
                        .sync_max_us = 800,
                        .send_room = 1 << 20,
                        .wake_us = 5,
                        .n_users = 1,
                        .threads = 1,
                        .txns = 200,
                        .page_size = 4096,
                        .cache_pages = 100,
                        .cache_mb = 4,
                        .commit_timeout_ms = 3000,
                        .think_us = 20000,
                        .bank = 1,
                        .heal_us = 20000000};
}

static void stroke(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    if (sim.healed)
        return;
    if (clients_done()) {
        nemesis_heal();
        return;
    }
    after(50000, stroke, NULL, 0);
}

void nemesis_start(void)
{
    after(50000, stroke, NULL, 0);
}

void nemesis_heal(void)
{
    if (sim.healed)
        return;
    trace("healed");
    sim.healed = true;
    net_heal();
    clients_heal();
}
