/* v1_moment_sock.c - moments of a branch: what one is, the log of commits, named pins. */
#include <stdlib.h>
#include <string.h>

#include "pageserver/v1_json.h"
#include "pageserver/v1_sock.h"

#define LOG_MAX     1000ul
#define LOG_DEFAULT 100u

int v1_resolve(struct v1_call *c, const char *branch, const char *at, Corallite__Resolved **out)
{
    Corallite__Resolve q = CORALLITE__RESOLVE__INIT;
    q.database = c->m.database;
    q.branch = (char *)(uintptr_t)branch;
    q.at = (char *)(uintptr_t)at;
    q.has_deadline_ms = 1;
    q.deadline_ms = V1_WAIT_MS;
    int rc =
        v1_ask(c, FRAME_RESOLVE, &q.base, FRAME_RESOLVED, &corallite__resolved__descriptor, out);
    if (rc || ((*out)->timeline && (*out)->timeline->id.len == 16))
        return rc;
    corallite__resolved__free_unpacked(*out, NULL);
    *out = NULL;
    return co_fail(CO_ERR_PROTOCOL, "the pageserver did not say which timeline it means");
}

int v1_moment(struct v1_call *c)
{
    Corallite__Resolved *m = NULL;
    int rc = v1_resolve(c, c->m.branch, v1_arg(&c->m, "at"), &m);
    if (rc)
        return rc;
    rc = v1_reply(c, 200, v1_json_moment(m));
    corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

/* -- Log ----------------------------------------------------------------------------------------
 */

static int take_limit(const char *text, uint32_t *out)
{
    char *end;
    *out = LOG_DEFAULT;
    if (!text)
        return 0;
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    if (n < 1 || n > LOG_MAX || *end)
        return co_fail(CO_ERR_INVAL, "limit is a number from 1 to %lu; '%.40s' is not", LOG_MAX,
                       text);
    *out = (uint32_t)n;
    return 0;
}

int v1_log(struct v1_call *c)
{
    Corallite__Log q = CORALLITE__LOG__INIT;
    Corallite__Logged *m = NULL;
    const char *before = v1_arg(&c->m, "before");
    int rc = take_limit(v1_arg(&c->m, "limit"), &q.limit);
    if (!rc && before)
        rc = lsn_parse(before, &q.before_lsn);
    if (!rc && before && !q.before_lsn)
        rc = co_fail(CO_ERR_INVAL, "there is no commit before LSN 0");
    if (rc)
        return rc;
    q.database = c->m.database;
    q.branch = c->m.branch;
    q.at = (char *)(uintptr_t)v1_arg(&c->m, "at");
    q.has_before_lsn = before != NULL;
    q.has_limit = 1;
    rc = v1_ask(c, FRAME_LOG, &q.base, FRAME_LOGGED, &corallite__logged__descriptor, &m);
    if (rc)
        return rc;
    rc = v1_reply(c, 200, v1_json_log(m));
    corallite__logged__free_unpacked(m, NULL);
    return rc;
}

/* -- Pins ---------------------------------------------------------------------------------------
 */

static int list(struct v1_call *c, Corallite__Pins **out)
{
    Corallite__PinList q = CORALLITE__PIN_LIST__INIT;
    q.database = c->m.database;
    return v1_ask(c, FRAME_PIN_LIST, &q.base, FRAME_PINS, &corallite__pins__descriptor, out);
}

/* Replies with the pin of this name; takes the list. */
static int show(struct v1_call *c, unsigned status, Corallite__Pins *m, const char *name)
{
    json_t *value = NULL;
    for (size_t i = 0; i < m->n_pins && !value; i++)
        if (m->pins[i]->name && strcmp(m->pins[i]->name, name) == 0)
            value = v1_json_pin(m->pins[i]);
    corallite__pins__free_unpacked(m, NULL);
    if (!value)
        return co_fail(CO_ERR_NOT_FOUND,
                       "database '%s' has no pin '%s'; GET /v1/databases/%s/pins lists those there "
                       "are",
                       c->m.database, name, c->m.database);
    return v1_reply(c, status, value);
}

int v1_pins(struct v1_call *c)
{
    Corallite__Pins *m = NULL;
    int rc = list(c, &m);
    if (rc)
        return rc;
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_pins; i++)
        json_array_append_new(all, v1_json_pin(m->pins[i]));
    corallite__pins__free_unpacked(m, NULL);
    return v1_reply(c, 200, json_pack("{s:o}", "pins", all));
}

int v1_pin(struct v1_call *c)
{
    Corallite__Pins *m = NULL;
    int rc = list(c, &m);
    return rc ? rc : show(c, 200, m, c->m.pin);
}

int v1_pin_create(struct v1_call *c)
{
    Corallite__Pin q = CORALLITE__PIN__INIT;
    Corallite__Pins *m = NULL;
    char location[2 * V1_VALUE_MAX];
    const char *branch = v1_text(c, "branch"), *at = v1_text(c, "at");
    int rc = name_check(v1_text(c, "name"));
    if (!rc && branch)
        rc = name_check(branch);
    if (rc)
        return rc;
    q.database = c->m.database;
    q.branch = (char *)(uintptr_t)branch;
    q.name = (char *)(uintptr_t)v1_text(c, "name");
    q.at = (char *)(uintptr_t)(at ? at : "latest");
    rc = v1_ask(c, FRAME_PIN, &q.base, FRAME_PINS, &corallite__pins__descriptor, &m);
    if (rc)
        return rc;
    snprintf(location, sizeof location, "/v1/databases/%.63s/pins/%.63s", c->m.database, q.name);
    co_http_header(c->answer, "Location", location);
    return show(c, 201, m, q.name);
}

int v1_pin_drop(struct v1_call *c)
{
    Corallite__Pin q = CORALLITE__PIN__INIT;
    q.database = c->m.database;
    q.name = c->m.pin;
    q.has_drop = q.drop = 1;
    int rc = v1_ask(c, FRAME_PIN, &q.base, FRAME_PINS, NULL, NULL);
    return rc ? rc : v1_reply(c, 200, json_pack("{s:s}", "dropped", c->m.pin));
}
