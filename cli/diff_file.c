/*
 * diff_file.c - `corallite diff A B`: what differs between two databases, branches or moments.
 *
 * Both are attached to one connection, at the transactions that their moments stand for, and SQL
 * compares them. Definitions come first; rows are compared where the table's definition is the
 * same. Virtual tables and what they keep are compared by their definition only.
 */
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/json.h"
#include "cli/cli.h"
#include "cli/diff.h"
#include "cli/moment_sock.h"
#include "cli/sqlite_file.h"
#include "common/clock_file.h"

/* Objects of a and b (sd, its own tables and those of virtual tables left out), and what became of
 * each: removed, added, changed, same. */
static const char views[] =
    "CREATE TEMP VIEW in_a AS SELECT type, name, sql FROM a.sqlite_schema"
    " WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^' AND name NOT IN"
    " (SELECT name FROM pragma_table_list WHERE schema = 'a' AND type = 'shadow');"
    "CREATE TEMP VIEW in_b AS SELECT type, name, tbl_name, sql FROM b.sqlite_schema"
    " WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^' AND name NOT IN"
    " (SELECT name FROM pragma_table_list WHERE schema = 'b' AND type = 'shadow');"
    "CREATE TEMP TABLE object AS"
    " SELECT type, name, NULL AS tbl_name, NULL AS sql, 'removed' AS became FROM in_a AS x WHERE "
    "NOT"
    "  EXISTS (SELECT 1 FROM in_b AS y WHERE y.type = x.type AND y.name = x.name)"
    " UNION ALL SELECT type, name, tbl_name, sql, CASE"
    "  WHEN NOT EXISTS (SELECT 1 FROM in_a AS y WHERE y.type = x.type AND y.name = x.name) THEN "
    "'added'"
    "  WHEN EXISTS (SELECT 1 FROM in_a AS y WHERE y.type = x.type AND y.name = x.name"
    "    AND y.sql IS x.sql) THEN 'same' ELSE 'changed' END FROM in_b AS x;";

#define PLAIN "name IN (SELECT name FROM pragma_table_list WHERE schema = 'b' AND type = 'table')"

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
    return rc ? rc : each(d, SAME_TABLES, compare_table);
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
    } steps[] = {
        {GONE("trigger"), put_drop},
        {GONE("view"), put_drop},
        {GONE("index"), put_drop},
        {GONE("table"), put_drop},
        {NEW("table"), put_create},
        {"SELECT name FROM object WHERE type = 'table' AND became IN ('added', 'changed')"
         " AND " PLAIN,
         fill_table},
        {SAME_TABLES, compare_table},
        {"SELECT sql FROM object AS x WHERE type = 'index' AND sql IS NOT NULL AND (became <> "
         "'same'"
         " OR tbl_name IN (SELECT name FROM object WHERE type = 'table' AND became = 'changed'))"
         " AND became <> 'removed'",
         put_create},
        {NEW("view"), put_create},
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int rc = each(d, steps[i].sql, steps[i].row);
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

static int attach(const struct cli_args *args, sqlite3 *db, const char *reference, char as)
{
    struct ref r;
    char uri[REF_URI];
    Corallite__Resolved *m = NULL;
    int rc = ref_parse(reference, co_wall_us(), &r);
    if (!rc)
        rc = moment_resolve(args, &r, &m);
    if (rc)
        return rc;
    if (m->lsn == 0)
        rc = co_fail(CO_ERR_NOT_FOUND, "%s holds nothing at that moment: there is no transaction",
                     reference);
    char *sql = sqlite3_mprintf("ATTACH %Q AS %c", ref_uri(&r, m->lsn, uri), as);
    if (!rc && !sql)
        rc = co_fail(CO_ERR_NOMEM, "there is no memory");
    if (!rc)
        rc = sqlite_exec(db, sql, reference);
    sqlite3_free(sql);
    corallite__resolved__free_unpacked(m, NULL);
    return rc;
}

static int compare(const struct cli_args *args, struct diff *d)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
    int rc = sqlite_open(":memory:", flags, &d->db);
    if (!rc)
        rc = attach(args, d->db, args->words[0], 'a');
    if (!rc)
        rc = attach(args, d->db, args->words[1], 'b');
    if (!rc)
        rc = sqlite_exec(d->db, views, "comparing the definitions");
    if (!rc)
        rc = d->form == DIFF_SQL ? put_sql(d) : tell(d);
    if (!rc && d->form == DIFF_JSON)
        rc = cli_print_json(json_pack("{s:s,s:s,s:b,s:O,s:O}", "a", args->words[0], "b",
                                      args->words[1], "same", (int)!d->different, "schema", schema,
                                      "tables", d->tables));
    sqlite3_close(d->db);
    return rc;
}

int cli_diff(const struct cli_args *args)
{
    static struct client_target target;
    struct diff d = {.form = DIFF_TEXT};
    struct ref r;
    int rc = 0;
    if (cli_has(args, "--json") && cli_has(args, "--sql"))
        rc = co_fail(CO_ERR_INVAL, "--json and --sql contradict; give one of them");
    if (cli_has(args, "--json"))
        d.form = DIFF_JSON;
    if (cli_has(args, "--sql"))
        d.form = DIFF_SQL;
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
