/*
 * tables.c - the table-valued functions corallite_log and corallite_branches: eponymous virtual
 * tables of every connection.
 *
 *   SELECT * FROM corallite_log LIMIT 10;                  of main, newest first
 *   SELECT * FROM corallite_log('before', 'dev', '-1h');   schema, branch, newest moment wanted
 *   SELECT * FROM corallite_branches;                      corallite_branches(SCHEMA)
 *
 * The log comes in steps as the statement asks for rows, so that a LIMIT costs what it shows;
 * bounds on lsn, and lower bounds on time, are used and not only checked. The connection behind the
 * schema is looked up at each step: it may be detached while a statement runs.
 */
#include <stdlib.h>
#include <string.h>

#include "compute-vfs/errors.h"
#include "compute-vfs/vfs.h"

#define FIRST_STEP 64u
#define COST       1e6

struct table {
    sqlite3_vtab base;
    sqlite3 *db;
};

static int fail(sqlite3_vtab *table)
{
    sqlite3_free(table->zErrMsg);
    table->zErrMsg = sqlite3_mprintf("%s", co_sentence());
    return cv_report_sentence(SQLITE_ERROR);
}

static int connect(sqlite3 *db, const char *declaration, sqlite3_vtab **out)
{
    struct table *t;
    int rc = sqlite3_declare_vtab(db, declaration);

    if (rc)
        return rc;
    t = sqlite3_malloc(sizeof *t);
    if (!t)
        return SQLITE_NOMEM;
    memset(t, 0, sizeof *t);
    t->db = db;
    *out = &t->base;
    return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

static int cursor_new(size_t bytes, sqlite3_vtab_cursor **out)
{
    *out = sqlite3_malloc64(bytes);
    if (!*out)
        return SQLITE_NOMEM;
    memset(*out, 0, bytes);
    return SQLITE_OK;
}

/* The connection of a schema, NULL being main. */
static int find_conn(sqlite3_vtab *table, const char *schema, struct cv_conn **out)
{
    struct cv_conn *c = cv_conn_of_schema(((struct table *)table)->db, schema);

    *out = c;
    if (!c) {
        co_fail(CO_ERR_NOT_FOUND, "%.60s is no Corallite database of this connection",
                schema ? schema : "main");
        return fail(table);
    }
    return cv_conn_usable(c);
}

static void result_lsn(sqlite3_context *context, lsn_t lsn)
{
    char text[LSN_TEXT];

    sqlite3_result_text(context, lsn_format(lsn, text), -1, SQLITE_TRANSIENT);
}

/* 0: NULL */
static void result_time(sqlite3_context *context, uint64_t time_us)
{
    char text[WHEN_TEXT];

    if (time_us)
        sqlite3_result_text(context, when_format(time_us, text), -1, SQLITE_TRANSIENT);
}

static void copy_text(char *out, size_t size, sqlite3_value *value)
{
    const char *text = (const char *)sqlite3_value_text(value);

    sqlite3_snprintf((int)size, out, "%s", text ? text : "");
}

/* -- corallite_log -------------------------------------------------------------------------------
 */

enum log_column { L_LSN, L_TIME, L_DB_PAGES, L_CHANGED, L_BRANCH, L_SCHEMA, L_OF_BRANCH, L_AT };

/* Arguments of xFilter, in this order, those whose bit is set in idxNum. */
enum log_argument { A_SCHEMA, A_BRANCH, A_AT, A_BELOW, A_UPTO, A_FROM, A_SINCE, ARGUMENTS };

struct log_cursor {
    sqlite3_vtab_cursor base;
    char schema[256], branch[CO_NAME_MAX_BYTES + 1], at[WHEN_AT_MAX];
    lsn_t before, from;    /* before: exclusive, 0: none */
    char since[WHEN_TEXT]; /* "" none */
    struct cv_logged *rows;
    uint32_t n, i, step;
    sqlite3_int64 rowid;
    bool more, never; /* never: no row can satisfy the bounds */
};

static int log_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                       sqlite3_vtab **out, char **error)
{
    (void)aux;
    (void)argc;
    (void)argv;
    (void)error;
    return connect(db,
                   "CREATE TABLE x(lsn TEXT, time TEXT, db_pages INT, pages_changed INT, "
                   "branch TEXT, schema HIDDEN, of_branch HIDDEN, at HIDDEN)",
                   out);
}

/* Which argument a constraint is, -1: none that helps. */
static int argument_of(int column, unsigned char op)
{
    if (op == SQLITE_INDEX_CONSTRAINT_EQ && column >= L_SCHEMA)
        return column - L_SCHEMA + A_SCHEMA;
    if (column == L_LSN && op == SQLITE_INDEX_CONSTRAINT_LT)
        return A_BELOW;
    if (column == L_LSN && (op == SQLITE_INDEX_CONSTRAINT_LE || op == SQLITE_INDEX_CONSTRAINT_EQ))
        return A_UPTO;
    if (column == L_LSN && (op == SQLITE_INDEX_CONSTRAINT_GE || op == SQLITE_INDEX_CONSTRAINT_GT))
        return A_FROM;
    if (column == L_TIME && (op == SQLITE_INDEX_CONSTRAINT_GE || op == SQLITE_INDEX_CONSTRAINT_GT))
        return A_SINCE;
    return -1;
}

static int log_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    int used[ARGUMENTS], n = 0;

    (void)table;
    memset(used, -1, sizeof used);
    for (int i = 0; i < info->nConstraint; i++) {
        int a = argument_of(info->aConstraint[i].iColumn, info->aConstraint[i].op);

        if (a >= 0 && a <= A_AT && !info->aConstraint[i].usable)
            return SQLITE_CONSTRAINT; /* in another order of the join it is */
        if (a >= 0 && info->aConstraint[i].usable)
            used[a] = i;
    }
    info->estimatedCost = COST;
    for (int a = 0; a < ARGUMENTS; a++) {
        if (used[a] < 0)
            continue;
        info->idxNum |= 1 << a;
        info->aConstraintUsage[used[a]].argvIndex = ++n;
        info->aConstraintUsage[used[a]].omit = a <= A_AT; /* bounds are checked again */
        if (a > A_AT)
            info->estimatedCost /= 10;
    }
    if (info->nOrderBy == 1 && info->aOrderBy[0].desc &&
        (info->aOrderBy[0].iColumn == L_LSN || info->aOrderBy[0].iColumn == L_TIME))
        info->orderByConsumed = 1;
    return SQLITE_OK;
}

static int log_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out)
{
    (void)table;
    return cursor_new(sizeof(struct log_cursor), out);
}

static int log_close(sqlite3_vtab_cursor *base)
{
    free(((struct log_cursor *)base)->rows);
    sqlite3_free(base);
    return SQLITE_OK;
}

/* The next older rows. */
static int log_fetch(struct log_cursor *cur)
{
    sqlite3_vtab *table = cur->base.pVtab;
    char at[WHEN_AT_MAX], lsn[LSN_TEXT];
    struct cv_logged *grown;
    struct cv_conn *c;
    int rc = find_conn(table, cur->schema[0] ? cur->schema : NULL, &c);

    if (rc)
        return rc;
    grown = realloc(cur->rows, cur->step * sizeof *grown);
    if (!grown)
        return SQLITE_NOMEM;
    cur->rows = grown;
    cur->i = cur->n = 0;
    sqlite3_snprintf(sizeof at, at, "%s", cur->at);
    if (!at[0] && !cur->branch[0] && c->at) {
        if (c->moment.lsn == LSN_NONE) {
            cur->more = false;
            return SQLITE_OK;
        }
        sqlite3_snprintf(sizeof at, at, "lsn:%s", lsn_format(c->moment.lsn, lsn));
    }
    rc = c->db->pages->ops->log(c->db->pages, c->uri.db,
                                cur->branch[0] ? cur->branch : c->uri.branch, at, cur->before,
                                cur->step, CO_READ_TIMEOUT_MS, cur->rows, &cur->n, &cur->more);
    if (rc == CO_ERR_NOT_FOUND && !cur->branch[0] && strcmp(c->uri.branch, "main") == 0 &&
        !c->db->log) { /* it does not exist yet */
        cur->more = false;
        return SQLITE_OK;
    }
    if (rc)
        return fail(table);
    if (cur->n)
        cur->before = cur->rows[cur->n - 1].lsn;
    cur->step = cur->step * 4 < CV_LOG_MAX ? cur->step * 4 : CV_LOG_MAX;
    return SQLITE_OK;
}

/* Rows come newest first: below a lower bound nothing follows. */
static bool is_past(const struct log_cursor *cur)
{
    const struct cv_logged *row = &cur->rows[cur->i];
    char time[WHEN_TEXT];

    return row->lsn < cur->from ||
           (cur->since[0] && strcmp(when_format(row->time_us, time), cur->since) < 0);
}

static int log_settle(struct log_cursor *cur)
{
    while (cur->i >= cur->n && cur->more) {
        int rc = log_fetch(cur);

        if (rc)
            return rc;
    }
    if (cur->i < cur->n && is_past(cur)) {
        cur->i = cur->n;
        cur->more = false;
    }
    return SQLITE_OK;
}

/* A bound that is spelled as lsn_format() does compares as the numbers do; all else is left to
 * SQLite. */
static bool bound_of(sqlite3_value *value, lsn_t *out)
{
    const char *text = (const char *)sqlite3_value_text(value);
    char again[LSN_TEXT];

    return sqlite3_value_type(value) == SQLITE_TEXT && text && strlen(text) == LSN_TEXT - 1 &&
           lsn_parse(text, out) == 0 && strcmp(lsn_format(*out, again), text) == 0;
}

static void take_argument(struct log_cursor *cur, int a, sqlite3_value *value)
{
    lsn_t lsn;

    switch (a) {
    case A_SCHEMA:
        copy_text(cur->schema, sizeof cur->schema, value);
        break;
    case A_BRANCH:
        copy_text(cur->branch, sizeof cur->branch, value);
        break;
    case A_AT:
        copy_text(cur->at, sizeof cur->at, value);
        break;
    case A_BELOW:
    case A_UPTO:
        if (!bound_of(value, &lsn))
            break;
        if (a == A_UPTO && lsn < UINT64_MAX)
            lsn++;
        cur->never = cur->never || lsn == 0;
        if (cur->before == 0 || lsn < cur->before)
            cur->before = lsn;
        break;
    case A_FROM:
        if (bound_of(value, &lsn))
            cur->from = lsn;
        break;
    default:
        if (sqlite3_value_type(value) == SQLITE_TEXT && sqlite3_value_bytes(value) < WHEN_TEXT)
            copy_text(cur->since, sizeof cur->since, value);
        break;
    }
}

static int log_filter(sqlite3_vtab_cursor *base, int index, const char *text, int argc,
                      sqlite3_value **argv)
{
    struct log_cursor *cur = (struct log_cursor *)base;
    struct cv_logged *rows = cur->rows;
    int n = 0;

    (void)text;
    *cur = (struct log_cursor){.base = cur->base, .rows = rows, .step = FIRST_STEP, .more = true};
    for (int a = 0; a < ARGUMENTS && n < argc; a++)
        if (index & (1 << a))
            take_argument(cur, a, argv[n++]);
    if (cur->never)
        cur->more = false;
    return log_settle(cur);
}

static int log_next(sqlite3_vtab_cursor *base)
{
    struct log_cursor *cur = (struct log_cursor *)base;

    cur->i++;
    cur->rowid++;
    return log_settle(cur);
}

static int log_eof(sqlite3_vtab_cursor *base)
{
    const struct log_cursor *cur = (const struct log_cursor *)base;

    return cur->i >= cur->n;
}

static int log_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct log_cursor *cur = (const struct log_cursor *)base;
    const struct cv_logged *row = &cur->rows[cur->i];

    if (column == L_LSN)
        result_lsn(context, row->lsn);
    else if (column == L_TIME)
        result_time(context, row->time_us);
    else if (column == L_DB_PAGES)
        sqlite3_result_int64(context, row->db_pages);
    else if (column == L_CHANGED)
        sqlite3_result_int64(context, row->pages_changed);
    else if (column == L_BRANCH)
        sqlite3_result_text(context, row->branch, -1, SQLITE_TRANSIENT);
    return SQLITE_OK;
}

static int log_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out)
{
    *out = ((struct log_cursor *)base)->rowid;
    return SQLITE_OK;
}

static const sqlite3_module log_module = {
    .xConnect = log_connect,
    .xBestIndex = log_best_index,
    .xDisconnect = table_disconnect,
    .xOpen = log_open,
    .xClose = log_close,
    .xFilter = log_filter,
    .xNext = log_next,
    .xEof = log_eof,
    .xColumn = log_column,
    .xRowid = log_rowid,
};

/* -- corallite_branches --------------------------------------------------------------------------
 */

enum branch_column {
    B_NAME,
    B_PARENT,
    B_PARENT_LSN,
    B_PARENT_TIME,
    B_HEAD_LSN,
    B_HEAD_TIME,
    B_DB_PAGES,
    B_PAGE_SIZE,
    B_CREATED,
    B_EXPIRES,
    B_PROTECTED,
    B_SEALED,
    B_TIMELINE,
    B_SCHEMA
};

struct branch_cursor {
    sqlite3_vtab_cursor base;
    struct cv_branch *rows;
    uint32_t n, i;
};

static int branches_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                            sqlite3_vtab **out, char **error)
{
    (void)aux;
    (void)argc;
    (void)argv;
    (void)error;
    return connect(db,
                   "CREATE TABLE x(name TEXT, parent TEXT, parent_lsn TEXT, parent_time TEXT, "
                   "head_lsn TEXT, head_time TEXT, db_pages INT, page_size INT, created TEXT, "
                   "expires TEXT, protected INT, sealed INT, timeline TEXT, schema HIDDEN)",
                   out);
}

static int branches_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    info->estimatedCost = COST / 1000;
    for (int i = 0; i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn != B_SCHEMA ||
            info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!info->aConstraint[i].usable)
            return SQLITE_CONSTRAINT;
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        info->idxNum = 1;
        break;
    }
    return SQLITE_OK;
}

static int branches_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out)
{
    (void)table;
    return cursor_new(sizeof(struct branch_cursor), out);
}

static int branches_close(sqlite3_vtab_cursor *base)
{
    free(((struct branch_cursor *)base)->rows);
    sqlite3_free(base);
    return SQLITE_OK;
}

static int branches_filter(sqlite3_vtab_cursor *base, int index, const char *text, int argc,
                           sqlite3_value **argv)
{
    struct branch_cursor *cur = (struct branch_cursor *)base;
    struct cv_conn *c;
    int rc;

    (void)text;
    (void)argc;
    free(cur->rows);
    cur->rows = NULL;
    cur->n = cur->i = 0;
    rc = find_conn(base->pVtab, index ? (const char *)sqlite3_value_text(argv[0]) : NULL, &c);
    if (rc)
        return rc;
    rc = c->db->pages->ops->branches(c->db->pages, c->uri.db, CO_READ_TIMEOUT_MS, &cur->rows,
                                     &cur->n);
    if (rc == CO_ERR_NOT_FOUND && !c->db->log)
        return SQLITE_OK; /* it does not exist yet */
    return rc ? fail(base->pVtab) : SQLITE_OK;
}

static int branches_next(sqlite3_vtab_cursor *base)
{
    ((struct branch_cursor *)base)->i++;
    return SQLITE_OK;
}

static int branches_eof(sqlite3_vtab_cursor *base)
{
    const struct branch_cursor *cur = (const struct branch_cursor *)base;

    return cur->i >= cur->n;
}

static void result_name(sqlite3_context *context, const char *name)
{
    if (name[0])
        sqlite3_result_text(context, name, -1, SQLITE_TRANSIENT);
}

static int branches_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct branch_cursor *cur = (const struct branch_cursor *)base;
    const struct cv_branch *row = &cur->rows[cur->i];
    char id[CO_ID_TEXT];

    switch (column) {
    case B_NAME:
        result_name(context, row->name);
        break;
    case B_PARENT:
        result_name(context, row->parent);
        break;
    case B_PARENT_LSN:
        if (!row->root)
            result_lsn(context, row->start_lsn);
        break;
    case B_PARENT_TIME:
        result_time(context, row->root ? 0 : row->start_us);
        break;
    case B_HEAD_LSN:
        result_lsn(context, row->head_lsn);
        break;
    case B_HEAD_TIME:
        result_time(context, row->head_us);
        break;
    case B_DB_PAGES:
        sqlite3_result_int64(context, row->db_pages);
        break;
    case B_PAGE_SIZE:
        sqlite3_result_int64(context, row->page_size);
        break;
    case B_CREATED:
        result_time(context, row->created_us);
        break;
    case B_EXPIRES:
        result_time(context, row->expires_us);
        break;
    case B_PROTECTED:
        sqlite3_result_int(context, row->guarded);
        break;
    case B_SEALED:
        sqlite3_result_int(context, row->sealed);
        break;
    case B_TIMELINE:
        sqlite3_result_text(context, co_id_format(&row->timeline, id), -1, SQLITE_TRANSIENT);
        break;
    default:
        break;
    }
    return SQLITE_OK;
}

static int branches_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *out)
{
    *out = ((struct branch_cursor *)base)->i;
    return SQLITE_OK;
}

static const sqlite3_module branches_module = {
    .xConnect = branches_connect,
    .xBestIndex = branches_best_index,
    .xDisconnect = table_disconnect,
    .xOpen = branches_open,
    .xClose = branches_close,
    .xFilter = branches_filter,
    .xNext = branches_next,
    .xEof = branches_eof,
    .xColumn = branches_column,
    .xRowid = branches_rowid,
};

int cv_tables_add(sqlite3 *db)
{
    int rc = sqlite3_create_module(db, "corallite_log", &log_module, NULL);

    return rc ? rc : sqlite3_create_module(db, "corallite_branches", &branches_module, NULL);
}
