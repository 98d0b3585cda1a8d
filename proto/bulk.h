/*
 * bulk.h - whole pages into an empty branch, past SQLite: what `corallite import` asks of the
 * extension that it has loaded, by sqlite3_file_control(db, "main", BULK_CONTROL, request). Within
 * one process; nothing of it crosses a wire.
 *
 * BEGIN takes the writer's turn and keeps it to END (or to the close of the connection) and tells
 * what is there. READ and WRITE only in between; READ only before the first WRITE. A WRITE is one
 * commit, durable for sure at END; commits are in order, so whatever survives is a prefix of what
 * was written. No SQL may run on the connection from BEGIN to END.
 *
 * Returns SQLITE_OK or an error whose sentence is corallite_last_error().
 */
#ifndef CORALLITE_PROTO_BULK_H
#define CORALLITE_PROTO_BULK_H

#include <stdint.h>

#include "proto/limits.h"
#include "proto/lsn.h"

#define BULK_CONTROL 0x636f726c /* "corl": far from SQLite's own */

enum bulk_what { BULK_BEGIN, BULK_READ, BULK_WRITE, BULK_END };

struct bulk_request {
    enum bulk_what what;
    uint32_t page_size; /* BEGIN tells it, 0: empty; else given */
    uint32_t db_pages;  /* BEGIN tells it; WRITE: what the database has after it */
    pgno_t first;       /* READ, WRITE */
    uint32_t n;         /* 1 .. bulk_most() */
    uint8_t *data;      /* n pages; of WRITE only read */
};

/* Pages of one WRITE: a record that travels whole, though none of them can be compressed. */
static inline uint32_t bulk_most(uint32_t page_size)
{
    return (uint32_t)((CO_BATCH_BYTES - 4096) / (page_size + 64));
}

#endif
