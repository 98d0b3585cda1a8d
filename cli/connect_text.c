/*
 * connect_text.c - the programs of `corallite connect`, a few lines a language. examples/ goes on
 * from each of them; tests/integration/test_examples.py runs both.
 */
#include <stddef.h>

#include "cli/connect.h"

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
    "// npm install better-sqlite3\n"
    "const Database = require('better-sqlite3');\n\n"
    "const loader = new Database(':memory:'); // the VFS stays registered\n"
    "loader.loadExtension('@E');\n"
    "loader.prepare(\"SELECT corallite_default('')\").get(); // this driver reads no URIs "
    "itself\n\n"
    "const db = new Database('@U', { timeout: 5000 });\n"
    "db.pragma('synchronous = FULL'); // it begins with NORMAL\n"
    "console.log(db.prepare('SELECT count(*) AS n FROM sqlite_schema').get().n);\n";
static const char in_perl[] =
    "use DBI;  # apt-get install -y libdbd-sqlite3-perl\n\n"
    "my $loader = DBI->connect('dbi:SQLite:dbname=:memory:', '', '', {RaiseError => 1});\n"
    "$loader->sqlite_enable_load_extension(1);\n"
    "$loader->sqlite_load_extension('@E');\n\n"
    "my $db = DBI->connect('dbi:SQLite:uri=@U', '', '', {RaiseError => 1});\n"
    "print $db->selectrow_array('SELECT count(*) FROM sqlite_schema'), \"\\n\";\n";
static const char in_php[] =
    "<?php // php -d sqlite3.extension_dir=@D try.php; apt-get install -y php-cli php-sqlite3\n"
    "$loader = new SQLite3(':memory:'); // the VFS stays registered\n"
    "$loader->loadExtension('corallite.so');\n"
    "$loader->querySingle(\"SELECT corallite_default('')\"); // this class reads no URIs itself\n\n"
    "$db = new SQLite3('@U');\n"
    "$db->busyTimeout(5000);\n"
    "echo $db->querySingle('SELECT count(*) FROM sqlite_schema'), \"\\n\";\n";
static const char in_ruby[] =
    "require 'sqlite3' # apt-get install -y ruby-sqlite3\n\n"
    "loader = SQLite3::Database.new(':memory:') # the VFS stays registered\n"
    "loader.enable_load_extension(true)\n"
    "loader.load_extension('@E')\n\n"
    "modes = SQLite3::Constants::Open\n"
    "db = SQLite3::Database.new('@U', flags: modes::READWRITE | modes::CREATE | modes::URI)\n"
    "db.busy_timeout = 5000\n"
    "puts db.get_first_value('SELECT count(*) FROM sqlite_schema')\n";
static const char in_tcl[] = "package require sqlite3 ;# apt-get install -y tcl libsqlite3-tcl\n\n"
                             "sqlite3 loader :memory: ;# the VFS stays registered\n"
                             "loader enable_load_extension 1\n"
                             "loader eval {SELECT load_extension('@E')}\n\n"
                             "sqlite3 db {@U} -uri 1\n"
                             "db timeout 5000\n"
                             "puts [db onecolumn {SELECT count(*) FROM sqlite_schema}]\n";
static const char in_java[] =
    "// java -cp /usr/share/java/sqlite-jdbc.jar Try.java\n"
    "// apt-get install -y default-jdk-headless libxerial-sqlite-jdbc-java\n"
    "import java.sql.*;\n"
    "import java.util.Properties;\n\n"
    "public class Try {\n"
    "    public static void main(String[] arguments) throws SQLException {\n"
    "        Properties may = new Properties();\n"
    "        may.setProperty(\"enable_load_extension\", \"true\");\n"
    "        Connection loader = DriverManager.getConnection(\"jdbc:sqlite::memory:\", may);\n"
    "        loader.createStatement().execute(\"SELECT load_extension('@E')\"); // the VFS stays\n"
    "        Connection db = DriverManager.getConnection(\"jdbc:sqlite:@U\");\n"
    "        ResultSet rows = db.createStatement().executeQuery(\n"
    "                \"SELECT count(*) FROM sqlite_schema\");\n"
    "        System.out.println(rows.next() ? rows.getInt(1) : 0);\n"
    "    }\n"
    "}\n";
static const char in_go[] =
    "// GO111MODULE=off GOPATH=/usr/share/gocode go build -tags libsqlite3 try.go\n"
    "// apt-get install -y golang-go golang-github-mattn-go-sqlite3-dev\n"
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
    "\tdb, _ := sql.Open(\"corallite\", \"@U&_sync=FULL\") // it sets NORMAL else\n"
    "\tvar n int\n"
    "\tif err := db.QueryRow(\"SELECT count(*) FROM sqlite_schema\").Scan(&n); err != nil {\n"
    "\t\tlog.Fatal(err)\n"
    "\t}\n"
    "\tfmt.Println(n)\n"
    "}\n";
static const char in_env[] = "export CORALLITE_SERVER='@S'\n"
                             "export CORALLITE_EXTENSION='@E'\n"
                             "# sqlite3 -cmd \".load $CORALLITE_EXTENSION\" -cmd '.open @U'\n";

const struct connect_text connect_texts[] = {
    {"c", in_c},       {"python", in_python}, {"node", in_node}, {"perl", in_perl}, {"php", in_php},
    {"ruby", in_ruby}, {"tcl", in_tcl},       {"go", in_go},     {"java", in_java}, {"env", in_env},
};
const size_t connect_n_texts = sizeof connect_texts / sizeof *connect_texts;
