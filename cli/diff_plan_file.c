/*
 * diff_plan_file.c - which rows have to be looked at, by the pages that changed.
 *
 * The b-trees of both sides are read from their schemas, page_diff.c finds the rows, and they are
 * put into temporary tables that the comparison joins with. Pages are read through the file that
 * SQLite itself has open, so each comes over the network once.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/diff.h"
#include "cli/page_diff.h"
#include "cli/sqlite_file.h"

struct side {
    sqlite3_file *file;
    uint32_t page_size;
    const char *schema;
};

struct planner {
    struct diff *d;
    struct page_diff pages;
    struct side side[2];
    char **names; /* of the trees: a table's; NULL: an index */
    size_t cap;
    sqlite3_stmt **keys; /* by tree: puts a key */
    int encoding;        /* of texts: SQLITE_UTF8, ... */
};

static int no_memory(void)
{
    return co_fail(CO_ERR_NOMEM, "there is no memory to compare the databases");
}

/* Prepares a statement with up to two texts bound. */
static int prepare(sqlite3 *db, const char *sql, const char *one, const char *two, sqlite3_stmt **s)
{
    if (sqlite3_prepare_v2(db, sql, -1, s, NULL) != SQLITE_OK)
        return sqlite_failed(db, "comparing");
    if (one)
        sqlite3_bind_text(*s, 1, one, -1, SQLITE_TRANSIENT);
    if (two)
        sqlite3_bind_text(*s, 2, two, -1, SQLITE_TRANSIENT);
    return 0;
}

/* -- pages ---------------------------------------------------------------------------------------
 */

static int read_page(void *context, pgno_t pgno, uint8_t *out)
{
    const struct side *s = context;
    int rc = s->file->pMethods->xRead(s->file, out, (int)s->page_size,
                                      (sqlite3_int64)(pgno - 1) * s->page_size);
    if (rc == SQLITE_OK)
        return 0;
    return sqlite_fail(CO_ERR_IO, "reading the pages that changed", sqlite3_errstr(rc));
}

static int open_side(struct planner *p, int i, const struct diff_moment *m)
{
    struct side *s = &p->side[i];
    s->schema = i == 0 ? "a" : "b";
    s->page_size = m->page_size;
    if (sqlite3_file_control(p->d->db, s->schema, SQLITE_FCNTL_FILE_POINTER, &s->file) !=
            SQLITE_OK ||
        !s->file || !s->file->pMethods)
        return sqlite_failed(p->d->db, "comparing");
    return bt_file_open(&p->pages.file[i], read_page, s, m->page_size, m->n_pages);
}

/* -- trees ---------------------------------------------------------------------------------------
 */

static enum bt_collation collation_of(const char *name, int encoding)
{
    if (!name || sqlite3_stricmp(name, "BINARY") == 0)
        return BT_BINARY;
    if (encoding == SQLITE_UTF8 && sqlite3_stricmp(name, "NOCASE") == 0)
        return BT_NOCASE;
    return encoding == SQLITE_UTF8 && sqlite3_stricmp(name, "RTRIM") == 0 ? BT_RTRIM : BT_OTHER;
}

/* By what an index is ordered: all its columns, or those of a primary key alone. *known: false
 * where there are too many. */
static int read_key(struct planner *p, const char *schema, const char *index, bool primary,
                    struct bt_key *key, bool *known)
{
    sqlite3_stmt *s = NULL;
    int rc = prepare(p->d->db,
                     "SELECT coll, desc FROM pragma_index_xinfo(?1, ?2) WHERE key OR ?3"
                     " ORDER BY seqno",
                     index, schema, &s);
    *known = true;
    key->n = 0;
    if (rc)
        return rc;
    sqlite3_bind_int(s, 3, !primary);
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        if (key->n == BT_KEY_COLUMNS_MAX) {
            *known = false;
            step = SQLITE_DONE;
            break;
        }
        key->column[key->n].collation =
            collation_of((const char *)sqlite3_column_text(s, 0), p->encoding);
        key->column[key->n++].descending = sqlite3_column_int(s, 1) != 0;
    }
    if (step != SQLITE_DONE)
        rc = sqlite_failed(p->d->db, "comparing");
    *known = *known && key->n > 0;
    sqlite3_finalize(s);
    return rc;
}

/* A place for one more; the tree is NULL when memory is out. */
static struct pd_tree *new_tree(struct planner *p)
{
    if (p->pages.n_trees == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        struct pd_tree *trees = realloc(p->pages.trees, cap * sizeof *trees);
        if (trees)
            p->pages.trees = trees;
        char **names = trees ? realloc(p->names, cap * sizeof *names) : NULL;
        if (!names)
            return NULL;
        p->names = names;
        p->cap = cap;
    }
    p->names[p->pages.n_trees] = NULL;
    p->pages.trees[p->pages.n_trees] = (struct pd_tree){0};
    return &p->pages.trees[p->pages.n_trees++];
}

/* Every b-tree of both sides, with its roots; where name, definition and root are the same it is
 * one tree. compared: its rows are of interest. key_index: what tells the order of an index. */
static const char all_trees[] =
    "WITH listed AS MATERIALIZED (SELECT schema, name, type, wr FROM pragma_table_list),"
    " entry(side, type, name, root, sql, kind, wr) AS ("
    " SELECT 'a', s.type, s.name, s.rootpage, s.sql, t.type, t.wr FROM a.sqlite_schema AS s"
    "  LEFT JOIN listed AS t ON t.schema = 'a' AND t.name = s.name AND s.type = 'table'"
    "  WHERE s.rootpage > 0"
    " UNION ALL"
    " SELECT 'b', s.type, s.name, s.rootpage, s.sql, t.type, t.wr FROM b.sqlite_schema AS s"
    "  LEFT JOIN listed AS t ON t.schema = 'b' AND t.name = s.name AND s.type = 'table'"
    "  WHERE s.rootpage > 0)"
    "SELECT max(iif(side = 'a', root, 0)), max(iif(side = 'b', root, 0)), type = 'index' OR wr IS "
    "1,"
    " count(*) = 2 AND kind IS 'table' AND name NOT LIKE 'sqlite^_%' ESCAPE '^',"
    " CASE WHEN type = 'index' THEN name WHEN wr THEN (SELECT i.name FROM"
    "  pragma_index_list(entry.name, side) AS i WHERE i.origin = 'pk') END, name, wr IS 1"
    " FROM entry GROUP BY type, name, root, sql, wr";

static int add_tree(struct planner *p, sqlite3_stmt *s)
{
    bool known = true;
    struct pd_tree *t = new_tree(p);
    if (!t)
        return no_memory();
    t->root[0] = (pgno_t)sqlite3_column_int64(s, 0);
    t->root[1] = (pgno_t)sqlite3_column_int64(s, 1);
    t->index = sqlite3_column_int(s, 2) != 0;
    t->wanted = sqlite3_column_int(s, 3) != 0;
    const char *index = (const char *)sqlite3_column_text(s, 4);
    if (t->wanted &&
        !(p->names[p->pages.n_trees - 1] = strdup((const char *)sqlite3_column_text(s, 5))))
        return no_memory();
    if (!t->index)
        return 0;
    int rc = index ? read_key(p, t->root[0] ? "a" : "b", index, sqlite3_column_int(s, 6) != 0,
                              &t->key, &known)
                   : 0;
    if (!index || !known) { /* it cannot be looked into: no page is ever found to be its */
        t->root[0] = t->root[1] = 0;
        t->wanted = false;
    }
    return rc;
}

static int read_trees(struct planner *p)
{
    sqlite3_stmt *s = NULL;
    struct pd_tree *schema = new_tree(p);
    if (!schema)
        return no_memory();
    schema->root[0] = schema->root[1] = 1;
    int step = SQLITE_DONE, rc = prepare(p->d->db, all_trees, NULL, NULL, &s);
    while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW)
        rc = add_tree(p, s);
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(p->d->db, "comparing");
    sqlite3_finalize(s);
    return rc;
}

/* -- keys ----------------------------------------------------------------------------------------
 */

/* temp."diff_key N", ordered as the table itself. */
static int make_key_table(struct planner *p, size_t tree)
{
    sqlite3 *db = p->d->db;
    sqlite3_str *q = sqlite3_str_new(db), *columns = sqlite3_str_new(db),
                *values = sqlite3_str_new(db);
    sqlite3_stmt *s = NULL;
    int n = 0, step = SQLITE_DONE;
    int rc = prepare(db,
                     "SELECT x.coll, x.desc FROM pragma_index_list(?1, 'a') AS i,"
                     " pragma_index_xinfo(i.name, 'a') AS x WHERE i.origin = 'pk' AND x.key"
                     " ORDER BY x.seqno",
                     p->names[tree], NULL, &s);
    sqlite3_str_appendf(q, "CREATE TEMP TABLE \"diff_key %d\"(", (int)tree);
    while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW) {
        n++;
        sqlite3_str_appendf(q, "k%d COLLATE \"%w\", ", n, sqlite3_column_text(s, 0));
        sqlite3_str_appendf(columns, "%sk%d%s", n > 1 ? ", " : "", n,
                            sqlite3_column_int(s, 1) ? " DESC" : "");
        sqlite3_str_appendf(values, "%s?%d", n > 1 ? ", " : "", n);
    }
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(db, "comparing");
    sqlite3_finalize(s);
    char *by = sqlite3_str_finish(columns), *marks = sqlite3_str_finish(values);
    sqlite3_str_appendf(q, "PRIMARY KEY(%s)) WITHOUT ROWID", by);
    char *create = sqlite3_str_finish(q);
    char *insert =
        sqlite3_mprintf("INSERT OR IGNORE INTO temp.\"diff_key %d\" VALUES(%s)", (int)tree, marks);
    if (!rc && (!by || !marks || !create || !insert))
        rc = no_memory();
    if (!rc)
        rc = sqlite_exec(db, create, "comparing");
    if (!rc)
        rc = prepare(db, insert, NULL, NULL, &p->keys[tree]);
    sqlite3_free(by);
    sqlite3_free(marks);
    sqlite3_free(create);
    sqlite3_free(insert);
    return rc;
}

static void bind_value(const struct planner *p, sqlite3_stmt *s, int i, const struct bt_value *v)
{
    const char *bytes = v->bytes.len ? (const char *)v->bytes.data : "";
    switch (v->type) {
    case BT_INTEGER:
        sqlite3_bind_int64(s, i, v->integer);
        break;
    case BT_REAL:
        sqlite3_bind_double(s, i, v->real);
        break;
    case BT_TEXT:
        sqlite3_bind_text64(s, i, bytes, v->bytes.len, SQLITE_TRANSIENT,
                            (unsigned char)p->encoding);
        break;
    case BT_BLOB:
        sqlite3_bind_blob64(s, i, bytes, v->bytes.len, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_null(s, i);
    }
}

static int put_key(void *context, size_t tree, const struct bt_value *values, unsigned n)
{
    struct planner *p = context;
    sqlite3_stmt *s = p->keys[tree];
    for (unsigned i = 0; i < n; i++)
        bind_value(p, s, (int)i + 1, &values[i]);
    int step = sqlite3_step(s);
    sqlite3_reset(s);
    return step == SQLITE_DONE ? 0 : sqlite_failed(p->d->db, "comparing");
}

/* -- the plan ------------------------------------------------------------------------------------
 */

static int begin_plan(struct planner *p)
{
    int rc = sqlite_exec(p->d->db,
                         "CREATE TEMP TABLE diff_plan(name TEXT PRIMARY KEY, how, tree);"
                         "CREATE TEMP TABLE diff_range(tree, lo, hi, PRIMARY KEY(tree, lo))"
                         " WITHOUT ROWID;",
                         "comparing");
    p->keys = calloc(p->pages.n_trees, sizeof *p->keys);
    if (!rc && !p->keys)
        rc = no_memory();
    for (size_t i = 0; i < p->pages.n_trees && !rc; i++)
        if (p->pages.trees[i].wanted && p->pages.trees[i].index)
            rc = make_key_table(p, i);
    return rc;
}

static int put_ranges(struct planner *p, size_t tree)
{
    const struct pd_tree *t = &p->pages.trees[tree];
    sqlite3_stmt *s = NULL;
    int rc = prepare(p->d->db, "INSERT INTO temp.diff_range VALUES(?1, ?2, ?3)", NULL, NULL, &s);
    for (size_t i = 0; i < t->n_ranges && !rc; i++) {
        sqlite3_bind_int64(s, 1, (sqlite3_int64)tree);
        sqlite3_bind_int64(s, 2, t->ranges[i].lo);
        sqlite3_bind_int64(s, 3, t->ranges[i].hi);
        if (sqlite3_step(s) != SQLITE_DONE)
            rc = sqlite_failed(p->d->db, "comparing");
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return rc;
}

static int put_plan(struct planner *p)
{
    sqlite3_stmt *s = NULL;
    int rc = prepare(p->d->db, "INSERT INTO temp.diff_plan VALUES(?1, ?2, ?3)", NULL, NULL, &s);
    for (size_t i = 0; i < p->pages.n_trees && !rc; i++) {
        const struct pd_tree *t = &p->pages.trees[i];
        if (!t->wanted)
            continue;
        rc = t->index ? 0 : put_ranges(p, i);
        if (rc)
            break;
        sqlite3_bind_text(s, 1, p->names[i], -1, SQLITE_STATIC);
        sqlite3_bind_int(s, 2, t->index ? DIFF_KEYS : (t->n_ranges ? DIFF_RANGES : DIFF_NONE));
        sqlite3_bind_int64(s, 3, (sqlite3_int64)i);
        if (sqlite3_step(s) != SQLITE_DONE)
            rc = sqlite_failed(p->d->db, "comparing");
        sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return rc;
}

static int read_encoding(struct planner *p)
{
    sqlite3_stmt *s = NULL;
    int rc = prepare(p->d->db, "PRAGMA a.encoding", NULL, NULL, &s);
    if (!rc && sqlite3_step(s) != SQLITE_ROW)
        rc = sqlite_failed(p->d->db, "comparing");
    const char *name = rc ? NULL : (const char *)sqlite3_column_text(s, 0);
    p->encoding = !name || strcmp(name, "UTF-8") == 0 ? SQLITE_UTF8
                  : strcmp(name, "UTF-16le") == 0     ? SQLITE_UTF16LE
                                                      : SQLITE_UTF16BE;
    sqlite3_finalize(s);
    return rc;
}

static void free_planner(struct planner *p)
{
    for (size_t i = 0; i < p->pages.n_trees; i++) {
        free(p->names[i]);
        if (p->keys)
            sqlite3_finalize(p->keys[i]);
    }
    page_diff_free(&p->pages);
    free(p->pages.trees);
    free(p->names);
    free(p->keys);
}

int diff_plan_pages(struct diff *d, const struct diff_moment moments[2], const pgno_t *changed,
                    size_t n, const char **why)
{
    struct planner p = {.d = d};
    p.pages.key = put_key;
    p.pages.context = &p;
    int rc = read_encoding(&p);
    for (int i = 0; i < 2 && !rc; i++)
        rc = open_side(&p, i, &moments[i]);
    if (!rc)
        rc = read_trees(&p);
    if (!rc)
        rc = begin_plan(&p);
    if (!rc)
        rc = page_diff_run(&p.pages, changed, n);
    if (!rc && !p.pages.whole)
        rc = put_plan(&p);
    if (why)
        *why = p.pages.why;
    free_planner(&p);
    if (rc == CO_ERR_CORRUPT) /* of page 1: then SQL will say what it thinks of it */
        rc = 0;
    return rc;
}

int diff_plan_of(struct diff *d, const char *table, struct diff_plan *out)
{
    sqlite3_stmt *s = NULL;
    *out = (struct diff_plan){.how = DIFF_ALL};
    /* Without a plan there is no such table. */
    if (sqlite3_prepare_v2(d->db, "SELECT how, tree FROM temp.diff_plan WHERE name = ?1", -1, &s,
                           NULL) != SQLITE_OK)
        return 0;
    sqlite3_bind_text(s, 1, table, -1, SQLITE_STATIC);
    int step = sqlite3_step(s);
    if (step == SQLITE_ROW) {
        out->how = (enum diff_how)sqlite3_column_int(s, 0);
        out->tree = sqlite3_column_int(s, 1);
    }
    int rc = step == SQLITE_ROW || step == SQLITE_DONE ? 0 : sqlite_failed(d->db, table);
    sqlite3_finalize(s);
    return rc;
}
