/*
 * diff_rows_file.c - the rows in which one table differs.
 *
 * A row is known by the primary key, or by the rowid where there is none. Values differ when their
 * types or their bytes do, whatever collation the column has. As SQL all rows that go or change are
 * deleted before the first is inserted, so that no UNIQUE fails half-way.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/diff.h"
#include "cli/sqlite_file.h"
#include "cli/terminal_file.h"

struct column {
    char *name;
    int key;         /* place in the primary key, from 1; 0: none */
    bool descending; /* in the key's index */
    char *collation; /* of that index; NULL: the column's own */
};

struct table {
    const char *name;
    struct column *columns; /* those that are stored */
    int n;
    bool keyed;        /* there is a primary key */
    bool has_rowid;    /* it is not WITHOUT ROWID */
    bool null_keys;    /* NULL may stand in the key: such rows are known by their rowid besides */
    const char *rowid; /* a name for the rowid; NULL: there is none */
    int keys;          /* columns that a query begins with: the key's, or the rowid; see put_keys */
    struct diff_plan plan;
};

/* -- the table -----------------------------------------------------------------------------------
 */

static void free_table(struct table *t)
{
    for (int i = 0; i < t->n; i++) {
        free(t->columns[i].name);
        free(t->columns[i].collation);
    }
    free(t->columns);
}

static int no_memory(const struct table *t)
{
    return co_fail(CO_ERR_NOMEM, "there is no memory for the rows of %s", t->name);
}

static int add_column(struct table *t, const char *name, int key)
{
    struct column *more = realloc(t->columns, (size_t)(t->n + 1) * sizeof *more);
    char *copy = strdup(name ? name : "");
    if (more)
        t->columns = more;
    if (!more || !copy) {
        free(copy);
        return no_memory(t);
    }
    t->columns[t->n++] = (struct column){.name = copy, .key = key};
    return 0;
}

/* A name for the rowid that is no column's, or the column that is an alias of it. */
static const char *rowid_name(const struct table *t)
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

static int read_columns(struct diff *d, struct table *t)
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    if (sqlite3_prepare_v2(d->db,
                           "SELECT x.name, x.pk, x.\"notnull\", NOT t.wr FROM pragma_table_list(?1)"
                           " AS t, pragma_table_xinfo(?1, 'b') AS x"
                           " WHERE t.schema = 'b' AND x.hidden = 0 ORDER BY x.cid",
                           -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, t->name, -1, SQLITE_STATIC);
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
            int key = sqlite3_column_int(s, 1);
            rc = add_column(t, (const char *)sqlite3_column_text(s, 0), key);
            t->keyed = t->keyed || key > 0;
            t->has_rowid = sqlite3_column_int(s, 3) != 0;
            t->null_keys = t->null_keys || (key > 0 && !sqlite3_column_int(s, 2));
        }
    }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, t->name);
    sqlite3_finalize(s);
    return rc;
}

static int set_collation(struct diff *d, const struct table *t, struct column *c, const char *name)
{
    const char *own = NULL;
    if (sqlite3_table_column_metadata(d->db, "b", t->name, c->name, NULL, &own, NULL, NULL, NULL) !=
        SQLITE_OK)
        return sqlite_failed(d->db, t->name);
    if (!name || !own || sqlite3_stricmp(name, own) == 0)
        return 0;
    free(c->collation);
    c->collation = strdup(name);
    return c->collation ? 0 : no_memory(t);
}

/* The collations of the key's index; an INTEGER PRIMARY KEY has none. */
static int read_collations(struct diff *d, struct table *t)
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    bool indexed = false;
    if (sqlite3_prepare_v2(d->db,
                           "SELECT x.name, x.coll, x.desc FROM pragma_index_list(?1, 'b') AS i,"
                           " pragma_index_xinfo(i.name, 'b') AS x WHERE i.origin = 'pk' AND x.key",
                           -1, &s, NULL) == SQLITE_OK) {
        sqlite3_bind_text(s, 1, t->name, -1, SQLITE_STATIC);
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
            const char *name = (const char *)sqlite3_column_text(s, 0);
            indexed = true;
            for (int i = 0; i < t->n && !rc; i++)
                if (name && strcmp(t->columns[i].name, name) == 0) {
                    t->columns[i].descending = sqlite3_column_int(s, 2) != 0;
                    rc = set_collation(d, t, &t->columns[i],
                                       (const char *)sqlite3_column_text(s, 1));
                }
        }
    }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, t->name);
    sqlite3_finalize(s);
    t->null_keys = t->null_keys && indexed;
    return rc;
}

static int read_table(struct diff *d, const char *name, struct table *t)
{
    *t = (struct table){.name = name};
    int rc = read_columns(d, t);
    if (!rc && t->keyed)
        rc = read_collations(d, t);
    if (rc)
        return rc;
    t->rowid = t->has_rowid ? rowid_name(t) : NULL;
    t->null_keys = t->null_keys && t->rowid;
    if (!t->keyed && !t->rowid)
        return co_fail(CO_ERR_INVAL, "%s has no primary key, and columns hide its rowid", name);
    for (int i = 0; i < t->n; i++)
        t->keys += t->columns[i].key != 0;
    t->keys += !t->keyed || t->null_keys;
    rc = diff_plan_of(d, name, &t->plan);
    if (t->plan.how == DIFF_RANGES && !t->rowid)
        t->plan.how = DIFF_ALL;
    return rc;
}

/* -- statements ----------------------------------------------------------------------------------
 */

/* "x."k", x."k2"", and "x.rowid" where it is the key or belongs to it. */
static void put_keys(sqlite3_str *q, const struct table *t, const char *alias)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (t->columns[i].key)
            sqlite3_str_appendf(q, "%s%s.\"%w\"", n++ ? ", " : "", alias, t->columns[i].name);
    if (!t->keyed || t->null_keys)
        sqlite3_str_appendf(q, "%s%s.%s", n ? ", " : "", alias, t->rowid);
}

static void put_columns(sqlite3_str *q, const struct table *t, const char *alias)
{
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q, ", %s.\"%w\"", alias, t->columns[i].name);
}

static void put_collation(sqlite3_str *q, const struct column *c)
{
    if (c->collation)
        sqlite3_str_appendf(q, " COLLATE \"%w\"", c->collation);
}

static void put_same_key(sqlite3_str *q, const struct table *t)
{
    int n = 0;
    if (!t->keyed)
        sqlite3_str_appendf(q, "y.%s = x.%s", t->rowid, t->rowid);
    for (int i = 0; i < t->n; i++)
        if (t->columns[i].key) {
            sqlite3_str_appendf(q, "%sy.\"%w\" IS x.\"%w\"", n++ ? " AND " : "", t->columns[i].name,
                                t->columns[i].name);
            put_collation(q, &t->columns[i]);
        }
    if (!t->null_keys)
        return;
    sqlite3_str_appendf(q, " AND (y.%s = x.%s OR (1", t->rowid, t->rowid);
    for (int i = 0; i < t->n; i++)
        if (t->columns[i].key)
            sqlite3_str_appendf(q, " AND x.\"%w\" IS NOT NULL", t->columns[i].name);
    sqlite3_str_appendall(q, "))");
}

/* " FROM ... AS x": the rows of one side that the plan names, ascending. */
static void put_from(sqlite3_str *q, const struct table *t, char in)
{
    sqlite3_str_appendall(q, " FROM ");
    if (t->plan.how == DIFF_RANGES)
        sqlite3_str_appendall(q, "temp.diff_range AS r CROSS JOIN ");
    if (t->plan.how == DIFF_KEYS)
        sqlite3_str_appendf(q, "temp.\"diff_key %d\" AS r CROSS JOIN ", t->plan.tree);
    sqlite3_str_appendf(q, "%c.\"%w\" AS x", in, t->name);
}

/* " AND ...": what joins them. */
static void put_planned(sqlite3_str *q, const struct table *t)
{
    if (t->plan.how == DIFF_RANGES)
        sqlite3_str_appendf(q, " AND r.tree = %d AND x.%s BETWEEN r.lo AND r.hi", t->plan.tree,
                            t->rowid);
    for (int i = 0; t->plan.how == DIFF_KEYS && i < t->n; i++)
        if (t->columns[i].key) {
            sqlite3_str_appendf(q, " AND x.\"%w\" IS r.k%d", t->columns[i].name, t->columns[i].key);
            put_collation(q, &t->columns[i]);
        }
}

/* " ORDER BY ...": as the table itself is ordered, so that nothing is sorted. */
static void put_order(sqlite3_str *q, const struct table *t)
{
    if (t->plan.how != DIFF_ALL || (t->has_rowid && !t->rowid))
        return;
    sqlite3_str_appendall(q, " ORDER BY ");
    if (t->rowid)
        sqlite3_str_appendf(q, "x.%s", t->rowid);
    for (int place = 1, n = 0; !t->rowid && place <= t->n; place++)
        for (int i = 0; i < t->n; i++)
            if (t->columns[i].key == place) {
                sqlite3_str_appendf(q, "%sx.\"%w\"", n++ ? ", " : "", t->columns[i].name);
                put_collation(q, &t->columns[i]);
                sqlite3_str_appendall(q, t->columns[i].descending ? " DESC" : "");
            }
}

/* Rows of `in` that `other` has not: keys, then columns. */
static char *only_in(const struct table *t, char in, char other)
{
    sqlite3_str *q = sqlite3_str_new(NULL);
    sqlite3_str_appendall(q, "SELECT ");
    put_keys(q, t, "x");
    put_columns(q, t, "x");
    put_from(q, t, in);
    sqlite3_str_appendf(q, " WHERE NOT EXISTS (SELECT 1 FROM %c.\"%w\" AS y WHERE ", other,
                        t->name);
    put_same_key(q, t);
    sqlite3_str_appendall(q, ")");
    put_planned(q, t);
    put_order(q, t);
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
    put_from(q, t, 'a');
    sqlite3_str_appendf(q, " CROSS JOIN b.\"%w\" AS y WHERE (0", t->name);
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q,
                            " OR x.\"%w\" IS NOT y.\"%w\" COLLATE BINARY"
                            " OR typeof(x.\"%w\") <> typeof(y.\"%w\")",
                            t->columns[i].name, t->columns[i].name, t->columns[i].name,
                            t->columns[i].name);
    sqlite3_str_appendall(q, ") AND ");
    put_same_key(q, t);
    put_planned(q, t);
    put_order(q, t);
    return sqlite3_str_finish(q);
}

/* -- rows ----------------------------------------------------------------------------------------
 */

/* Which of a row's first values is the rowid; -1: it is not among them. */
static int rowid_at(const struct table *t)
{
    return !t->keyed || t->null_keys ? t->keys - 1 : -1;
}

/* Is NULL in the row's primary key, so that the rowid tells it from others? */
static bool needs_rowid(const struct table *t, sqlite3_stmt *s)
{
    bool needed = !t->keyed;
    for (int i = 0; t->null_keys && i < t->keys - 1; i++)
        needed = needed || sqlite3_column_type(s, i) == SQLITE_NULL;
    return needed;
}

/* "id=3" or, for SQL, "\"id\" IS 3" */
static void put_key_values(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, bool sql)
{
    int at = 0;
    for (int i = 0; i < t->n; i++)
        if (t->columns[i].key) {
            sqlite3_str_appendf(q, sql ? "%s\"%w\" IS " : "%s%s=",
                                at == 0 ? "" : (sql ? " AND " : ", "), t->columns[i].name);
            diff_put_value(q, s, at++);
            if (sql)
                put_collation(q, &t->columns[i]);
        }
    if (needs_rowid(t, s)) {
        sqlite3_str_appendf(q, "%s%s%s", at == 0 ? "" : (sql ? " AND " : ", "), t->rowid,
                            sql ? " = " : "=");
        diff_put_value(q, s, rowid_at(t));
    }
}

/* The columns of a row that begin at `from`. `old` > 0: only those that differ from old's. */
static void put_row(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, int from, int old)
{
    bool first = true;
    for (int i = 0; i < t->n; i++) {
        sqlite3_str *one = sqlite3_str_new(NULL), *two = sqlite3_str_new(NULL);
        diff_put_value(one, s, from + i);
        if (old)
            diff_put_value(two, s, old + i);
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
    if (needs_rowid(t, s))
        json_object_set_new(row, t->rowid, diff_value_json(s, rowid_at(t)));
    for (int i = 0; i < t->n; i++)
        json_object_set_new(row, t->columns[i].name, diff_value_json(s, from + i));
    return row;
}

static void put_insert(sqlite3_str *q, const struct table *t, sqlite3_stmt *s, int from)
{
    bool rowid = needs_rowid(t, s);
    sqlite3_str_appendf(q, "INSERT INTO \"%w\"(", t->name);
    if (rowid)
        sqlite3_str_appendall(q, t->rowid);
    for (int i = 0; i < t->n; i++)
        sqlite3_str_appendf(q, "%s\"%w\"", i || rowid ? ", " : "", t->columns[i].name);
    sqlite3_str_appendall(q, ") VALUES(");
    if (rowid)
        diff_put_value(q, s, rowid_at(t));
    for (int i = 0; i < t->n; i++) {
        if (i || rowid)
            sqlite3_str_appendall(q, ", ");
        diff_put_value(q, s, from + i);
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
    sqlite3_str *q = sqlite3_str_new(NULL);
    sqlite3_str_appendf(q, "  %c ", signs[kind]);
    put_key_values(q, t, s, false);
    sqlite3_str_appendall(q, "  ");
    if (kind == ROW_CHANGED)
        put_row(q, t, s, t->keys + t->n, t->keys);
    else
        put_row(q, t, s, t->keys, 0);
    return print_line(q);
}

static int json_row(struct diff *d, const struct table *t, sqlite3_stmt *s, enum row_kind kind)
{
    static const char *const names[] = {"removed", "added", "changed"};
    json_t *of = json_object_get(d->tables, t->name), *list, *row = row_json(t, s, t->keys);
    if (!of) {
        of = json_pack("{s:[],s:[],s:[]}", "added", "removed", "changed");
        json_object_set_new(d->tables, t->name, of);
    }
    list = json_object_get(of, names[kind]);
    if (kind == ROW_CHANGED)
        row = json_pack("{s:o,s:o}", "before", row, "after", row_json(t, s, t->keys + t->n));
    return json_array_append_new(list, row) == 0 ? 0 : no_memory(t);
}

static int sql_row(const struct table *t, sqlite3_stmt *s, enum row_kind kind, bool insert)
{
    sqlite3_str *q = sqlite3_str_new(NULL);
    if (insert) {
        put_insert(q, t, s, kind == ROW_CHANGED ? t->keys + t->n : t->keys);
        return print_line(q);
    }
    sqlite3_str_appendf(q, "DELETE FROM \"%w\" WHERE ", t->name);
    put_key_values(q, t, s, true);
    sqlite3_str_appendall(q, ";");
    return print_line(q);
}

/* What becomes of one kind of rows. */
struct pass {
    enum row_kind kind;
    bool insert; /* of DIFF_SQL: the rows that are put in, not those that go */
};

static int show_row(struct diff *d, const struct table *t, sqlite3_stmt *s, struct pass pass,
                    const uint64_t counts[3])
{
    d->different = true;
    if (d->summary)
        return 0;
    if (d->form == DIFF_JSON)
        return json_row(d, t, s, pass.kind);
    if (d->form == DIFF_SQL)
        return sql_row(t, s, pass.kind, pass.insert);
    if (counts[0] + counts[1] + counts[2] == 1)
        printf("table %s\n", t->name);
    return text_row(t, s, pass.kind);
}

/* Runs a statement and shows its rows. */
static int show(struct diff *d, const struct table *t, char *sql, struct pass pass,
                uint64_t counts[3])
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    if (!sql)
        return no_memory(t);
    if (sqlite3_prepare_v2(d->db, sql, -1, &s, NULL) == SQLITE_OK)
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
            counts[pass.kind]++;
            if (d->form == DIFF_SQL) /* its first line drops triggers, which reads: */
                rc = diff_begin_sql(d);
            if (!rc)
                rc = show_row(d, t, s, pass, counts);
        }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, t->name);
    sqlite3_finalize(s);
    sqlite3_free(sql);
    return rc;
}

static int show_counts(struct diff *d, const struct table *t, const uint64_t counts[3])
{
    if (counts[0] + counts[1] + counts[2] == 0)
        return 0;
    if (d->form == DIFF_TEXT) {
        printf("table %s: %" PRIu64 " removed, %" PRIu64 " added, %" PRIu64 " changed\n", t->name,
               counts[ROW_REMOVED], counts[ROW_ADDED], counts[ROW_CHANGED]);
        return 0;
    }
    json_t *of =
        json_pack("{s:I,s:I,s:I}", "added", (json_int_t)counts[ROW_ADDED], "removed",
                  (json_int_t)counts[ROW_REMOVED], "changed", (json_int_t)counts[ROW_CHANGED]);
    return json_object_set_new(d->tables, t->name, of) == 0 ? 0 : no_memory(t);
}

int diff_rows(struct diff *d, const char *name)
{
    struct table t;
    uint64_t counts[3] = {0};
    int rc = read_table(d, name, &t);
    if (!rc && t.plan.how == DIFF_NONE)
        goto done;
    if (!rc)
        rc = show(d, &t, only_in(&t, 'a', 'b'), (struct pass){ROW_REMOVED, false}, counts);
    if (!rc)
        rc = show(d, &t, changed(&t), (struct pass){ROW_CHANGED, false}, counts);
    if (!rc && d->form == DIFF_SQL && counts[ROW_CHANGED])
        rc = show(d, &t, changed(&t), (struct pass){ROW_CHANGED, true}, counts);
    if (!rc)
        rc = show(d, &t, only_in(&t, 'b', 'a'), (struct pass){ROW_ADDED, true}, counts);
    if (!rc && d->summary)
        rc = show_counts(d, &t, counts);
done:
    free_table(&t);
    return rc;
}

int diff_insert_all(struct diff *d, const char *name)
{
    struct table t;
    uint64_t counts[3] = {0};
    int rc = read_table(d, name, &t);
    if (!rc) {
        sqlite3_str *q = sqlite3_str_new(NULL);
        sqlite3_str_appendall(q, "SELECT ");
        put_keys(q, &t, "x");
        put_columns(q, &t, "x");
        sqlite3_str_appendf(q, " FROM b.\"%w\" AS x", name);
        rc = show(d, &t, sqlite3_str_finish(q), (struct pass){ROW_ADDED, true}, counts);
    }
    free_table(&t);
    return rc;
}
