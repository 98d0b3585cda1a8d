#include "cli/down_file.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/confirm_file.h"
#include "cli/json.h"
#include "cli/process_file.h"

#define STOP_TIMEOUT_MS 20000u
#define POLL_MS         20u

/* Names the nodes that still live; their number. */
static unsigned still_there(const struct cluster *c, const bool which[CLUSTER_NODES_MAX],
                            char names[200])
{
    unsigned n = 0;
    size_t at = 0;
    names[0] = 0;
    for (unsigned i = 0; i < c->n; i++) {
        int pid = which && !which[i] ? 0 : process_alive(c, i);
        if (pid && at < 150)
            at += (size_t)snprintf(names + at, 200 - at, "%s%s (pid %d)", n ? ", " : "",
                                   c->at[i].name, pid);
        n += pid != 0;
    }
    return n;
}

int down_stop(const struct cluster *c, unsigned timeout_ms, const bool which[CLUSTER_NODES_MAX])
{
    char names[200];
    for (unsigned i = 0; i < c->n; i++)
        if (!which || which[i])
            process_signal(c, i, SIGTERM);
    for (unsigned waited = 0; still_there(c, which, names) > 0; waited += POLL_MS) {
        if (waited >= timeout_ms)
            return co_fail(
                CO_ERR_TIMEOUT,
                "%s did not end within %u s of SIGTERM; look at the log, or `kill -9` the "
                "pid: nothing that was acknowledged is lost by that",
                names, timeout_ms / 1000);
        while (waitpid(-1, NULL, WNOHANG) > 0) { /* those started by this very process */
        }
        usleep(POLL_MS * 1000);
    }
    for (unsigned i = 0; i < c->n; i++)
        if (!which || which[i])
            process_forget(c, i);
    return 0;
}

int cli_down(const struct cli_args *args)
{
    static struct cluster c;
    char names[200];
    bool purge = cli_has(args, "--purge");
    int rc = cluster_open(cli_value(args, "--dir"), &c);
    if (!rc && purge) {
        char question[CLUSTER_DIR_MAX + 100];
        snprintf(question, sizeof question, "Remove the cluster in %s with every database?", c.dir);
        rc = confirm(question, cli_has(args, "--yes"));
    }
    if (!rc)
        rc = cluster_lock(&c);
    if (rc)
        return cli_report(rc);
    unsigned ran = still_there(&c, NULL, names);
    rc = down_stop(&c, STOP_TIMEOUT_MS, NULL);
    if (!rc && purge)
        rc = cluster_purge(&c);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        return cli_report(cli_print_json(
            json_pack("{s:s,s:i,s:b}", "dir", c.dir, "stopped", (int)ran, "removed", (int)purge)));
    if (ran)
        printf("stopped %s\n", names);
    else
        printf("nothing of the cluster in %s was running\n", c.dir);
    if (purge)
        printf("removed %s\n", c.dir);
    return CLI_DONE;
}
