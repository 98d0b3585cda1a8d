/* store_lmdb.c - the environment, its birth certificate, transactions, and LMDB's errors. */
#include "pageserver/store_lmdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/assert.h"
#include "pageserver/store_int_lmdb.h"

#define MAX_READERS 64
#define PAGE        4096u
#define FULL_BYTES  CO_MIB /* less than this free: a write that failed found no room */
static const char magic[8] = {'C', 'O', 'R', 'A', 'L', 'P', 'S', '1'};
#define STORE_ROW_BYTES 48u

static const char *const table_names[T_COUNT] = {"meta", "timeline", "progress", "page", "commit",
                                                 "time", "pin",      "usage",    "gc"};

static int open_cursors(struct ps_txn *txn);
static void close_cursors(struct ps_txn *txn);

bool ps_store_given_up(const struct ps_store *store)
{
    return atomic_load(&store->given_up);
}

/* A write that a full disk cut short LMDB calls EIO. */
static int real_error(const char *dir, int rc)
{
    struct statvfs v;
    if (rc == EIO && statvfs(dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < FULL_BYTES)
        return ENOSPC;
    return rc;
}

int ps_lmdb_fail(struct ps_store *store, int rc, const char *doing)
{
    const char *dir = store->dir;
    switch (real_error(dir, rc)) {
    case MDB_INVALID:
        return co_fail(CO_ERR_CORRUPT,
                       "%s in %s: data.mdb is not an LMDB file; move the directory away, an empty "
                       "store is filled again from the safekeepers",
                       doing, dir);
    case MDB_VERSION_MISMATCH:
        return co_fail(CO_ERR_VERSION,
                       "%s in %s: data.mdb was written by another version of LMDB; use that "
                       "version, or move the directory away",
                       doing, dir);
    case MDB_PANIC:
        atomic_store(&store->given_up, true);
        return co_fail(CO_ERR_IO,
                       "%s in %s: the disk did not take the page that tells where the newest state "
                       "is, and LMDB does nothing until the pageserver is started again; the file "
                       "is as it was before",
                       doing, dir);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_BAD_TXN:
        return co_fail(CO_ERR_CORRUPT,
                       "%s in %s: %s: the file is damaged; stop the pageserver and move the "
                       "directory away, an empty store is filled again from the safekeepers",
                       doing, dir, mdb_strerror(rc));
    case MDB_MAP_FULL:
        return co_fail(CO_ERR_FULL,
                       "%s in %s: the map of %llu MiB is full; start with a larger --map-size",
                       doing, dir, (unsigned long long)(store->map_bytes / CO_MIB));
    case MDB_READERS_FULL:
        return co_fail(CO_ERR_BUSY, "%s in %s: all %d reader slots are taken", doing, dir,
                       MAX_READERS);
    case ENOSPC:
    case EDQUOT:
        return co_fail(CO_ERR_FULL,
                       "%s in %s: the disk is full; reads go on, and so does the rest "
                       "once there is space",
                       doing, dir);
    case ENOMEM:
        return co_fail(CO_ERR_NOMEM,
                       "%s in %s: no memory, or the address space is limited: a smaller --map-size "
                       "than %llu MiB may help",
                       doing, dir, (unsigned long long)(store->map_bytes / CO_MIB));
    default:
        return co_fail(CO_ERR_IO, "%s in %s: %s", doing, dir, mdb_strerror(rc));
    }
}

/* A file that was cut short raises SIGBUS at the first touch behind its end: found here instead. */
static int check_length(struct ps_store *store)
{
    char path[600];
    struct stat st;
    MDB_envinfo info;
    MDB_stat pages;
    snprintf(path, sizeof path, "%s/data.mdb", store->dir);
    if (stat(path, &st))
        return co_fail_errno(CO_ERR_IO, errno, "%s cannot be looked at", path);
    int rc = mdb_env_info(store->env, &info);
    if (!rc)
        rc = mdb_env_stat(store->env, &pages);
    if (rc)
        return ps_lmdb_fail(store, rc, "looking at the store");
    uint64_t need = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if ((uint64_t)st.st_size < need)
        return co_fail(CO_ERR_CORRUPT,
                       "%s has %lld bytes and needs %llu: it was cut short; move the directory "
                       "away, an empty store is filled again from the safekeepers",
                       path, (long long)st.st_size, (unsigned long long)need);
    return 0;
}

static int write_store_row(struct ps_store *store, MDB_txn *txn,
                           const struct ps_store_options *options)
{
    uint8_t row[STORE_ROW_BYTES] = {0};
    memcpy(row, magic, 8);
    co_put32(row + 8, PS_STORE_FORMAT);
    memcpy(row + 16, options->cluster.b, 16);
    memcpy(row + 32, options->disk.b, 16);
    MDB_val key = ps_val("store", 5), value = ps_val(row, sizeof row);
    int rc = mdb_put(txn, store->dbi[T_META], &key, &value, 0);
    return rc ? ps_lmdb_fail(store, rc, "writing the first record") : 0;
}

static int check_store_row(const struct ps_store *store, struct co_span row,
                           const struct ps_store_options *options)
{
    if (row.len < 16 || memcmp(row.data, magic, 8) != 0)
        return co_fail(CO_ERR_CORRUPT, "%s is an LMDB file, but no page store of Corallite",
                       store->dir);
    uint32_t format = co_get32(row.data + 8);
    if (format < 1 || format > PS_STORE_FORMAT)
        return co_fail(
            CO_ERR_VERSION,
            "%s has format %u, this build knows formats up to %u: start the build that wrote "
            "it, or a newer one",
            store->dir, format, PS_STORE_FORMAT);
    if (row.len != STORE_ROW_BYTES)
        return co_fail(CO_ERR_CORRUPT, "%s: its first record has %zu bytes instead of %u",
                       store->dir, row.len, STORE_ROW_BYTES);
    if (memcmp(row.data + 16, options->cluster.b, 16) != 0)
        return co_fail(CO_ERR_CLUSTER, "%s holds the pages of another cluster", store->dir);
    if (memcmp(row.data + 32, options->disk.b, 16) != 0)
        return co_fail(CO_ERR_NODE, "%s was moved here from another data directory", store->dir);
    return 0;
}

/* What an older build wrote, in the same transaction that opens it. */
static int upgrade(struct ps_store *store, MDB_txn *txn, struct co_span row,
                   const struct ps_store_options *options)
{
    struct ps_txn *write = NULL;
    if (co_get32(row.data + 8) == PS_STORE_FORMAT)
        return 0;
    int rc = ps_write_new(store, &write);
    if (rc)
        return rc;
    write->txn = txn;
    write->live = true;
    rc = open_cursors(write);
    rc = rc ? ps_lmdb_fail(store, rc, "counting what is stored") : ps_usage_rebuild(write);
    close_cursors(write);
    write->txn = NULL; /* not ours */
    write->live = false;
    ps_write_free(write);
    return rc ? rc : write_store_row(store, txn, options);
}

/* Opens every table in one transaction; a new store gets its first record in the same one. */
static int open_tables(struct ps_store *store, const struct ps_store_options *options)
{
    MDB_txn *txn;
    MDB_stat top;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc)
        return ps_lmdb_fail(store, rc, "opening the store");
    for (int t = 0; t < T_COUNT; t++) {
        rc = mdb_dbi_open(txn, table_names[t], MDB_CREATE, &store->dbi[t]);
        if (rc) {
            rc = ps_lmdb_fail(store, rc, "opening a table");
            goto abort;
        }
    }
    MDB_val key = ps_val("store", 5), value;
    rc = mdb_get(txn, store->dbi[T_META], &key, &value);
    if (rc == 0) {
        rc = check_store_row(store, ps_span(value), options);
        if (!rc)
            rc = upgrade(store, txn, ps_span(value), options);
    } else if (rc == MDB_NOTFOUND && !mdb_stat(txn, store->dbi[T_META], &top) &&
               top.ms_entries == 0) {
        rc = write_store_row(store, txn, options);
    } else {
        rc = rc == MDB_NOTFOUND ? co_fail(CO_ERR_CORRUPT,
                                          "%s has no first record that says its format", store->dir)
                                : ps_lmdb_fail(store, rc, "reading the first record");
    }
    if (rc)
        goto abort;
    rc = mdb_txn_commit(txn);
    return rc ? ps_lmdb_fail(store, rc, "opening the store") : 0;
abort:
    mdb_txn_abort(txn);
    return rc;
}

/* An LMDB code. Again after a failure: LMDB wants a new environment then. */
static int open_env(struct ps_store *store, unsigned flags)
{
    if (store->env)
        mdb_env_close(store->env);
    store->env = NULL;
    int rc = mdb_env_create(&store->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(store->env, T_COUNT);
    if (!rc)
        rc = mdb_env_set_maxreaders(store->env, MAX_READERS);
    if (!rc)
        rc = mdb_env_set_mapsize(store->env, store->map_bytes);
    if (!rc)
        rc = mdb_env_open(store->env, store->dir, flags, 0600);
    return rc;
}

int ps_store_open(const struct ps_store_options *options, struct ps_store **out)
{
    struct ps_store *store = calloc(1, sizeof *store);
    if (!store)
        return co_fail(CO_ERR_NOMEM, "no memory for the store");
    snprintf(store->dir, sizeof store->dir, "%s", options->dir);
    store->map_bytes = options->map_bytes ? options->map_bytes : PS_MAP_BYTES;
    store->chunk_max = options->chunk_max_bytes ? options->chunk_max_bytes : PS_CHUNK_MAX;
    unsigned flags = MDB_NOTLS | (options->no_sync ? MDB_NOSYNC : MDB_NOMETASYNC);
    int rc;
    if (mkdir(store->dir, 0700) && errno != EEXIST) {
        rc = co_fail_errno(CO_ERR_IO, errno, "%s cannot be made", store->dir);
        goto fail;
    }
    rc = open_env(store, flags);
    /* A limited address space: the default says how much would be good, not how much there must be.
     */
    while (rc == ENOMEM && !options->map_bytes && store->map_bytes > PS_MAP_LEAST_BYTES) {
        store->map_bytes /= 2;
        rc = open_env(store, flags);
    }
    if (rc) {
        rc = ps_lmdb_fail(store, rc, "opening the store");
        goto fail;
    }
    int dead;
    rc = mdb_reader_check(store->env, &dead);
    if (rc) {
        rc = ps_lmdb_fail(store, rc, "checking the readers");
        goto fail;
    }
    rc = check_length(store);
    if (!rc)
        rc = open_tables(store, options);
    if (rc)
        goto fail;
    *out = store;
    return 0;
fail:
    ps_store_close(store);
    return rc;
}

void ps_store_close(struct ps_store *store)
{
    if (!store)
        return;
    if (store->env)
        mdb_env_close(store->env);
    free(store);
}

void ps_store_stats(struct ps_store *store, struct ps_store_stats *out)
{
    MDB_envinfo info;
    MDB_stat stat;
    *out = (struct ps_store_stats){.map_bytes = store->map_bytes};
    if (mdb_env_info(store->env, &info) || mdb_env_stat(store->env, &stat))
        return;
    out->used_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    out->readers = info.me_numreaders;
}

int ps_store_sync(struct ps_store *store)
{
    int rc = mdb_env_sync(store->env, 1);
    return rc ? ps_lmdb_fail(store, rc, "making the store durable") : 0;
}

void ps_store_clear_readers(struct ps_store *store)
{
    int dead;
    (void)mdb_reader_check(store->env, &dead); /* what it does not find it finds next time */
}

/* -- Transactions ------------------------------------------------------------------------------ */

static void free_txn(struct ps_txn *txn)
{
    ps_codec_free(txn->codec);
    for (uint32_t i = 0; txn->recent && i < PS_RECENT_SLOTS; i++)
        free(txn->recent[i].page);
    free(txn->recent);
    free(txn->scratch);
    free(txn);
}

static int new_txn(struct ps_store *store, bool write, struct ps_txn **out)
{
    struct ps_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return co_fail(CO_ERR_NOMEM, "no memory for a transaction");
    txn->store = store;
    txn->write = write;
    int rc = ps_codec_new(&txn->codec);
    if (write) {
        txn->recent = calloc(PS_RECENT_SLOTS, sizeof *txn->recent);
        txn->scratch = malloc(CO_PAGE_SIZE_MAX);
        bool all = txn->recent && txn->scratch;
        for (uint32_t i = 0; all && i < PS_RECENT_SLOTS; i++)
            all = (txn->recent[i].page = malloc(CO_PAGE_SIZE_MAX)) != NULL;
        if (!rc && !all)
            rc = co_fail(CO_ERR_NOMEM, "no memory for a transaction");
    }
    if (rc) {
        free_txn(txn);
        return rc;
    }
    *out = txn;
    return 0;
}

static int open_cursors(struct ps_txn *txn)
{
    int rc = mdb_cursor_open(txn->txn, txn->store->dbi[T_PAGE], &txn->page);
    if (!rc)
        rc = mdb_cursor_open(txn->txn, txn->store->dbi[T_COMMIT], &txn->commit);
    return rc;
}

int ps_read_new(struct ps_store *store, struct ps_txn **out)
{
    struct ps_txn *txn = NULL;
    int rc = new_txn(store, false, &txn);
    if (!txn)
        return rc;
    rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn->txn);
    if (!rc)
        rc = open_cursors(txn);
    if (rc) {
        rc = ps_lmdb_fail(store, rc, "beginning to read");
        ps_read_free(txn);
        return rc;
    }
    mdb_txn_reset(txn->txn);
    *out = txn;
    return 0;
}

int ps_read_renew(struct ps_txn *txn)
{
    co_assert(!txn->write);
    if (txn->live)
        ps_read_reset(txn);
    int rc = mdb_txn_renew(txn->txn);
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "beginning to read");
    txn->live = true;
    rc = mdb_cursor_renew(txn->txn, txn->page);
    if (!rc)
        rc = mdb_cursor_renew(txn->txn, txn->commit);
    return rc ? ps_lmdb_fail(txn->store, rc, "beginning to read") : 0;
}

void ps_read_reset(struct ps_txn *txn)
{
    if (txn->live)
        mdb_txn_reset(txn->txn);
    txn->live = false;
}

void ps_read_free(struct ps_txn *txn)
{
    if (!txn)
        return;
    if (txn->page)
        mdb_cursor_close(txn->page);
    if (txn->commit)
        mdb_cursor_close(txn->commit);
    if (txn->txn)
        mdb_txn_abort(txn->txn);
    free_txn(txn);
}

int ps_write_new(struct ps_store *store, struct ps_txn **out)
{
    return new_txn(store, true, out);
}

int ps_write_begin(struct ps_txn *txn)
{
    co_assert(txn->write && !txn->live);
    txn->cost = 0;
    ps_recent_forget(txn); /* another transaction may have changed what they hold */
    txn->usage_no = 0;
    txn->usage = (struct ps_usage_change){0};
    int rc = mdb_txn_begin(txn->store->env, NULL, 0, &txn->txn);
    if (rc) {
        txn->txn = NULL;
        return ps_lmdb_fail(txn->store, rc, "beginning to write");
    }
    txn->live = true;
    rc = open_cursors(txn);
    if (rc) {
        ps_write_abort(txn);
        return ps_lmdb_fail(txn->store, rc, "beginning to write");
    }
    return 0;
}

/* LMDB frees the cursors of a write transaction with it only when they were closed before. */
static void close_cursors(struct ps_txn *txn)
{
    if (txn->page)
        mdb_cursor_close(txn->page);
    if (txn->commit)
        mdb_cursor_close(txn->commit);
    txn->page = txn->commit = NULL;
}

int ps_write_commit(struct ps_txn *txn)
{
    co_assert(txn->write && txn->live);
    int rc = ps_recent_flush_all(txn);
    if (!rc)
        rc = ps_usage_flush(txn);
    if (rc) {
        ps_write_abort(txn);
        return rc;
    }
    close_cursors(txn);
    rc = mdb_txn_commit(txn->txn);
    txn->txn = NULL;
    txn->live = false;
    return rc ? ps_lmdb_fail(txn->store, rc, "committing") : 0;
}

void ps_write_abort(struct ps_txn *txn)
{
    if (!txn->live)
        return;
    close_cursors(txn);
    mdb_txn_abort(txn->txn);
    txn->txn = NULL;
    txn->live = false;
}

void ps_write_free(struct ps_txn *txn)
{
    if (!txn)
        return;
    ps_write_abort(txn);
    free_txn(txn);
}

uint64_t ps_write_cost(const struct ps_txn *txn)
{
    return txn->cost;
}

struct ps_codec *ps_txn_codec(struct ps_txn *txn)
{
    return txn->codec;
}

int ps_row_get(struct ps_txn *txn, enum ps_table table, tlno_t no, uint32_t size, const char *name,
               const char *doing, const uint8_t **row)
{
    co_assert(txn->live);
    uint8_t key[PS_LINE_KEY_BYTES];
    co_put32be(key, no);
    MDB_val k = ps_val(key, sizeof key), v;
    int rc = mdb_get(txn->txn, txn->store->dbi[table], &k, &v);
    if (rc == MDB_NOTFOUND)
        return CO_ERR_NOT_FOUND;
    if (rc)
        return ps_lmdb_fail(txn->store, rc, doing);
    if (v.mv_size != size)
        return co_fail(CO_ERR_CORRUPT, "%s: a row of table %s has %zu bytes instead of %u",
                       txn->store->dir, name, v.mv_size, size);
    *row = v.mv_data;
    return 0;
}

int ps_put(struct ps_txn *txn, enum ps_table table, struct co_span key, struct co_span value)
{
    co_assert(txn->write && txn->live);
    MDB_val k = ps_val(key.data, key.len), v = ps_val(value.data, value.len);
    /* A cursor that stands near, as it does behind a look-up, need not search from the root. */
    MDB_cursor *near = table == T_PAGE ? txn->page : table == T_COMMIT ? txn->commit : NULL;
    int rc = near ? mdb_cursor_put(near, &k, &v, 0)
                  : mdb_put(txn->txn, txn->store->dbi[table], &k, &v, 0);
    if (rc)
        return ps_lmdb_fail(txn->store, rc, "writing");
    /* the leaf, and the overflow page of a value that does not stay inline */
    txn->cost += PS_PUT_COST + (value.len > PS_CHUNK_INLINE_MAX ? PAGE : 0);
    return 0;
}

int ps_del(struct ps_txn *txn, enum ps_table table, struct co_span key, bool *had)
{
    co_assert(txn->write && txn->live);
    MDB_val k = ps_val(key.data, key.len);
    int rc = mdb_del(txn->txn, txn->store->dbi[table], &k, NULL);
    *had = rc == 0;
    if (rc && rc != MDB_NOTFOUND)
        return ps_lmdb_fail(txn->store, rc, "deleting");
    txn->cost += PS_PUT_COST;
    return 0;
}
