#include "pageserver/follow.h"

#include <stdio.h>
#include <stdlib.h>

static int line_of(struct ps_registry *reg, const Corallite__Followed__Line *line,
                   struct ps_timeline **out)
{
    struct co_id id;
    int rc = msg_get16("timeline", line->has_timeline, &line->timeline, id.b);
    *out = rc ? NULL : ps_reg_find(reg, &id);
    return rc;
}

int ps_follow_take(struct ps_registry *reg, const Corallite__Followed *m, bool *counted)
{
    struct ps_timeline *tl;
    *counted = false;
    for (size_t i = 0; i < m->n_lines; i++) {
        int rc = line_of(reg, m->lines[i], &tl);
        if (rc)
            return rc;
        if (!tl || tl->meta.version < m->lines[i]->version)
            return 0; /* F2: with a later answer */
    }
    if (m->cutting)
        return 0;
    *counted = true;
    for (size_t i = 0; i < m->n_lines; i++) {
        int rc = line_of(reg, m->lines[i], &tl);
        if (rc)
            return rc;
        if (m->lines[i]->cut_lsn > tl->owner_cut)
            tl->owner_cut = m->lines[i]->cut_lsn;
    }
    return 0;
}

static int take_pin(const Corallite__Followed__Pin *from, struct ps_pin_row *to)
{
    int rc = msg_get16("database", from->has_database, &from->database, to->database.b);
    if (!rc)
        rc = msg_get16("timeline", from->has_timeline, &from->timeline, to->timeline.b);
    if (!rc)
        rc = from->name ? name_check(from->name)
                        : co_fail(CO_ERR_PROTOCOL, "a pin came without its name");
    if (rc)
        return CO_ERR_PROTOCOL;
    snprintf(to->name, sizeof to->name, "%s", from->name);
    to->lsn = from->lsn;
    to->time_us = from->time_us;
    to->created_us = from->created_us;
    return 0;
}

int ps_follow_pins(const Corallite__Followed *m, struct ps_pin_row **rows, size_t *n)
{
    int rc = 0;
    *n = 0;
    *rows = calloc(m->n_pins + 1, sizeof **rows);
    if (!*rows)
        return co_fail(CO_ERR_NOMEM, "no memory for the owner's pins");
    for (size_t i = 0; i < m->n_pins && !rc; i++)
        rc = take_pin(m->pins[i], &(*rows)[(*n)++]);
    if (rc)
        free(*rows);
    return rc;
}
