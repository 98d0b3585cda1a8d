/* archive_prune_sock.c - `corallite archive prune`: the pageserver takes away from its archive what
 * no kept moment needs. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/confirm_file.h"
#include "cli/json.h"
#include "cli/text.h"

#define PRUNE_TIMEOUT_MS 3600000u

static int print_json(const Corallite__ArchivePruned *m, bool dry)
{
    json_t *notes = json_array();
    for (size_t i = 0; i < m->n_notes; i++)
        json_array_append_new(notes, json_string(m->notes[i]));
    return cli_print_json(json_pack(
        "{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "dry_run", (int)dry, "branches",
        (json_int_t)m->branches, "log_objects", (json_int_t)m->log_objects, "log_bytes",
        (json_int_t)m->log_bytes, "stray_objects", (json_int_t)m->stray_objects, "stray_bytes",
        (json_int_t)m->stray_bytes, "manifests", (json_int_t)m->manifests, "notes", notes));
}

static void print_text(const Corallite__ArchivePruned *m, bool dry)
{
    char log[TEXT_MAX], stray[TEXT_MAX];
    printf("%s %s of log in %llu objects, of %llu branch%s\n", dry ? "would remove" : "removed",
           text_bytes(m->log_bytes, log), (unsigned long long)m->log_objects,
           (unsigned long long)m->branches, m->branches == 1 ? "" : "es");
    printf("%s %llu objects that no manifest tells of (%s)\n", dry ? "would remove" : "removed",
           (unsigned long long)m->stray_objects, text_bytes(m->stray_bytes, stray));
    if (m->manifests)
        printf("removed %llu manifests that others have replaced\n",
               (unsigned long long)m->manifests);
    for (size_t i = 0; i < m->n_notes; i++)
        puts(m->notes[i]);
}

int cli_archive_prune(const struct cli_args *args)
{
    Corallite__ArchivePrune q = CORALLITE__ARCHIVE_PRUNE__INIT;
    Corallite__ArchivePruned *m = NULL;
    struct client c;
    bool dry = cli_has(args, "--dry-run");
    int rc = dry ? 0
                 : confirm("Remove from the archive what no kept moment needs? Moments older than "
                           "its snapshots are in these alone then.",
                           cli_has(args, "--yes"));
    if (!rc)
        rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    q.has_dry_run = 1;
    q.dry_run = dry;
    rc = client_call(&c, FRAME_ARCHIVE_PRUNE, &q.base, FRAME_ARCHIVE_PRUNED,
                     &corallite__archive_pruned__descriptor, PRUNE_TIMEOUT_MS, &m);
    client_close(&c);
    if (rc)
        return cli_report(rc);
    if (cli_has(args, "--json"))
        rc = print_json(m, dry);
    else
        print_text(m, dry);
    corallite__archive_pruned__free_unpacked(m, NULL);
    return cli_report(rc);
}
