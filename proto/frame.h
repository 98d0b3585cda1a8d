/*
 * frame.h - what crosses every TCP connection of Corallite.
 *
 *   0   4  body length in bytes (message and payload)
 *   4   2  type (enum frame_type)
 *   6   2  flags (0)
 *   8   8  request id; a response echoes it; 0 in what nobody asked for
 *  16   4  CRC-32C of the header with this field zero, then of the body
 *  20   4  message length: the protobuf message is the first so many bytes of the body, the rest is
 *          the raw payload (records, pages), never copied through protobuf
 *
 * Little-endian. The first frame on a connection is a Hello. A length is compared with the bound of
 * its type before anything is allocated; an unknown type, a bad CRC or a length out of bounds
 * closes the connection.
 */
#ifndef CORALLITE_PROTO_FRAME_H
#define CORALLITE_PROTO_FRAME_H

#include <stdint.h>

#include "common/bytes.h"

#define FRAME_HEADER_BYTES 24u

enum frame_type {
    /* any connection */
    FRAME_HELLO = 1,    /* Hello */
    FRAME_HELLO_OK = 2, /* HelloOk */
    FRAME_ERROR = 3,    /* Error: the answer to any request that failed */
    FRAME_PING = 4,     /* no message; answered by PONG */
    FRAME_PONG = 5,

    /* quorum log: safekeeper <-> compute, pageserver (message Quorum, proto/qmsg.h) */
    FRAME_VOTE = 16,
    FRAME_VOTED = 17,
    FRAME_FETCH = 18,
    FRAME_DATA = 19, /* payload: records */
    FRAME_ELECTED = 20,
    FRAME_APPEND = 21, /* payload: records */
    FRAME_ACK = 22,
    FRAME_RELEASE = 23,
    FRAME_READ_POS = 24,
    FRAME_POS = 25,
    FRAME_REJECT = 26,
    FRAME_REJECT_CONFIG = 27,
    FRAME_WAITER = 28, /* safekeeper -> lease holder: somebody waits for the lease */
    FRAME_FREE = 29,   /* safekeeper -> waiter: the lease is free now */

    /* safekeeper <-> pageserver, tool */
    FRAME_STREAM = 40,          /* Stream: long poll for committed records */
    FRAME_STREAM_DATA = 41,     /* StreamData; payload: records */
    FRAME_TIMELINE_PUT = 42,    /* TimelinePut */
    FRAME_TIMELINE_PUT_OK = 43, /* TimelinePutOk */
    FRAME_TIMELINE_LIST = 44,   /* TimelineList */
    FRAME_TIMELINE_LISTED = 45, /* TimelineListed */
    FRAME_NODE_STATUS = 46,     /* no message */
    FRAME_NODE_STATUS_OK = 47,  /* NodeStatus */
    FRAME_NODES = 48,           /* Nodes: empty asks, else it is stored if it is newer */
    FRAME_NODES_OK = 49,        /* Nodes: as stored now */

    /* pageserver -> pageserver; tool -> safekeeper */
    FRAME_FOLLOW = 60,         /* Follow */
    FRAME_FOLLOWED = 61,       /* Followed */
    FRAME_PAGESERVERS = 62,    /* Pageservers */
    FRAME_PAGESERVERS_OK = 63, /* Pageservers: as known now */
    /* pageserver <-> tool */
    FRAME_VERIFY = 56,   /* Verify: a step of looking through the store */
    FRAME_VERIFIED = 57, /* Verified */
    FRAME_REPAIR = 58,   /* Repair */
    FRAME_REPAIRED = 59, /* Repaired */

    /* pageserver <-> compute, tool */
    FRAME_OPEN = 64,          /* Open */
    FRAME_OPENED = 65,        /* Opened */
    FRAME_CREATE = 66,        /* Create */
    FRAME_DROP = 68,          /* Drop; answered by DROPPED */
    FRAME_DROPPED = 69,       /* no message */
    FRAME_DB_LIST = 70,       /* DbList */
    FRAME_DB_LISTED = 71,     /* DbListed */
    FRAME_GET_PAGES = 72,     /* GetPages */
    FRAME_PAGES = 73,         /* Pages; payload: the pages, back to back, in order of status OK */
    FRAME_CHANGES_SINCE = 74, /* ChangesSince */
    FRAME_CHANGES = 75,       /* Changes; payload: change list (proto/changes.h) */
    FRAME_SERVER_STATUS = 76, /* no message */
    FRAME_RESOLVE = 80,       /* Resolve */
    FRAME_RESOLVED = 81,      /* Resolved */
    FRAME_BRANCH_CREATE = 82, /* BranchCreate */
    FRAME_BRANCH_CHANGE = 83, /* BranchChange */
    FRAME_RESTORE = 84,       /* Restore */
    FRAME_BRANCHED = 85,      /* Branched: answers the three before */
    FRAME_BRANCH_LIST = 86,   /* BranchList */
    FRAME_BRANCH_LISTED = 87, /* BranchListed */
    FRAME_LOG = 88,           /* Log */
    FRAME_LOGGED = 89,        /* Logged */
    FRAME_PIN = 90,           /* Pin */
    FRAME_PIN_LIST = 91,      /* PinList */
    FRAME_PINS = 92,          /* Pins: answers the two before */
    FRAME_GC = 93,            /* Gc */
    FRAME_GC_DONE = 94,       /* GcDone */

    FRAME_SERVER_STATUS_OK = 77, /* ServerStatus */
    FRAME_ARCHIVE_PRUNE = 78,    /* ArchivePrune */
    FRAME_ARCHIVE_PRUNED = 79,   /* ArchivePruned */

    FRAME_REGRESSED = 108, /* Quorum: a safekeeper whose disk went back in time takes no part */
};

struct frame_header {
    uint32_t body_bytes;
    uint16_t type;
    uint16_t flags;
    uint64_t request_id;
    uint32_t crc;
    uint32_t message_bytes;
};

/* Name of a type for logs, "?" for an unknown one; largest body of a type, 0 for an unknown one.
 * Where a payload may follow, the message has a tighter bound of its own (table in frame.c). */
const char *frame_type_name(unsigned type);
uint64_t frame_body_max(unsigned type);

/* Decodes a header and checks type, lengths and bounds. CO_ERR_PROTOCOL with a sentence. */
CO_MUST_CHECK int frame_parse(const uint8_t bytes[FRAME_HEADER_BYTES], struct frame_header *out);
/* Checks the CRC over the header and the whole body. CO_ERR_PROTOCOL. */
CO_MUST_CHECK int frame_verify(const uint8_t bytes[FRAME_HEADER_BYTES], struct co_span body);
/* Writes a header over message and payload (either may be empty), which are within the bounds of
 * the type (asserted: ask frame_append, or compare with frame_body_max before). */
void frame_write(uint8_t out[FRAME_HEADER_BYTES], unsigned type, uint64_t request_id,
                 struct co_span message, struct co_span payload);
/* Appends a whole frame to `out`. CO_ERR_TOO_LARGE with a sentence when it is more than the other
 * side would take, CO_ERR_NOMEM; `out` is then as it was. */
CO_MUST_CHECK int frame_append(struct co_buf *out, unsigned type, uint64_t request_id,
                               struct co_span message, struct co_span payload);

#endif
