/*
 * pages.c - pageservers as virtual processes: one that owns the catalog, in some seeds a second one
 * that follows, and in some an archive. Killed, stopped, restarted; a disk is lost, and another
 * takes over.
 *
 * LMDB opens an environment once a real process, and a virtual process that is killed leaves its
 * own behind, which nobody uses any more. So each start of a pageserver moves the data file to a
 * directory of its own, with what a process finds after kill -9, and a lock file that is new.
 *
 * Who loses the owner's disk says `--take-over`, as a person would: to the follower, or to the
 * empty directory. The former owner comes back as a follower, empty, or with what it had; then it
 * refuses to start until the other one has taken over, and is started again. The word is given
 * once: who listens has it in the store, and who has run for WORD_US since has taken over with it,
 * and is started again without.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "pageserver/server_uv.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/vault.h"
#include "tests/fullsim/wrap.h"

static struct pages {
    uint32_t host;
    struct proc *proc;
    uint64_t boots, begun_us;
    bool restarting;
    bool gone;      /* it does not come back */
    bool empty;     /* its disk was lost: the next start finds nothing */
    bool was_owner; /* it may refuse to follow, as long as the other has not taken over */
    struct ps_options options;
} all[2];
static uint32_t n_all, owner, n_lost;

/* A safekeeper knows eight at most; nobody gives `corallite pageserver forget` here. */
#define MAX_LOST 5u
#define WORD_US  2000000u

static void start(void *a, uint64_t b);

struct proc *pages_proc(uint32_t host)
{
    return all[host - HOST_PAGES].proc;
}

bool pages_owner_is_up(void)
{
    return all[owner].proc->alive;
}

uint32_t pages_count(void)
{
    return n_all;
}

/* ---- directories -------------------------------------------------------------------------------
 */

static void copy(const char *from, const char *to)
{
    static char buf[1 << 16];
    int in = __real_open(from, O_RDONLY), out = -1;
    ssize_t n;
    if (in < 0)
        return;
    out = __real_open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    co_assert(out >= 0);
    while ((n = __real_read(in, buf, sizeof buf)) > 0)
        co_assert(__real_write(out, buf, (size_t)n) == n);
    __real_close(in);
    __real_close(out);
}

static void name(const struct pages *p, uint64_t boot, const char *file, char out[300])
{
    snprintf(out, 300, "%s/ps%u.%llu%s", sim.dir, p->host, (unsigned long long)boot, file);
}

static bool is_there(const char *path)
{
    int fd = __real_open(path, O_RDONLY);
    if (fd >= 0)
        __real_close(fd);
    return fd >= 0;
}

static void next_dir(struct pages *p)
{
    char from[300], to[300];
    name(p, p->boots, "", to);
    snprintf(p->options.dir, sizeof p->options.dir, "%s", to);
    if (p->boots > 0)
        name(p, p->boots - 1, "/identity", from);
    /* Killed before it had one, it has nothing yet. */
    if (p->boots == 0 || p->empty || !is_there(from)) {
        p->empty = false;
        return;
    }
    co_assert(__real_mkdir(to, 0700) == 0);
    name(p, p->boots, "/store", to);
    co_assert(__real_mkdir(to, 0700) == 0);
    name(p, p->boots, "/identity", to);
    copy(from, to);
    name(p, p->boots - 1, "/store/data.mdb", from);
    name(p, p->boots, "/store/data.mdb", to);
    (void)__real_rename(from, to); /* there is none yet */
}

/* A write transaction takes as long as a disk: a kill may come before it is there. */
struct MDB_txn;
int __real_mdb_txn_commit(struct MDB_txn *txn);
int __wrap_mdb_txn_commit(struct MDB_txn *txn);
int __wrap_mdb_txn_commit(struct MDB_txn *txn)
{
    if (sim.current)
        task_sleep(sim.w.sync_min_us + below(R_DISK, sim.w.sync_max_us - sim.w.sync_min_us + 1));
    return __real_mdb_txn_commit(txn);
}

/* ---- life --------------------------------------------------------------------------------------
 */

static void end(struct pages *p)
{
    struct proc *proc = p->proc;
    if (!proc->alive)
        return;
    if (vault_is_written_by(proc))
        probe(P_UPLOAD_KILL);
    net_proc_died(proc, false);
    loop_forget(proc);
    if (proc->listened && sim.now - p->begun_us > WORD_US)
        p->options.take_over = false;
    p->boots++;
    if (!p->restarting) {
        p->restarting = true;
        after(10000 + below(R_NEMESIS, sim.healed ? 100000 : 800000), start, p, 0);
    }
    probe(P_PAGES_RESTART);
    proc_kill(proc); /* does not return if it is the caller's own */
}

/* Who takes over reads there which pins there were, and does not begin without. */
static bool lacks_archive(const struct pages *p)
{
    return p->options.take_over && sim.w.archive_ms && vault_failed_since(p->begun_us);
}

static void *pages_main(void *arg)
{
    struct pages *p = arg;
    int code = ps_server_run(&p->options);
    trace("pageserver ended with %d", code);
    if (code && !(p->options.follow && p->was_owner) && !lacks_archive(p))
        violation("the pageserver ended with %d: %s", code, co_sentence());
    end(p);
    return NULL;
}

static void set_node(struct ps_options *o, uint32_t i, uint32_t host)
{
    o->nodes[i].id = host;
    snprintf(o->nodes[i].host, sizeof o->nodes[i].host, "10.0.0.%u", host);
    o->nodes[i].port = 6410;
}

/* An administrator may leave --safekeepers as it was, as long as two of those are members. */
static void name_members(struct ps_options *o)
{
    uint32_t still = 0, n = 0;
    for (uint32_t i = 0; i < o->n_nodes; i++)
        still += member_is(o->nodes[i].id);
    if (still >= 2 && below(R_NEMESIS, 2))
        return;
    for (uint32_t host = 1; host <= daemon_keepers(); host++)
        if (member_is(host))
            set_node(o, n++, host);
    co_assert(n == N_KEEPERS);
}

/* Who owns the catalog keeps the archive; who follows reads there what nobody else has. */
static void choose_role(struct pages *p)
{
    struct ps_options *o = &p->options;
    o->follow = p != &all[owner];
    o->follow_port = 6400;
    snprintf(o->follow_host, sizeof o->follow_host, "10.0.0.%u", all[owner].host);
    o->take_over = o->take_over && !o->follow;
    o->archive[0] = 0;
    if (sim.w.archive_ms)
        snprintf(o->archive, sizeof o->archive, "dir:/sim/archive");
    o->archive_every_ms = sim.w.archive_ms;
    o->snapshot_every = sim.w.snapshot_bytes;
}

static void start(void *a, uint64_t b)
{
    struct pages *p = a;
    char title[24];
    (void)b;
    if (p->gone)
        return;
    p->restarting = false;
    p->begun_us = sim.now;
    name_members(&p->options);
    choose_role(p);
    next_dir(p);
    snprintf(title, sizeof title, "pages%u", p->host);
    p->proc = proc_new(title, p->host);
    (void)task_new(p->proc, pages_main, p);
}

void pages_start(void)
{
    n_all = 1 + sim.w.follower;
    ps_loops_after = 1; /* computes here are killed too often to ask much more */
    for (uint32_t i = 0; i < n_all; i++) {
        struct ps_options *o = &all[i].options;
        all[i].host = HOST_PAGES + i;
        *o = (struct ps_options){.listen_port = 6400,
                                 .map_bytes = 512u << 20,
                                 .loops = sim.w.loops,
                                 .have_cluster = true,
                                 .cluster = cluster_id,
                                 .n_nodes = N_KEEPERS};
        snprintf(o->listen_host, sizeof o->listen_host, "10.0.0.%u", all[i].host);
        for (uint32_t k = 0; k < N_KEEPERS; k++)
            set_node(o, k, k + 1);
        start(&all[i], 0);
    }
}

/* ---- faults ------------------------------------------------------------------------------------
 */

void pages_end_one(bool clean)
{
    struct pages *p = &all[below(R_NEMESIS, n_all)];
    if (!p->proc->alive)
        return;
    if (clean)
        loop_signal(p->proc, SIGTERM);
    else if (sim.w.archive_ms && below(R_ARCHIVE, 2))
        vault_kill_soon(false);
    else
        end(p);
}

bool pages_is(const struct proc *proc)
{
    for (uint32_t i = 0; i < n_all; i++)
        if (all[i].proc == proc)
            return true;
    return false;
}

/* The medium loses power with its owner: one that lives on believes what it has put and found
 * there. */
void pages_end_this(bool owner_too)
{
    if (owner_too && all[owner].proc != here() && all[owner].proc->alive)
        end(&all[owner]);
    for (uint32_t i = 0; i < n_all; i++)
        if (all[i].proc == here())
            end(&all[i]);
    abort();
}

void pages_archive_power_lost(void)
{
    if (below(R_ARCHIVE, 2)) {
        vault_kill_soon(true);
        return;
    }
    vault_power_lost();
    end(&all[owner]);
}

/* Its disk is gone, whoever it is. */
void pages_lose_one(void)
{
    uint32_t i = below(R_NEMESIS, n_all);
    struct pages *p = &all[i];
    bool was_owner = i == owner;
    if (n_lost == MAX_LOST || !fault_now(F_PAGES_LOST))
        return;
    n_lost++;
    p->empty = !was_owner || n_all == 1 || below(R_NEMESIS, 2);
    if (was_owner) {
        owner = n_all - 1 - owner;
        p->was_owner = true;
        all[owner].was_owner = false;
        all[owner].options.take_over = true;
        all[owner].begun_us = sim.now; /* it has not been started with it yet */
        probe(n_all == 1 ? P_REBUILT : P_TAKE_OVER);
    }
    trace("the disk of the pageserver at host %u is lost; %u owns the catalog", p->host,
          all[owner].host);
    end(p);
    if (was_owner && n_all == 2)
        end(&all[owner]);
}

uint32_t pages_owner(void)
{
    return owner;
}

uint32_t pages_losses(void)
{
    return n_lost;
}

void pages_lose_all(void)
{
    n_lost++;
    for (uint32_t i = 0; i < n_all; i++) {
        all[i].empty = true;
        all[i].gone = i != owner;
        all[i].begun_us = sim.now;
        all[i].options.take_over = i == owner;
        end(&all[i]);
    }
}

void pages_uri(uint32_t server, char out[64])
{
    int n = snprintf(out, 64, "10.0.%u.%u:6400", server, HOST_PAGES);
    if (n_all > 1)
        snprintf(out + n, 64 - (size_t)n, ",10.0.%u.%u:6400", server, HOST_PAGES + 1);
}
