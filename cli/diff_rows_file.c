/*
 * diff_rows_file.c - the rows in which one table differs.
 *
 * A row is known by the primary key, or by the rowid where there is none. Values differ when their
 * types or their bytes do, whatever collation the column has. As SQL all rows that go or change are
 * deleted before the first is inserted, so that no UNIQUE fails half-way.
 */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/diff.h"
#include "cli/sqlite_file.h"
#include "cli/terminal_file.h"

struct column {
    char *name;
    int key; /* place in the primary key, from 1; 0: none */
};

struct table {
    const char *name;
    struct column *columns; /* those that are stored */
    int n;
    const char *rowid; /* NULL: there is a primary key */
};

/* -- the table -----------------------------------------------------------------------------------
 */

static void free_table(struct table *t)
{
    for (int i = 0; i < t->n; i++)
        free(t->columns[i].name);
    free(t->columns);
}

static int add_column(struct table *t, const char *name, int key)
{
    struct column *more = realloc(t->columns, (size_t)(t->n + 1) * sizeof *more);
    char *copy = strdup(name ? name : "");
    if (more)
        t->columns = more;
    if (!more || !copy) {
        free(copy);
        return co_fail(CO_ERR_NOMEM, "there is no memory for the columns of %s", t->name);
    }
    t->columns[t->n++] = (struct column){.name = copy, .key = key};
    return 0;
}

/* A name for the rowid that is no column's. */
static const char *free_rowid(const struct table *t)
{
    static const char *const names[] = {"rowid", "_rowid_", "oid"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        bool taken = false;
        for (int i = 0; i < t->n; i++)
            taken = taken || sqlite3_stricmp(t->columns[i].name, names[k]) == 0;
        if (!taken)
            return names[k];
    }
    return NULL;
}

static int read_table(struct diff *d, const char *name, struct table *t)
{
    sqlite3_stmt *s = NULL;
    bool has_key = false;
    int rc = 0, step = SQLITE_ERROR;
    *t = (struct table){.name = name};
    if (sqlite3_prepare_v2(d->db,
                           "SELECT name, pk FROM pragma_table_xinfo(?1, 'b') WHERE hidden = 0", -1,
                           &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
            rc = add_column(t, (const char *)sqlite3_column_text(s, 0), sqlite3_column_int(s, 1));
            has_key = has_key || sqlite3_column_int(s, 1) > 0;
        }
    }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, name);
    sqlite3_finalize(s);
    if (!rc && !has_key && !(t->rowid = free_rowid(t)))
        rc = co_fail(CO_ERR_INVAL, "%s has no primary key, and columns hide its rowid", name);
    return rc;
}

/* -- statements ----------------------------------------------------------------------------------
 */

/* "x."k", x."k2"" or "x.rowid" */
static void put_keys(sqlite3_str *q, const struct table *t, const char *alias)
{
    int n = 0;
    if (t->rowid)
        sqlite3_str_appendf(q, "%s.%s", alias, t->rowid);
    for (int i = 0; !t->rowid && i < t->n; i++)
        if (t->columns[i].key)
            sqlite3_str_appendf(q, "%s%s.\"%w\"", n++ ? ", " : "", alias, t->columns[i].name);
}

static void put_columns(sqlite3_str *q, const struct table *t, const char *alias)
{
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q, ", %s.\"%w\"", alias, t->columns[i].name);
}

static void put_same_key(sqlite3_str *q, const struct table *t)
{
    int n = 0;
    if (t->rowid)
        sqlite3_str_appendf(q, "y.%s = x.%s", t->rowid, t->rowid);
    for (int i = 0; !t->rowid && i < t->n; i++)
        if (t->columns[i].key)
            sqlite3_str_appendf(q, "%sy.\"%w\" IS x.\"%w\"", n++ ? " AND " : "", t->columns[i].name,
                                t->columns[i].name);
}

/* Rows of `in` that `other` has not: keys, then columns. */
static char *only_in(const struct table *t, char in, char other)
{
    sqlite3_str *q = sqlite3_str_new(NULL);
    sqlite3_str_appendall(q, "SELECT ");
    put_keys(q, t, "x");
    put_columns(q, t, "x");
    sqlite3_str_appendf(
        q, " FROM %c.\"%w\" AS x WHERE NOT EXISTS (SELECT 1 FROM %c.\"%w\" AS y WHERE ", in,
        t->name, other, t->name);
    put_same_key(q, t);
    sqlite3_str_appendall(q, ")");
    return sqlite3_str_finish(q);
}

/* Rows of both that differ: keys, columns of a, columns of b. */
static char *changed(const struct table *t)
{
    sqlite3_str *q = sqlite3_str_new(NULL);
    sqlite3_str_appendall(q, "SELECT ");
    put_keys(q, t, "x");
    put_columns(q, t, "x");
    put_columns(q, t, "y");
    sqlite3_str_appendf(q, " FROM a.\"%w\" AS x JOIN b.\"%w\" AS y ON ", t->name, t->name);
    put_same_key(q, t);
    sqlite3_str_appendall(q, " WHERE 0");
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q,
                            " OR x.\"%w\" IS NOT y.\"%w\" COLLATE BINARY"
                            " OR typeof(x.\"%w\") <> typeof(y.\"%w\")",
                            t->columns[i].name, t->columns[i].name, t->columns[i].name,
                            t->columns[i].name);
    return sqlite3_str_finish(q);
}

/* -- values --------------------------------------------------------------------------------------
 */

/* The shortest of two that is read back to the very number; SQL's infinity is an overflow. */
static void put_real(sqlite3_str *q, double value)
{
    char text[40];
    sqlite3_snprintf(sizeof text, text, "%!.15g", value);
    if (value > DBL_MAX || value < -DBL_MAX)
        sqlite3_str_appendall(q, value > 0 ? "9e999" : "-9e999");
    else if (strtod(text, NULL) < value || strtod(text, NULL) > value)
        sqlite3_str_appendf(q, "%!.17g", value);
    else
        sqlite3_str_appendall(q, text);
}

/* A literal that SQLite reads back to the very value. */
static void put_value(sqlite3_str *q, sqlite3_stmt *s, int i)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *bytes;
    const char *text;
    int n;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER:
        sqlite3_str_appendf(q, "%lld", sqlite3_column_int64(s, i));
        break;
    case SQLITE_FLOAT:
        put_real(q, sqlite3_column_double(s, i));
        break;
    case SQLITE_TEXT:
        text = (const char *)sqlite3_column_text(s, i);
        n = sqlite3_column_bytes(s, i);
        if (text && (size_t)n == strlen(text)) {
            sqlite3_str_appendf(q, "%Q", text);
            break;
        }
        sqlite3_str_appendall(q, "CAST(x'"); /* it holds a zero byte */
        for (int k = 0; text && k < n; k++)
            sqlite3_str_appendf(q, "%c%c", hex[(unsigned char)text[k] >> 4], hex[text[k] & 15]);
        sqlite3_str_appendall(q, "' AS TEXT)");
        break;
    case SQLITE_BLOB:
        bytes = sqlite3_column_blob(s, i);
        n = sqlite3_column_bytes(s, i);
        sqlite3_str_appendall(q, "x'");
        for (int k = 0; k < n; k++)
            sqlite3_str_appendf(q, "%c%c", hex[bytes[k] >> 4], hex[bytes[k] & 15]);
        sqlite3_str_appendall(q, "'");
        break;
    default:
        sqlite3_str_appendall(q, "NULL");
    }
}

static json_t *value_json(sqlite3_stmt *s, int i)
{
    json_t *value = NULL;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(s, i));
    case SQLITE_FLOAT:
        value = json_real(sqlite3_column_double(s, i));
        break; /* JSON has no infinity: as SQL */
    case SQLITE_TEXT:
        value = json_stringn((const char *)sqlite3_column_text(s, i),
                             (size_t)sqlite3_column_bytes(s, i));
        break; /* nor bytes that are not UTF-8 */
    case SQLITE_NULL:
        return json_null();
    default:
        break;
    }
    if (value)
        return value;
    sqlite3_str *q = sqlite3_str_new(NULL);
    put_value(q, s, i);
    char *sql = sqlite3_str_finish(q);
    value = json_pack("{s:s}", "sql", sql ? sql : "NULL");
    sqlite3_free(sql);
    return value;
}

/* -- rows ----------------------------------------------------------------------------------------
 */

static int key_count(const struct table *t)
{
    int n = t->rowid ? 1 : 0;
    for (int i = 0; !t->rowid && i < t->n; i++)
        n += t->columns[i].key != 0;
    return n;
}

/* "id=3" or, for SQL, "\"id\" IS 3" */
static void put_key_values(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, bool sql)
{
    int at = 0;
    if (t->rowid) {
        sqlite3_str_appendf(q, "%s%s", t->rowid, sql ? " = " : "=");
        put_value(q, s, 0);
    }
    for (int i = 0; !t->rowid && i < t->n; i++)
        if (t->columns[i].key) {
            sqlite3_str_appendf(q, sql ? "%s\"%w\" IS " : "%s%s=",
                                at == 0 ? "" : (sql ? " AND " : ", "), t->columns[i].name);
            put_value(q, s, at++);
        }
}

/* The columns of a row that begin at `from`. `old` > 0: only those that differ from old's. */
static void put_row(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, int from, int old)
{
    bool first = true;
    for (int i = 0; i < t->n; i++) {
        sqlite3_str *one = sqlite3_str_new(NULL), *two = sqlite3_str_new(NULL);
        put_value(one, s, from + i);
        if (old)
            put_value(two, s, old + i);
        char *now = sqlite3_str_finish(one), *before = sqlite3_str_finish(two);
        if (now && old && before && strcmp(now, before) != 0) {
            sqlite3_str_appendf(q, "%s%s: %s -> ", first ? "" : ", ", t->columns[i].name, before);
            sqlite3_str_appendall(q, now);
            first = false;
        } else if (now && !old && !t->columns[i].key) {
            sqlite3_str_appendf(q, "%s%s=", first ? "" : ", ", t->columns[i].name);
            sqlite3_str_appendall(q, now);
            first = false;
        }
        sqlite3_free(now);
        sqlite3_free(before);
    }
}

static json_t *row_json(const struct table *t, sqlite3_stmt *s, int from)
{
    json_t *row = json_object();
    if (t->rowid)
        json_object_set_new(row, t->rowid, value_json(s, 0));
    for (int i = 0; i < t->n; i++)
        json_object_set_new(row, t->columns[i].name, value_json(s, from + i));
    return row;
}

static void put_insert(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, int from)
{
    sqlite3_str_appendf(q, "INSERT INTO \"%w\"(", t->name);
    if (t->rowid)
        sqlite3_str_appendall(q, t->rowid);
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q, "%s\"%w\"", i || t->rowid ? ", " : "", t->columns[i].name);
    sqlite3_str_appendall(q, ") VALUES(");
    if (t->rowid)
        put_value(q, s, 0);
    for (int i = 0; i < t->n; i++) {
        if (i || t->rowid)
            sqlite3_str_appendall(q, ", ");
        put_value(q, s, from + i);
    }
    sqlite3_str_appendall(q, ");");
}

enum row_kind { ROW_REMOVED, ROW_ADDED, ROW_CHANGED };

static int print_line(sqlite3_str *q)
{
    char *text = sqlite3_str_finish(q);
    if (!text)
        return co_fail(CO_ERR_NOMEM, "there is no memory for a row");
    enum tone tone = strncmp(text, "  - ", 4) == 0   ? TONE_BAD
                     : strncmp(text, "  + ", 4) == 0 ? TONE_GOOD
                     : strncmp(text, "  ~ ", 4) == 0 ? TONE_CHANGED
                                                     : TONE_PLAIN;
    printf("%s%s%s\n", terminal_tone(tone), text, tone == TONE_PLAIN ? "" : terminal_end());
    sqlite3_free(text);
    return 0;
}

static int text_row(const struct table *t, sqlite3_stmt *s, enum row_kind kind)
{
    static const char signs[] = "-+~";
    int keys = key_count(t);
    sqlite3_str *q = sqlite3_str_new(NULL);
    sqlite3_str_appendf(q, "  %c ", signs[kind]);
    put_key_values(q, t, s, false);
    sqlite3_str_appendall(q, "  ");
    if (kind == ROW_CHANGED)
        put_row(q, t, s, keys + t->n, keys);
    else
        put_row(q, t, s, keys, 0);
    return print_line(q);
}

static int json_row(struct diff *d, const struct table *t, sqlite3_stmt *s, enum row_kind kind)
{
    static const char *const names[] = {"removed", "added", "changed"};
    int keys = key_count(t);
    json_t *of = json_object_get(d->tables, t->name), *list, *row = row_json(t, s, keys);
    if (!of) {
        of = json_pack("{s:[],s:[],s:[]}", "added", "removed", "changed");
        json_object_set_new(d->tables, t->name, of);
    }
    list = json_object_get(of, names[kind]);
    if (kind == ROW_CHANGED)
        row = json_pack("{s:o,s:o}", "before", row, "after", row_json(t, s, keys + t->n));
    return json_array_append_new(list, row) == 0
               ? 0
               : co_fail(CO_ERR_NOMEM, "there is no memory for the rows of %s", t->name);
}

static int sql_row(struct diff *d, const struct table *t, sqlite3_stmt *s, enum row_kind kind,
                   bool insert)
{
    int keys = key_count(t);
    int rc = diff_begin_sql(d);
    if (rc)
        return rc;
    sqlite3_str *q = sqlite3_str_new(NULL);
    if (insert) {
        put_insert(q, t, s, kind == ROW_CHANGED ? keys + t->n : keys);
        return print_line(q);
    }
    sqlite3_str_appendf(q, "DELETE FROM \"%w\" WHERE ", t->name);
    put_key_values(q, t, s, true);
    sqlite3_str_appendall(q, ";");
    return print_line(q);
}

/* Runs a statement and shows its rows. insert: of DIFF_SQL, the second pass. */
static int show(struct diff *d, const struct table *t, char *sql, enum row_kind kind, bool insert,
                bool *heading)
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    if (!sql)
        return co_fail(CO_ERR_NOMEM, "there is no memory");
    if (sqlite3_prepare_v2(d->db, sql, -1, &s, NULL) == SQLITE_OK)
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
            if (d->form == DIFF_TEXT && !*heading)
                printf("table %s\n", t->name);
            *heading = true;
            if (d->form == DIFF_TEXT)
                rc = text_row(t, s, kind);
            else if (d->form == DIFF_JSON)
                rc = json_row(d, t, s, kind);
            else
                rc = sql_row(d, t, s, kind, insert);
            d->different = true;
        }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, t->name);
    sqlite3_finalize(s);
    sqlite3_free(sql);
    return rc;
}

int diff_rows(struct diff *d, const char *name)
{
    struct table t;
    bool heading = false;
    int rc = read_table(d, name, &t);
    if (!rc)
        rc = show(d, &t, only_in(&t, 'a', 'b'), ROW_REMOVED, false, &heading);
    if (!rc)
        rc = show(d, &t, changed(&t), ROW_CHANGED, false, &heading);
    if (!rc && d->form == DIFF_SQL)
        rc = show(d, &t, changed(&t), ROW_CHANGED, true, &heading);
    if (!rc)
        rc = show(d, &t, only_in(&t, 'b', 'a'), ROW_ADDED, true, &heading);
    free_table(&t);
    return rc;
}

int diff_insert_all(struct diff *d, const char *name)
{
    struct table t;
    bool heading = true;
    int rc = read_table(d, name, &t);
    if (!rc) {
        sqlite3_str *q = sqlite3_str_new(NULL);
        sqlite3_str_appendall(q, "SELECT ");
        put_keys(q, &t, "x");
        put_columns(q, &t, "x");
        sqlite3_str_appendf(q, " FROM b.\"%w\" AS x", name);
        rc = show(d, &t, sqlite3_str_finish(q), ROW_ADDED, true, &heading);
    }
    free_table(&t);
    return rc;
}
