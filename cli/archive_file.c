/*
 * archive_file.c - archives as the command sees them: `archive check`, `up --archive`, and
 * `up --from-archive`, which has three safekeepers made of an archive by their own program.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "archive/read.h"
#include "archive/report.h"
#include "cli/archive.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "common/main_file.h"
#include "proto/when.h"

/* -- Which cluster of an archive --------------------------------------------------------------- */

static int which_cluster(struct ar_store *store, const char *wanted, struct co_id *out)
{
    struct co_id all[AR_CLUSTERS_MAX];
    char a[CO_ID_TEXT], b[CO_ID_TEXT];
    uint32_t n;
    if (wanted)
        return co_id_parse(wanted, out);
    int rc = ar_clusters(store, all, &n);
    if (!rc && n > 1)
        rc = co_fail(CO_ERR_INVAL,
                     "the archive %s has %u clusters, %s and %s among them: say with --cluster "
                     "which one",
                     ar_url(store), n, co_id_format(&all[0], a), co_id_format(&all[1], b));
    *out = all[0];
    return rc;
}

static int read_archive(const char *url, const char *wanted, struct ar_store **store,
                        struct co_id *cluster, Corallite__ArchiveState **state)
{
    int rc = ar_open(url, &(struct ar_options){.read_only = true}, store);
    if (rc)
        return rc;
    rc = which_cluster(*store, wanted, cluster);
    if (!rc)
        rc = ar_newest_state(*store, cluster, NULL, state);
    if (rc)
        ar_close(*store);
    return rc;
}

/* -- up ---------------------------------------------------------------------------------------- */

int archive_settle(struct cluster *c, const char *wanted)
{
    struct ar_store *store;
    const char *url = wanted && strcmp(wanted, "none") == 0 ? "" : wanted;
    if (!wanted || strcmp(c->archive, url) == 0)
        return 0;
    if (process_alive(c, cluster_owner(c)))
        return co_fail(CO_ERR_BUSY,
                       "the pageserver in %s runs%s%s; `corallite down --dir %s` first, then "
                       "--archive can be another",
                       c->dir, c->archive[0] ? " and archives to " : " without an archive",
                       c->archive, c->dir);
    if (*url) {
        int rc = ar_open(url, &(struct ar_options){.make = true}, &store);
        if (rc)
            return rc;
        ar_close(store);
    }
    snprintf(c->archive, sizeof c->archive, "%s", url);
    return cluster_save(c);
}

static bool drops(const struct cluster *c)
{
    return strcmp(c->keep_log, "all") != 0;
}

int archive_settle_keep(struct cluster *c, const char *wanted)
{
    uint64_t bytes = 0;
    if (!wanted || strcmp(c->keep_log, wanted) == 0)
        return 0;
    int rc = strcmp(wanted, "all") == 0 ? 0 : co_parse_size("--keep-log", wanted, &bytes);
    if (!rc && bytes < CO_MIB && strcmp(wanted, "all") != 0)
        rc = co_fail(CO_ERR_INVAL, "--keep-log wants at least 1M, or all; '%.40s' is less", wanted);
    if (!rc && strlen(wanted) >= sizeof c->keep_log)
        rc = co_fail(CO_ERR_INVAL, "--keep-log wants a size like 64M, or all, not '%.40s'", wanted);
    for (unsigned i = 0; i < c->n && !rc; i++)
        if (!c->at[i].pageserver && process_alive(c, i))
            rc = co_fail(CO_ERR_BUSY,
                         "the safekeepers in %s run; `corallite down --dir %s` first, then "
                         "--keep-log can be another",
                         c->dir, c->dir);
    if (rc)
        return rc;
    snprintf(c->keep_log, sizeof c->keep_log, "%s", wanted);
    return cluster_save(c);
}

void archive_warn(const struct cluster *c, const char *before, const char *keep_wanted)
{
    if (*before && strcmp(before, c->archive) != 0 && drops(c))
        fprintf(
            stderr,
            "corallite: the safekeepers may have dropped log that is in %s only: keep that. %s\n",
            before,
            c->archive[0]
                ? "The new archive has to be a copy of it, else what was dropped is not there"
                : "Nothing more is dropped now; a pageserver whose disk is lost cannot be made "
                  "anew without it");
    else if (keep_wanted && !c->archive[0] && drops(c))
        fputs("corallite: --keep-log does nothing without an archive: the safekeepers keep all\n",
              stderr);
}

/* -- up --from-archive ------------------------------------------------------------------------- */

struct child {
    int pid;
    long long log_offset;
};

static int start_child(const struct cluster *c, unsigned index, const char *url,
                       struct child *child)
{
    char program[PATH_MAX], dir[PATH_MAX], node[16], id[CO_ID_TEXT];
    int rc = process_find("corallite-safekeeper", program);
    if (rc)
        return rc;
    snprintf(dir, sizeof dir, "%s/%s", c->dir, c->at[index].name);
    snprintf(node, sizeof node, "%u", c->at[index].node);
    char *const argv[] = {program,
                          (char *)"--restore",
                          (char *)(uintptr_t)url,
                          (char *)"--dir",
                          dir,
                          (char *)"--node",
                          node,
                          (char *)"--cluster",
                          co_id_format(&c->id, id),
                          NULL};
    return process_start(c, index, argv, &child->pid, &child->log_offset);
}

static int end_child(const struct cluster *c, unsigned index, const struct child *child)
{
    char words[512];
    int status = -1;
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
    }
    process_last_words(c, index, child->log_offset, words);
    process_forget(c, index);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    const char *said = strstr(words, "corallite-safekeeper: ");
    return co_fail(CO_ERR_CORRUPT, "nothing was restored: %s",
                   said ? said + strlen("corallite-safekeeper: ") : words);
}

static int restore_all(const struct cluster *c, const char *url)
{
    struct child child[CLUSTER_SAFEKEEPERS] = {{0}};
    char why[CO_SENTENCE_MAX] = "";
    int first = 0;
    for (unsigned i = 0; i < CLUSTER_SAFEKEEPERS && !first; i++) {
        first = start_child(c, i, url, &child[i]);
        if (first)
            snprintf(why, sizeof why, "%s", co_sentence());
    }
    for (unsigned i = 0; i < CLUSTER_SAFEKEEPERS; i++) {
        int rc = child[i].pid ? end_child(c, i, &child[i]) : 0;
        if (rc && !first) {
            first = rc;
            snprintf(why, sizeof why, "%s", co_sentence());
        }
    }
    return first ? co_fail(first, "%s", why) : 0;
}

static int restore_into(const char *url, struct cluster *c)
{
    snprintf(c->archive, sizeof c->archive, "%s", url);
    int rc = restore_all(c, url);
    if (!rc)
        rc = cluster_save(c);
    if (!rc)
        return 0;
    char why[CO_SENTENCE_MAX];
    snprintf(why, sizeof why, "%s", co_sentence());
    int ignored = cluster_purge(c);
    (void)ignored;
    return co_fail(rc, "%s", why);
}

int archive_restore(const char *url, const struct cli_args *args, uint16_t port_base,
                    struct cluster *out, Corallite__ArchiveState **state)
{
    struct ar_store *store;
    struct co_id id;
    const char *dir = cli_value(args, "--dir");
    bool made;
    *state = NULL;
    if (strlen(url) >= sizeof out->archive)
        return co_fail(CO_ERR_INVAL, "the URL of the archive is too long");
    if (cluster_open(dir, out) == 0)
        return co_fail(CO_ERR_EXISTS,
                       "there is a cluster in %s already, and an archive is restored into a new "
                       "one; give another --dir, or `corallite down --purge` first",
                       out->dir);
    int rc = read_archive(url, cli_value(args, "--cluster"), &store, &id, state);
    if (rc)
        return rc;
    ar_close(store);
    rc = cluster_open_or_make(dir, port_base, &id, out, &made);
    if (!rc)
        rc = restore_into(url, out);
    if (rc && *state) {
        corallite__archive_state__free_unpacked(*state, NULL);
        *state = NULL;
    }
    return rc;
}

/* -- The verb ---------------------------------------------------------------------------------- */

/* What was read. */
struct checked {
    uint64_t bytes, records, snapshots, snapshot_bytes;
};

int archive_check_snapshot(struct ar_store *store, const struct co_id *cluster,
                           const struct ar_line *line, bool every_part)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    int rc = ar_snap_index_get(store, cluster, &line->id, &line->snap, &index);
    if (rc)
        return rc;
    for (uint32_t i = 0; every_part && i < index->n_parts && !rc; i++) {
        rows.len = 0;
        rc = ar_snap_part_get(store, cluster, &line->id, &line->snap, index, i, &rows);
    }
    co_buf_free(&rows);
    corallite__archive_snapshot__free_unpacked(index, NULL);
    return rc;
}

/* Reads all of it: the first thing that is damaged or missing ends it. */
static int check_objects(struct ar_store *store, const struct co_id *cluster,
                         const Corallite__ArchiveState *state, struct checked *sum)
{
    struct ar_line line;
    int rc = 0;
    for (size_t i = 0; i < state->n_lines && !rc; i++) {
        struct ar_walk walk;
        rc = ar_line_read(state->lines[i], &line);
        if (rc)
            break;
        ar_walk_line(&walk, cluster, &line);
        rc = ar_read_log(store, cluster, &line, &walk, NULL);
        sum->records += walk.records;
        sum->bytes += walk.end - ar_line_from(&line);
        ar_walk_free(&walk);
        if (!rc && line.snap.lsn) {
            rc = archive_check_snapshot(store, cluster, &line, true);
            sum->snapshots++;
            sum->snapshot_bytes += line.snap.bytes;
        }
    }
    return rc;
}

static json_t *line_json(const Corallite__ArchiveState *state, const struct ar_line *line)
{
    struct ar_line lacks;
    char lsn[LSN_TEXT], time[WHEN_TEXT];
    uint64_t missing = line->known > line->end ? line->known - line->end : 0;
    return json_pack(
        "{s:s,s:s,s:o,s:I,s:b}", "name", line->name, "lsn", lsn_format(line->end, lsn), "time",
        line->time_us ? json_string(when_format(line->time_us, time)) : json_null(),
        "missing_bytes", (json_int_t)missing, "there", (int)ar_line_whole(state, line, &lacks));
}

/* null where nothing was read */
static json_t *number_json(const struct checked *sum, uint64_t n)
{
    return sum ? json_integer((json_int_t)n) : json_null();
}

static int print_json(const struct co_id *cluster, const Corallite__ArchiveState *state,
                      const struct checked *sum)
{
    char id[CO_ID_TEXT], time[WHEN_TEXT];
    struct ar_line line;
    json_t *branches = json_array();
    for (size_t i = 0; i < state->n_lines; i++)
        if (ar_line_read(state->lines[i], &line) == 0 && !line.timeline->hidden)
            json_array_append_new(branches, line_json(state, &line));
    return cli_print_json(json_pack(
        "{s:s,s:o,s:s,s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o}", "cluster", co_id_format(cluster, id),
        "sound", sum ? json_true() : json_null(), "as_of", when_format(state->time_us, time),
        "generation", (json_int_t)state->generation, "manifest", (json_int_t)state->sequence,
        "pins", (json_int_t)state->n_pins, "branches", branches, "records",
        number_json(sum, sum ? sum->records : 0), "bytes", number_json(sum, sum ? sum->bytes : 0),
        "snapshots", number_json(sum, sum ? sum->snapshots : 0), "snapshot_bytes",
        number_json(sum, sum ? sum->snapshot_bytes : 0)));
}

static void print_text(const struct co_id *cluster, const Corallite__ArchiveState *state,
                       const struct checked *sum)
{
    char id[CO_ID_TEXT];
    printf("cluster %s\n", co_id_format(cluster, id));
    ar_report(state, stdout);
    if (sum)
        printf("sound: %llu records, %llu bytes of log, %llu snapshots of %llu bytes, every byte "
               "read\n",
               (unsigned long long)sum->records, (unsigned long long)sum->bytes,
               (unsigned long long)sum->snapshots, (unsigned long long)sum->snapshot_bytes);
}

int cli_archive_check(const struct cli_args *args)
{
    struct ar_store *store;
    struct co_id cluster;
    Corallite__ArchiveState *state;
    struct checked sum = {0};
    bool quick = cli_has(args, "--quick");
    int rc = read_archive(args->words[0], cli_value(args, "--cluster"), &store, &cluster, &state);
    if (rc)
        return cli_report(rc);
    if (!quick)
        rc = check_objects(store, &cluster, state, &sum);
    if (!rc && cli_has(args, "--json"))
        rc = print_json(&cluster, state, quick ? NULL : &sum);
    else if (!rc)
        print_text(&cluster, state, quick ? NULL : &sum);
    corallite__archive_state__free_unpacked(state, NULL);
    ar_close(store);
    return rc ? cli_report(rc) : CLI_DONE;
}
