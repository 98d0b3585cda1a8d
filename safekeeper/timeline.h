/*
 * timeline.h - what the files of a timeline's shell share: timeline_uv.c (events in, actions out),
 * timeline_life_uv.c (opening, closing), stream_uv.c (streams) and trim_uv.c (the begin of the log
 * goes). Nobody else includes it.
 */
#ifndef CORALLITE_SAFEKEEPER_TIMELINE_H
#define CORALLITE_SAFEKEEPER_TIMELINE_H

#include "safekeeper/timeline_uv.h"

struct sk_queued {
    enum sk_event_kind kind;
    sk_conn_t conn;
    bool local;
    struct sk_message *message;
    struct sk_queued *next;
};

/* A waiting STREAM request. `reading`: its job is with the store, it must not be freed. */
struct sk_stream {
    struct sk_timeline *t;
    sk_conn_t conn;
    uint64_t request_id, deadline_us;
    lsn_t from;
    uint64_t fragment_at;
    uint32_t max_bytes;
    bool reading, gone;
    bool gathers; /* there are news, and they wait for more */
    struct sk_job job;
    struct sk_stream *next;
};

struct sk_timeline {
    struct sk_host host;
    struct sk_store *store;
    struct sk_stored *stored;
    struct sk_birth birth;
    struct wal_config birth_config;
    enum sk_timeline_state state;
    int refuse_code; /* 0, or what every request is answered with */
    char refusal[CO_SENTENCE_MAX];
    bool counted; /* among the halted ones */

    struct sk_acceptor *acceptor;
    struct sk_actions actions;
    uint32_t at;                /* next action of the list */
    struct sk_message *current; /* the message that the list came from */
    bool asleep, pumping, closing, settled;
    struct sk_job job;      /* of the sleeping list, of opening and of closing */
    struct sk_files *files; /* result of opening, until attached */

    struct sk_queued *head, **tail;
    uint64_t queued_bytes, store_bytes;
    uint32_t jobs;     /* of appends and streams that the store has */
    lsn_t flushed_lsn; /* pending FLUSHED, 0: none */
    uint64_t flushed_staged;
    bool truncated; /* pending TRUNCATED */
    struct sk_event truncated_event;
    bool timer_due;
    struct sk_job trim_job; /* with the store while `trimming` (trim_uv.c) */
    bool trimming, trim_due;
    struct sk_event trim_event; /* pending */
    uv_timer_t timer, stream_timer;
    uint64_t streamed_us; /* the newest answer with records to a stream that waited */
    uint32_t handles;     /* to be closed */

    struct sk_stream *streams;
    uint32_t n_streams;
    struct sk_recent recent;
    uint64_t bytes_in, records, used_us, quiet_us;
};

/* timeline_uv.c */

/* Goes on: actions of the list, then the next event, until something sleeps or nothing is left. */
void sk_pump(struct sk_timeline *t);
void sk_on_flushed(void *owner, lsn_t lsn, uint64_t staged);
void sk_answer_error(struct sk_timeline *t, sk_conn_t conn, uint64_t request_id, int code,
                     const char *sentence);
/* CO_ERR_NOMEM. */
CO_MUST_CHECK int sk_enqueue(struct sk_timeline *t, const struct sk_queued *event);
void sk_refuse_queue(struct sk_timeline *t);
void sk_lost_event(struct sk_timeline *t);
void sk_register_shell_metrics(void);

/* timeline_life_uv.c */

/* From now on every request is answered with this sentence. */
void sk_become_halted(struct sk_timeline *t, int code, const char *sentence);
/* Goes on with closing when nothing stands in the way: settle, detach, free. */
void sk_finish_close(struct sk_timeline *t);

/* stream_uv.c */

/* Answers the streams that can be answered, and arms the timer for the next that gives up. */
void sk_serve_streams(struct sk_timeline *t);
/* Ends all streams: with an error when there is a code. */
void sk_end_streams(struct sk_timeline *t, int code, const char *sentence);
void sk_forget_streams(struct sk_timeline *t, sk_conn_t conn);
void sk_register_stream_metrics(void);

#endif
