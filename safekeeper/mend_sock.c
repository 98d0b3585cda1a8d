#include "safekeeper/mend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "proto/hello.h"
#include "proto/message.h"
#include "proto/peer_sock.h"
#include "proto/unpack.h"
#include "proto/wal_stream.h"
#include "safekeeper/mend_archive.h"
#include "safekeeper/registry_file.h"
#include "safekeeper/timeline_file.h"

#define ASK_US   (10 * 1000000ull)
#define WAIT_MS  200u
#define COPY_LEN CO_MIB

struct mend {
    const char *dir; /* data directory */
    const struct co_identity *identity;
    const struct sk_mend_peer *peers;
    uint32_t n_peers, at; /* the one that is asked; n_peers: the archive */
    struct psock sock;    /* to it; fd -1: none */
    struct sk_mend_archive archive;
    /* one timeline */
    struct sk_birth birth;
    struct sk_recover from;
    struct q_term *history;
    char log_dir[SK_PATH_MAX];
    struct sk_log log;
    uint64_t records, bytes; /* written */
    uint32_t files;          /* made, or put right from outside */
};

/* -- What was there is kept -----------------------------------------------------------------------
 */

static int copy_file(const char *from, const char *to)
{
    int in = -1, out = -1, rc = sk_io_open(from, O_RDONLY, &in);
    uint8_t *part = malloc(COPY_LEN);
    ssize_t n = 1;
    if (!rc && !part)
        rc = co_fail(CO_ERR_NOMEM, "no memory to copy a file with");
    if (!rc)
        rc = sk_io_open(to, O_WRONLY | O_CREAT | O_EXCL, &out);
    for (uint64_t at = 0; !rc && n > 0; at += (uint64_t)n) {
        n = pread(in, part, COPY_LEN, (off_t)at);
        if (n < 0)
            rc = co_fail_errno(CO_ERR_IO, errno, "cannot read %s", from);
        else if (n > 0)
            rc = sk_io_pwrite(out, co_span_of(part, (size_t)n), at, to);
    }
    if (!rc && fsync(out))
        rc = co_fail_errno(CO_ERR_IO, errno, "%s could not be made durable", to);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    free(part);
    return rc;
}

/* DIR/aside/<timeline>-<file>; an older copy stays, the next is called .1, .2 and so on. */
static int aside(void *arg, const char *path)
{
    const struct mend *m = arg;
    char dir[SK_PATH_MAX], to[SK_PATH_MAX], id[CO_ID_TEXT];
    const char *name = strrchr(path, '/') + 1;
    int rc = sk_io_path(dir, "%s/aside", m->dir);
    if (!rc)
        rc = sk_io_mkdir(dir);
    co_id_format(&m->birth.owner.timeline, id);
    if (!rc)
        rc = sk_io_path(to, "%s/%s-%s", dir, id, name);
    for (unsigned i = 1; !rc && sk_io_exists(to); i++)
        rc = sk_io_path(to, "%s/%s-%s.%u", dir, id, name, i);
    if (!rc)
        rc = copy_file(path, to);
    return rc ? rc : sk_io_sync_dir(dir);
}

static int file_done(void *arg, const char *path)
{
    struct mend *m = arg;
    (void)path;
    m->files++;
    return 0;
}

/* Before the first write to a segment. */
static int keep(struct mend *m, lsn_t from, lsn_t to, uint64_t *kept)
{
    char path[SK_PATH_MAX];
    uint64_t offset;
    int rc = 0;
    for (uint64_t n = from / SK_SEGMENT_DATA; n <= (to - 1) / SK_SEGMENT_DATA && !rc; n++) {
        if (*kept > n) /* segments follow each other: this one was kept */
            continue;
        rc = sk_segments_path(&m->log.segments, n * SK_SEGMENT_DATA, path, &offset);
        if (!rc && sk_io_exists(path))
            rc = aside(m, path);
        *kept = n + 1;
    }
    return rc;
}

/* -- The other members ----------------------------------------------------------------------------
 */

static bool asks_archive(const struct mend *m)
{
    return m->at == m->n_peers;
}

static int reach(struct mend *m)
{
    const struct sk_mend_peer *p = &m->peers[m->at];
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    hello.program = (char *)(uintptr_t) "corallite-safekeeper --mend";
    hello.has_cluster = hello.has_expect_node = 1;
    hello.cluster = msg_bytes16(m->identity->cluster.b);
    hello.expect_node = p->node;
    psock_close(&m->sock);
    return psock_connect(&m->sock, p->host, p->port, &hello, co_now_us() + ASK_US, NULL);
}

/* Committed bytes of the timeline from `lsn` on; of one large record those from `at` on. Empty:
 * this member has no more. */
static int stream(struct mend *m, lsn_t lsn, uint64_t at, struct co_buf *body, struct co_span *out,
                  bool *fragment)
{
    Corallite__Stream q = CORALLITE__STREAM__INIT;
    struct frame_header frame;
    if (asks_archive(m)) {
        const struct sk_owner *o = &m->birth.owner;
        int bad =
            sk_mend_archive_read(&m->archive, &o->cluster, &o->timeline, lsn, at, body, fragment);
        *out = co_buf_span(body);
        return bad;
    }
    q.has_timeline = q.has_from_lsn = q.has_max_bytes = q.has_wait_ms = q.has_fragment_at = 1;
    q.timeline = msg_bytes16(m->birth.owner.timeline.b);
    q.from_lsn = lsn;
    q.fragment_at = at;
    q.max_bytes = CO_BATCH_BYTES;
    q.wait_ms = WAIT_MS;
    int rc = psock_call(&m->sock, FRAME_STREAM, &q.base, co_span_of(NULL, 0), co_now_us() + ASK_US,
                        &frame, body, NULL);
    if (!rc && frame.type != FRAME_STREAM_DATA)
        rc = co_fail(CO_ERR_PROTOCOL, "it answered STREAM with %s", frame_type_name(frame.type));
    if (rc)
        return rc;
    Corallite__StreamData *d = message_unpack(&corallite__stream_data__descriptor,
                                              co_span_of(body->data, frame.message_bytes));
    if (!d)
        return CO_ERR_PROTOCOL;
    *fragment = d->fragment;
    *out = co_span_of(body->data + frame.message_bytes, body->len - frame.message_bytes);
    if (d->from_lsn != lsn || (d->fragment && d->fragment_at != at) || (at && !d->fragment))
        rc = co_fail(CO_ERR_PROTOCOL, "it answered with another place of its log");
    protobuf_c_message_free_unpacked(&d->base, NULL);
    return rc;
}

/* N1. The record's own soundness was looked at. */
static int check_place(const struct mend *m, const struct wal_header *h)
{
    const struct sk_owner *o = &m->birth.owner;
    lsn_t lsn = m->log.end_lsn;
    if (!co_id_eq(&h->cluster, &o->cluster) || !co_id_eq(&h->timeline, &o->timeline) ||
        h->begin_lsn != lsn)
        return co_fail(CO_ERR_CORRUPT, "its record is one of another place");
    if (memcmp(h->prev_digest.b, m->log.end_digest.b, sizeof h->prev_digest.b) != 0)
        return co_fail(CO_ERR_CORRUPT, "its record does not chain to what this node has before it");
    if (lsn >= m->from.floor_lsn && h->term != q_term_at(&m->from.history, lsn))
        return co_fail(CO_ERR_CORRUPT,
                       "its record is of term %llu, and here term %llu had written: what was here "
                       "is not what was committed",
                       (unsigned long long)h->term,
                       (unsigned long long)q_term_at(&m->from.history, lsn));
    return 0;
}

static int put(struct mend *m, lsn_t lsn, struct co_span bytes, uint64_t *kept)
{
    int rc = keep(m, lsn, lsn + bytes.len, kept);
    return rc ? rc : sk_segments_write(&m->log.segments, lsn, bytes);
}

/* Whole records from the log's end on. */
static int take_records(struct mend *m, struct co_span bytes, uint64_t *kept)
{
    while (bytes.len) {
        struct wal_header h;
        int rc = wal_check(bytes, &h);
        if (!rc)
            rc = wal_check_digest(co_span_of(bytes.data, (size_t)h.total_bytes), &h);
        if (rc == CO_ERR_AGAIN)
            rc = co_fail(CO_ERR_CORRUPT, "its answer ends within a record");
        if (!rc)
            rc = check_place(m, &h);
        struct co_span record = co_span_of(bytes.data, rc ? 0 : (size_t)h.total_bytes);
        if (!rc)
            rc = put(m, m->log.end_lsn, record, kept);
        if (!rc)
            rc = sk_log_note(&m->log, record, &h);
        if (rc)
            return rc;
        m->records++;
        m->bytes += record.len;
        bytes = co_span_of(bytes.data + record.len, bytes.len - record.len);
    }
    return 0;
}

/* Reads one large record through: proves it, or (`write`) puts it where it belongs. */
static int pass(struct mend *m, struct wal_stream *s, bool write, uint64_t *kept)
{
    enum wal_stream_step step = WAL_STREAM_ENTRY;
    struct wal_entry entry;
    lsn_t lsn = m->log.end_lsn;
    int rc = 0;
    wal_stream_reset(s);
    while (!rc && step != WAL_STREAM_END) {
        struct co_buf body = {0};
        struct co_span piece = {0};
        uint64_t at = wal_stream_got(s);
        bool fragment = false;
        rc = stream(m, lsn, at, &body, &piece, &fragment);
        if (asks_archive(m) && piece.len > wal_stream_left(s))
            piece.len = (size_t)wal_stream_left(s); /* what follows the record */
        if (!rc && (!piece.len || !fragment || piece.len > wal_stream_left(s)))
            rc = co_fail(CO_ERR_CORRUPT, "its record ends early");
        if (!rc)
            rc = wal_stream_feed(s, piece);
        step = WAL_STREAM_ENTRY;
        while (!rc && step == WAL_STREAM_ENTRY)
            rc = wal_stream_next(s, &step, &entry);
        if (!rc && write)
            rc = put(m, lsn + at, piece, kept);
        co_buf_free(&body);
    }
    return rc;
}

static int take_large(struct mend *m, uint64_t *kept)
{
    struct wal_stream *s;
    struct wal_header h = {0};
    int rc = wal_stream_new(&s);
    if (rc)
        return rc;
    rc = pass(m, s, false, kept);
    if (!rc) {
        h = *wal_stream_header(s);
        rc = check_place(m, &h);
    }
    if (!rc)
        rc = pass(m, s, true, kept);
    if (!rc && memcmp(h.digest.b, wal_stream_header(s)->digest.b, sizeof h.digest.b) != 0)
        rc = co_fail(CO_ERR_CORRUPT, "its record was another one at the second look");
    if (!rc)
        rc = sk_log_note(&m->log, (struct co_span){0}, &h);
    if (!rc) {
        m->records++;
        m->bytes += h.total_bytes;
    }
    wal_stream_free(s);
    return rc;
}

/* What one answer of this member brings. *none: it has no more. */
static int take_some(struct mend *m, uint64_t *kept, bool *none)
{
    struct co_buf body = {0};
    struct co_span bytes;
    bool fragment;
    int rc = stream(m, m->log.end_lsn, 0, &body, &bytes, &fragment);
    *none = !rc && !bytes.len;
    if (!rc && fragment)
        rc = take_large(m, kept);
    else if (!rc)
        rc = take_records(m, bytes, kept);
    co_buf_free(&body);
    return rc;
}

/* -- One timeline ---------------------------------------------------------------------------------
 */

/* Why the one that was asked gave nothing. */
static void tell(const struct mend *m, const char *why, char *out, size_t cap)
{
    if (asks_archive(m))
        snprintf(out, cap, "%.390s", why);
    else
        snprintf(out, cap, "safekeeper %u: %.300s", m->peers[m->at].node, why);
}

/* As far as the own records go. One of a newer format may be a damaged one: it is when somebody
 * else has the one that was here (N1). */
static int follow_own(struct mend *m, bool *newer)
{
    const char *why = "";
    int rc = sk_recover_follow(&m->from, &m->log, &why);
    *newer = rc == CO_ERR_VERSION;
    return *newer ? 0 : rc;
}

/* From the log's end to `known`, from whichever member has it. */
static int fetch(struct mend *m, lsn_t known)
{
    uint64_t kept = 0;
    bool newer;
    char end[LSN_TEXT], want[LSN_TEXT], last[400] = "there is none";
    uint32_t tried = 0, sources = m->n_peers + (m->archive.url != NULL);
    int rc = follow_own(m, &newer);
    while (!rc && m->log.end_lsn < known && tried < sources) {
        bool none = false;
        int bad = m->sock.fd < 0 && !asks_archive(m) ? reach(m) : 0;
        lsn_t before = m->log.end_lsn;
        if (!bad)
            bad = take_some(m, &kept, &none);
        if (bad == CO_ERR_IO || bad == CO_ERR_NOMEM || bad == CO_ERR_FULL)
            return bad; /* ours, not the member's */
        if (bad || none) {
            tell(m, bad ? co_sentence() : "it has committed no more", last, sizeof last);
            psock_close(&m->sock);
            m->at = (m->at + 1) % sources;
            tried++;
        }
        if (m->log.end_lsn > before) {
            tried = 0;
            rc = follow_own(m, &newer);
        }
    }
    if (rc || m->log.end_lsn >= known)
        return rc;
    if (newer)
        return co_fail(
            CO_ERR_VERSION,
            "a record of a newer format is at LSN %s: start the build that wrote it, or, "
            "if there is none, another member first (%s)",
            lsn_format(m->log.end_lsn, end), last);
    return co_fail(CO_ERR_CORRUPT,
                   "it is sound up to LSN %s, everything below %s was durable here, and no other "
                   "member%s gives what lies between (%s)",
                   lsn_format(m->log.end_lsn, end), lsn_format(known, want),
                   m->archive.url ? " and no archive" : "", last);
}

static int read_promises(struct mend *m)
{
    char path[SK_PATH_MAX], id[CO_ID_TEXT];
    struct sk_control_file file = {.fd = -1};
    struct sk_history_file history = {.fd = -1};
    struct sk_control c;
    co_id_format(&m->birth.owner.timeline, id);
    int rc = sk_io_path(path, "%s/timelines/%s/control", m->dir, id);
    if (!rc)
        rc = sk_control_open(path, &m->birth.owner, &file, &c);
    if (!rc)
        rc = sk_io_path(path, "%s/timelines/%s/history", m->dir, id);
    if (!rc)
        rc = sk_history_open(path, &m->birth.owner.timeline, false, &history);
    if (!rc)
        rc = sk_history_read(&history, c.history_sequence, c.history_n, &c.history_digest,
                             &m->history);
    sk_control_close(&file);
    sk_history_close(&history);
    if (rc)
        return rc;
    m->from = (struct sk_recover){.owner = m->birth.owner,
                                  .start_lsn = c.base.lsn ? c.base.lsn : c.start_lsn,
                                  .start_digest = c.base.lsn ? c.base.digest : c.start_digest,
                                  .sealed_lsn = c.sealed_lsn,
                                  .commit_lsn = c.commit_lsn,
                                  .floor_lsn = c.floor_lsn,
                                  .history = {.n = c.history_n, .e = m->history}};
    return sk_io_path(m->log_dir, "%s/timelines/%s/log", m->dir, id);
}

static int mend_log(struct mend *m)
{
    struct sk_mend_files files = {.aside = aside, .done = file_done, .arg = m};
    lsn_t known = m->from.sealed_lsn > m->from.commit_lsn ? m->from.sealed_lsn : m->from.commit_lsn;
    int rc = sk_io_mkdir(m->log_dir);
    if (!rc)
        rc = sk_segments_sweep(m->log_dir, m->from.start_lsn);
    if (!rc)
        rc = sk_segments_mend(m->log_dir, &m->birth.owner, m->from.start_lsn, known, &files);
    if (!rc)
        rc = sk_recover_begin(m->log_dir, &m->from, &m->log);
    if (rc)
        return rc;
    rc = fetch(m, known);
    if (!rc)
        rc = sk_segments_sync_from(&m->log.segments, m->from.start_lsn);
    sk_log_close(&m->log);
    return rc;
}

static int try_open(struct mend *m)
{
    struct sk_files *files;
    int rc = sk_files_open(m->dir, &m->birth, &files);
    if (!rc)
        sk_files_close(files);
    return rc;
}

/* 1: it was mended; 0: there was nothing to do; negative: it cannot be. */
static int mend_one(struct mend *m)
{
    int rc = try_open(m);
    if (rc != CO_ERR_CORRUPT && rc != CO_ERR_VERSION)
        return rc;
    m->records = m->bytes = 0;
    m->files = 0;
    m->history = NULL;
    rc = read_promises(m);
    if (!rc)
        rc = mend_log(m);
    free(m->history);
    if (!rc)
        rc = try_open(m); /* as the daemon will: nothing but that says that it is sound */
    return rc ? rc : 1;
}

static int mend_entry(struct mend *m, const struct sk_entry *e)
{
    char id[CO_ID_TEXT];
    m->birth = (struct sk_birth){.owner = {.cluster = m->identity->cluster,
                                           .timeline = e->id,
                                           .disk = m->identity->disk,
                                           .node = m->identity->node},
                                 .start_lsn = e->start_lsn,
                                 .start_digest = e->base_digest};
    int rc = mend_one(m);
    co_id_format(&e->id, id);
    if (rc > 0)
        printf("mended %s (%s): %llu records, %llu bytes, %u files put right\n", e->name, id,
               (unsigned long long)m->records, (unsigned long long)m->bytes, (unsigned)m->files);
    else if (rc)
        printf("not mended %s (%s): %s\n", e->name, id, co_sentence());
    return rc < 0 ? rc : 0;
}

struct unlisted {
    const struct sk_registry *registry;
    uint32_t n;
};

/* A directory that the registry does not list is none that could be mended: which timeline it is of
 * and where that begins stands there. (The start takes one that never voted for nothing.) */
static int count_unlisted(void *arg, const struct co_id *id)
{
    struct unlisted *u = arg;
    char text[CO_ID_TEXT];
    if (sk_registry_find(u->registry, id))
        return 0;
    printf("not mended %s: the registry does not list it\n", co_id_format(id, text));
    u->n++;
    return 0;
}

int sk_mend(const char *dir, const struct co_identity *identity, const struct sk_mend_peer *peers,
            uint32_t n_peers, const char *archive)
{
    struct mend m = {.dir = dir,
                     .identity = identity,
                     .peers = peers,
                     .n_peers = n_peers,
                     .archive = {.url = archive}};
    struct sk_registry registry = {0};
    struct unlisted unlisted = {&registry, 0};
    uint32_t bad = 0;
    m.sock.fd = -1;
    int rc = sk_registry_read(dir, &registry);
    if (rc == CO_ERR_NOT_FOUND)
        rc = co_fail(rc,
                     "%s has no registry: there is nothing that could be mended; replace this "
                     "safekeeper",
                     dir);
    for (uint32_t i = 0; i < registry.n && !rc; i++)
        if (registry.e[i].state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            bad += mend_entry(&m, &registry.e[i]) != 0;
    if (!rc)
        rc = sk_files_list(dir, count_unlisted, &unlisted);
    bad += unlisted.n;
    psock_close(&m.sock);
    sk_mend_archive_close(&m.archive);
    sk_registry_free(&registry);
    if (rc || !bad)
        return rc;
    return co_fail(
        CO_ERR_CORRUPT,
        "%u timelines could not be mended: replace this safekeeper (corallite safekeeper "
        "replace), or start another member first and try again",
        bad);
}
