/* server.h - what the files of the server share (server_uv.c, admin_uv.c, start_file.c). */
#ifndef CORALLITE_SAFEKEEPER_SERVER_H
#define CORALLITE_SAFEKEEPER_SERVER_H

#include <stdatomic.h>

#include "safekeeper/followers_file.h"
#include "safekeeper/nodes_file.h"
#include "safekeeper/registry_file.h"
#include "safekeeper/server_uv.h"
#include "safekeeper/timeline_uv.h"

/* A timeline that a connection sent a quorum message or a STREAM. */
struct sk_touched {
    struct co_id id;
    bool holds; /* it leads, or has wanted to: the timeline stays open for it */
};

/* A connection after its Hello. */
struct sk_client {
    sk_conn_t conn;
    struct peer *peer;
    uint32_t follower;          /* slot of the pageserver that it is; SK_FOLLOWERS_MAX: none */
    struct sk_touched *touched; /* ascending by id */
    uint32_t n_touched, cap_touched;
    bool watches; /* it is told on which timelines the commit LSN moves */
    bool tool;    /* its Hello said so: it may fill a sealed timeline (check_sealed) */
};

/* A frame for a timeline that is being closed: it is looked at again when that is done. */
struct sk_parked {
    sk_conn_t conn;
    struct co_id id;
    struct frame_header frame;
    struct co_buf body;
    struct sk_parked *next;
};

struct sk_open {
    struct sk_timeline *t;
    lsn_t told; /* commit LSN that the watchers know */
};

/* A TIMELINE_PUT; they are carried out one after the other. */
struct sk_put_request {
    struct sk_server *server;
    sk_conn_t conn;
    uint64_t request_id;
    struct sk_entry entry;
    enum sk_put what;
    struct sk_registry_bytes registry; /* what is written for it */
    struct sk_job job;
    struct sk_put_request *next;
};

/* A NODES that changes something; one at a time. */
struct sk_nodes_request {
    struct sk_server *server;
    sk_conn_t conn;
    uint64_t request_id;
    struct nodes nodes;
    struct sk_job job;
};

/* Who follows, on its way to the file; one at a time. */
struct sk_followers_write {
    struct sk_server *server;
    struct sk_followers followers;
    struct sk_job job;
};

struct sk_server {
    struct sk_server_options options;
    uv_loop_t *loop;
    struct sk_host host;
    struct sk_store *stores[SK_STORES];
    struct sk_registry registry;
    uint64_t generation; /* of the registry: another one after each change and each start */
    struct nodes nodes;
    struct sk_nodes_request *nodes_put; /* being written */
    struct sk_followers followers;
    struct sk_followers_write *followers_write;
    bool followers_changed; /* since that was begun */
    struct peer_server *listener;
    struct sk_client *clients; /* ascending by conn */
    uint32_t n_clients, cap_clients;
    struct sk_put_request *puts, **puts_tail; /* the first is being carried out */
    uv_timer_t timer;
    uint64_t started_us, log_bytes;
    uint64_t removed_bytes; /* of logs whose files were removed since the start */
    uint32_t n_removing;
    uint64_t closed_in, closed_out; /* bytes of connections that are gone */
    struct sk_open *open;           /* what is open, opening or closing */
    uint32_t n_open, cap_open;
    struct sk_parked *parked, **parked_tail;
    uint64_t parked_bytes;
    bool watched;          /* somebody watches */
    struct co_id measured; /* log_bytes has the logs up to this id */
    bool all_measured;
    uv_timer_t news;
    bool stopping, stores_closed, told_disk, told_full;
    atomic_bool healthy, disk_full;
    uint64_t room_bytes; /* above the reserve, when last looked, less what was taken since */
};

/* start_file.c */

/* Brings registry and directories together and opens what is scanned at start. */
CO_MUST_CHECK int sk_server_load(struct sk_server *s);
struct sk_birth sk_birth_of(const struct sk_server *s, const struct sk_entry *entry);
/* Opens it (files NULL: in the background). */
CO_MUST_CHECK int sk_server_open(struct sk_server *s, struct sk_entry *entry,
                                 struct sk_files *files);

/* The control block of a timeline that is not open. False: it was not closed cleanly (or cannot be
 * read), and how far it is shows only when it is opened. */
bool sk_server_peek(const struct sk_server *s, const struct sk_entry *entry,
                    struct sk_control *out);
/* Counts the log bytes of the next n timelines. */
void sk_server_measure(struct sk_server *s, uint32_t n);

/* trim_uv.c */

/* Looks at what is open: does the begin of a log go? */
void sk_trim_tick(struct sk_server *s);
void sk_trim_register_metrics(void);
/* A timeline is closed to rest. */
void sk_trim_closed(struct sk_entry *entry, struct sk_timeline *t);
/* A pageserver told how far it, or the archive, has a timeline. */
void sk_trim_told(struct sk_entry *entry);
/* A pageserver says how far the archive has a log. Believed of the one that owns the catalog. */
void sk_archived_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                      lsn_t archived);

/* rest_uv.c */

/* Remembers that the connection spoke to a timeline: its end is then told to it. CO_ERR_NOMEM. */
CO_MUST_CHECK int sk_touch(struct sk_server *s, struct sk_client *c, const struct co_id *id,
                           bool holds);
/* It is gone: tells all that it touched. */
void sk_touched_end(struct sk_server *s, struct sk_client *gone, bool local);
/* True: the timeline is being closed to rest, the frame waits for that. */
bool sk_park(struct sk_server *s, struct peer *peer, const struct co_id *id,
             const struct frame_header *frame, struct co_span body);
/* Room to take notice of one more that is opened. CO_ERR_NOMEM. */
CO_MUST_CHECK int sk_rest_room(struct sk_server *s);
void sk_rest_opened(struct sk_server *s, struct sk_timeline *t);
/* And of what was closed: *t lives until this returns. */
void sk_rest_closed(struct sk_server *s, struct sk_timeline *t);
/* Closes the longest idle of those beyond keep_open. */
void sk_rest_idle(struct sk_server *s, uint64_t now_us);
/* Tells the watchers which commit LSNs moved since. */
void sk_rest_news(struct sk_server *s);
/* 0: not known. */
lsn_t sk_rest_commit(const struct sk_server *s, struct sk_entry *entry);

/* admin_uv.c: TIMELINE_PUT, TIMELINE_LIST, NODE_STATUS. An error closes the connection. */
CO_MUST_CHECK int sk_admin_frame(struct sk_server *s, struct peer *peer,
                                 const struct frame_header *frame, struct co_span message);

/* followers_uv.c: the pageservers that follow */

/* A Hello: *slot is that of the pageserver it comes from, or SK_FOLLOWERS_MAX. */
CO_MUST_CHECK int sk_follower_hello(struct sk_server *s, const Corallite__Hello *hello,
                                    uint32_t *slot);
/* It says how far it is. */
void sk_follower_told(struct sk_server *s, uint32_t slot, const struct co_id *timeline,
                      lsn_t durable);
/* PAGESERVERS, from the pageserver of that slot or from anybody. */
CO_MUST_CHECK int sk_pageservers(struct sk_server *s, struct peer *peer, uint64_t request_id,
                                 uint32_t slot, const Corallite__Pageservers *m);
/* The slot of the pageserver that a connection comes from. */
uint32_t sk_follower_of(const struct sk_server *s, const struct peer *peer);

/* regressed_uv.c */

/* At start. */
void sk_regressed_begin(struct sk_server *s);
/* Its acceptor has the proof: the disk went back in time. Nothing is served any more. */
void sk_regressed_proven(struct sk_server *s, const struct co_id *timeline,
                         const struct sk_view *view, const struct q_known *proof);
/* True: the frame was answered with the sentence. */
bool sk_regressed_refuses(struct sk_server *s, struct peer *peer, const struct frame_header *frame);

/* remove_uv.c */

/* May its files go: is it dropped, and has the pageserver nothing left of it either? */
bool sk_may_remove(const struct sk_entry *entry);
/* Removes the files of what may go and is not open; else this is called again once it is closed. */
void sk_remove_files(struct sk_server *s, const struct sk_entry *entry);
uint64_t sk_stored_bytes(const struct sk_server *s, uint64_t appended);
/* Bytes of disk that a timeline's log takes; any thread. */
uint64_t sk_log_bytes(const char *data_dir, const struct co_id *id);

/* server_uv.c */
struct sk_client *sk_find_client(const struct sk_server *s, sk_conn_t conn);
/* An error closes the connection. */
CO_MUST_CHECK int sk_server_frame(struct sk_server *s, struct peer *peer,
                                  const struct frame_header *frame, struct co_span body);
void sk_server_fail(struct sk_server *s, int rc, const char *sentence);
void sk_server_go_on_stopping(struct sk_server *s);

#endif
