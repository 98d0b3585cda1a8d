/*
 * connect_file.c - `corallite connect DB --lang L`: a program of a few lines that opens the
 * database with the SQLite library that the language has, with this machine's paths filled in.
 *
 * In the texts @E is the extension without its suffix, @S the server's address, @U the URI.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/json.h"
#include "cli/process_file.h"
#include "cli/ref.h"
#include "cli/text.h"
#include "common/clock_file.h"

static const char in_c[] =
    "/* cc -o try try.c -lsqlite3 */\n"
    "#include <sqlite3.h>\n"
    "#include <stdio.h>\n\n"
    "static int row(void *unused, int n, char **values, char **names)\n"
    "{\n"
    "    (void)unused, (void)n, (void)names;\n"
    "    return puts(values[0] ? values[0] : \"NULL\") == EOF;\n"
    "}\n\n"
    "int main(void)\n"
    "{\n"
    "    sqlite3 *loader, *db; /* the VFS stays for the process while loader is open */\n"
    "    char *message = NULL;\n"
    "    sqlite3_open(\":memory:\", &loader);\n"
    "    sqlite3_db_config(loader, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);\n"
    "    if (sqlite3_load_extension(loader, \"@E\", NULL, &message) != SQLITE_OK)\n"
    "        return puts(message), 1;\n"
    "    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;\n"
    "    if (sqlite3_open_v2(\"@U\", &db, flags, NULL) != SQLITE_OK)\n"
    "        return puts(sqlite3_errmsg(db)), 1;\n"
    "    sqlite3_busy_timeout(db, 5000);\n"
    "    int rc = sqlite3_exec(db, \"SELECT count(*) FROM sqlite_schema\", row, NULL, &message);\n"
    "    sqlite3_close(db);\n"
    "    return rc;\n"
    "}\n";
static const char in_python[] = "import sqlite3\n\n"
                                "loader = sqlite3.connect(':memory:')  # the VFS stays registered\n"
                                "loader.enable_load_extension(True)\n"
                                "loader.load_extension('@E')\n\n"
                                "db = sqlite3.connect('@U', uri=True, timeout=5)\n"
                                "print(db.execute('SELECT count(*) FROM sqlite_schema')"
                                ".fetchone()[0])\n";
static const char in_node[] =
    "// npm install better-sqlite3, built against the system's SQLite with SQLITE_USE_URI\n"
    "const Database = require('better-sqlite3');\n\n"
    "new Database(':memory:').loadExtension('@E');\n"
    "const db = new Database('@U');\n"
    "console.log(db.prepare('SELECT count(*) AS n FROM sqlite_schema').get().n);\n";
static const char in_perl[] =
    "use DBI;  # apt-get install -y libdbd-sqlite3-perl\n\n"
    "my $loader = DBI->connect('dbi:SQLite:dbname=:memory:', '', '', {RaiseError => 1});\n"
    "$loader->sqlite_enable_load_extension(1);\n"
    "$loader->sqlite_load_extension('@E');\n\n"
    "my $db = DBI->connect('dbi:SQLite:uri=@U', '', '', {RaiseError => 1});\n"
    "print $db->selectrow_array('SELECT count(*) FROM sqlite_schema'), \"\\n\";\n";
static const char in_php[] =
    "<?php // php -d sqlite3.extension_dir=the directory of @E.so\n"
    "$loader = new SQLite3(':memory:'); // the VFS stays for the process while it is there\n"
    "$loader->loadExtension('corallite.so');\n"
    "// PDO and not SQLite3: that class takes every name for a path and would make a plain file.\n"
    "$db = new PDO('sqlite:@U', null, null, [PDO::ATTR_TIMEOUT => 5]);\n"
    "echo $db->query('SELECT count(*) FROM sqlite_schema')->fetchColumn(), \"\\n\";\n";
static const char in_go[] =
    "// go build -tags 'libsqlite3 sqlite_load_extension'\n"
    "package main\n\n"
    "import (\n"
    "\t\"database/sql\"\n"
    "\t\"fmt\"\n"
    "\t\"log\"\n\n"
    "\tsqlite3 \"github.com/mattn/go-sqlite3\"\n"
    ")\n\n"
    "func main() {\n"
    "\tsql.Register(\"corallite\", &sqlite3.SQLiteDriver{Extensions: []string{\"@E\"}})\n"
    "\tloader, err := sql.Open(\"corallite\", \":memory:\")\n"
    "\tif err == nil {\n"
    "\t\terr = loader.Ping() // loads the extension; the VFS stays\n"
    "\t}\n"
    "\tif err != nil {\n"
    "\t\tlog.Fatal(err)\n"
    "\t}\n"
    "\tdb, _ := sql.Open(\"corallite\", \"@U\")\n"
    "\tvar n int\n"
    "\tif err := db.QueryRow(\"SELECT count(*) FROM sqlite_schema\").Scan(&n); err != nil {\n"
    "\t\tlog.Fatal(err)\n"
    "\t}\n"
    "\tfmt.Println(n)\n"
    "}\n";
static const char in_env[] = "export CORALLITE_SERVER='@S'\n"
                             "export CORALLITE_EXTENSION='@E'\n"
                             "# sqlite3 -cmd \".load $CORALLITE_EXTENSION\" -cmd '.open @U'\n";

static const struct {
    const char *name, *text;
} languages[] = {{"c", in_c},     {"python", in_python}, {"node", in_node}, {"perl", in_perl},
                 {"php", in_php}, {"go", in_go},         {"env", in_env}};
#define N_LANGUAGES (sizeof languages / sizeof *languages)

static int find_language(const char *name, const char **text)
{
    const char *names[N_LANGUAGES];
    for (size_t i = 0; i < N_LANGUAGES; i++) {
        names[i] = languages[i].name;
        if (name && strcmp(name, names[i]) == 0) {
            *text = languages[i].text;
            return 0;
        }
    }
    if (!name)
        return co_fail(CO_ERR_INVAL,
                       "for which language? --lang c, python, node, perl, php, go or env");
    const char *near = cli_nearest(name, names, N_LANGUAGES);
    return co_fail(
        CO_ERR_INVAL,
        "there is no program for '%.40s'%s%s%s; there is one for c, python, node, perl, php, "
        "go and env",
        name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static void fill_in(FILE *out, const char *text, const char *extension, const char *server,
                    const char *uri)
{
    for (; *text; text++) {
        if (text[0] == '@' && text[1] == 'E')
            fputs(extension, out), text++;
        else if (text[0] == '@' && text[1] == 'S')
            fputs(server, out), text++;
        else if (text[0] == '@' && text[1] == 'U')
            fputs(uri, out), text++;
        else
            fputc(*text, out);
    }
}

static int print_json(const char *language, const char *text, const char *extension,
                      const char *server, const char *uri)
{
    char *program = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&program, &n);
    if (!out)
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    fill_in(out, text, extension, server, uri);
    if (fclose(out) != 0)
        return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
    int rc =
        cli_print_json(json_pack("{s:s,s:s,s:s,s:s,s:s}", "language", language, "program", program,
                                 "uri", uri, "server", server, "extension", extension));
    free(program);
    return rc;
}

int cli_connect(const struct cli_args *args)
{
    static struct client_target target;
    struct ref r;
    const char *text = NULL;
    char path[PATH_MAX], address[CO_HOST_MAX_BYTES + 16];
    char uri[REF_URI + CO_HOST_MAX_BYTES + 4 * WHEN_AT_MAX + 32], name[REF_TEXT],
        at[3 * WHEN_AT_MAX];
    int rc = ref_parse(args->words[0], co_wall_us(), &r);
    if (!rc)
        rc = find_language(cli_value(args, "--lang"), &text);
    if (!rc)
        rc = client_target(args, &target);
    if (!rc)
        rc = process_find("corallite.so", path);
    if (!rc && path[strcspn(path, "'\"\\\n")])
        rc = co_fail(CO_ERR_INVAL, "the extension's path %s has quotes in it; move it elsewhere",
                     path);
    if (rc)
        return cli_report(rc);
    path[strlen(path) - strlen(".so")] = 0; /* SQLite adds it */
    client_address(target.host, target.port, address);
    snprintf(uri, sizeof uri, "file:%s?vfs=corallite&server=%s%s%s",
             ref_format(r.db, r.branch, name), address, r.at[0] ? "&at=" : "",
             text_percent(r.at, at, sizeof at));
    if (cli_has(args, "--json"))
        return cli_report(print_json(cli_value(args, "--lang"), text, path, address, uri));
    fill_in(stdout, text, path, address, uri);
    return CLI_DONE;
}
