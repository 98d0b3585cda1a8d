/*
 * fake_keepers.h - three safekeepers that only a pageserver talks to: TIMELINE_LIST, TIMELINE_PUT,
 * NODES, STREAM, READ_POS, and what tells them how far a sealed log is committed, on a loop in a
 * thread of the test. Their logs are one buffer for each
 * timeline, which the test appends to; everything below a node's commit is committed there.
 */
#ifndef CORALLITE_TEST_FAKE_KEEPERS_H
#define CORALLITE_TEST_FAKE_KEEPERS_H

#include "pageserver/timeline_meta.h"
#include "proto/nodes.h"
#include "proto/peer_uv.h"

#define FAKE_NODES 3
#define FAKE_LINES 100

struct fake;

struct fake_node {
    struct fake *fake;
    uint32_t index;
    struct peer_server *server;
    uint16_t port;
    bool up, silent, frozen; /* frozen: hears of no new commits */
    bool doubts;             /* its positions say so */
    bool mute;               /* it does not tell its history */
    lsn_t rot;               /* the byte that it streams wrong; 0: none */
    uint32_t told_nodes;     /* how often it told who they are */
    bool want_up;
    uint32_t n;
    struct ps_meta meta[FAKE_LINES];
};

struct fake_poll {
    struct peer *peer;
    uint32_t node;
    uint64_t request;
    struct co_id timeline;
    lsn_t from;
    uint64_t fragment_at;
};

/* What a node was told of a log as by a leader. */
struct fake_told {
    term_t term;
    lsn_t term_start, start, commit, kept; /* kept: committed when last asked with the history */
    uint32_t elected, released;
};

struct fake_line {
    struct co_id id;
    lsn_t start;
    struct co_buf log; /* from start */
    lsn_t commit[FAKE_NODES];
    lsn_t has[FAKE_NODES]; /* flushed, where that is more */
    lsn_t tail;            /* so much more is flushed on node 0 and not committed */
    struct fake_told told[FAKE_NODES];
};

struct fake {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t async;
    uv_mutex_t mutex; /* all below */
    struct co_id cluster;
    struct nodes nodes; /* what all of them tell of who they are; version 0: nothing */
    bool stop;
    struct fake_node node[FAKE_NODES];
    uint32_t n_lines;
    struct fake_line line[FAKE_LINES];
    struct fake_poll poll[512];
    uint32_t n_polls;
};

void fake_start(struct fake *f, const struct co_id *cluster);
void fake_stop(struct fake *f);
/* Appends to the log of a timeline; nodes that are not frozen commit it at once. */
void fake_append(struct fake *f, const struct co_id *timeline, const struct co_buf *records);
void fake_set_up(struct fake *f, uint32_t node, bool up); /* returns when it is so */
void fake_set_silent(struct fake *f, uint32_t node, bool silent);
void fake_set_frozen(struct fake *f, uint32_t node, bool frozen);
/* The list of who they are, from now on; and waits until node `by` has told it. */
void fake_tell_nodes(struct fake *f, uint32_t by, const struct nodes *nodes);
/* Sets an open tail of the timeline's log. */
void fake_set_tail(struct fake *f, const struct co_id *timeline, lsn_t bytes);
/* A node has the log up to there on its disk, whatever it knows to be committed. */
void fake_set_has(struct fake *f, const struct co_id *timeline, uint32_t node, lsn_t lsn);
void fake_set_doubts(struct fake *f, uint32_t node, bool doubts);
void fake_set_mute(struct fake *f, uint32_t node, bool mute);
/* One byte of what it streams is another one, of any timeline. */
void fake_set_rot(struct fake *f, uint32_t node, lsn_t lsn);
/* What it was told as by a leader. */
struct fake_told fake_told(struct fake *f, const struct co_id *timeline, uint32_t node);
/* What a node's registry holds of this timeline; false: nothing. */
bool fake_holds_id(struct fake *f, uint32_t node, const struct co_id *id, struct ps_meta *out);
/* The node forgets a timeline. */
void fake_lose(struct fake *f, uint32_t node, const struct co_id *id);
/* What a node's registry holds of this name; false: nothing. */
bool fake_holds(struct fake *f, uint32_t node, const char *db, struct ps_meta *out);
void fake_put(struct fake *f, uint32_t node, const struct ps_meta *meta);

#endif
