/* start_file.c - the data directory at start: see server_uv.h. */
#include "safekeeper/server.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/log.h"

#define MEASURE_AT_START 1000u

struct sk_birth sk_birth_of(const struct sk_server *s, const struct sk_entry *entry)
{
    const struct co_identity *me = s->options.identity;
    return (struct sk_birth){.owner = {.cluster = me->cluster,
                                       .timeline = entry->id,
                                       .disk = me->disk,
                                       .node = me->node},
                             .start_lsn = entry->start_lsn,
                             .start_digest = entry->base_digest,
                             .term = entry->born_term};
}

int sk_server_open(struct sk_server *s, struct sk_entry *entry, struct sk_files *files)
{
    struct sk_birth birth = sk_birth_of(s, entry);
    struct sk_timeline *t = NULL;
    int rc = sk_rest_room(s);
    if (rc) {
        sk_files_close(files);
        return rc;
    }
    rc = sk_timeline_new(&s->host, s->stores[entry->id.b[0] % SK_STORES], &birth, &entry->config,
                         files, entry->closed_us ? entry->closed_us : s->started_us, &t);
    if (rc)
        return rc;
    entry->open = t;
    sk_rest_opened(s, t);
    return 0;
}

/* Damage of one timeline is no word about the others: each has files of its own, and votes and
 * acknowledges by itself. This one gets no acceptor, so it does neither, and whoever asks hears the
 * sentence; it is as if this safekeeper were away, for that timeline alone. */
static int open_damaged(struct sk_server *s, struct sk_entry *entry)
{
    struct sk_birth birth = sk_birth_of(s, entry);
    struct sk_timeline *t = NULL;
    char sentence[CO_SENTENCE_MAX];
    snprintf(sentence, sizeof sentence, "%s", co_sentence());
    int rc = sk_rest_room(s);
    if (!rc)
        rc = sk_timeline_new_damaged(&s->host, &birth, sentence, &t);
    if (rc)
        return rc;
    entry->open = t;
    sk_rest_opened(s, t);
    return 0;
}

bool sk_server_peek(const struct sk_server *s, const struct sk_entry *entry, struct sk_control *out)
{
    struct sk_birth birth = sk_birth_of(s, entry);
    struct sk_control_file file;
    char path[SK_PATH_MAX], text[CO_ID_TEXT];
    int rc =
        sk_io_path(path, "%s/timelines/%s/control", s->options.dir, co_id_format(&entry->id, text));
    if (!rc)
        rc = sk_control_open(path, &birth.owner, &file, out);
    if (rc)
        return false; /* whoever opens it is told why */
    sk_control_close(&file);
    return out->clean && !out->halted[0];
}

void sk_server_measure(struct sk_server *s, uint32_t n)
{
    while (!s->all_measured && n--) {
        const struct sk_entry *e =
            sk_registry_after(&s->registry, co_id_is_zero(&s->measured) ? NULL : &s->measured);
        s->all_measured = !e;
        if (e) {
            s->measured = e->id;
            s->log_bytes += sk_log_bytes(s->options.dir, &e->id);
        }
    }
}

/* -- Registry and directories
 * ---------------------------------------------------------------------- */

static int make_empty(struct sk_server *s)
{
    char root[SK_PATH_MAX];
    struct sk_registry_bytes bytes = {0};
    int rc = sk_files_root(s->options.dir, root);
    if (!rc)
        rc = sk_io_mkdir(root);
    if (!rc)
        rc = sk_io_sync_dir(s->options.dir);
    if (!rc)
        rc = sk_registry_encode(&s->registry, NULL, &bytes);
    if (!rc)
        rc = sk_registry_write(s->options.dir, &bytes);
    if (!rc)
        sk_registry_written(&s->registry, &bytes);
    co_buf_free(&bytes.buf);
    return rc;
}

static int read_registry(struct sk_server *s)
{
    const char *dir = s->options.dir;
    int rc = sk_registry_read(dir, &s->registry);
    if (rc != CO_ERR_NOT_FOUND)
        return rc;
    if (s->options.identity->fresh)
        return make_empty(s);
    return co_fail(
        CO_ERR_HALTED,
        "%s has an identity but no registry: what this safekeeper voted and stored is lost, "
        "so it must not take part. Bring the directory back from a copy. If it never ran "
        "before (an interrupted first start), remove the directory and start again",
        dir);
}

static int mark_here(void *arg, const struct co_id *id)
{
    struct sk_server *s = arg;
    struct sk_entry *e = sk_registry_find(&s->registry, id);
    if (e)
        e->here = true;
    return 0;
}

/* A directory that no entry lists: harmless only if it never voted. */
static int check_unlisted(void *arg, const struct co_id *id)
{
    struct sk_server *s = arg;
    struct sk_entry probe = {.id = *id};
    struct sk_birth birth = sk_birth_of(s, &probe);
    struct sk_control_file file;
    struct sk_control control;
    char path[SK_PATH_MAX], text[CO_ID_TEXT];
    if (sk_registry_find(&s->registry, id))
        return 0;
    int rc = sk_io_path(path, "%s/timelines/%s/control", s->options.dir, co_id_format(id, text));
    if (!rc)
        rc = sk_control_open(path, &birth.owner, &file, &control);
    if (rc)
        return rc == CO_ERR_NOT_FOUND ? CO_ERR_CORRUPT : rc;
    sk_control_close(&file);
    if (control.term == 0 && control.sealed_lsn == control.start_lsn)
        return 0;
    return co_fail(
        CO_ERR_HALTED,
        "timeline %s has votes or records in %s/timelines but is not in the registry: the "
        "registry is older than the data. Bring the registry file back or replace this "
        "safekeeper",
        text, s->options.dir);
}

static int check_listed(struct sk_server *s)
{
    char text[CO_ID_TEXT];
    for (uint32_t i = 0; i < s->registry.n; i++) {
        const struct sk_entry *e = &s->registry.e[i];
        if (e->state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED && !e->here)
            return co_fail(
                CO_ERR_HALTED,
                "timeline %s (%s) is in the registry but %s/timelines/%s is missing: what "
                "this node voted and stored is lost, so it must not take part. Bring the "
                "directory back, or replace this safekeeper by one with a new --dir and "
                "--node",
                co_id_format(&e->id, text), e->name, s->options.dir, text);
    }
    return 0;
}

/* -- Logs
 * ------------------------------------------------------------------------------------------ */

static int scan(struct sk_server *s)
{
    uint64_t scanned = 0, records = 0, rewritten = 0;
    uint32_t left = 0, damaged = 0;
    for (uint32_t i = 0; i < s->registry.n; i++) {
        struct sk_entry *e = &s->registry.e[i];
        struct sk_files *files;
        if (sk_may_remove(e) && e->here) {
            /* a crash came between the tombstone and this */
            int rc = sk_files_remove(s->options.dir, &e->id);
            if (rc)
                return rc;
        }
        if (e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            continue;
        uint64_t bytes =
            s->n_open < SK_START_SCAN ? sk_log_bytes(s->options.dir, &e->id) : UINT64_MAX;
        if (bytes > SK_START_SCAN_BYTES - scanned) {
            left++;
            continue;
        }
        scanned += bytes;
        struct sk_birth birth = sk_birth_of(s, e);
        int rc = sk_files_open(s->options.dir, &birth, &files);
        if (rc == CO_ERR_CORRUPT) {
            rc = open_damaged(s, e);
            if (rc)
                return rc;
            damaged++;
            continue;
        }
        if (rc)
            return rc;
        records += files->found.records;
        rewritten += files->found.rewritten_bytes;
        rc = sk_server_open(s, e, files);
        if (rc)
            return rc;
    }
    co_info("safekeeper/server",
            "logs are read timelines=%u open=%u later=%u damaged=%u records=%llu bytes=%llu "
            "rewritten_bytes=%llu",
            s->registry.n, s->n_open, left, damaged, (unsigned long long)records,
            (unsigned long long)scanned, (unsigned long long)rewritten);
    return 0;
}

int sk_server_load(struct sk_server *s)
{
    int rc = read_registry(s);
    if (!rc)
        rc = sk_nodes_load(s->options.dir, &s->nodes);
    if (!rc)
        rc = sk_followers_load(s->options.dir, &s->followers);
    if (!rc)
        rc = sk_files_sweep(s->options.dir);
    if (!rc)
        rc = sk_files_list(s->options.dir, mark_here, s);
    if (!rc)
        rc = check_listed(s);
    if (!rc)
        rc = sk_files_list(s->options.dir, check_unlisted, s);
    if (!rc)
        rc = scan(s);
    if (!rc)
        sk_server_measure(s, MEASURE_AT_START);
    return rc;
}
