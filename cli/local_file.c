/*
 * local_file.c - which daemons a local cluster has: `corallite safekeeper add`, `corallite
 * pageserver promote` and `remove`, and what `safekeeper replace` leaves to be done here.
 *
 * D/cluster is written after what it says has happened, or before where a daemon is added: what a
 * crash leaves is put right by `corallite up`, which asks the safekeepers who they are, or by the
 * same command once more.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/down_file.h"
#include "cli/json.h"
#include "cli/local_file.h"
#include "cli/process_file.h"
#include "cli/start_file.h"
#include "cli/text.h"
#include "common/clock_file.h"

#define STOP_TIMEOUT_MS 20000u
#define CALL_MS         5000u

static int start(const struct cluster *c, unsigned index, const struct nodes *list, bool take_over)
{
    struct started s = {0};
    int rc = start_node(c, index, list, take_over, &s);
    if (!rc)
        rc = start_wait(c, index, &s, co_now_us());
    end_progress();
    return rc;
}

static int stop(const struct cluster *c, unsigned index)
{
    bool which[CLUSTER_NODES_MAX] = {0};
    which[index] = true;
    return down_stop(c, STOP_TIMEOUT_MS, which);
}

static int open_locked(const struct cli_args *args, struct cluster *c)
{
    int rc = cluster_open(cli_value(args, "--dir"), c);
    if (!rc)
        rc = cluster_lock(c);
    /* again: as it is now that nobody else changes it */
    return rc ? rc : cluster_open(cli_value(args, "--dir"), c);
}

static int print_json(const struct cluster *c, unsigned index)
{
    char address[32], http[32];
    unsigned port = cluster_port(c, index);
    snprintf(address, sizeof address, CLUSTER_HOST ":%u", port);
    snprintf(http, sizeof http, CLUSTER_HOST ":%u", port + 1);
    return cli_print_json(json_pack("{s:s,s:i,s:s,s:s,s:i}", "name", c->at[index].name, "node",
                                    (int)c->at[index].node, "address", address, "http", http, "pid",
                                    process_alive(c, index)));
}

/* -- safekeeper add ------------------------------------------------------------------------------
 */

/* One above all that are known: an id is used once. */
static uint32_t next_node(const struct cluster *c, const struct nodes *list)
{
    uint32_t highest = 0;
    for (unsigned i = 0; i < c->n; i++)
        if (!c->at[i].pageserver && c->at[i].node > highest)
            highest = c->at[i].node;
    for (uint32_t i = 0; i < list->n; i++)
        highest = list->at[i].node > highest ? list->at[i].node : highest;
    return highest + 1;
}

int cli_safekeeper_add(const struct cli_args *args)
{
    static struct cluster c;
    static struct nodes list;
    char quoted[PATH_MAX] = "", option[PATH_MAX + 16] = "";
    unsigned index = 0;
    int rc = open_locked(args, &c);
    if (rc)
        return cli_report(rc);
    start_ask_list(&c, &list);
    rc = cluster_add(&c, false, next_node(&c, &list), &index);
    if (!rc)
        rc = process_port_free(c.at[index].name, cluster_port(&c, index));
    if (!rc)
        rc = process_port_free(c.at[index].name, (uint16_t)(cluster_port(&c, index) + 1));
    if (!rc)
        rc = cluster_save(&c);
    if (!rc)
        rc = start(&c, index, NULL, false);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        return cli_report(print_json(&c, index));
    if (cli_value(args, "--dir") && text_shell_quote(c.dir, quoted, sizeof quoted))
        snprintf(option, sizeof option, " --dir %s", quoted);
    printf("%s runs at " CLUSTER_HOST ":%u and holds nothing yet; to put it in the place of "
           "another, of safekeeper 1 say:\n"
           "  corallite safekeeper replace 1 " CLUSTER_HOST ":%u%s\n",
           c.at[index].name, (unsigned)cluster_port(&c, index), (unsigned)cluster_port(&c, index),
           option);
    return CLI_DONE;
}

void local_replaced(const struct cluster *known, uint32_t old)
{
    static struct cluster c;
    int rc = cluster_open(known->dir, &c);
    if (!rc && cluster_find(&c, false, old) == c.n)
        return;
    if (!rc)
        rc = cluster_lock(&c);
    if (!rc)
        rc = cluster_open(known->dir, &c);
    unsigned index = rc ? 0 : cluster_find(&c, false, old);
    if (!rc && index < c.n)
        rc = start_let_go(&c, index);
    if (rc)
        fprintf(stderr,
                "corallite: the replacement is done, and the cluster in %s does not know of it "
                "yet, because %s; `corallite up` sees to it\n",
                known->dir, co_sentence());
    else
        fprintf(stderr, "safekeeper-%u is stopped; %s/safekeeper-%u can be removed\n", old, c.dir,
                old);
}

/* -- pageserver promote, remove ------------------------------------------------------------------
 */

/* The pageserver that is meant: by name, else the one that does not own the catalog. */
static int which_pageserver(const struct cluster *c, const struct cli_args *args, unsigned *out)
{
    unsigned i = 0;
    if (args->n_words) {
        int rc = cluster_node_by_name(c, args->words[0], out);
        if (!rc && !c->at[*out].pageserver)
            rc = co_fail(CO_ERR_INVAL, "%s is no pageserver", c->at[*out].name);
        return rc;
    }
    while (i < c->n && (!c->at[i].pageserver || c->at[i].node == c->owner))
        i++;
    *out = i;
    return i < c->n ? 0
                    : co_fail(CO_ERR_INVAL,
                              "the cluster in %s has one pageserver; `corallite up --pageservers "
                              "2` starts a second one",
                              c->dir);
}

/* The old owner first: two that own the catalog would not know of each other's changes. */
static int promote(struct cluster *c, unsigned index, const struct nodes *list)
{
    unsigned old = cluster_owner(c);
    int rc = stop(c, old);
    if (!rc)
        rc = stop(c, index);
    c->owner = c->at[index].node;
    if (!rc)
        rc = start(c, index, list, true);
    if (!rc)
        rc = cluster_save(c);
    if (!rc && old != index)
        rc = start(c, old, list, false);
    return rc;
}

int cli_pageserver_promote(const struct cli_args *args)
{
    static struct cluster c;
    static struct nodes list;
    unsigned index = 0;
    int rc = open_locked(args, &c);
    if (!rc)
        rc = which_pageserver(&c, args, &index);
    bool owns = !rc && c.at[index].node == c.owner;
    if (!rc)
        start_ask_list(&c, &list);
    if (!rc && !(owns && process_alive(&c, index)))
        rc = promote(&c, index, &list);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        return cli_report(print_json(&c, index));
    printf("%s at " CLUSTER_HOST ":%u owns the catalog%s\n", c.at[index].name,
           (unsigned)cluster_port(&c, index), owns ? " already" : " now");
    return CLI_DONE;
}

static int ask_pageservers(struct client *c, const Corallite__Pageservers *ask,
                           Corallite__Pageservers **out)
{
    return client_call(c, FRAME_PAGESERVERS, &ask->base, FRAME_PAGESERVERS_OK,
                       &corallite__pageservers__descriptor, CALL_MS, out);
}

/* One safekeeper forgets every disk that served at this address. */
static int forget_at(const struct cluster *c, unsigned keeper, const char *address)
{
    Corallite__Pageservers ask = CORALLITE__PAGESERVERS__INIT, *known = NULL;
    struct client to;
    int rc = client_connect(&to, CLUSTER_HOST, cluster_port(c, keeper), &c->id, c->at[keeper].node,
                            CALL_MS);
    if (rc)
        return rc;
    rc = ask_pageservers(&to, &ask, &known);
    for (size_t i = 0; known && i < known->n_pageservers && !rc; i++) {
        const Corallite__Pageservers__One *one = known->pageservers[i];
        Corallite__Pageservers *after = NULL;
        if (!one->has_disk || !one->address || strcmp(one->address, address) != 0)
            continue;
        ask.has_forget = 1;
        ask.forget = one->disk;
        rc = ask_pageservers(&to, &ask, &after);
        if (after)
            corallite__pageservers__free_unpacked(after, NULL);
    }
    if (known)
        corallite__pageservers__free_unpacked(known, NULL);
    client_close(&to);
    return rc;
}

/* It is stopped. How many safekeepers were told so. */
static unsigned forget(const struct cluster *c, const char *address)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n; i++)
        if (!c->at[i].pageserver)
            n += forget_at(c, i, address) == 0;
    return n;
}

int cli_pageserver_remove(const struct cli_args *args)
{
    static struct cluster c;
    unsigned index = 0;
    int rc = open_locked(args, &c);
    if (!rc)
        rc = which_pageserver(&c, args, &index);
    if (!rc && c.at[index].node == c.owner)
        rc = co_fail(CO_ERR_INVAL,
                     "%s owns the catalog; `corallite pageserver promote` makes the other one the "
                     "owner first",
                     c.at[index].name);
    char name[sizeof c.at[0].name] = "", address[32] = "";
    if (!rc) {
        snprintf(name, sizeof name, "%s", c.at[index].name);
        snprintf(address, sizeof address, CLUSTER_HOST ":%u", (unsigned)cluster_port(&c, index));
        rc = start_let_go(&c, index);
    }
    if (rc)
        return cli_report(rc);
    unsigned told = forget(&c, address);
    if (cli_has(args, "--json"))
        return cli_report(
            cli_print_json(json_pack("{s:s,s:i}", "removed", name, "told", (int)told)));
    printf("%s is stopped, and %u safekeepers keep nothing for it any more; %s/%s can be removed\n",
           name, told, c.dir, name);
    return CLI_DONE;
}
