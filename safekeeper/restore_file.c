#include "safekeeper/restore_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "archive/read.h"
#include "archive/report.h"
#include "common/identity_file.h"
#include "proto/message.h"
#include "safekeeper/registry_file.h"
#include "safekeeper/timeline_file.h"

#define SYNC_EVERY_BYTES (64 * CO_MIB)

struct restore {
    const struct sk_restore *o;
    char dir[SK_PATH_MAX]; /* while it is made */
    struct ar_store *store;
    Corallite__ArchiveState *state;
    struct co_identity identity;
    struct sk_registry registry;
};

/* -- One log ----------------------------------------------------------------------------------- */

struct log_writer {
    struct sk_files *files;
    term_t born;
    term_t term;      /* of the newest record */
    lsn_t term_begin; /* where its term began */
    lsn_t synced;
};

static void see_term(struct log_writer *w, term_t term, lsn_t begin)
{
    if (term != w->term)
        w->term_begin = begin;
    w->term = term;
}

/* Terms go on behind it. */
static term_t newest_term(const struct log_writer *w)
{
    return w->term > w->born ? w->term : w->born;
}

static int sync_often(struct log_writer *w)
{
    if (w->files->log.end_lsn - w->synced < SYNC_EVERY_BYTES)
        return 0;
    w->synced = w->files->log.end_lsn;
    return sk_log_sync(&w->files->log);
}

static int write_whole(void *owner, struct co_span record, const struct wal_header *h)
{
    struct log_writer *w = owner;
    see_term(w, h->term, h->begin_lsn);
    int rc = sk_log_append(&w->files->log, h->begin_lsn, record);
    return rc ? rc : sync_often(w);
}

static int write_piece(void *owner, lsn_t lsn, uint64_t at, struct co_span bytes,
                       const struct wal_header *last)
{
    struct log_writer *w = owner;
    if (last)
        see_term(w, last->term, last->begin_lsn);
    int rc = sk_log_stage(&w->files->log, lsn, at, bytes, last);
    return rc || !last ? rc : sync_often(w);
}

static void new_config(const struct sk_restore *o, uint32_t version, struct wal_config *out)
{
    *out = (struct wal_config){.version = version, .n = o->n_members};
    for (uint32_t i = 0; i < o->n_members; i++)
        out->members[i].node_id = o->members[i];
}

/* The log names members, and not these. The record says nothing that the others would say in
 * another way: all of them are to append the same bytes. */
static int append_config(struct restore *r, struct log_writer *w, const struct ar_walk *walk)
{
    struct wal_config config;
    struct co_buf record = {0};
    struct wal_digest digest;
    new_config(r->o, walk->config.version + 1, &config);
    struct wal_stamp stamp = {
        .cluster = walk->cluster,
        .timeline = walk->timeline,
        .term = newest_term(w),
        .begin_lsn = walk->end,
        .sealed_lsn = walk->end,
        .time_us = walk->time_us,
        .prev_digest = walk->digest,
    };
    memcpy(stamp.commit_uuid.b, walk->digest.b, sizeof stamp.commit_uuid.b);
    int rc = wal_build_config(&config, &stamp, &record, &digest);
    see_term(w, stamp.term, walk->end);
    if (!rc)
        rc = sk_log_append(&w->files->log, walk->end, co_buf_span(&record));
    co_buf_free(&record);
    return rc;
}

/* All of the log is committed, and every member has it: so its history is one entry. */
static int settle(struct log_writer *w)
{
    struct sk_files *f = w->files;
    struct q_term newest = {.term = w->term, .start = w->term_begin};
    struct sk_durable durable = {
        .term = newest_term(w),
        .commit_lsn = f->log.end_lsn,
        .no_lease = true,
        .floor_lsn = f->log.end_lsn,
        .history = &newest,
        .n_history = w->term ? 1 : 0,
    };
    int rc = sk_log_sync(&f->log);
    if (!rc)
        rc = sk_files_persist(f, &durable, true, 0);
    if (!rc) {
        atomic_store(&f->commit_hint, f->log.end_lsn);
        rc = sk_files_settle(f);
    }
    return rc;
}

/* The archive has the log from there on only: it is empty, and begins there. */
static int begin_at(struct restore *r, struct log_writer *w, const struct ar_kept *kept)
{
    struct sk_base base = {.lsn = kept->lsn, .digest = kept->digest, .config = kept->config};
    struct sk_durable durable = {
        .term = kept->term, .commit_lsn = kept->lsn, .no_lease = true, .floor_lsn = kept->lsn};
    if (!kept->config.version)
        new_config(r->o, 1, &base.config);
    durable.base = base;
    see_term(w, kept->term, kept->lsn);
    w->synced = kept->lsn;
    return sk_files_rebase(w->files, &durable);
}

static int restore_log(struct restore *r, const struct sk_birth *birth, const struct ar_line *line)
{
    struct log_writer w = {.synced = birth->start_lsn, .born = birth->term};
    struct ar_walk walk;
    int rc = sk_files_create(r->dir, birth);
    if (!rc)
        rc = sk_files_open(r->dir, birth, &w.files);
    if (rc)
        return rc;
    ar_walk_line(&walk, &r->identity.cluster, line);
    struct ar_sink sink = {&w, write_whole, write_piece};
    if (line->kept.lsn)
        rc = begin_at(r, &w, &line->kept);
    if (!rc)
        rc = ar_read_log(r->store, &r->identity.cluster, line, &walk, &sink);
    if (!rc && walk.config.version)
        rc = append_config(r, &w, &walk);
    if (!rc)
        rc = settle(&w);
    ar_walk_free(&walk);
    sk_files_close(w.files);
    return rc;
}

/* -- All of them ------------------------------------------------------------------------------- */

static int restore_line(struct restore *r, const struct ar_line *line)
{
    struct ar_line lacks;
    struct wal_config config;
    struct msg_config wire;
    struct sk_entry entry;
    if (!ar_line_whole(r->state, line, &lacks))
        return 0; /* the report says so */
    Corallite__Timeline born = *line->timeline;
    new_config(r->o, 1, &config);
    msg_config_fill(&config, &wire);
    born.config = &wire.pb;
    born.has_born_term = 1;
    if (born.born_term <= TERM_BORN_MAX - TERMS_A_CLUSTER)
        born.born_term += TERMS_A_CLUSTER;
    int rc = sk_entry_parse(&born, &entry);
    if (rc)
        return rc;
    struct sk_birth birth = {.owner = {.cluster = r->identity.cluster,
                                       .timeline = entry.id,
                                       .disk = r->identity.disk,
                                       .node = r->identity.node},
                             .start_lsn = entry.start_lsn,
                             .start_digest = entry.base_digest,
                             .term = entry.born_term};
    rc = restore_log(r, &birth, line);
    if (!rc)
        rc = sk_registry_put(&r->registry, &entry);
    sk_entry_release(&entry);
    return rc;
}

static int restore_lines(struct restore *r)
{
    char root[SK_PATH_MAX];
    struct ar_line line;
    struct sk_registry_bytes bytes = {0};
    int rc = sk_files_root(r->dir, root);
    if (!rc)
        rc = sk_io_mkdir(root);
    for (size_t i = 0; i < r->state->n_lines && !rc; i++) {
        rc = ar_line_read(r->state->lines[i], &line);
        if (!rc)
            rc = restore_line(r, &line);
    }
    if (!rc)
        rc = sk_io_sync_dir(r->dir);
    if (!rc)
        rc = sk_registry_encode(&r->registry, NULL, &bytes);
    if (!rc)
        rc = sk_registry_write(r->dir, &bytes);
    co_buf_free(&bytes.buf);
    return rc;
}

/* -- The directory ----------------------------------------------------------------------------- */

static int find_cluster(struct restore *r, struct co_id *out)
{
    struct co_id all[AR_CLUSTERS_MAX];
    char a[CO_ID_TEXT], b[CO_ID_TEXT];
    uint32_t n;
    int rc = ar_clusters(r->store, all, &n);
    if (rc)
        return rc;
    if (r->o->cluster) {
        *out = *r->o->cluster;
        return 0;
    }
    if (n > 1)
        return co_fail(CO_ERR_INVAL,
                       "the archive %s has %u clusters, %s and %s among them: say with --cluster "
                       "which one",
                       r->o->url, n, co_id_format(&all[0], a), co_id_format(&all[1], b));
    *out = all[0];
    return 0;
}

static int make_dir(struct restore *r, const struct co_id *cluster)
{
    if (rmdir(r->o->dir) && errno != ENOENT)
        return co_fail_errno(CO_ERR_EXISTS, errno,
                             "a safekeeper is restored into a new directory, and %s is none",
                             r->o->dir);
    int rc = sk_io_path(r->dir, "%s.restoring", r->o->dir);
    if (!rc && sk_io_exists(r->dir))
        rc = co_fail(CO_ERR_EXISTS,
                     "%s is what an interrupted restore has left; remove it and try again", r->dir);
    if (!rc)
        rc = co_identity_open(r->dir, "safekeeper", r->o->node, cluster, &r->identity);
    return rc;
}

static int name_dir(const struct restore *r)
{
    char parent[SK_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", r->o->dir);
    char *slash = strrchr(parent, '/');
    if (rename(r->dir, r->o->dir))
        return co_fail_errno(CO_ERR_IO, errno, "cannot rename %s to %s", r->dir, r->o->dir);
    if (slash == parent)
        slash[1] = 0;
    else if (slash)
        *slash = 0;
    return sk_io_sync_dir(slash ? parent : ".");
}

int sk_restore(const struct sk_restore *options)
{
    struct restore r = {.o = options, .identity = {.lock_fd = -1}};
    struct co_id cluster;
    int rc = ar_open(options->url, &(struct ar_options){.read_only = true}, &r.store);
    if (rc)
        return rc;
    rc = find_cluster(&r, &cluster);
    if (!rc)
        rc = ar_newest_state(r.store, &cluster, NULL, &r.state);
    if (!rc)
        rc = make_dir(&r, &cluster);
    if (!rc)
        rc = restore_lines(&r);
    if (!rc)
        rc = name_dir(&r);
    if (!rc)
        ar_report(r.state, stdout);
    if (r.identity.lock_fd >= 0)
        co_identity_close(&r.identity);
    if (r.state)
        corallite__archive_state__free_unpacked(r.state, NULL);
    sk_registry_free(&r.registry);
    ar_close(r.store);
    return rc;
}
