/*
 * timeline_uv.h - the shell of one acceptor: brings it events, carries its actions out.
 *
 *   frame -> event queue -> sk_step -> action list -> store jobs, frames to peers, timer, streams
 *
 * One list at a time. PERSIST, FLUSH, TRUNCATE and READ put the list to sleep until the store
 * reports; events that come meanwhile wait in the queue. APPEND does not: its bytes go to the store
 * by reference to the message they came in, and FLUSHED follows.
 *
 * States: OPENING (files are being read) -> SERVING -> CLOSING -> gone
 *                                        \-> HALTED (answers errors only)
 *
 * Streams are long polls of the pageserver for committed records, [from, min(commit, flush)). What
 * was written lately is served from memory (the messages it came in, at most SK_RECENT_BYTES),
 * older records from the segments.
 *
 * Invariants
 *   H1 events are delivered in order of arrival, none while a list is asleep; TRUNCATED before all.
 *   H2 FLUSHED is never delivered for a sync from before a FLUSH or TRUNCATE.
 *   H3 no record above min(commit, flush) leaves through a stream.
 *   H4 the queue holds at most SK_QUEUE_MAX_BYTES; who sends more is disconnected. A right writer
 * has at most its window on the way, also of a large record, which comes in fragments.
 *
 * Threads: the loop thread.
 */
#ifndef CORALLITE_SAFEKEEPER_TIMELINE_UV_H
#define CORALLITE_SAFEKEEPER_TIMELINE_UV_H

#include <stdatomic.h>

#include "proto/peer_uv.h"
#include "safekeeper/lives_file.h"
#include "safekeeper/recent.h"
#include "safekeeper/store_uv.h"

#define SK_RECENT_BYTES    CO_MIB
#define SK_QUEUE_MAX_BYTES (256 * CO_MIB)
#define SK_STREAMS_MAX     64u
#define SK_STREAM_WAIT_MS  60000u
/* Small news are gathered for so long before the next answer to a stream that waits: the pageserver
 * gathers them anyway, and its questions take time from the commits. */
#define SK_STREAM_GATHER_US    2000u
#define SK_STREAM_GATHER_BYTES (64 * CO_KIB)
#define SK_IDLE_RELEASE_US     10000000ull

struct sk_timeline;

/* What a timeline needs of the server. */
struct sk_host {
    void *owner;
    uv_loop_t *loop;
    const char *data_dir;
    const atomic_bool *disk_full;                      /* told with every ACK and POS */
    const struct sk_lives *lives;                      /* NULL: starts are not counted */
    struct peer *(*find)(void *owner, sk_conn_t conn); /* NULL: gone */
    /* Serving or halted now: see sk_timeline_state. */
    void (*opened)(void *owner, struct sk_timeline *t);
    /* sk_timeline_close is done; the timeline (its view too) is freed when this returns. */
    void (*closed)(void *owner, struct sk_timeline *t);
    /* Stop serving. CO_ERR_NOMEM: none for an event that must not be lost; CO_ERR_IO: what should
     * be read or made durable while a timeline was opened could not be. */
    void (*failed)(void *owner, int code, const char *sentence);
    /* There is proof that the disk went back in time: every timeline is refused. */
    void (*regressed)(void *owner, struct sk_timeline *t, const struct q_known *proof);
};

enum sk_timeline_state { SK_OPENING, SK_SERVING, SK_HALTED, SK_CLOSING };

/* `files`: opened already (taken, also on error), or NULL: they are opened on the store thread.
 * `birth_config`: in force until the log has a CONFIG record. `quiet_us`: no lease was promised
 * after that; what may have been promised before is waited out. */
CO_MUST_CHECK int sk_timeline_new(const struct sk_host *host, struct sk_store *store,
                                  const struct sk_birth *birth,
                                  const struct wal_config *birth_config, struct sk_files *files,
                                  uint64_t quiet_us, struct sk_timeline **out);

/* One whose files are damaged, as `sentence` says: halted from the beginning. */
CO_MUST_CHECK int sk_timeline_new_damaged(const struct sk_host *host, const struct sk_birth *birth,
                                          const char *sentence, struct sk_timeline **out);

/* A message of a quorum type for this timeline; takes the reference. */
void sk_timeline_message(struct sk_timeline *t, struct peer *peer, struct sk_message *message);
void sk_timeline_stream(struct sk_timeline *t, struct peer *peer, uint64_t request_id,
                        const Corallite__Stream *request);
void sk_timeline_conn_closed(struct sk_timeline *t, sk_conn_t conn, bool local);
/* Refuses everything from now on with this error (DROPPED); open streams get it at once. */
void sk_timeline_refuse(struct sk_timeline *t, int code, const char *sentence);
/* So far an archive has the log, so far every pageserver that follows has it on its disk (LSN_NONE:
 * not known), and so many bytes below that are kept all the same: what lies below may go. */
void sk_timeline_trim(struct sk_timeline *t, lsn_t archived, lsn_t followed, uint64_t keep_bytes);
/* Clean stop: SK_EV_SHUTDOWN, settle, close the files; host.closed follows. */
void sk_timeline_close(struct sk_timeline *t);
/* Frees what is held for speed only when nothing happened for SK_IDLE_RELEASE_US. */
void sk_timeline_rest(struct sk_timeline *t, uint64_t now_us);

/* Nothing is under way and nothing was for idle_us: closing it costs its next user time, no more.
 */
bool sk_timeline_idle(const struct sk_timeline *t, uint64_t now_us, uint64_t idle_us);
/* Since when nothing was asked of it. */
uint64_t sk_timeline_used_us(const struct sk_timeline *t);
/* It is on its way from serving to closed, and can be opened again then. */
bool sk_timeline_closing(const struct sk_timeline *t);

enum sk_timeline_state sk_timeline_state(const struct sk_timeline *t);
const struct co_id *sk_timeline_id(const struct sk_timeline *t);
/* False unless it serves. */
bool sk_timeline_view(const struct sk_timeline *t, struct sk_view *out);
/* Why it is halted; "": it is not. */
const char *sk_timeline_refusal(const struct sk_timeline *t);
void sk_timeline_count(const struct sk_timeline *t, uint64_t *bytes_in, uint64_t *records);

void sk_timeline_register_metrics(void);

#endif
