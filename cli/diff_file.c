/*
 * diff_file.c - `corallite diff A B`: what differs between two databases, branches or moments.
 *
 * Both are attached to one connection, at the transactions that their moments stand for, and SQL
 * compares them. Definitions come first; rows are compared where the table's definition is the
 * same, those that the changed pages point to (diff_plan_file.c). Virtual tables and what they keep
 * are compared by their definition only.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/answer.h"
#include "cli/changes_sock.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/diff.h"
#include "cli/moment_sock.h"
#include "cli/sqlite_file.h"
#include "common/clock_file.h"

/* Objects of a and b (SQLite's own tables and those of virtual tables left out), and what became of
 * each: removed, added, changed, same. */
static const char objects[] =
    "CREATE TEMP TABLE in_a(type, name, sql, PRIMARY KEY(type, name)) WITHOUT ROWID;"
    "INSERT INTO in_a SELECT type, name, sql FROM a.sqlite_schema"
    " WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^' AND name NOT IN"
    " (SELECT name FROM pragma_table_list WHERE schema = 'a' AND type = 'shadow');"
    "CREATE TEMP TABLE in_b(type, name, tbl_name, sql, n INTEGER PRIMARY KEY, UNIQUE(type, name));"
    "INSERT INTO in_b(type, name, tbl_name, sql) SELECT type, name, tbl_name, sql"
    " FROM b.sqlite_schema WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^' AND name NOT IN"
    " (SELECT name FROM pragma_table_list WHERE schema = 'b' AND type = 'shadow') ORDER BY rowid;"
    "CREATE TEMP TABLE object AS"
    " SELECT type, name, NULL AS tbl_name, NULL AS sql, 'removed' AS became FROM in_a AS x"
    " WHERE NOT EXISTS (SELECT 1 FROM in_b AS y WHERE y.type = x.type AND y.name = x.name)"
    " UNION ALL SELECT x.type, x.name, x.tbl_name, x.sql, CASE WHEN y.name IS NULL THEN 'added'"
    "  WHEN y.sql IS x.sql THEN 'same' ELSE 'changed' END FROM in_b AS x LEFT JOIN in_a AS y"
    "  ON y.type = x.type AND y.name = x.name;"
    "CREATE TEMP TABLE plain(name PRIMARY KEY) WITHOUT ROWID;"
    "INSERT INTO plain SELECT name FROM pragma_table_list WHERE schema = 'b' AND type = 'table';";

#define PLAIN "name IN plain"

/* Calls `row` for each row of a query of text columns. */
static int each(struct diff *d, const char *sql, int (*row)(struct diff *, sqlite3_stmt *))
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    if (sqlite3_prepare_v2(d->db, sql, -1, &s, NULL) == SQLITE_OK)
        while (!rc && (step = sqlite3_step(s)) == SQLITE_ROW)
            rc = row(d, s);
    if (!rc && step != SQLITE_DONE)
        rc = sqlite_failed(d->db, "comparing");
    sqlite3_finalize(s);
    return rc;
}

static const char *text_of(sqlite3_stmt *s, int i)
{
    const char *text = (const char *)sqlite3_column_text(s, i);
    return text ? text : "";
}

/* -- for people and programs ----------------------------------------------------------------------
 */

static json_t *schema; /* DIFF_JSON */

static int tell_object(struct diff *d, sqlite3_stmt *s)
{
    d->different = true;
    if (d->form == DIFF_TEXT)
        printf("%s %s: %s\n", text_of(s, 0), text_of(s, 1), text_of(s, 2));
    else
        json_array_append_new(schema, json_pack("{s:s,s:s,s:s}", "type", text_of(s, 0), "name",
                                                text_of(s, 1), "became", text_of(s, 2)));
    return 0;
}

static int compare_table(struct diff *d, sqlite3_stmt *s)
{
    return diff_rows(d, text_of(s, 0));
}

#define SAME_TABLES                                                                                \
    "SELECT name FROM object WHERE type = 'table' AND became = 'same' AND " PLAIN " ORDER BY name"

static int tell(struct diff *d)
{
    int rc = each(d,
                  "SELECT type, name, became FROM object WHERE became <> 'same'"
                  " ORDER BY type = 'table' DESC, type, name",
                  tell_object);
    return rc || d->schema_only ? rc : each(d, SAME_TABLES, compare_table);
}

/* -- as SQL ---------------------------------------------------------------------------------------
 */

static int put_drop(struct diff *d, sqlite3_stmt *s)
{
    int rc = diff_begin_sql(d);
    char *line = sqlite3_mprintf("DROP %s IF EXISTS \"%w\";", text_of(s, 0), text_of(s, 1));
    if (!rc && !line)
        rc = co_fail(CO_ERR_NOMEM, "there is no memory");
    if (!rc)
        puts(line);
    sqlite3_free(line);
    return rc;
}

/* Triggers that stay must not fire: they go first and are made again at the end. */
int diff_begin_sql(struct diff *d)
{
    if (d->different)
        return 0;
    d->different = true;
    puts("PRAGMA foreign_keys = OFF;\nBEGIN;");
    return each(d, "SELECT 'TRIGGER', name FROM object WHERE type = 'trigger' AND became = 'same'",
                put_drop);
}

static int put_create(struct diff *d, sqlite3_stmt *s)
{
    int rc = diff_begin_sql(d);
    if (!rc)
        printf("%s;\n", text_of(s, 0));
    return rc;
}

static int begin_only(struct diff *d, sqlite3_stmt *s)
{
    (void)s;
    return diff_begin_sql(d);
}

static int fill_table(struct diff *d, sqlite3_stmt *s)
{
    return diff_insert_all(d, text_of(s, 0));
}

#define GONE(type)                                                                                 \
    "SELECT upper(type), name FROM object WHERE type = '" type                                     \
    "' AND became IN ('removed', 'changed')"
#define NEW(type)                                                                                  \
    "SELECT sql FROM object WHERE type = '" type "' AND became IN ('added', 'changed')"

static int put_sql(struct diff *d)
{
    static const struct {
        const char *sql;
        int (*row)(struct diff *, sqlite3_stmt *);
        bool of_rows;
    } steps[] = {
        {GONE("trigger"), put_drop, false},
        {GONE("view"), put_drop, false},
        {GONE("index"), put_drop, false},
        {GONE("table"), put_drop, false},
        {NEW("table"), put_create, false},
        {"SELECT name FROM object WHERE type = 'table' AND became IN ('added', 'changed')"
         " AND " PLAIN,
         fill_table, true},
        {SAME_TABLES, compare_table, true},
        {"SELECT sql FROM object AS x WHERE type = 'index' AND sql IS NOT NULL AND (became <> "
         "'same'"
         " OR tbl_name IN (SELECT name FROM object WHERE type = 'table' AND became = 'changed'))"
         " AND became <> 'removed'",
         put_create, false},
        {NEW("view"), put_create, false},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int rc = d->schema_only && steps[i].of_rows ? 0 : each(d, steps[i].sql, steps[i].row);
        if (rc)
            return rc;
    }
    /* A trigger may be all that differs. */
    int rc = each(d, NEW("trigger"), begin_only);
    if (!rc && d->different)
        rc = each(d, "SELECT sql FROM object WHERE type = 'trigger' AND became <> 'removed'",
                  put_create);
    if (d->different)
        puts("COMMIT;");
    return rc;
}

/* -- the verb ------------------------------------------------------------------------------------
 */

struct side {
    struct ref ref;
    Corallite__Resolved *moment; /* freed by compare() */
};

static int resolve(const struct cli_args *args, const char *reference, struct side *s)
{
    int rc = ref_parse(reference, co_wall_us(), &s->ref);
    if (!rc)
        rc = moment_resolve(args, &s->ref, &s->moment);
    if (!rc && s->moment->lsn == 0)
        rc = co_fail(CO_ERR_NOT_FOUND, "%s holds nothing at that moment: there is no transaction",
                     reference);
    return rc;
}

/* The connection's own database takes over the text encoding of a, without which SQLite attaches
 * none that has another. */
static int open_like(const struct side *a, const char *reference, sqlite3 **db)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
    char uri[REF_URI], set[64];
    sqlite3 *first = NULL;
    sqlite3_stmt *s = NULL;
    int rc = sqlite_open(ref_uri(&a->ref, a->moment->lsn, uri), flags, &first);
    if (!rc && (sqlite3_prepare_v2(first, "PRAGMA encoding", -1, &s, NULL) != SQLITE_OK ||
                sqlite3_step(s) != SQLITE_ROW))
        rc = sqlite_failed(first, reference);
    if (!rc) {
        sqlite3_snprintf(sizeof set, set, "PRAGMA encoding = %Q", sqlite3_column_text(s, 0));
        rc = sqlite_open(":memory:", flags, db);
    }
    if (!rc)
        rc = sqlite_exec(*db, set, reference);
    sqlite3_finalize(s);
    sqlite3_close(first);
    return rc;
}

static int attach(sqlite3 *db, const struct side *s, const char *reference, char as)
{
    char uri[REF_URI];
    char *sql = sqlite3_mprintf("ATTACH %Q AS %c", ref_uri(&s->ref, s->moment->lsn, uri), as);
    int rc = sql ? sqlite_exec(db, sql, reference) : co_fail(CO_ERR_NOMEM, "there is no memory");
    sqlite3_free(sql);
    return rc;
}

/* Attaches both, in a read transaction. */
static int open_both(const struct cli_args *args, struct diff *d, struct side sides[2])
{
    int64_t ignored;
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++)
        rc = resolve(args, args->words[i], &sides[i]);
    if (!rc)
        rc = open_like(&sides[0], args->words[0], &d->db);
    for (int i = 0; i < 2 && !rc; i++)
        rc = attach(d->db, &sides[i], args->words[i], "ab"[i]);
    if (!rc)
        rc = sqlite_exec(d->db, "BEGIN", "comparing");
    return rc ? rc
              : sqlite_number(d->db,
                              "SELECT (SELECT count(*) FROM a.sqlite_schema)"
                              " + (SELECT count(*) FROM b.sqlite_schema)",
                              "comparing", &ignored);
}

/* Rows are looked for by the pages that changed, where the pageserver can tell which. */
static int plan(const struct cli_args *args, struct diff *d, const struct side sides[2])
{
    struct changes changes = {0};
    struct diff_moment moments[2];
    if (cli_has(args, "--whole") || cli_has(args, "--schema-only"))
        return 0;
    int rc = changes_between(args, sides[0].moment, sides[1].moment, &changes);
    for (int i = 0; i < 2; i++)
        moments[i] = (struct diff_moment){sides[i].moment->page_size, sides[i].moment->db_pages};
    if (!rc && !changes.all)
        rc = diff_plan_pages(d, moments, changes.pages, changes.n, NULL);
    free(changes.pages);
    return rc;
}

static int compare(const struct cli_args *args, struct diff *d)
{
    struct side sides[2] = {0};
    int rc = open_both(args, d, sides);
    if (!rc)
        rc = sqlite_exec(d->db, objects, "comparing the definitions");
    if (!rc)
        rc = plan(args, d, sides);
    if (!rc)
        rc = d->form == DIFF_SQL ? put_sql(d) : tell(d);
    if (!rc && d->form == DIFF_JSON)
        rc = cli_print_json(json_pack("{s:s,s:s,s:b,s:O,s:O}", "a", args->words[0], "b",
                                      args->words[1], "same", (int)!d->different, "schema", schema,
                                      "tables", d->tables));
    sqlite3_close(d->db);
    for (int i = 0; i < 2; i++)
        if (sides[i].moment)
            corallite__resolved__free_unpacked(sides[i].moment, NULL);
    return rc;
}

static int read_form(const struct cli_args *args, struct diff *d)
{
    static const char *const pairs[][2] = {
        {"--json", "--sql"}, {"--summary", "--sql"}, {"--summary", "--schema-only"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (cli_has(args, pairs[i][0]) && cli_has(args, pairs[i][1]))
            return co_fail(CO_ERR_INVAL, "%s and %s contradict; give one of them", pairs[i][0],
                           pairs[i][1]);
    d->form = cli_has(args, "--json") ? DIFF_JSON : (cli_has(args, "--sql") ? DIFF_SQL : DIFF_TEXT);
    d->summary = cli_has(args, "--summary");
    d->schema_only = cli_has(args, "--schema-only");
    return 0;
}

int cli_diff(const struct cli_args *args)
{
    static struct client_target target;
    struct diff d = {.form = DIFF_TEXT};
    struct ref r;
    int rc = read_form(args, &d);
    for (int i = 0; i < 2 && !rc; i++)
        rc = ref_parse(args->words[i], co_wall_us(), &r);
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = sqlite_begin(&target);
    d.tables = json_object();
    schema = json_array();
    if (!rc)
        rc = compare(args, &d);
    json_decref(d.tables);
    json_decref(schema);
    if (rc) {
        cli_report(rc);
        return 2; /* as diff(1): trouble */
    }
    return d.different ? 1 : 0;
}
