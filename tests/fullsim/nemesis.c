/* nemesis.c - what a seed is, and the faults that come over it. */
#include <stdlib.h>

#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/vault.h"

static uint32_t of(const uint32_t *list, uint32_t n)
{
    return list[below(R_SWARM, n)];
}
#define ONE_OF(...)                                                                                \
    of((const uint32_t[]){__VA_ARGS__},                                                            \
       (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))

/* A third of the classes is off; how often the others come differs by two orders. */
static uint32_t weight(uint32_t most)
{
    uint32_t third = below(R_SWARM, 3), v = 1 + below(R_SWARM, most);
    return third == 0 ? 0 : v;
}

/* Rot of one copy and the loss of another are one too many (atlas.c): a seed has either. */
static void choose_atlas(void)
{
    uint32_t *ppm = sim.w.ppm;
    if (below(R_SWARM, 3) == 0)
        ppm[F_IMAGE] = ppm[F_LYING] = ppm[F_LOST] = 0;
    else
        ppm[F_ROT] = 0;
}

/* By a stream of its own: what else a seed is does not depend on it. */
static void choose_archive(void)
{
    static const uint32_t every_ms[] = {200, 1000, 3000}, bytes[] = {0, 30000, 60000, 250000};
    struct swarm *w = &sim.w;
    if (below(R_ARCHIVE, 2))
        return;
    w->archive_ms = every_ms[below(R_ARCHIVE, 3)];
    w->snapshot_bytes = bytes[below(R_ARCHIVE, 4)];
    w->keep_log = below(R_ARCHIVE, 2) ? 1 + below(R_ARCHIVE, 100000) : 0;
    if (w->keep_log)
        w->segment_bytes = 32768u << below(R_ARCHIVE, 4);
    w->drill = below(R_ARCHIVE, 3) == 0;
    for (enum fault f = F_ARCHIVE; f <= F_ARCHIVE_POWER; f++)
        w->ppm[f] = below(R_ARCHIVE, 3) ? 1 + below(R_ARCHIVE, 100) : 0;
}

static void choose_drops(void)
{
    static const uint32_t one_of[] = {0, 20, 60};
    sim.w.drop = one_of[below(R_DROP, 3)];
}

void swarm_draw(void)
{
    struct swarm *w = &sim.w;
    *w = (struct swarm){0};
    for (uint32_t f = 0; f < F_ARCHIVE; f++)
        w->ppm[f] = weight(f <= F_SPLIT                   ? 40000
                           : f == F_TORN                  ? 900000
                           : f == F_IMAGE || f == F_LYING ? 400
                                                          : 100);
    w->delay_min_us = ONE_OF(20, 50, 200);
    w->delay_max_us = w->delay_min_us + ONE_OF(50, 400, 3000);
    w->spike_us = ONE_OF(2000, 20000, 200000);
    w->sync_min_us = ONE_OF(30, 100);
    w->sync_max_us = w->sync_min_us + ONE_OF(100, 1000, 6000);
    w->send_room = ONE_OF(1u << 20, 1u << 20, 65536, 3000);
    w->wake_us = ONE_OF(0, 5, 100);
    w->preempt_ppm = ONE_OF(0, 1000, 10000);
    w->strokes_us = ONE_OF(30000, 60000, 120000);
    for (uint32_t h = 0; h < MAX_HOSTS; h++)
        w->rate_ppm[h] = (int)below(R_SWARM, 9000) - 4500;
    w->n_users = 2 + below(R_SWARM, 3);
    w->threads = 1 + below(R_SWARM, 3);
    w->txns = 260 + below(R_SWARM, 80);
    w->page_size = ONE_OF(1024, 4096, 4096, 8192);
    w->cache_pages = ONE_OF(10, 40, 500);
    w->auto_vacuum = below(R_SWARM, 3);
    w->cache_mb = 1;
    w->staleness_ms = ONE_OF(0, 0, 0, 200);
    w->commit_timeout_ms = ONE_OF(300, 3000, 10000);
    w->normal_ppm = ONE_OF(0, 0, 200000, 500000);
    w->think_us = ONE_OF(10000, 30000, 80000, 1500000);
    w->bank = 1 + below(R_SWARM, 4);
    w->append = below(R_SWARM, 3);
    w->mark = ONE_OF(0, 3, 12);
    w->large = ONE_OF(0, 0, 1);
    w->restore = ONE_OF(0, 1, 3);
    w->fragment_bytes = ONE_OF(0, 0, 0, 3000, 20000);
    w->spill_bytes = ONE_OF(0, 0, 20000);
    w->busy_ms = ONE_OF(0, 0, 60, 400);
    w->linger_us = ONE_OF(120000, 120000, 2500000);
    w->duels = ONE_OF(0, 0, 3);
    w->follower = below(R_SWARM, 2);
    w->paged = below(R_SWARM, 5);
    w->branch = ONE_OF(0, 3, 8);
    w->past = ONE_OF(0, 5, 10);
    w->strokes_a_heavy = ONE_OF(6, 12, 24);
    choose_atlas();
    /* What a restore has put aside stays with its old members: no pageserver can be made anew once
     * they have left (docs/OPERATIONS.md). */
    if ((w->ppm[F_MEMBER] || w->ppm[F_IMAGE] || w->ppm[F_LYING] || w->ppm[F_LOST]) && w->restore)
        w->ppm[F_PAGES_LOST] = 0;
    w->heal_us = 110000000 + below(R_SWARM, 30000000);
    w->loops = 1 + below(R_SWARM, 3);
    w->cache_dir = below(R_SWARM, 3);
    w->torn_ppm = ONE_OF(0, 5000, 50000);
    choose_archive();
    choose_drops();
}

/* Lights come often; what takes somebody away for long comes seldom, or nothing would be done. */
static bool is_heavy(enum fault f)
{
    return f >= F_CUT && f != F_CLOG && f != F_SLOW_DISK && f != F_TORN;
}

/* How often it comes among those of its kind. Not of the nemesis: the disk's own, the workload's.
 */
static uint32_t share(enum fault f, bool heavy)
{
    return f == F_TORN || f == F_DUEL || is_heavy(f) != heavy ? 0 : sim.w.ppm[f];
}

/* ---- strokes -----------------------------------------------------------------------------------
 */

static uint32_t any_host(void)
{
    uint32_t keepers = daemon_keepers(), servers = pages_count();
    uint32_t n = below(R_NEMESIS, keepers + servers + sim.w.n_users);
    if (n < keepers)
        return n + 1;
    n -= keepers;
    return n < servers ? HOST_PAGES + n : HOST_USERS + n - servers;
}

static uint64_t a_while(void)
{
    static const uint32_t most[] = {20000, 20000, 200000, 200000, 1500000, 4000000};
    return 1000 + below(R_NEMESIS, most[below(R_NEMESIS, 6)]);
}

static void uncut(void *a, uint64_t b)
{
    (void)a;
    net_cut((uint32_t)(b >> 8), (uint32_t)(b & 0xff), false);
}

static void cut(uint32_t a, uint32_t b, uint64_t us)
{
    net_cut(a, b, true);
    after(us, uncut, NULL, (uint64_t)a << 8 | b);
}

/* A compute with a transaction open or on its way, from most or all safekeepers: what it has
 * written is lost when another takes over meanwhile. */
static void cut_off_writer(void)
{
    uint32_t user = client_in_transaction();
    uint64_t us = 50000 + below(R_NEMESIS, 8000000);
    uint32_t spared = below(R_NEMESIS, 2) ? 1 + below(R_NEMESIS, daemon_keepers()) : 0;
    if (!user || !fault_now(F_OPEN_CUT))
        return;
    for (uint32_t k = 1; k <= daemon_keepers(); k++) {
        if (k == spared)
            continue;
        cut(user, k, us);
        cut(k, user, us);
    }
}

/* One host from some others, or from all. */
static void partition(bool both)
{
    uint32_t a = any_host(), all = below(R_NEMESIS, 2);
    uint64_t us = a_while();
    for (uint32_t b = 1; b < MAX_HOSTS; b++) {
        if (b == a || (!all && below(R_NEMESIS, 2)))
            continue;
        bool out = below(R_NEMESIS, 2);
        if (both || out)
            cut(a, b, us);
        if (both || !out)
            cut(b, a, us);
    }
}

static void disk_is_well(void *a, uint64_t b)
{
    (void)a;
    disk_full((uint32_t)b, false);
}

static struct proc *proc_at(uint32_t host)
{
    return host >= HOST_USERS ? client_proc(host) : daemon_proc(host);
}

static void strike(enum fault f)
{
    uint32_t keeper = below(R_NEMESIS, daemon_keepers());
    daemon_look();
    switch (f) {
    case F_USER_KILL:
    case F_COMMIT_KILL:
        (void)client_kill_one(f == F_COMMIT_KILL);
        return;
    case F_ROT:
        daemon_rot();
        return;
    case F_OPEN_CUT:
        cut_off_writer();
        return;
    case F_PAGES_LOST:
        pages_lose_one();
        return;
    case F_MEMBER:
        member_replace();
        return;
    case F_IMAGE:
    case F_LYING:
    case F_LOST:
        atlas_stroke(f);
        return;
    case F_TOOL_KILL:
        (void)member_kill_tool();
        return;
    default:
        break;
    }
    if (!fault_now(f))
        return;
    switch (f) {
    case F_RESET:
    case F_HALF_OPEN:
        net_reset_one(f == F_HALF_OPEN);
        return;
    case F_CORRUPT:
        net_corrupt_one();
        return;
    case F_CUT:
    case F_ASYM:
        partition(f == F_CUT);
        return;
    case F_CLOG:
        net_clog(any_host(), any_host(), a_while());
        return;
    case F_KEEPER_KILL:
    case F_KEEPER_POWER:
        daemon_keeper_end(keeper, f == F_KEEPER_POWER);
        return;
    case F_EIO:
        disk_eio(keeper + 1);
        return;
    case F_DISK_FULL:
        disk_full(keeper + 1, true);
        after(a_while(), disk_is_well, NULL, keeper + 1);
        return;
    case F_KEEPER_STOP:
        daemon_keeper_stop(keeper);
        return;
    case F_PAGES_KILL:
    case F_PAGES_STOP:
        pages_end_one(f == F_PAGES_STOP);
        return;
    case F_PAUSE: {
        struct proc *p = proc_at(any_host());
        if (member_tool() && below(R_NEMESIS, 8) == 0)
            p = member_tool();
        p->paused_until = sim.now + a_while();
        return;
    }
    case F_SLOW_DISK:
        disk_slow(keeper + 1, sim.now + a_while());
        return;
    case F_ARCHIVE:
        vault_trouble(a_while());
        return;
    case F_ARCHIVE_POWER:
        pages_archive_power_lost();
        return;
    default:
        return;
    }
}

static void stroke(void *a, uint64_t b)
{
    uint32_t sum = 0, pick;
    (void)a;
    (void)b;
    if (sim.healed)
        return;
    if (clients_done()) {
        nemesis_heal();
        return;
    }
    after(1 + below(R_NEMESIS, 2 * sim.w.strokes_us), stroke, NULL, 0);
    if (work_duel_is_on())
        return; /* which is fault enough: it is to come to its end */
    bool heavy = below(R_NEMESIS, sim.w.strokes_a_heavy) == 0;
    for (uint32_t f = F_RESET; f < N_FAULTS; f++)
        sum += share(f, heavy);
    pick = below(R_NEMESIS, sum);
    for (uint32_t f = F_RESET; f < N_FAULTS; f++) {
        uint32_t mine = share(f, heavy);
        if (pick < mine) {
            strike(f);
            return;
        }
        pick -= mine;
    }
}

void nemesis_start(void)
{
    after(300000, stroke, NULL, 0);
}

void nemesis_heal(void)
{
    if (sim.healed)
        return;
    trace("healed");
    sim.healed = true;
    atlas_heal();
    daemons_heal();
    net_heal();
    vault_heal();
    for (uint32_t k = 0; k < MAX_KEEPERS; k++) {
        disk_full(k + 1, false);
        disk_slow(k + 1, 0);
    }
    for (uint32_t i = 0; i < sim.n_procs; i++)
        sim.proc[i].paused_until = 0;
}
