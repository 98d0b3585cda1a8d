/*
 * daemon.c - the four daemons as virtual processes: the product's servers, started as their main()
 * starts them but for command line and HTTP; killed, stopped, restarted.
 *
 * LMDB opens an environment once a real process, and a virtual process that is killed leaves its
 * own behind. So each start of the pageserver gets a copy of the data file as it was at the end of
 * the one before: what a process finds after kill -9.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "common/assert.h"
#include "common/identity_file.h"
#include "common/metrics.h"
#include "pageserver/server_uv.h"
#include "safekeeper/server_uv.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

struct co_id cluster_id;

static struct keeper {
    uint32_t host;
    struct proc *proc;
    uint64_t boots;
    bool restarting;
    struct sk_server *server;
    uv_loop_t loop;
    uv_signal_t terminate;
    struct co_identity identity;
    char dir[32];
} keepers[N_KEEPERS];

static struct {
    struct proc *proc;
    uint64_t boots;
    bool restarting;
    struct ps_options options;
} pages;

struct proc *daemon_proc(uint32_t host)
{
    return host == HOST_PAGES ? pages.proc : keepers[host - 1].proc;
}

/* ---- safekeepers -------------------------------------------------------------------------------
 */

static void start_keeper(void *a, uint64_t b);

static void end_keeper(struct keeper *k, bool power)
{
    struct proc *p = k->proc;
    if (!p->alive)
        return;
    net_proc_died(p, power);
    loop_forget(p);
    disk_crash(k->host, power);
    if (power)
        k->boots++;
    if (!k->restarting) {
        k->restarting = true;
        after(20000 + below(R_NEMESIS, sim.healed ? 100000 : 1500000), start_keeper, k, 0);
    }
    proc_kill(p); /* does not return if it is the caller's own */
}

/* ---- rot: of one safekeeper alone
 * ----------------------------------------------------------------
 */

static uint32_t rotten; /* its host; 0: none yet */

void daemon_rot(void)
{
    if (!rotten)
        rotten = 1 + below(R_NEMESIS, N_KEEPERS);
    if (fault_now(F_ROT) && disk_rot(rotten))
        probe(P_ROT);
}

/* Timelines that any safekeeper has halted so far: they are all in this process. */
static unsigned long halted(void)
{
    static const char name[] = "\ncorallite_safekeeper_halted_timelines ";
    struct co_buf text = {0};
    unsigned long n = 0;
    if (co_metrics_render(&text) == 0 && co_buf_append(&text, "", 1) == 0) {
        const char *at = strstr((const char *)text.data, name);
        n = at ? strtoul(at + strlen(name), NULL, 10) : 0;
    }
    co_buf_free(&text);
    return n;
}

/* Its start refused a timeline: that is what rot of it looks like, and nothing else. */
static void look_at_halted(const struct keeper *k, unsigned long before)
{
    if (halted() <= before)
        return;
    if (k->host == rotten)
        probe(P_ROT_FOUND);
    else
        violation("safekeeper %u refuses a timeline at its start", k->host);
}

/* It may say so and end, or not start. */
static bool is_rot(const struct keeper *k, int rc)
{
    if (k->host != rotten || rc != CO_ERR_CORRUPT)
        return false;
    probe(P_ROT_FOUND);
    return true;
}

/* As on_done of safekeeper/main.c: nothing may be acknowledged any more. */
static void on_done(void *owner, int rc, const char *sentence)
{
    struct keeper *k = owner;
    trace("safekeeper ends: %d %s", rc, sentence);
    if (rc == 0) {
        uv_close((uv_handle_t *)&k->terminate, NULL);
        return;
    }
    if (rc != CO_ERR_IO && rc != CO_ERR_FULL && !is_rot(k, rc))
        violation("safekeeper %u stops: %s", k->host, sentence);
    end_keeper(k, false);
}

static void on_terminate(uv_signal_t *h, int number)
{
    struct keeper *k = h->data;
    (void)number;
    sk_server_stop(k->server);
}

/* An I/O error is the nemesis's, and somebody starts it again. */
static void cannot_start(struct keeper *k, int rc)
{
    trace("safekeeper %u does not start: %s", k->host, co_sentence());
    if ((rc != CO_ERR_IO || sim.healed) && !is_rot(k, rc))
        violation("safekeeper %u does not start: %s", k->host, co_sentence());
    end_keeper(k, false);
}

static void *keeper_main(void *arg)
{
    struct keeper *k = arg;
    char address[32];
    int rc = co_identity_open(k->dir, "safekeeper", k->host, &cluster_id, &k->identity);
    if (rc)
        cannot_start(k, rc);
    uv_loop_init(&k->loop);
    snprintf(address, sizeof address, "10.0.0.%u", k->host);
    struct sk_server_options o = {.dir = k->dir,
                                  .identity = &k->identity,
                                  .host = address,
                                  .port = 6410,
                                  /* Timelines are closed and opened again all the time. */
                                  .keep_open = 1,
                                  .idle_us = 250000 << (sim.seed % 6),
                                  .done = on_done,
                                  .owner = k};
    unsigned long before = halted();
    rc = sk_server_start(&k->loop, &o, &k->server);
    if (rc)
        cannot_start(k, rc);
    look_at_halted(k, before);
    uv_signal_init(&k->loop, &k->terminate);
    k->terminate.data = k;
    uv_signal_start(&k->terminate, on_terminate, SIGTERM);
    trace("safekeeper %u is up", k->host);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    trace("safekeeper %u stopped", k->host);
    co_identity_close(&k->identity);
    end_keeper(k, false);
    return NULL;
}

static void start_keeper(void *a, uint64_t b)
{
    struct keeper *k = a;
    char name[24];
    (void)b;
    snprintf(name, sizeof name, "keeper%u", k->host);
    k->restarting = false;
    k->proc = proc_new(name, k->host);
    k->proc->boot = k->boots;
    (void)task_new(k->proc, keeper_main, k);
}

void daemon_keeper_end(uint32_t i, bool power)
{
    end_keeper(&keepers[i], power);
}

void daemon_keeper_stop(uint32_t i)
{
    if (keepers[i].proc->alive)
        loop_signal(keepers[i].proc, SIGTERM);
}

/* ---- the pageserver ----------------------------------------------------------------------------
 */

static void start_pages(void *a, uint64_t b);

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

static void next_dir(void)
{
    char from[300], to[300];
    snprintf(pages.options.dir, sizeof pages.options.dir, "%s/ps.%llu", sim.dir,
             (unsigned long long)pages.boots);
    if (pages.boots == 0)
        return;
    unsigned long long last = pages.boots - 1, now = pages.boots;
    snprintf(to, sizeof to, "%s/ps.%llu", sim.dir, now);
    co_assert(__real_mkdir(to, 0700) == 0);
    snprintf(to, sizeof to, "%s/ps.%llu/store", sim.dir, now);
    co_assert(__real_mkdir(to, 0700) == 0);
    snprintf(from, sizeof from, "%s/ps.%llu/identity", sim.dir, last);
    snprintf(to, sizeof to, "%s/ps.%llu/identity", sim.dir, now);
    copy(from, to);
    snprintf(from, sizeof from, "%s/ps.%llu/store/data.mdb", sim.dir, last);
    snprintf(to, sizeof to, "%s/ps.%llu/store/data.mdb", sim.dir, now);
    copy(from, to);
    __real_unlink(from);
}

static void end_pages(void)
{
    struct proc *p = pages.proc;
    if (!p->alive)
        return;
    net_proc_died(p, false);
    loop_forget(p);
    pages.boots++;
    if (!pages.restarting) {
        pages.restarting = true;
        after(10000 + below(R_NEMESIS, sim.healed ? 100000 : 800000), start_pages, NULL, 0);
    }
    probe(P_PAGES_RESTART);
    proc_kill(p);
}

static void *pages_main(void *arg)
{
    (void)arg;
    int code = ps_server_run(&pages.options);
    trace("pageserver ended with %d", code);
    if (code)
        violation("the pageserver ended with %d: %s", code, co_sentence());
    end_pages();
    return NULL;
}

static void start_pages(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    pages.restarting = false;
    next_dir();
    pages.proc = proc_new("pages", HOST_PAGES);
    (void)task_new(pages.proc, pages_main, NULL);
}

void daemon_pages_end(bool clean)
{
    if (!pages.proc->alive)
        return;
    if (clean)
        loop_signal(pages.proc, SIGTERM);
    else
        end_pages();
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

/* ---- the cluster -------------------------------------------------------------------------------
 */

bool daemon_all_up(void)
{
    bool up = pages.proc->alive;
    for (uint32_t i = 0; i < N_KEEPERS; i++)
        up = up && keepers[i].proc->alive;
    return up;
}

void daemons_start(void)
{
    for (uint32_t i = 0; i < sizeof cluster_id.b; i++)
        cluster_id.b[i] = (uint8_t)draw(R_SWARM) | 1u;
    pages.options = (struct ps_options){.listen_host = "10.0.0.9",
                                        .listen_port = 6400,
                                        .map_bytes = 512u << 20,
                                        .have_cluster = true,
                                        .cluster = cluster_id,
                                        .n_nodes = N_KEEPERS};
    for (uint32_t i = 0; i < N_KEEPERS; i++) {
        struct keeper *k = &keepers[i];
        k->host = i + 1;
        snprintf(k->dir, sizeof k->dir, "/sim/keeper%u", k->host);
        pages.options.nodes[i].id = k->host;
        snprintf(pages.options.nodes[i].host, sizeof pages.options.nodes[i].host, "10.0.0.%u",
                 k->host);
        pages.options.nodes[i].port = 6410;
        start_keeper(k, 0);
    }
    start_pages(NULL, 0);
}
