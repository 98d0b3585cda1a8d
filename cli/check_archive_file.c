/*
 * check_archive_file.c - `corallite check` against the archive, where the pageserver has one and it
 * can be opened from here: each branch that is checked stands in the newest manifest, and what that
 * tells of it is there. With --deep every byte of it is read, as `archive check` does; without,
 * objects are listed.
 *
 * What is archived a little later than it is committed is no problem of the archive's: `status`
 * tells of it.
 */
#include <stdlib.h>

#include "archive/read.h"
#include "archive/report.h"
#include "cli/archive.h"
#include "cli/check_sock.h"
#include "proto/frame.h"
#include "proto/message.h"

#define CALL_MS 5000u

/* Is every byte that the manifest tells of in some object? */
static int is_listed(struct ar_store *store, const struct co_id *cluster,
                     const struct ar_line *line)
{
    struct ar_chunk *c;
    char from[LSN_TEXT];
    uint32_t n;
    int rc = ar_chunks(store, cluster, &line->id, &c, &n);
    for (lsn_t at = ar_line_from(line); !rc && at < line->end;) {
        lsn_t reach = at;
        for (uint32_t i = 0; i < n && c[i].begin <= at; i++)
            reach = c[i].end > reach ? c[i].end : reach;
        if (reach == at)
            rc = co_fail(CO_ERR_CORRUPT, "no object has its log from LSN %s on",
                         lsn_format(at, from));
        at = reach;
    }
    free(c);
    return rc;
}

static int is_read(struct ar_store *store, const struct co_id *cluster, const struct ar_line *line)
{
    struct ar_walk walk;
    ar_walk_line(&walk, cluster, line);
    int rc = ar_read_log(store, cluster, line, &walk, NULL);
    ar_walk_free(&walk);
    return rc;
}

static void look_at(struct ar_store *store, const Corallite__ServerStatus *status,
                    const Corallite__ArchiveState *state, const struct co_id *cluster,
                    struct check_branch *b, bool deep)
{
    struct ar_line line;
    if (!ar_line_find(state, &b->timeline, &line)) {
        if (!status->archive_behind_us)
            check_problem(b, "archive: its newest manifest in %s does not tell of it",
                          status->archive);
        return;
    }
    int rc = deep ? is_read(store, cluster, &line) : is_listed(store, cluster, &line);
    if (rc)
        check_problem(b, "archive: %.900s", co_sentence());
    rc = line.snap.lsn ? archive_check_snapshot(store, cluster, &line, deep) : 0;
    if (rc)
        check_problem(b, "archive: %.900s", co_sentence());
}

int check_archive(struct client *c, struct check_report *r)
{
    Corallite__ServerStatus *m = NULL;
    Corallite__ArchiveState *state = NULL;
    struct ar_store *store = NULL;
    struct co_id cluster;
    int rc = client_call(c, FRAME_SERVER_STATUS, NULL, FRAME_SERVER_STATUS_OK,
                         &corallite__server_status__descriptor, CALL_MS, &m);
    if (rc)
        return rc;
    bool has = m->archive && *m->archive && m->archived_us;
    if (m->follows && *m->follows)
        check_say(r->notes,
                  "the archive, if there is one, was not looked at: the pageserver %s follows %s, "
                  "which was not asked",
                  c->sock.address, m->follows);
    if (has) {
        rc = msg_get16("cluster", m->has_cluster, &m->cluster, cluster.b);
        if (!rc)
            rc = ar_open(m->archive, &(struct ar_options){.read_only = true}, &store);
        if (!rc)
            rc = ar_newest_state(store, &cluster, NULL, &state);
        bool damaged = store && (rc == CO_ERR_CORRUPT || rc == CO_ERR_NOT_FOUND);
        if (damaged) /* the pageserver has written one */
            check_say(r->problems, "archive: %s", co_sentence());
        else if (rc)
            check_say(r->notes, "the archive %s was not looked at: %s", m->archive, co_sentence());
    }
    for (uint32_t i = 0; state && i < r->n_branches; i++)
        if (!co_id_is_zero(&r->branches[i].timeline))
            look_at(store, m, state, &cluster, &r->branches[i], r->deep != NULL);
    if (state)
        corallite__archive_state__free_unpacked(state, NULL);
    ar_close(store);
    corallite__server_status__free_unpacked(m, NULL);
    return 0;
}
