#include "compute-vfs/pageserver_sock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock_file.h"
#include "common/crc32c.h"
#include "compute-vfs/pageserver_pool.h"
#include "proto/message.h"
#include "proto/net_sock.h"

static uint64_t end_of(uint32_t timeout_ms)
{
    return co_now_us() + (uint64_t)timeout_ms * 1000u;
}

/* -- open, create -------------------------------------------------------------------------------
 */

static int malformed(const struct cv_pageserver *ps, const char *what)
{
    return co_fail(CO_ERR_PROTOCOL, "the pageserver at %s sent %s", ps->address, what);
}

static int read_safekeepers(const struct cv_pageserver *ps, const Corallite__Opened *opened,
                            struct cv_timeline *out)
{
    if (opened->n_safekeepers == 0 || opened->n_safekeepers > CO_MEMBERS_MAX)
        return malformed(ps, "no list of safekeepers that can be used");
    for (size_t i = 0; i < opened->n_safekeepers; i++) {
        const Corallite__Safekeeper *from = opened->safekeepers[i];
        struct cv_safekeeper *to = &out->safekeepers[i];
        if (from->host == NULL || strlen(from->host) > CO_HOST_MAX_BYTES || from->host[0] == 0 ||
            from->port == 0 || from->port > UINT16_MAX || from->node == 0)
            return malformed(ps, "a safekeeper without an address");
        for (size_t j = 0; j < i; j++) {
            if (out->safekeepers[j].node == from->node)
                return malformed(ps, "two safekeepers with one node id");
        }
        to->node = from->node;
        to->port = (uint16_t)from->port;
        if (msg_get16("disk", from->has_disk, &from->disk, to->disk.b))
            return malformed(ps, "a safekeeper's disk that is none");
        snprintf(to->host, sizeof to->host, "%s", from->host);
    }
    out->n_safekeepers = (uint32_t)opened->n_safekeepers;
    return 0;
}

static int read_ancestors(const struct cv_pageserver *ps, const Corallite__Opened *opened,
                          struct cv_timeline *out)
{
    lsn_t above = out->start_lsn;

    if (opened->n_ancestors > CO_BRANCH_DEPTH_MAX)
        return malformed(ps, "more ancestors than a branch has");
    for (size_t i = 0; i < opened->n_ancestors; i++) {
        const Corallite__Resolved__Ancestor *from = opened->ancestors[i];
        struct cv_ancestor *to = &out->ancestors[i];
        if (msg_get16("ancestor", from->has_timeline, &from->timeline, to->timeline.b) != 0)
            return CO_ERR_PROTOCOL;
        to->lsn = from->lsn;
        if (co_id_is_zero(&to->timeline) || to->lsn > above)
            return malformed(ps, "ancestors that cannot be");
        above = to->lsn;
    }
    out->n_ancestors = (uint32_t)opened->n_ancestors;
    return 0;
}

static int read_timeline(const struct cv_pageserver *ps, const Corallite__Opened *opened,
                         struct cv_timeline *out)
{
    const Corallite__Timeline *t = opened->timeline;

    memset(out, 0, sizeof *out);
    if (t->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        return co_fail(CO_ERR_DROPPED, "the database was dropped");
    if (msg_get16("cluster", opened->has_cluster, &opened->cluster, out->cluster.b) != 0 ||
        msg_get16("timeline", t->has_id, &t->id, out->timeline.b) != 0 ||
        msg_get16("database", t->has_database, &t->database, out->database.b) != 0 ||
        msg_get16("base digest", t->has_base_digest, &t->base_digest, out->base_digest.b) != 0 ||
        msg_config_read(t->config, &out->config) != 0)
        return CO_ERR_PROTOCOL;
    if (co_id_is_zero(&out->cluster) || co_id_is_zero(&out->timeline))
        return malformed(ps, "a database without an identity");
    out->sealed = t->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
    out->start_lsn = t->start_lsn;
    if (out->start_lsn < LSN_FIRST || out->start_lsn % LSN_ALIGN != 0)
        return malformed(ps, "a log that begins nowhere");
    out->born_term = t->born_term;
    int rc = read_ancestors(ps, opened, out);
    return rc ? rc : read_safekeepers(ps, opened, out);
}

/* The one cluster that this pageserver belongs to, for every later Hello. */
static int note_cluster(struct cv_pageserver *ps, const struct co_id *cluster)
{
    pthread_mutex_lock(&ps->lock);
    if (co_id_is_zero(&ps->cluster))
        ps->cluster = *cluster;
    bool same = co_id_eq(&ps->cluster, cluster);
    pthread_mutex_unlock(&ps->lock);
    return same ? 0
                : co_fail(CO_ERR_CLUSTER,
                          "the pageserver at %s belongs to another cluster than "
                          "when this process first met it",
                          ps->address);
}

/* Open or Create, until the answer is no longer that the database is being made. */
static int open_with(struct cv_pageserver *ps, struct cv_question *a, const char *what,
                     uint32_t timeout_ms, struct cv_timeline *out)
{
    uint64_t end_us = end_of(timeout_ms);

    a->answer = FRAME_OPENED;
    a->answer_type = &corallite__opened__descriptor;
    for (;;) {
        int rc = cv_pageserver_ask(ps, a, end_us);
        if (rc != 0)
            return rc;
        const Corallite__Opened *opened = a->reply;
        bool creating = false;
        if (opened->timeline == NULL) {
            rc = co_fail(CO_ERR_NOT_FOUND, "there is no database %s at the pageserver %s", what,
                         ps->address);
        } else {
            creating = opened->timeline->state == CORALLITE__TIMELINE_STATE__TIMELINE_CREATING;
            rc = read_timeline(ps, opened, out);
        }
        cv_question_release(a);
        if (rc == 0)
            rc = note_cluster(ps, &out->cluster);
        if (rc != 0 || !creating)
            return rc;
        if (co_now_us() + CV_RETRY_MIN_US >= end_us)
            return co_fail(CO_ERR_TIMEOUT,
                           "the database %s is still being created at the pageserver %s", what,
                           ps->address);
        cv_pause_us(CV_RETRY_MIN_US);
    }
}

static int pages_open(struct cv_pages *p, const char *db, const char *branch, uint32_t timeout_ms,
                      struct cv_timeline *out)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__Open open = CORALLITE__OPEN__INIT;
    struct cv_question a = {.type = FRAME_OPEN, .message = &open.base};
    char what[2 * CO_NAME_MAX_BYTES + 2];

    snprintf(what, sizeof what, "%.*s/%.*s", CO_NAME_MAX_BYTES, db, CO_NAME_MAX_BYTES, branch);
    open.database = (char *)db;
    open.branch = (char *)branch;
    return open_with(ps, &a, what, timeout_ms, out);
}

static int pages_create(struct cv_pages *p, const char *db, uint32_t timeout_ms,
                        struct cv_timeline *out)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__Create create = CORALLITE__CREATE__INIT;
    struct cv_question a = {.type = FRAME_CREATE, .message = &create.base, .slow = true};
    struct co_id id = co_id_random(); /* one for all tries: the call is idempotent by it */

    create.database = (char *)db;
    create.has_database_id = 1;
    create.database_id = msg_bytes16(id.b);
    return open_with(ps, &a, db, timeout_ms, out);
}

/* -- pages --------------------------------------------------------------------------------------
 */

/* Which of the caller's pages one request asks for, and how many of the chain behind them. */
struct batch {
    uint32_t index[CO_GETPAGES_MAX];
    uint32_t pgno[CO_GETPAGES_MAX];
    uint32_t n;
    struct cv_page *chain;
    uint32_t n_chain;
};

static void gather(const struct cv_page *pages, uint32_t n, struct batch *batch)
{
    batch->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (pages[i].status != CO_ERR_AGAIN)
            continue;
        batch->index[batch->n] = i;
        batch->pgno[batch->n++] = pages[i].pgno;
    }
}

/* Is it the answer to what was asked, and of the size that it claims? */
static int check_reply(const struct cv_pageserver *ps, const Corallite__GetPages *asked,
                       const Corallite__Pages *got, uint32_t page_size, struct co_span payload)
{
    uint64_t bytes = 0;

    if (!got->has_timeline || got->timeline.len != 16 ||
        memcmp(got->timeline.data, asked->timeline.data, 16) != 0)
        return malformed(ps, "pages of another timeline");
    if (got->lsn != asked->lsn)
        return malformed(ps, "pages of another moment");
    if (got->n_pages < asked->n_pages || got->n_pages - asked->n_pages > asked->chain)
        return malformed(ps, "another number of pages than was asked for");
    for (size_t i = 0; i < got->n_pages; i++) {
        if (i < asked->n_pages ? got->pages[i]->pgno != asked->pages[i] : !got->pages[i]->pgno)
            return malformed(ps, "other pages than were asked for");
        bytes += got->pages[i]->status == CO_OK ? page_size : 0;
    }
    if (bytes > 0 && got->page_size != page_size)
        return co_fail(CO_ERR_PROTOCOL,
                       "the pageserver at %s sent pages of %u bytes, the database has %u",
                       ps->address, (unsigned)got->page_size, (unsigned)page_size);
    if (bytes != payload.len)
        return malformed(ps, "fewer or more bytes than its pages have");
    return 0;
}

/* Takes one page; sets its status, with a sentence unless it is fine. */
static void take_page(struct cv_pageserver *ps, const Corallite__Pages__Page *from, lsn_t at,
                      const uint8_t *bytes, uint32_t page_size, struct cv_page *to)
{
    to->status = from->status;
    to->lsn = from->lsn;
    to->crc = from->crc;
    if (from->status == CO_ERR_CORRUPT) {
        (void)co_fail(CO_ERR_CORRUPT,
                      "page %u at LSN %016" PRIx64
                      " is damaged in the store of the pageserver at %s "
                      "(see its log)",
                      (unsigned)from->pgno, at, ps->address);
        return;
    }
    if (from->status != CO_OK)
        return;
    uint32_t crc = co_crc32c(0, bytes, page_size);
    if (from->lsn > at || crc != from->crc) {
        to->status = co_fail(CO_ERR_CORRUPT,
                             "page %u at LSN %016" PRIx64 " came from the pageserver at %s with "
                             "CRC %08x and version LSN %016" PRIx64 ", its bytes have CRC %08x",
                             (unsigned)from->pgno, at, ps->address, (unsigned)from->crc, from->lsn,
                             (unsigned)crc);
        return;
    }
    memcpy(to->data, bytes, page_size);
    atomic_fetch_add(&ps->pages, 1);
}

/* One request; pages that did not fit keep CO_ERR_AGAIN. *progress: some page got a status. */
static int get_batch(struct cv_pageserver *ps, Corallite__GetPages *get, uint32_t page_size,
                     struct cv_page *pages, const struct batch *batch, uint64_t end_us,
                     bool *progress)
{
    struct cv_question a = {.type = FRAME_GET_PAGES,
                            .answer = FRAME_PAGES,
                            .message = &get->base,
                            .answer_type = &corallite__pages__descriptor,
                            .deadline_ms = &get->deadline_ms};

    get->n_pages = batch->n;
    get->pages = (uint32_t *)batch->pgno;
    get->has_chain = batch->n_chain > 0;
    get->chain = batch->n_chain;
    *progress = false;
    int rc = cv_pageserver_ask(ps, &a, end_us);
    if (rc == 0)
        rc = check_reply(ps, get, a.reply, page_size, a.payload);
    if (rc == 0) {
        const Corallite__Pages *got = a.reply;
        const uint8_t *bytes = a.payload.data;
        for (uint32_t i = 0; i < got->n_pages; i++) {
            struct cv_page *to =
                i < batch->n ? &pages[batch->index[i]] : &batch->chain[i - batch->n];
            to->pgno = got->pages[i]->pgno;
            take_page(ps, got->pages[i], get->lsn, bytes, page_size, to);
            *progress = *progress || to->status != CO_ERR_AGAIN;
            bytes += got->pages[i]->status == CO_OK ? page_size : 0;
        }
    }
    cv_question_release(&a);
    return rc;
}

static int pages_get(struct cv_pages *p, const struct co_id *timeline, lsn_t lsn,
                     lsn_t not_modified_since, uint32_t page_size, struct cv_page *pages,
                     uint32_t n, uint32_t timeout_ms)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__GetPages get = CORALLITE__GET_PAGES__INIT;
    struct batch batch;
    uint64_t end_us = end_of(timeout_ms);

    co_assert(n <= CO_GETPAGES_MAX);
    get.has_timeline = get.has_lsn = get.has_not_modified_since = get.has_deadline_ms = 1;
    get.timeline = msg_bytes16(timeline->b);
    get.lsn = lsn;
    get.not_modified_since = not_modified_since;
    batch.n_chain = 0;
    while (n > 1 && pages[n - 1].pgno == 0) {
        pages[--n].status = CO_ERR_NOT_FOUND;
        batch.n_chain++;
    }
    batch.chain = pages + n;
    for (uint32_t i = 0; i < n; i++)
        pages[i].status = CO_ERR_AGAIN;
    for (gather(pages, n, &batch); batch.n > 0; gather(pages, n, &batch), batch.n_chain = 0) {
        bool progress;
        int rc = get_batch(ps, &get, page_size, pages, &batch, end_us, &progress);
        if (rc != 0)
            return rc;
        if (!progress)
            return malformed(ps, "none of the pages that were asked for");
    }
    return 0;
}

/* -- changes ------------------------------------------------------------------------------------
 */

static bool plausible_page_size(uint32_t n)
{
    return n >= CO_PAGE_SIZE_MIN && n <= CO_PAGE_SIZE_MAX && (n & (n - 1)) == 0;
}

static int read_changes(const struct cv_pageserver *ps, const Corallite__ChangesSince *asked,
                        const struct cv_question *a, struct cv_changes *out)
{
    const Corallite__Changes *got = a->reply;

    if (!got->has_timeline || got->timeline.len != 16 ||
        memcmp(got->timeline.data, asked->timeline.data, 16) != 0)
        return malformed(ps, "changes of another timeline");
    if (got->since != asked->since || (asked->upto != 0 && got->upto != asked->upto))
        return malformed(ps, "changes of another stretch of the log");
    if (got->txn_lsn > got->upto)
        return malformed(ps, "a commit beyond the end it answered for");
    if (got->txn_lsn != LSN_NONE && (!plausible_page_size(got->page_size) || got->db_pages == 0))
        return malformed(ps, "a database of an impossible size");
    out->upto = got->upto;
    out->txn_lsn = got->txn_lsn;
    out->db_pages = got->db_pages;
    out->page_size = got->page_size;
    out->time_us = got->time_us;
    out->all = got->all;
    return co_buf_append(&out->list, a->payload.data, a->payload.len);
}

static int pages_changes(struct cv_pages *p, const struct co_id *timeline, lsn_t since, lsn_t upto,
                         uint32_t timeout_ms, struct cv_changes *out)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;
    Corallite__ChangesSince since_msg = CORALLITE__CHANGES_SINCE__INIT;
    struct cv_question a = {.type = FRAME_CHANGES_SINCE,
                            .answer = FRAME_CHANGES,
                            .message = &since_msg.base,
                            .answer_type = &corallite__changes__descriptor,
                            .deadline_ms = &since_msg.deadline_ms};

    memset(out, 0, sizeof *out);
    since_msg.has_timeline = since_msg.has_since = since_msg.has_upto = since_msg.has_deadline_ms =
        1;
    since_msg.timeline = msg_bytes16(timeline->b);
    since_msg.since = since;
    since_msg.upto = upto;
    int rc = cv_pageserver_ask(ps, &a, end_of(timeout_ms));
    if (rc == 0)
        rc = read_changes(ps, &since_msg, &a, out);
    cv_question_release(&a);
    if (rc != 0)
        co_buf_free(&out->list);
    return rc;
}

/* -- life ---------------------------------------------------------------------------------------
 */

static void pages_stats(struct cv_pages *p, struct cv_pages_stats *out)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;

    out->round_trips = atomic_load(&ps->round_trips);
    out->pages = atomic_load(&ps->pages);
    out->bytes_in = atomic_load(&ps->bytes_in);
    out->bytes_out = atomic_load(&ps->bytes_out);
}

/* No other thread uses it any more. In a forked child one of the parent's may have been in the
 * middle of changing it: then all stays as it is. */
static void pages_close(struct cv_pages *p)
{
    struct cv_pageserver *ps = (struct cv_pageserver *)p;

    if (ps->pid != getpid() && pthread_mutex_trylock(&ps->lock) != 0)
        return;
    cv_pool_close(ps);
    if (ps->pid == getpid())
        pthread_mutex_destroy(&ps->lock);
    free(ps);
}

static const struct cv_pages_ops pageserver_ops = {
    .close = pages_close,
    .open = pages_open,
    .create = pages_create,
    .get = pages_get,
    .changes = pages_changes,
    .resolve = cv_pageserver_resolve,
    .log = cv_pageserver_log,
    .branches = cv_pageserver_branches,
    .stats = pages_stats,
};

/* Each of "A,B,C" to its endpoint. */
static int split_servers(const char *text, struct cv_pageserver *ps)
{
    char item[CO_HOST_MAX_BYTES + 16], one[300];
    uint32_t n = 0;
    size_t used = 0;

    for (bool more = true; more; n++) {
        size_t len = strcspn(text, ",");
        if (n == CV_SERVERS_MAX || len >= sizeof item)
            return co_fail(CO_ERR_INVAL, "at most %u pageservers can be named, by commas",
                           CV_SERVERS_MAX);
        memcpy(item, text, len);
        item[len] = 0;
        int rc = psock_split_address(item, CV_PAGESERVER_PORT, ps->at[n].host, &ps->at[n].port);
        if (rc != 0)
            return rc;
        net_format(ps->at[n].host, ps->at[n].port, one);
        used += (size_t)snprintf(ps->address + used, sizeof ps->address - used, "%s%s",
                                 n ? "," : "", one);
        more = text[len] != 0;
        text += len + more;
    }
    cv_choice_init(&ps->choice, n);
    return 0;
}

int cv_pageserver_open(const char *server, struct cv_pages **out)
{
    struct cv_pageserver *ps = calloc(1, sizeof *ps);

    *out = NULL;
    if (ps == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory for connections to the pageserver");
    int rc = split_servers(server, ps);
    if (rc != 0) {
        free(ps);
        return rc;
    }
    ps->base.ops = &pageserver_ops;
    ps->pid = getpid();
    pthread_mutex_init(&ps->lock, NULL);
    *out = &ps->base;
    return 0;
}
