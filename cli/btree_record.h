/*
 * btree_record.h - records of SQLite's file format: the first values of one, and the order of keys.
 * Pure; what is read is untrusted.
 */
#ifndef CORALLITE_CLI_BTREE_RECORD_H
#define CORALLITE_CLI_BTREE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"

#define BT_KEY_COLUMNS_MAX 64u

enum bt_type { BT_NULL, BT_INTEGER, BT_REAL, BT_TEXT, BT_BLOB };

struct bt_value {
    enum bt_type type;
    int64_t integer;
    double real;
    struct co_span bytes; /* of a text (as encoded in the database) or blob; borrowed */
};

enum bt_collation {
    BT_BINARY,
    BT_NOCASE,
    BT_RTRIM,
    BT_OTHER, /* compared as BINARY: the order is not SQLite's */
};

/* The columns by which an index, or a table WITHOUT ROWID, is ordered. */
struct bt_key {
    unsigned n;
    struct {
        enum bt_collation collation;
        bool descending;
    } column[BT_KEY_COLUMNS_MAX];
};

/*
 * Decodes the first `want` values of a record of which `record` are the first bytes. CO_ERR_AGAIN
 * (no sentence) and *need: so many bytes of it are wanted. CO_ERR_CORRUPT: that is no record, or it
 * has fewer values.
 */
CO_MUST_CHECK int bt_record_values(struct co_span record, unsigned want, struct bt_value *out,
                                   uint64_t *need);

/* < 0, 0, > 0, as SQLite orders; not so with BT_OTHER. */
int bt_key_compare(const struct bt_key *key, const struct bt_value *a, const struct bt_value *b);

#endif
