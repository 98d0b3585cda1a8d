/*
 * pin_uv.c - PIN and PIN_LIST: named moments of a database.
 *
 * All pins are in memory (PINS_MAX at most) and in the store; a change is made in the store first,
 * then in memory and in the archive, then answered. Pins are this pageserver's own: one that lost
 * its disk has those that the archive tells of.
 * A branch that has pins is not dropped: they go first, or with the whole database.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "pageserver/server_uv.h"
#include "proto/message.h"

#define MODULE   "pageserver/pin"
#define PINS_MAX 10000u

struct ps_pin_job {
    struct ps_job job;
    struct ps_server *s;
    struct ps_ask *ask; /* NULL: nobody waits */
    struct ps_pin_row row;
    bool drop;
    struct ps_pin_job *next; /* of those under way, ps_server.pin_jobs */
};

/* -- In memory --------------------------------------------------------------------------------- */

static struct ps_pin **place_of(struct ps_server *s, const struct co_id *database, const char *name)
{
    struct ps_pin **at = &s->pins;
    while (*at && (!co_id_eq(&(*at)->row.database, database) || strcmp((*at)->row.name, name) != 0))
        at = &(*at)->next;
    return at;
}

const struct ps_pin_row *ps_pin_find(const struct ps_server *s, const struct co_id *database,
                                     const char *name)
{
    for (const struct ps_pin *p = s->pins; p; p = p->next)
        if (co_id_eq(&p->row.database, database) && strcmp(p->row.name, name) == 0)
            return &p->row;
    return NULL;
}

uint32_t ps_pins_of(const struct ps_server *s, const struct co_id *timeline, const char **name)
{
    uint32_t n = 0;
    for (const struct ps_pin *p = s->pins; p; p = p->next)
        if (co_id_eq(&p->row.timeline, timeline)) {
            *name = p->row.name;
            n++;
        }
    return n;
}

static int keep(struct ps_server *s, const struct ps_pin_row *row)
{
    struct ps_pin **at = place_of(s, &row->database, row->name);
    if (!*at) {
        struct ps_pin *p = calloc(1, sizeof *p);
        if (!p)
            return co_fail(CO_ERR_NOMEM, "no memory for a pin");
        *at = p;
        s->n_pins++;
    }
    (*at)->row = *row;
    return 0;
}

static void forget(struct ps_server *s, const struct ps_pin_row *row)
{
    struct ps_pin **at = place_of(s, &row->database, row->name), *p = *at;
    if (!p)
        return;
    *at = p->next;
    s->n_pins--;
    free(p);
}

void ps_pin_drop(struct ps_server *s, const struct ps_pin_row *row)
{
    forget(s, row);
}

static int load_one(void *arg, const struct ps_pin_row *row)
{
    return keep(arg, row);
}

int ps_pins_load(struct ps_server *s)
{
    int rc = ps_read_renew(s->read);
    if (!rc)
        rc = ps_pin_each(s->read, load_one, s);
    ps_read_reset(s->read);
    return rc;
}

void ps_pins_free(struct ps_server *s)
{
    while (s->pins) {
        struct ps_pin *p = s->pins;
        s->pins = p->next;
        free(p);
    }
}

/* -- In the store ------------------------------------------------------------------------------ */

static int pin_run(struct ps_job *job, struct ps_txn *txn)
{
    struct ps_pin_job *p = (struct ps_pin_job *)job;
    int rc = ps_write_begin(txn);
    if (!rc)
        rc = p->drop ? ps_pin_delete(txn, &p->row.database, p->row.name) : ps_pin_put(txn, &p->row);
    if (!rc)
        return ps_write_commit(txn);
    ps_write_abort(txn);
    return rc;
}

static void pin_done(struct ps_job *job)
{
    struct ps_pin_job *p = (struct ps_pin_job *)job;
    struct ps_server *s = p->s;
    struct ps_pin_job **at = &s->pin_jobs;
    int rc = job->rc;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (rc)
        rc = co_fail(rc, "%s", job->why);
    else if (p->drop)
        forget(s, &p->row);
    else
        rc = keep(s, &p->row);
    if (rc)
        co_error(MODULE, "a pin could not be %s: %s", p->drop ? "dropped" : "stored",
                 co_sentence());
    struct ps_archive_mark mark = {0};
    if (!rc)
        ps_archive_soon(s, &mark);
    if (p->ask) {
        p->ask->b.archived = mark;
        p->ask->b.pin = NULL;
        p->ask->b.done = true;
        p->ask->b.rc = rc;
    }
    free(p);
    if (!s->closing)
        ps_serve_asks(s);
}

static int begin_job(struct ps_server *s, struct ps_ask *ask, const struct ps_pin_row *row,
                     bool drop)
{
    struct ps_pin_job *p = calloc(1, sizeof *p);
    if (!p)
        return co_fail(CO_ERR_NOMEM, "no memory to change a pin");
    *p = (struct ps_pin_job){
        .job = {.run = pin_run, .done = pin_done}, .s = s, .ask = ask, .row = *row, .drop = drop};
    if (ask)
        ask->b.pin = p;
    p->next = s->pin_jobs;
    s->pin_jobs = p;
    ps_writer_give(s->writer, &p->job);
    return 0;
}

/* Of this timeline, and of this name; NULL: of any. */
static bool under_way(const struct ps_server *s, const struct co_id *database,
                      const struct co_id *timeline, const char *name)
{
    for (const struct ps_pin_job *p = s->pin_jobs; p; p = p->next)
        if (co_id_eq(&p->row.database, database) &&
            (!timeline || co_id_eq(&p->row.timeline, timeline)) &&
            (!name || strcmp(p->row.name, name) == 0))
            return true;
    return false;
}

bool ps_pins_change(const struct ps_server *s, const struct co_id *database,
                    const struct co_id *timeline)
{
    return under_way(s, database, timeline, NULL);
}

void ps_pin_forget(struct ps_ask *ask)
{
    if (ask->b.pin)
        ask->b.pin->ask = NULL;
    ask->b.pin = NULL;
}

void ps_pins_drop_database(struct ps_server *s, const struct co_id *database)
{
    for (const struct ps_pin *p = s->pins; p; p = p->next)
        if (co_id_eq(&p->row.database, database) && begin_job(s, NULL, &p->row, true))
            co_error(MODULE, "%s", co_sentence());
}

static bool same_pin(const struct ps_pin_row *a, const struct ps_pin_row *b)
{
    return co_id_eq(&a->timeline, &b->timeline) && a->lsn == b->lsn && a->time_us == b->time_us &&
           a->created_us == b->created_us;
}

void ps_pins_replace(struct ps_server *s, const struct ps_pin_row *rows, size_t n)
{
    int rc = 0;
    for (const struct ps_pin *p = s->pins; p && !rc; p = p->next) {
        size_t i = 0;
        while (i < n && (!co_id_eq(&rows[i].database, &p->row.database) ||
                         strcmp(rows[i].name, p->row.name) != 0))
            i++;
        if (i == n)
            rc = begin_job(s, NULL, &p->row, true);
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const struct ps_pin_row *have = ps_pin_find(s, &rows[i].database, rows[i].name);
        if (!have || !same_pin(have, &rows[i]))
            rc = begin_job(s, NULL, &rows[i], false);
    }
    if (rc)
        co_error(MODULE, "%s", co_sentence());
}

/* -- Answers ----------------------------------------------------------------------------------- */

static void fill(const struct ps_server *s, const struct ps_pin_row *row, Corallite__Pins__One *out)
{
    const struct ps_timeline *tl = ps_reg_find(&s->reg, &row->timeline);
    corallite__pins__one__init(out);
    out->name = (char *)(uintptr_t)row->name;
    out->branch = (char *)(uintptr_t)(tl && ps_timeline_lives(tl) ? tl->meta.branch : "");
    out->has_lsn = out->has_time_us = out->has_created_us = 1;
    out->lsn = row->lsn;
    out->time_us = row->time_us;
    out->created_us = row->created_us;
}

/* All pins of the database, or the one of this name. */
static int send_pins(struct ps_server *s, struct ps_ask *ask, const struct co_id *database,
                     const char *name)
{
    Corallite__Pins w = CORALLITE__PINS__INIT;
    size_t max = s->n_pins ? s->n_pins : 1;
    Corallite__Pins__One *one = calloc(max, sizeof *one);
    Corallite__Pins__One **list = calloc(max, sizeof(Corallite__Pins__One *));
    int rc = one && list ? 0 : co_fail(CO_ERR_NOMEM, "no memory for the list of pins");
    for (const struct ps_pin *p = rc ? NULL : s->pins; p; p = p->next) {
        if (!co_id_eq(&p->row.database, database) || (name && strcmp(p->row.name, name) != 0))
            continue;
        fill(s, &p->row, &one[w.n_pins]);
        list[w.n_pins] = &one[w.n_pins];
        w.n_pins++;
    }
    w.pins = list;
    if (!rc)
        peer_send(ask->session->peer, FRAME_PINS, ask->request, &w.base, co_span_of(NULL, 0));
    free(one);
    free(list);
    return rc;
}

/* -- Asks -------------------------------------------------------------------------------------- */

static int check_new(const struct ps_server *s, const struct ps_pin_row *row, bool *there)
{
    char at[LSN_TEXT];
    const struct ps_pin_row *old = ps_pin_find(s, &row->database, row->name);
    *there = old && co_id_eq(&old->timeline, &row->timeline) && old->lsn == row->lsn;
    if (old && !*there)
        return co_fail(CO_ERR_EXISTS,
                       "pin '%s' is at LSN %s already; drop it first, or choose another name",
                       row->name, lsn_format(old->lsn, at));
    if (!old && s->n_pins >= PINS_MAX)
        return co_fail(CO_ERR_FULL, "there are %u pins, the most a pageserver keeps", s->n_pins);
    return 0;
}

static int create_pin(struct ps_server *s, struct ps_ask *ask)
{
    struct ps_pin_row row = {.created_us = co_wall_us()};
    bool there;
    int rc = ps_moment_poll(s, &ask->moment, ask->db, ask->branch);
    if (rc)
        return rc;
    const struct ps_moment *m = &ask->moment;
    row.database = ask->database = m->tl->meta.database;
    row.timeline = m->tl->meta.id;
    row.lsn = m->commit.lsn;
    row.time_us = m->commit.time_us;
    snprintf(row.name, sizeof row.name, "%s", ask->b.name);
    if (under_way(s, &row.database, NULL, row.name))
        return CO_ERR_AGAIN;
    rc = check_new(s, &row, &there);
    if (!rc && there)
        return send_pins(s, ask, &row.database, row.name);
    if (!rc)
        rc = begin_job(s, ask, &row, false);
    return rc ? rc : CO_ERR_AGAIN;
}

static int find_db(const struct ps_server *s, struct ps_ask *ask)
{
    const struct ps_timeline *tl = ps_reg_find_db(&s->reg, ask->db);
    if (!tl)
        return s->reg.heard ? ps_no_branch(s, ask->db, "main") : CO_ERR_AGAIN;
    ask->database = tl->meta.database;
    return 0;
}

static int drop_pin(struct ps_server *s, struct ps_ask *ask)
{
    int rc = find_db(s, ask);
    if (!rc && under_way(s, &ask->database, NULL, ask->b.name))
        rc = CO_ERR_AGAIN;
    if (rc)
        return rc;
    const struct ps_pin_row *row = ps_pin_find(s, &ask->database, ask->b.name);
    if (!row)
        return co_fail(CO_ERR_NOT_FOUND, "database '%s' has no pin '%s' to drop", ask->db,
                       ask->b.name);
    rc = begin_job(s, ask, row, true);
    return rc ? rc : CO_ERR_AGAIN;
}

static int try_pin(struct ps_server *s, struct ps_ask *ask)
{
    if (ask->kind == PS_ASK_PIN_LIST) {
        int rc = find_db(s, ask);
        return rc ? rc : send_pins(s, ask, &ask->database, NULL);
    }
    if (ask->b.pin)
        return CO_ERR_AGAIN;
    if (ask->b.done && !ps_archive_has(s, &ask->b.archived))
        return CO_ERR_AGAIN;
    if (ask->b.done)
        return ask->b.rc ? co_fail(ask->b.rc,
                                   "pin '%s' could not be changed, see the log of the "
                                   "pageserver",
                                   ask->b.name)
                         : send_pins(s, ask, &ask->database, ask->b.name);
    return ask->b.drop ? drop_pin(s, ask) : create_pin(s, ask);
}

bool ps_pin_try(struct ps_server *s, struct ps_ask *ask)
{
    int rc = try_pin(s, ask);
    if (rc && rc != CO_ERR_AGAIN)
        peer_send_error(ask->session->peer, ask->request, rc);
    return rc != CO_ERR_AGAIN;
}
