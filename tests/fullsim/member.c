/*
 * member.c - safekeepers that are replaced while everything else goes on. An operator starts an
 * empty one on the next host and gives `corallite safekeeper replace OLD NEW`: the command's own
 * code, with its proposer, as a virtual process on a host of its own. It is killed at any step, and
 * given again until it says that it is done; then another one may follow.
 *
 * OLD may be away when it begins and come back at any time: before, within, long after, with its
 * disk as it was. One whose disk is not (atlas.c) is replaced before anybody else is.
 *
 * Branches and restores are made meanwhile, also just before: decision 67 says with which members.
 *
 * Only one replacement at a time: cli/safekeeper_sock.c keeps what it knows in a static variable,
 * which is one process's here as there.
 */
#include <stdio.h>

#include "cli/cli.h"
#include "common/assert.h"
#include "common/error.h"
#include "proto/qhist.h"
#include "safekeeper/nodes_file.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/wrap.h"

static struct {
    struct proc *tool;
    bool busy;         /* begun and not done */
    bool lost, killed; /* OLD was away when it began; a tool of this one was killed */
    uint32_t old, new;
    uint32_t members[N_KEEPERS];
} m = {.members = {1, 2, 3}};

bool member_busy(void)
{
    return m.busy;
}

bool member_is(uint32_t host)
{
    for (uint32_t i = 0; i < N_KEEPERS; i++)
        if (m.members[i] == host)
            return true;
    return false;
}

struct proc *member_tool(void)
{
    return m.tool;
}

/* The command's own prints where nobody looks. */
int cli_report(int error)
{
    if (error)
        trace("tool: %d %s", error, co_sentence());
    return error == 0 ? CLI_DONE : error == CO_ERR_INVAL ? CLI_USAGE : CLI_FAILED;
}

int __wrap_usleep(unsigned us)
{
    task_sleep(us);
    return 0;
}

static void start_tool(void *a, uint64_t b);

static void end_tool(void)
{
    struct proc *p = m.tool;
    m.tool = NULL;
    if (m.busy)
        after(20000 + below(R_NEMESIS, 1000000), start_tool, NULL, 0);
    net_proc_died(p, false);
    proc_kill(p); /* does not return if it is the caller's own */
}

/* It said that it is done: the list of safekeepers says so on the disks of a majority. */
static void check_list(void)
{
    uint32_t have = 0;
    for (uint32_t i = 0; i < N_KEEPERS; i++) {
        uint32_t host = m.members[i] == m.old ? m.new : m.members[i];
        char dir[64], path[80];
        struct nodes nodes;
        snprintf(dir, sizeof dir, "/sim/keeper%u", host);
        snprintf(path, sizeof path, "%s/nodes", dir);
        have += disk_is_settled(path) && !sk_nodes_load(dir, &nodes) && nodes.config.n_new == 0 &&
                q_is_member(&nodes.config, m.new) && !q_is_member(&nodes.config, m.old);
    }
    if (have < N_KEEPERS / 2 + 1)
        violation("safekeeper %u is said to be replaced by %u, and %u of %u know of it", m.old,
                  m.new, have, N_KEEPERS);
}

static void done(void)
{
    check_list();
    trace("replaced safekeeper %u by %u", m.old, m.new);
    for (uint32_t i = 0; i < N_KEEPERS; i++)
        if (m.members[i] == m.old)
            m.members[i] = m.new;
    m.busy = false;
    atlas_replaced(m.old);
    probe(P_REPLACED);
    if (m.lost)
        probe(P_REPLACED_LOST);
    if (m.killed)
        probe(P_RESUMED);
}

static void *tool_main(void *arg)
{
    static const struct cli_option options[] = {
        {.name = "--server", .value = "A"}, {.name = "--dir"}, {.name = "--json"}, {0}};
    char old[16], new[32], server[64];
    char *words[] = {old, new};
    struct cli_args args = {.options = options, .values = {server}, .words = words, .n_words = 2};
    (void)arg;
    pages_uri(254, server);
    snprintf(old, sizeof old, "%u", m.old);
    snprintf(new, sizeof new, "%u=10.0.0.%u:6410", m.new, m.new);
    int code = cli_safekeeper_replace(&args);
    trace("tool ended with %d", code);
    if (code == CLI_USAGE)
        violation("safekeeper replace %s %s: wrong use, it says: %s", old, new, co_sentence());
    if (code == CLI_DONE)
        done();
    end_tool();
    return NULL;
}

static void kill_later(void *a, uint64_t b)
{
    if (m.tool == a && a && m.tool->id == b)
        (void)member_kill_tool();
}

static void start_tool(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    m.tool = proc_new("tool", HOST_TOOL);
    (void)task_new(m.tool, tool_main, NULL);
    if (sim.w.ppm[F_TOOL_KILL] && below(R_NEMESIS, 2))
        after(below(R_NEMESIS, 3000000), kill_later, m.tool, m.tool->id);
}

bool member_kill_tool(void)
{
    if (!m.tool || !fault_now(F_TOOL_KILL))
        return false;
    m.killed = true;
    end_tool();
    return true;
}

static void begin(uint32_t old, bool away)
{
    m.busy = true;
    m.killed = false;
    m.old = old;
    daemon_keeper_add();
    m.new = daemon_keepers();
    m.lost = away;
    atlas_members_change();
    trace("safekeeper %u is to be replaced by %u%s", m.old, m.new, m.lost ? ", it is away" : "");
    if (m.lost)
        daemon_keeper_away(m.old - 1, 100000 + below(R_NEMESIS, 40000000));
    after(10000 + below(R_NEMESIS, 500000), start_tool, NULL, 0);
}

void member_replace(void)
{
    if (m.busy || m.tool || daemon_keepers() == MAX_KEEPERS)
        return;
    if (atlas_victim() && below(R_NEMESIS, 4)) /* mostly when there is a reason to */
        return;
    if (!fault_now(F_MEMBER))
        return;
    uint32_t old = atlas_victim() ? atlas_victim() : m.members[below(R_NEMESIS, N_KEEPERS)];
    begin(old, below(R_NEMESIS, 2));
}

void member_replace_one(uint32_t host)
{
    begin(host, false);
}
