/*
 * catch_up_sock.c - `corallite safekeeper catch-up`: logs that nobody writes get their third copy.
 *
 * A safekeeper that was away is fed by the writer who leads a log. Of one that nobody writes it
 * lacks the end until somebody does. Here the tool leads each of those for a moment, without a
 * record of its own, as one who settles a tail does (member_log_sock.c). Which they are is seen by
 * the commit LSNs that come with the lists of timelines.
 *
 * Of a sealed one nobody may know all that is committed: the keepers of each are asked, and brought
 * to where it ends (member_sealed_sock.c).
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/members.h"
#include "cli/text.h"
#include "common/clock_file.h"
#include "proto/qhist.h"

#define PAUSE_US 200000u
#define TRIES    25u /* of a log that somebody else has the lease of */

struct catch_up {
    struct members m;
    struct member_timelines all;
    uint32_t lagged, done;
    uint64_t bytes;
    json_t *left;
};

static bool takes_part(const struct members *m, const struct member *x)
{
    return x->up && !x->regressed && q_is_member(&m->book.config, x->node);
}

/* What somebody knew to be committed when the lists were asked for. */
static lsn_t committed(const struct member_timeline *t)
{
    lsn_t most = 0;
    for (uint32_t k = 0; k < NODES_MAX; k++)
        most = t->commit[k] > most ? t->commit[k] : most;
    return most;
}

/* How much the member at[i] lacks of that. One that does not tell has not that timeline yet, or
 * refuses it: neither can be mended by this. */
static uint64_t lag_of(const struct member_timeline *t, uint32_t i)
{
    return t->commit[i] ? committed(t) - t->commit[i] : 0;
}

static uint64_t lags(const struct catch_up *c, const struct member_timeline *t)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->m.n; i++)
        sum += takes_part(&c->m, &c->m.at[i]) ? lag_of(t, i) : 0;
    return sum;
}

/* Once. *lag: what was lacking. */
static int bring_up(struct catch_up *c, const struct member_timeline *t, enum member_step *state,
                    uint64_t *behind, uint64_t *lag)
{
    if (t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED)
        return member_sealed_settle(&c->m, t, state, behind, lag);
    *lag = lags(c, t);
    return member_log_feed(&c->m, t, committed(t), state, behind);
}

static int leave(struct catch_up *c, const struct member_timeline *t, const char *why)
{
    json_t *one = json_pack("{s:s,s:s}", "name", t->name, "why", why);
    return one && json_array_append_new(c->left, one) == 0
               ? 0
               : co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
}

static int catch_up_one(struct catch_up *c, const struct member_timeline *t)
{
    enum member_step state = MEMBER_BUSY;
    uint64_t behind = UINT64_MAX, least = UINT64_MAX, lag = 0, most = 0;
    bool sealed = t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
    int rc = 0;
    if ((!sealed && !lags(c, t)) || t->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        return 0;
    for (uint32_t tries = 0; !rc && tries < TRIES; tries++) {
        if (tries)
            usleep(PAUSE_US);
        rc = bring_up(c, t, &state, &behind, &lag);
        most = lag > most ? lag : most;
        if (state == MEMBER_DONE || state == MEMBER_SEALED)
            break;
        if (state == MEMBER_JOINT && behind < least)
            tries = 0;
        least = behind < least ? behind : least;
    }
    if (rc || (state == MEMBER_DONE && !most))
        return rc;
    c->lagged++;
    if (state != MEMBER_DONE)
        return leave(c, t,
                     state == MEMBER_BUSY    ? co_sentence()
                     : state == MEMBER_JOINT ? "a safekeeper that lags takes no records"
                                             : "it was reset or dropped at this moment");
    c->done++;
    c->bytes += most;
    return 0;
}

static int print(const struct catch_up *c, bool json)
{
    char bytes[TEXT_MAX];
    size_t i;
    json_t *one;
    if (json)
        return cli_print_json(json_pack("{s:i,s:i,s:i,s:I,s:O}", "timelines", (int)c->all.n,
                                        "lagged", (int)c->lagged, "caught_up", (int)c->done,
                                        "bytes", (json_int_t)c->bytes, "left", c->left));
    if (!c->lagged)
        printf("every safekeeper that answers has all of %u timelines\n", (unsigned)c->all.n);
    else
        printf("caught up: %u of %u timelines that a safekeeper lagged in, %s\n", (unsigned)c->done,
               (unsigned)c->lagged, text_bytes(c->bytes, bytes));
    json_array_foreach(c->left, i, one)
        printf("left: %s (%s)\n", json_string_value(json_object_get(one, "name")),
               json_string_value(json_object_get(one, "why")));
    return 0;
}

static int catch_up(const struct cli_args *args, struct catch_up *c)
{
    int rc = members_open(&c->m, args);
    c->m.watch = true;
    if (!rc)
        rc = members_list_all(&c->m, &c->all);
    for (uint32_t i = 0; i < c->m.n; i++)
        if (!c->m.at[i].up && q_is_member(&c->m.book.config, c->m.at[i].node))
            fprintf(stderr, "corallite: safekeeper %u is not there, and gets nothing: %s\n",
                    (unsigned)c->m.at[i].node, c->m.at[i].why);
    for (uint32_t i = 0; !rc && i < c->all.n; i++)
        rc = catch_up_one(c, &c->all.e[i]);
    return rc ? rc : print(c, cli_has(args, "--json"));
}

int cli_safekeeper_catch_up(const struct cli_args *args)
{
    static struct catch_up c;
    c.left = json_array();
    int rc = c.left ? catch_up(args, &c) : co_fail(CO_ERR_NOMEM, "there is no memory for a list");
    bool left = json_array_size(c.left) > 0;
    json_decref(c.left);
    member_timelines_free(&c.all);
    members_close(&c.m);
    return rc ? cli_report(rc) : left ? CLI_FAILED : CLI_DONE;
}
