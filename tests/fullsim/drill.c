/*
 * drill.c - everything is lost but the archive: at the end of some seeds all daemons end, their
 * disks are empty, and three safekeepers are restored from the archive by the code of
 * `corallite-safekeeper --restore`; a pageserver with an empty disk takes over. What it serves of
 * each branch at sampled moments is what was committed.
 *
 * Nobody writes any more: a restored log may have a record of the new members at its end that the
 * oracle does not know.
 */
#include "common/assert.h"
#include "tests/fullsim/client.h"

#define HOST_DRILL (HOST_USERS + 8u)

static void *drill(void *arg)
{
    static struct user user = {.host = HOST_DRILL, .server = 254};
    static struct conn c = {.user = &user};
    (void)arg;
    check_timelines(pages_owner());
    work_check_pins(&c);
    probe(P_DRILL);
    sim.over = true;
    return NULL;
}

static void begin(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    trace("everything is lost but the archive");
    daemon_look();
    atlas_end();
    sim.restored = true;
    clients_end();
    pages_lose_all();
    daemons_restore();
    (void)task_new(proc_new("drill", HOST_DRILL), drill, NULL);
}

bool drill_begin(void)
{
    if (!sim.w.drill)
        return false;
    after(0, begin, NULL, 0);
    return true;
}
