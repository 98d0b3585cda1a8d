#include "safekeeper/timeline_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/log.h"
#include "common/mutation.h"

/* Zeros written ahead of the log's end. */
/* Zeros that are kept ahead of the log's end: as much as the log has, within these. */
#define AHEAD_MIN_BYTES (16 * CO_KIB)
#define AHEAD_MAX_BYTES CO_MIB

int sk_files_root(const char *data_dir, char path[SK_PATH_MAX])
{
    return sk_io_path(path, "%s/timelines", data_dir);
}

static int dir_of(const char *data_dir, const struct co_id *timeline, const char *suffix,
                  char path[SK_PATH_MAX])
{
    char id[CO_ID_TEXT];
    return sk_io_path(path, "%s/timelines/%s%s", data_dir, co_id_format(timeline, id), suffix);
}

bool sk_files_exist(const char *data_dir, const struct co_id *timeline)
{
    char path[SK_PATH_MAX];
    return dir_of(data_dir, timeline, "", path) == 0 && sk_io_exists(path);
}

int sk_files_remove(const char *data_dir, const struct co_id *timeline)
{
    char path[SK_PATH_MAX], root[SK_PATH_MAX];
    int rc = dir_of(data_dir, timeline, "", path);
    if (!rc)
        rc = sk_files_root(data_dir, root);
    if (!rc)
        rc = sk_io_remove_tree(path);
    return rc ? rc : sk_io_sync_dir(root);
}

static int each_entry(const char *data_dir, bool sweep,
                      int (*fn)(void *arg, const struct co_id *timeline), void *arg)
{
    char root[SK_PATH_MAX], path[SK_PATH_MAX];
    int rc = sk_files_root(data_dir, root);
    if (rc)
        return rc;
    DIR *d = opendir(root);
    if (!d)
        return co_fail_errno(CO_ERR_IO, errno, "cannot list %s", root);
    for (struct dirent *e = readdir(d); e && !rc; e = readdir(d)) {
        struct co_id id;
        size_t len = strlen(e->d_name);
        if (sweep && len == CO_ID_TEXT + 3 && strcmp(e->d_name + CO_ID_TEXT - 1, ".new") == 0) {
            rc = sk_io_path(path, "%s/%s", root, e->d_name);
            if (!rc)
                rc = sk_io_remove_tree(path);
        } else if (fn && co_id_parse(e->d_name, &id) == 0) {
            rc = fn(arg, &id);
        }
    }
    closedir(d);
    return rc;
}

int sk_files_sweep(const char *data_dir)
{
    return each_entry(data_dir, true, NULL, NULL);
}

int sk_files_list(const char *data_dir, int (*fn)(void *arg, const struct co_id *timeline),
                  void *arg)
{
    return each_entry(data_dir, false, fn, arg);
}

static void boot_id(struct co_id *out)
{
    int fd = -1;
    char hex[64] = {0}, plain[CO_ID_TEXT] = {0};
    *out = (struct co_id){{0}};
    if (sk_io_open("/proc/sys/kernel/random/boot_id", O_RDONLY, &fd) == 0) {
        ssize_t n = read(fd, hex, sizeof hex - 1);
        close(fd);
        size_t k = 0;
        for (ssize_t i = 0; i < n && k < CO_ID_TEXT - 1; i++)
            if (hex[i] != '-' && hex[i] != '\n')
                plain[k++] = hex[i];
        if (co_id_parse(plain, out))
            *out = (struct co_id){{0}};
    }
}

/* -- Creation --------------------------------------------------------------------------------- */

static int sync_root(const char *data_dir)
{
    char root[SK_PATH_MAX];
    int rc = sk_files_root(data_dir, root);
    return rc ? rc : sk_io_sync_dir(root);
}

/* A directory that is there although the registry does not list it. */
static int adopt_existing(const char *data_dir, const struct sk_birth *birth)
{
    char id[CO_ID_TEXT];
    struct sk_files *f;
    int rc = sk_files_open(data_dir, birth, &f);
    if (rc)
        return rc;
    bool untouched = f->control.term == 0 && f->n_history == 0 && !f->control.halted[0] &&
                     f->log.end_lsn == f->log.start_lsn;
    sk_files_close(f);
    if (untouched) /* by whoever was killed before the name was durable */
        return sync_root(data_dir);
    return co_fail(
        CO_ERR_HALTED,
        "timeline %s is not in the registry of this safekeeper, yet its directory holds "
        "votes or records: the registry is older than the data. Bring the registry file back "
        "or replace this safekeeper",
        co_id_format(&birth->owner.timeline, id));
}

int sk_files_create(const char *data_dir, const struct sk_birth *birth)
{
    char root[SK_PATH_MAX], dir[SK_PATH_MAX], fresh[SK_PATH_MAX], path[SK_PATH_MAX];
    struct sk_history_file history = {.fd = -1};
    struct sk_log log;
    struct sk_control control = {
        .owner = birth->owner,
        .start_lsn = birth->start_lsn,
        .commit_lsn = birth->start_lsn,
        .sealed_lsn = birth->start_lsn,
        .floor_lsn = birth->start_lsn,
        .start_digest = birth->start_digest,
        .no_lease = true,
        .clean = true,
    };
    int rc = sk_files_root(data_dir, root);
    if (!rc)
        rc = dir_of(data_dir, &birth->owner.timeline, "", dir);
    if (!rc)
        rc = dir_of(data_dir, &birth->owner.timeline, ".new", fresh);
    if (rc)
        return rc;
    if (sk_io_exists(dir))
        return adopt_existing(data_dir, birth);
    boot_id(&control.boot_id);
    rc = sk_io_remove_tree(fresh);
    if (!rc)
        rc = sk_io_mkdir(fresh);
    if (!rc)
        rc = sk_io_path(path, "%s/history", fresh);
    if (!rc)
        rc = sk_history_open(path, &birth->owner.timeline, true, &history);
    sk_history_close(&history);
    if (!rc)
        rc = sk_io_path(path, "%s/control", fresh);
    if (!rc)
        rc = sk_control_create(path, &control);
    if (!rc)
        rc = sk_io_path(path, "%s/log", fresh);
    if (!rc) {
        rc = sk_log_create(path, &birth->owner, birth->start_lsn, &birth->start_digest, &log);
        sk_log_close(&log);
    }
    if (!rc) /* its entries have mostly become durable with the files by now, so this is short */
        rc = sk_io_sync_dir(fresh);
    if (!rc && rename(fresh, dir))
        rc = co_fail_errno(CO_ERR_IO, errno, "cannot rename %s to %s", fresh, dir);
    if (!rc)
        rc = sk_io_sync_dir(root);
    return rc;
}

/* -- Opening ---------------------------------------------------------------------------------- */

static int write_control(struct sk_files *f, lsn_t seal)
{
    struct sk_control *c = &f->control;
    lsn_t commit = atomic_load_explicit(&f->commit_hint, memory_order_relaxed);
    if (commit > c->commit_lsn && commit <= seal)
        c->commit_lsn = commit;
    if (co_mutated(SEAL_AHEAD))
        seal = f->log.end_lsn;
    c->sealed_lsn = seal > c->commit_lsn ? seal : c->commit_lsn;
    co_assert(c->sealed_lsn <= f->log.flushed_lsn || co_mutated(SEAL_AHEAD));
    return sk_control_write(&f->control_file, c);
}

static int read_state(struct sk_files *f, const struct sk_birth *birth)
{
    char path[SK_PATH_MAX];
    struct sk_control *c = &f->control;
    int rc = sk_io_path(path, "%s/control", f->dir);
    if (!rc)
        rc = sk_control_open(path, &birth->owner, &f->control_file, c);
    if (!rc && (c->start_lsn != birth->start_lsn ||
                memcmp(c->start_digest.b, birth->start_digest.b, sizeof c->start_digest.b)))
        rc = co_fail(CO_ERR_HALTED,
                     "%s begins at another LSN or digest than the registry says; the two are from "
                     "different times. Bring both back from one copy or replace this safekeeper",
                     path);
    if (!rc)
        rc = sk_io_path(path, "%s/history", f->dir);
    if (!rc)
        rc = sk_history_open(path, &birth->owner.timeline, false, &f->history_file);
    if (!rc)
        rc = sk_history_read(&f->history_file, c->history_sequence, c->history_n,
                             &c->history_digest, &f->history);
    f->n_history = c->history_n;
    return rc;
}

/* What a crash has left of moving the log's begin. The block that says so may be in the page cache
 * only: it is durable before a file goes. */
static int finish_rebase(struct sk_files *f, const char *log_dir)
{
    struct sk_control *c = &f->control;
    int rc = sk_control_renew(&f->control_file, c);
    if (rc || !c->emptying)
        return rc ? rc : sk_segments_sweep(log_dir, c->base.lsn);
    return sk_segments_restart(log_dir, &c->owner, c->base.lsn);
}

static int read_log(struct sk_files *f, const struct sk_birth *birth)
{
    char path[SK_PATH_MAX];
    const struct sk_control *c = &f->control;
    struct sk_recover from = {
        .owner = birth->owner,
        .start_lsn = c->base.lsn ? c->base.lsn : c->start_lsn,
        .start_digest = c->base.lsn ? c->base.digest : c->start_digest,
        .sealed_lsn = c->sealed_lsn,
        .commit_lsn = c->commit_lsn,
        .floor_lsn = c->floor_lsn,
        .history = {.n = f->n_history, .e = f->history},
    };
    int rc = sk_io_path(path, "%s/log", f->dir);
    if (!rc && c->base.lsn)
        rc = finish_rebase(f, path);
    return rc ? rc : sk_recover_log(path, &from, &f->log, &f->found);
}

/* The doubt is durable before the evidence goes. */
static int note_doubt(struct sk_files *f)
{
    struct sk_control *c = &f->control;
    char id[CO_ID_TEXT];
    if (f->found.suspect_lsn > c->suspect_lsn)
        c->suspect_lsn = f->found.suspect_lsn;
    c->suspect_term = c->term;
    co_warn("safekeeper/log",
            "records are missing or damaged above what was sealed, and others knew them to be "
            "committed: this copy votes with a reservation until a leader has brought them back "
            "timeline=%s end=%016llx may_have_reached=%016llx",
            co_id_format(&c->owner.timeline, id), (unsigned long long)f->log.end_lsn,
            (unsigned long long)c->suspect_lsn);
    int rc = sk_control_write(&f->control_file, c);
    return rc ? rc : sk_recover_cut(&f->log);
}

int sk_files_open(const char *data_dir, const struct sk_birth *birth, struct sk_files **out)
{
    char id[CO_ID_TEXT];
    struct sk_files *f = calloc(1, sizeof *f);
    if (!f)
        return co_fail(CO_ERR_NOMEM, "no memory to open a timeline");
    f->control_file.fd = f->history_file.fd = -1;
    for (unsigned i = 0; i < SK_SEGMENT_FDS; i++)
        f->log.segments.open[i].fd = -1;
    int rc = dir_of(data_dir, &birth->owner.timeline, "", f->dir);
    if (!rc && !sk_io_exists(f->dir))
        rc = co_fail(
            CO_ERR_HALTED,
            "timeline %s is in the registry of this safekeeper but %s is missing: what this "
            "node voted and stored is lost, so it must not take part. Bring the directory "
            "back or replace this safekeeper",
            co_id_format(&birth->owner.timeline, id), f->dir);
    if (!rc)
        rc = read_state(f, birth);
    if (rc == CO_ERR_NOT_FOUND)
        rc = CO_ERR_CORRUPT; /* the sentence names the file that is missing */
    if (!rc)
        rc = sk_witness_read(f->dir, &birth->owner.timeline, &f->witness);
    if (!rc)
        rc = read_log(f, birth);
    if (!rc && !co_mutated(CONTROL_UNSYNCED))
        rc = sk_control_renew(&f->control_file, &f->control);
    if (!rc && f->found.suspect_lsn)
        rc = note_doubt(f);
    if (rc)
        goto fail;
    atomic_store(&f->commit_hint, f->control.commit_lsn);
    boot_id(&f->control.boot_id);
    f->control.clean = false;
    f->unsettled = true;
    /* What was to be emptied is: in both slots, before anything is appended. */
    bool emptied = f->control.emptying;
    f->control.emptying = false;
    rc = write_control(f, f->log.flushed_lsn);
    if (!rc && emptied)
        rc = write_control(f, f->log.flushed_lsn);
    if (rc)
        goto fail;
    if (f->found.torn_bytes)
        co_warn("safekeeper/log",
                "cut off what a crash left behind the end of the log "
                "timeline=%s end=%016llx torn_bytes=%llu",
                co_id_format(&birth->owner.timeline, id), (unsigned long long)f->log.end_lsn,
                (unsigned long long)f->found.torn_bytes);
    *out = f;
    return 0;
fail:
    sk_files_close(f);
    return rc;
}

void sk_files_close(struct sk_files *f)
{
    if (!f)
        return;
    sk_log_close(&f->log);
    sk_control_close(&f->control_file);
    sk_history_close(&f->history_file);
    free(f->history);
    free(f);
}

/* -- Changes ---------------------------------------------------------------------------------- */

static int write_history(struct sk_files *f)
{
    struct sk_control *c = &f->control;
    struct q_history h = {.n = f->n_history, .e = f->history};
    struct wal_digest digest;
    int rc = sk_history_write(&f->history_file, c->history_sequence + 1, &h, &digest);
    if (rc)
        return rc;
    c->history_sequence++;
    c->history_n = f->n_history;
    c->history_digest = digest;
    return 0;
}

static int keep_history(struct sk_files *f, const struct sk_durable *d)
{
    struct q_term *copy = NULL;
    if (d->n_history) {
        copy = malloc(d->n_history * sizeof *copy);
        if (!copy)
            return co_fail(CO_ERR_NOMEM, "no memory for a term history");
        memcpy(copy, d->history, d->n_history * sizeof *copy);
    }
    free(f->history);
    f->history = copy;
    f->n_history = d->n_history;
    return write_history(f);
}

static void take_durable(struct sk_files *f, const struct sk_durable *durable)
{
    struct sk_control *c = &f->control;
    if (durable->commit_lsn > c->commit_lsn)
        c->commit_lsn = durable->commit_lsn;
    c->term = durable->term;
    c->voted_nonce = durable->voted_nonce;
    c->no_lease = durable->no_lease;
    c->floor_lsn = durable->floor_lsn;
    c->suspect_lsn = durable->suspect_lsn;
    c->suspect_term = durable->suspect_term;
    f->unsettled = true;
}

int sk_files_persist(struct sk_files *f, const struct sk_durable *durable, bool history_changed,
                     lsn_t seal_max)
{
    struct sk_control *c = &f->control;
    co_assert(durable->term >= c->term && durable->commit_lsn <= f->log.end_lsn);
    int rc = history_changed ? keep_history(f, durable) : 0;
    if (!rc && durable->commit_lsn > f->log.flushed_lsn)
        rc = sk_log_sync(&f->log);
    if (rc)
        return rc;
    take_durable(f, durable);
    lsn_t seal = f->log.flushed_lsn;
    bool lower = seal_max && seal > seal_max && !co_mutated(SEGMENT_EARLY);
    return write_control(f, lower ? seal_max : seal);
}

int sk_files_truncate(struct sk_files *f, lsn_t lsn)
{
    char id[CO_ID_TEXT];
    if (lsn < f->control.commit_lsn)
        return co_fail(
            CO_ERR_BUG,
            "timeline %s was to be truncated at LSN %016llx, below its commit LSN %016llx",
            co_id_format(&f->control.owner.timeline, id), (unsigned long long)lsn,
            (unsigned long long)f->control.commit_lsn);
    int rc = f->control.sealed_lsn > lsn && !co_mutated(SEGMENT_EARLY) ? write_control(f, lsn) : 0;
    return rc ? rc : sk_log_truncate(&f->log, lsn);
}

/* In both slots: rot of one must not bring back a log whose files have gone, nor empty it again. */
static int write_both(struct sk_files *f)
{
    int rc = sk_control_write(&f->control_file, &f->control);
    return rc ? rc : sk_control_write(&f->control_file, &f->control);
}

/* The block first; while it says `emptying`, no file of the log counts. */
static int begin_anew(struct sk_files *f, const struct sk_mark *begin)
{
    struct sk_control *c = &f->control;
    c->emptying = !co_mutated(EMPTIED_UNTOLD);
    c->sealed_lsn = begin->lsn;
    int rc = write_both(f);
    if (!rc)
        rc = sk_log_empty(&f->log, begin);
    c->emptying = false;
    return rc ? rc : write_both(f);
}

int sk_files_rebase(struct sk_files *f, const struct sk_durable *durable)
{
    struct sk_mark begin = {durable->base.lsn, durable->base.digest};
    int rc = 0;
    co_assert(begin.lsn <= durable->commit_lsn);
    if (begin.lsn <= f->log.end_lsn && durable->commit_lsn > f->log.flushed_lsn)
        rc = sk_log_sync(&f->log);
    if (rc)
        return rc;
    if (co_mutated(DROP_BEFORE_BLOCK) && begin.lsn <= f->log.end_lsn)
        rc = sk_log_drop(&f->log, &begin);
    take_durable(f, durable);
    f->control.base = durable->base;
    if (begin.lsn > f->log.end_lsn)
        return rc ? rc : begin_anew(f, &begin);
    for (int slot = 0; slot < 2 && !rc; slot++)
        rc = write_control(f, f->log.flushed_lsn);
    return rc ? rc : sk_log_drop(&f->log, &begin);
}

int sk_files_witness(struct sk_files *f, const struct q_known_list *known)
{
    return sk_witness_store(f->dir, &f->control.owner.timeline, known, &f->witness);
}

int sk_files_halt(struct sk_files *f, const char *reason)
{
    snprintf(f->control.halted, sizeof f->control.halted, "%s", *reason ? reason : "halted");
    int rc = sk_log_sync(&f->log);
    return rc ? rc : write_control(f, f->log.flushed_lsn);
}

/* -- Idle time -------------------------------------------------------------------------------- */

static uint64_t ahead(const struct sk_files *f)
{
    uint64_t has = f->log.end_lsn - f->log.start_lsn;
    return has < AHEAD_MIN_BYTES ? AHEAD_MIN_BYTES : has < AHEAD_MAX_BYTES ? has : AHEAD_MAX_BYTES;
}

static bool wants_zeros(const struct sk_files *f)
{
    return f->log.end_lsn > f->log.start_lsn &&
           f->log.segments.prepared_lsn < f->log.end_lsn + ahead(f);
}

bool sk_files_wants_ahead(const struct sk_files *f)
{
    return f->log.segments.prepared_lsn < f->log.end_lsn + ahead(f) / 4;
}

int sk_files_keep_ahead(struct sk_files *f)
{
    bool more;
    if (!sk_files_wants_ahead(f))
        return 0;
    return sk_segments_prepare(&f->log.segments, f->log.end_lsn, ahead(f), &more);
}

bool sk_files_wants_idle(const struct sk_files *f)
{
    return f->unsettled || f->witness.unsure || f->control.sealed_lsn < f->log.flushed_lsn ||
           wants_zeros(f);
}

bool sk_files_seal_lags(const struct sk_files *f)
{
    return f->log.flushed_lsn - f->control.sealed_lsn >= sk_segment_bytes;
}

int sk_files_seal(struct sk_files *f)
{
    return write_control(f, f->log.flushed_lsn);
}

int sk_files_settle(struct sk_files *f)
{
    int rc = sk_log_sync(&f->log);
    f->control.clean = true;
    for (int slot = 0; slot < 2 && !rc; slot++)
        rc = write_control(f, f->log.flushed_lsn);
    return rc;
}

int sk_files_idle(struct sk_files *f, bool *more)
{
    int rc = 0;
    bool left = false;
    if (f->unsettled || f->control.sealed_lsn < f->log.flushed_lsn) {
        /* The other copy and the other slot get the same content: rot of one then costs nothing. */
        if (f->unsettled && f->n_history)
            rc = write_history(f);
        if (!rc)
            rc = write_control(f, f->log.flushed_lsn);
        f->unsettled = false;
    } else if (f->witness.unsure) {
        rc = sk_witness_renew(f->dir, &f->control.owner.timeline, &f->witness);
    } else if (wants_zeros(f)) {
        rc = sk_segments_prepare(&f->log.segments, f->log.end_lsn, 2 * ahead(f), &left);
    }
    *more = !rc && sk_files_wants_idle(f);
    if (!rc && !*more)
        sk_segments_rest(&f->log.segments);
    return rc;
}
