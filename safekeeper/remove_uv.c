/*
 * remove_uv.c - the files of what was dropped.
 *
 * A timeline that is DROPPED stays in the registry for ever, as a tombstone; its files may go when
 * the pageserver says that nothing of it is left there either (`purged`): every branch that read
 * through it is gone by then. The tombstone is durable first; what a crash leaves of the files is
 * removed at the next start.
 */
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/log.h"
#include "safekeeper/server.h"
#include "safekeeper/timeline_file.h"

#define MODULE "safekeeper/remove"

struct removal {
    struct sk_job job;
    struct sk_server *server;
    struct co_id id;
    uint64_t bytes;
};

bool sk_may_remove(const struct sk_entry *entry)
{
    return entry->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED && entry->message->purged;
}

uint64_t sk_log_bytes(const char *data_dir, const struct co_id *id)
{
    char path[SK_PATH_MAX], text[CO_ID_TEXT];
    uint64_t sum = 0;
    if (sk_io_path(path, "%s/timelines/%s/log", data_dir, co_id_format(id, text)))
        return 0;
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            sum += (uint64_t)st.st_blocks * 512;
    }
    if (d)
        closedir(d);
    return sum;
}

uint64_t sk_stored_bytes(const struct sk_server *s, uint64_t appended)
{
    /* What is appended is counted by records, what is removed by blocks: together about right. */
    uint64_t all = s->log_bytes + appended, gone = s->removed_bytes + sk_store_dropped_bytes();
    return all > gone ? all - gone : 0;
}

/* Store thread. */
static int remove_files(struct sk_job *job)
{
    struct removal *r = job->owner;
    r->bytes = sk_log_bytes(r->server->options.dir, &r->id);
    return sk_files_remove(r->server->options.dir, &r->id);
}

static void on_removed(struct sk_job *job)
{
    struct removal *r = job->owner;
    struct sk_server *s = r->server;
    char id[CO_ID_TEXT];
    if (job->rc) {
        co_warn(MODULE, "the files of a dropped timeline stay until the next start timeline=%s: %s",
                co_id_format(&r->id, id), job->sentence);
    } else {
        s->removed_bytes += r->bytes;
        co_info(MODULE, "the files of a dropped timeline are removed timeline=%s log_bytes=%llu",
                co_id_format(&r->id, id), (unsigned long long)r->bytes);
    }
    s->n_removing--;
    free(r);
    sk_server_go_on_stopping(s);
}

void sk_remove_files(struct sk_server *s, const struct sk_entry *entry)
{
    struct removal *r =
        sk_may_remove(entry) && !entry->open && !s->stopping ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return; /* the next start does it */
    r->server = s;
    r->id = entry->id;
    r->job =
        (struct sk_job){.kind = SK_JOB_CALL, .call = remove_files, .done = on_removed, .owner = r};
    s->n_removing++;
    sk_store_submit(s->stores[0], &r->job);
}
