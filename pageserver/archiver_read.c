/*
 * archiver_read.c - what a pageserver that takes over reads in an archive: the pins that only the
 * lost one had, and which timelines have a snapshot.
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/read.h"
#include "pageserver/archiver.h"
#include "proto/message.h"

static int read_pin(const Corallite__ArchiveState__Pin *p, struct ps_pin_row *out)
{
    *out = (struct ps_pin_row){.lsn = p->lsn, .time_us = p->time_us, .created_us = p->created_us};
    int rc = msg_get16("database", p->has_database, &p->database, out->database.b);
    if (!rc)
        rc = msg_get16("timeline", p->has_timeline, &p->timeline, out->timeline.b);
    if (!rc && (!p->name || strlen(p->name) >= sizeof out->name))
        rc = co_fail(CO_ERR_CORRUPT, "a pin of the archive's manifest has no name");
    if (!rc)
        snprintf(out->name, sizeof out->name, "%s", p->name);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const struct ps_snapshot *x = a, *y = b;
    return memcmp(x->timeline.b, y->timeline.b, sizeof x->timeline.b);
}

static int read_snapshots(const Corallite__ArchiveState *state, struct ps_snapshots *out)
{
    struct ar_line line;
    int rc = 0;
    out->all = calloc(state->n_lines + 1, sizeof *out->all);
    if (!out->all)
        return co_fail(CO_ERR_NOMEM, "no memory for a list of snapshots");
    for (size_t i = 0; i < state->n_lines && !rc; i++) {
        rc = ar_line_read(state->lines[i], &line);
        if (!rc && line.snap.lsn)
            out->all[out->n++] = (struct ps_snapshot){line.id, line.snap};
    }
    if (out->n)
        qsort(out->all, out->n, sizeof *out->all, by_id);
    return rc;
}

const struct ps_snapshot *ps_snapshot_find(const struct ps_snapshots *in, const struct co_id *id)
{
    struct ps_snapshot want = {.timeline = *id};
    return in->n ? bsearch(&want, in->all, in->n, sizeof *in->all, by_id) : NULL;
}

int ps_archive_read(const char *url, const struct co_id *cluster, ps_pin_fn fn, void *arg,
                    struct ps_snapshots *out)
{
    struct ar_store *store;
    Corallite__ArchiveState *state = NULL;
    struct ps_pin_row row;
    *out = (struct ps_snapshots){0};
    int rc = ar_open(url, &(struct ar_options){.read_only = true}, &store);
    if (rc)
        return rc;
    rc = ar_newest_state(store, cluster, NULL, &state);
    if (rc == CO_ERR_NOT_FOUND)
        rc = 0;
    for (size_t i = 0; !rc && fn && state && i < state->n_pins; i++) {
        rc = read_pin(state->pins[i], &row);
        if (!rc)
            rc = fn(arg, &row);
    }
    if (!rc && state)
        rc = read_snapshots(state, out);
    if (rc) {
        free(out->all);
        *out = (struct ps_snapshots){0};
    }
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    ar_close(store);
    return rc;
}
