/*
 * daemon.c - safekeepers as virtual processes: the product's server, started as its main() starts
 * it but for command line and HTTP; killed, stopped, restarted, added to.
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
#include "common/clock_file.h"
#include "common/identity_file.h"
#include "safekeeper/mend.h"
#include "safekeeper/restore_file.h"
#include "safekeeper/segment_file.h"
#include "safekeeper/server.h"
#include "safekeeper/timeline_uv.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

#define MEND_LOOK_US 3000000u /* so often is looked at what is damaged */

struct co_id cluster_id;

static struct keeper {
    uint32_t host;
    struct proc *proc;
    uint64_t boots;
    bool restarting;
    bool serving;
    bool ran;            /* a start of it was ever completed */
    bool hopeless;       /* it refuses to start, and nobody hurries */
    bool from_archive;   /* its next start begins with what the archive has */
    bool mends;          /* its next start is with --mend */
    uint64_t away_until; /* it does not come back before, but when all is healed */
    uint64_t off_until;  /* nor before this, in any case */
    struct sk_lives lives;
    struct sk_server *server;
    uv_loop_t loop;
    uv_signal_t terminate;
    struct co_identity identity;
    char dir[32];
} keepers[MAX_KEEPERS];
static uint32_t n_keepers;

struct proc *daemon_proc(uint32_t host)
{
    return host >= HOST_PAGES ? pages_proc(host) : keepers[host - 1].proc;
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
    if (power) {
        k->boots++;
        atlas_power_lost(k->host);
    }
    if (!k->restarting) {
        k->restarting = true;
        uint32_t most = k->hopeless ? 5000000 : sim.healed ? 100000 : 1500000;
        after(20000 + below(R_NEMESIS, most), start_keeper, k, 0);
    }
    proc_kill(p); /* does not return if it is the caller's own */
}

/* ---- rot: of one safekeeper alone
 * ----------------------------------------------------------------
 */

static uint32_t rotten; /* its host; 0: none yet */

bool daemon_is_rotten(uint32_t host)
{
    return host == rotten && sim.by_probe[P_ROT];
}

void daemon_rot(void)
{
    if (!rotten)
        rotten = 1 + below(R_NEMESIS, N_KEEPERS);
    if (!fault_now(F_ROT))
        return;
    if (disk_rot(rotten))
        probe(P_ROT);
    if (sim.w.cache_dir)
        disk_rot_cache();
}

/* A timeline of it that says that it is damaged, or NULL. */
static const struct sk_timeline *halted(const struct keeper *k)
{
    for (uint32_t n = 0; k->serving && k->proc->alive && n < k->server->n_open; n++)
        if (sk_timeline_state(k->server->open[n].t) == SK_HALTED)
            return k->server->open[n].t;
    return NULL;
}

/* Damage of a timeline's own files is refused by that timeline alone, at a start or later: that is
 * what rot of it looks like, and nothing else. */
void daemon_look(void)
{
    for (uint32_t i = 0; i < n_keepers; i++) {
        const struct keeper *k = &keepers[i];
        const struct sk_timeline *t = halted(k);
        if (t && daemon_is_rotten(k->host))
            probe(P_ROT_FOUND);
        else if (t && !atlas_may_be_damaged(k->host))
            violation("safekeeper %u refuses a timeline: %s", k->host, sk_timeline_refusal(t));
    }
    atlas_look();
}

/* It may say so and end, or not start. A disk that has lied may be damaged in the same way, or
 * have a registry that is older than its logs (HALTED). */
static bool is_damage(const struct keeper *k, int rc)
{
    if (atlas_may_be_damaged(k->host))
        return rc == CO_ERR_CORRUPT || rc == CO_ERR_HALTED;
    if (!daemon_is_rotten(k->host) || (rc != CO_ERR_CORRUPT && rc != CO_ERR_VERSION))
        return false; /* the version of a format may rot, too */
    probe(P_ROT_FOUND);
    return true;
}

/* As on_done of safekeeper/main.c: nothing may be acknowledged any more. */
static void on_done(void *owner, int rc, const char *sentence)
{
    struct keeper *k = owner;
    k->serving = false;
    trace("safekeeper ends: %d %s", rc, sentence);
    if (rc == 0) {
        uv_close((uv_handle_t *)&k->terminate, NULL);
        return;
    }
    if (rc != CO_ERR_IO && rc != CO_ERR_FULL && !is_damage(k, rc))
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
    if (!k->ran && rc != CO_ERR_IO) { /* as the sentence says: an interrupted first start */
        disk_wipe(k->host);
        end_keeper(k, false);
    }
    k->hopeless = is_damage(k, rc);
    if ((rc != CO_ERR_IO || sim.healed) && !k->hopeless)
        violation("safekeeper %u does not start: %s", k->host, co_sentence());
    end_keeper(k, false);
}

/* As `corallite-safekeeper --restore` does. */
static void restore(struct keeper *k)
{
    struct sk_restore r = {
        .url = "dir:/sim/archive", .dir = k->dir, .node = k->host, .cluster = &cluster_id};
    for (uint32_t host = 1; host <= n_keepers; host++)
        if (member_is(host))
            r.members[r.n_members++] = host;
    k->from_archive = false;
    k->ran = true;
    if (sk_restore(&r))
        violation("safekeeper %u cannot be restored from the archive: %s", k->host, co_sentence());
}

static void address_of(uint32_t host, char out[32])
{
    snprintf(out, 32, "10.0.0.%u", host);
}

/* As `corallite-safekeeper --mend` does, with what is there. */
static void mend(struct keeper *k)
{
    struct sk_mend_peer peers[MAX_KEEPERS];
    uint32_t n = 0;
    for (uint32_t host = 1; host <= n_keepers; host++)
        if (member_is(host) && host != k->host) {
            peers[n] = (struct sk_mend_peer){.node = host, .port = 6410};
            address_of(host, peers[n++].host);
        }
    k->mends = false;
    int rc = sk_mend(k->dir, &k->identity, peers, n, sim.w.archive_ms ? "dir:/sim/archive" : NULL);
    trace("safekeeper %u was mended: %d %s", k->host, rc, rc ? co_sentence() : "");
    k->hopeless = rc != 0;
    if (!rc)
        probe(P_MENDED);
}

static void *keeper_main(void *arg)
{
    struct keeper *k = arg;
    char address[32];
    uint64_t random;
    if (k->from_archive)
        restore(k);
    int rc = co_identity_open(k->dir, "safekeeper", k->host, &cluster_id, &k->identity);
    if (rc)
        cannot_start(k, rc);
    if (k->mends)
        mend(k);
    co_random_bytes(&random, sizeof random);
    rc = sk_lives_begin(k->dir, random | 1, &k->lives);
    if (rc)
        cannot_start(k, rc);
    uv_loop_init(&k->loop);
    address_of(k->host, address);
    struct sk_server_options o = {.dir = k->dir,
                                  .identity = &k->identity,
                                  .lives = &k->lives,
                                  .host = address,
                                  .port = 6410,
                                  /* Timelines are closed and opened again all the time. */
                                  .keep_open = 1,
                                  .idle_us = 250000ull << (sim.seed % 6),
                                  .keep_log = sim.w.keep_log,
                                  .done = on_done,
                                  .owner = k};
    k->serving = false;
    rc = sk_server_start(&k->loop, &o, &k->server);
    if (rc)
        cannot_start(k, rc);
    k->serving = true;
    uv_signal_init(&k->loop, &k->terminate);
    k->terminate.data = k;
    uv_signal_start(&k->terminate, on_terminate, SIGTERM);
    k->ran = true;
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
    if (k->off_until == NEVER)
        return;
    if (sim.now < k->off_until || (sim.now < k->away_until && !sim.healed)) {
        after(100000, start_keeper, k, 0);
        return;
    }
    if (k->away_until && !member_is(k->host))
        probe(P_CAME_BACK);
    k->away_until = k->off_until = 0;
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

uint32_t daemon_keepers(void)
{
    return n_keepers;
}

void daemon_keeper_add(void)
{
    struct keeper *k = &keepers[n_keepers++];
    co_assert(n_keepers <= MAX_KEEPERS);
    k->host = n_keepers;
    snprintf(k->dir, sizeof k->dir, "/sim/keeper%u", k->host);
    start_keeper(k, 0);
}

void daemon_keeper_away(uint32_t i, uint64_t us)
{
    keepers[i].away_until = sim.now + us;
    end_keeper(&keepers[i], below(R_NEMESIS, 2));
}

bool daemon_keeper_is_up(uint32_t i)
{
    return keepers[i].proc->alive;
}

void daemon_keeper_off(uint32_t i, uint64_t until)
{
    keepers[i].off_until = until;
    end_keeper(&keepers[i], true);
}

void daemon_keeper_lose(uint32_t i, uint64_t until)
{
    daemon_keeper_off(i, until);
    disk_wipe(keepers[i].host);
    keepers[i].ran = false;
}

bool daemon_keeper_is_hopeless(uint32_t i)
{
    return keepers[i].hopeless;
}

struct sk_server *daemon_server(uint32_t i)
{
    return keepers[i].serving && keepers[i].proc->alive ? keepers[i].server : NULL;
}

const struct sk_lives *daemon_lives(uint32_t i)
{
    return &keepers[i].lives;
}

/* The operator reads what the rotten one says, and does what it wants. */
static void see_to_rot(void *a, uint64_t b)
{
    struct keeper *k = a;
    (void)b;
    after(MEND_LOOK_US, see_to_rot, k, 0);
    if (!member_is(k->host) || k->off_until || k->mends || !(k->hopeless || halted(k)))
        return;
    k->mends = true;
    end_keeper(k, false);
}

void daemons_heal(void)
{
    if (rotten && daemon_is_rotten(rotten))
        after(MEND_LOOK_US, see_to_rot, &keepers[rotten - 1], 0);
}

void daemons_restore(void)
{
    for (uint32_t i = 0; i < n_keepers; i++) {
        bool member = member_is(i + 1);
        if (keepers[i].off_until != NEVER)
            daemon_keeper_lose(i, member ? sim.now : NEVER);
        keepers[i].from_archive = member;
    }
}

/* ---- the cluster -------------------------------------------------------------------------------
 */

void daemons_start(void)
{
    for (uint32_t i = 0; i < sizeof cluster_id.b; i++)
        cluster_id.b[i] = (uint8_t)draw(R_SWARM) | 1u;
    if (sim.w.segment_bytes)
        sk_segment_bytes = sim.w.segment_bytes;
    for (uint32_t i = 0; i < N_KEEPERS; i++)
        daemon_keeper_add();
    pages_start();
}
