/* limits.h - every bound in one place. A length is compared with its bound before anything is
 * allocated for it; a queue is compared before anything is put in. Units in the names. */
#ifndef CORALLITE_PROTO_LIMITS_H
#define CORALLITE_PROTO_LIMITS_H

#define CO_KIB              1024ull
#define CO_MIB              (1024ull * CO_KIB)
#define CO_GIB              (1024ull * CO_MIB)

#define CO_NAME_MAX_BYTES   63 /* database and branch names */
#define CO_HOST_MAX_BYTES   255
#define CO_MEMBERS_MAX      7
#define CO_PAGE_SIZE_MIN    512u
#define CO_PAGE_SIZE_MAX    65536u
#define CO_TXN_MAX_BYTES    (4 * CO_GIB) /* one record; more is CO_ERR_FULL (SQLITE_FULL) */
#define CO_HISTORY_MAX      32768u       /* entries of a term history: 16 B each, 512 KiB */
#define CO_GETPAGES_MAX     256u         /* pages of one request */
#define CO_TIMELINES_MAX    100000u      /* of one daemon */
#define CO_BRANCH_DEPTH_MAX 64u

/* Largest body (message and payload) of a frame, by kind; frame.c has the table by type. */
#define CO_FRAME_HELLO_MAX_BYTES   (4 * CO_KIB)
#define CO_FRAME_CONTROL_MAX_BYTES (64 * CO_KIB)
#define CO_FRAME_HISTORY_MAX_BYTES (2 * CO_MIB)
#define CO_FRAME_PAGES_MAX_BYTES   (17 * CO_MIB)
#define CO_FRAME_RECORDS_MAX_BYTES (CO_BATCH_BYTES + CO_FRAME_HISTORY_MAX_BYTES)

#define CO_BATCH_BYTES                                                                             \
    CO_MIB /* records batched in one APPEND, DATA or STREAM_DATA; a larger                         \
              record travels in fragments of so much */
#define CO_SEGMENT_BYTES               (16 * CO_MIB)
#define CO_INGEST_TXN_BYTES            (64 * CO_MIB) /* hard bound of one LMDB write transaction */

#define CO_CONNECTIONS_MAX             4096 /* of one daemon */
#define CO_CONNECTIONS_RESERVED        32   /* of them, for daemons of the cluster alone */
#define CO_CONNECTIONS_PER_ADDRESS_MAX 1024 /* of another host */
#define CO_GREETING_MAX                128  /* that have not said Hello; beyond it they get */
#define CO_GREETING_PRESSED_MS         1000 /*   so long for it, and not CO_HELLO_TIMEOUT_MS */
#define CO_HELLO_TIMEOUT_MS            5000
#define CO_FRAME_TIMEOUT_MS            30000 /* a begun frame that makes no progress */
/* A frame that was begun, and answers that wait to be taken, must move at least so fast. */
#define CO_RATE_MIN_BYTES_PER_S (16 * CO_KIB)
#define CO_RATE_GRACE_MS        10000 /* but so long they may take anyhow; answers three times */
#define CO_CONNECT_TIMEOUT_MS   2000  /* so that "server not there" is said within 3 s */
/* Queued output of one connection: it is no more read from; it is closed. Of a daemon: whoever has
 * some is no more read from, and beyond twice that the one who has most is closed. */
#define CO_OUTPUT_PAUSE_BYTES (8 * CO_MIB)
#define CO_OUTPUT_MAX_BYTES   (2 * CO_GIB)
#define CO_OUTPUT_ALL_BYTES   (512 * CO_MIB)

#define CO_LEASE_US           3000000ull /* how long a writer's lease lasts without being renewed */
#define CO_LEASE_RENEW_US     1000000ull
#define CO_LEASE_HOLD_US      30000ull /* a busy holder keeps it at least this long */
#define CO_COMMIT_TIMEOUT_MS  30000
#define CO_READ_TIMEOUT_MS    30000
#define CO_CLOCK_SKEW_MAX_US  60000000ull

#define CO_FORMAT_VERSION     1u /* of every file and stored record */
#define CO_PROTOCOL_VERSION   2u /* 2: records in fragments */

#endif
