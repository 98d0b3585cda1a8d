// Corallite from Go: open, write, branch, look back.
// apt-get install -y golang-go golang-github-mattn-go-sqlite3-dev
//
//	export GO111MODULE=off GOPATH=/usr/share/gocode
//	go build -tags libsqlite3 -o example examples/go/example.go
//	eval "$(corallite env)" && ./example
//
// The tag libsqlite3 takes the system's SQLite instead of compiling the one that the module brings.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"os/exec"

	sqlite3 "github.com/mattn/go-sqlite3"
)

func open(uri string) *sql.DB {
	db, err := sql.Open("corallite", uri)
	if err == nil {
		err = db.Ping()
	}
	if err != nil {
		log.Fatalf("%s: %v", uri, err)
	}
	return db
}

func run(db *sql.DB, query string, values ...interface{}) {
	if _, err := db.Exec(query, values...); err != nil {
		log.Fatalf("%s: %v", query, err)
	}
}

func value(db *sql.DB, query string) (text string) {
	if err := db.QueryRow(query).Scan(&text); err != nil {
		log.Fatalf("%s: %v", query, err)
	}
	return text
}

func main() {
	name := "example-go"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}

	// Once a process: any connection loads the extension, and its VFS stays for all. This driver loads it
	// on each of its connections, which does no harm; the first must be one that needs no VFS yet.
	sql.Register("corallite", &sqlite3.SQLiteDriver{
		Extensions: []string{os.Getenv("CORALLITE_EXTENSION")},
	})
	loader := open(":memory:")
	defer loader.Close()

	// Open and write. Commit returns when a majority of the safekeepers has it on disk. This driver sets
	// synchronous to NORMAL (a majority has it in memory) unless _sync says otherwise.
	const options = "?vfs=corallite&_sync=FULL&_busy_timeout=5000"
	db := open("file:" + name + options)
	defer db.Close()
	run(db, "CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)")
	tx, err := db.Begin()
	if err == nil {
		_, err = tx.Exec("INSERT OR REPLACE INTO item VALUES(?, ?)", "shell", 2.5)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		log.Fatal(err)
	}

	// Where are we? Each commit is a place to come back to.
	lsn := value(db, "PRAGMA corallite_lsn")
	run(db, "UPDATE item SET price = 3.0 WHERE name = 'shell'")
	show := "SELECT name || ' ' || price FROM item"
	fmt.Println("now    ", value(db, show))

	// A branch is a database of its own that begins as this one is, in milliseconds.
	branch := fmt.Sprintf("%s/try-%d", name, os.Getpid())
	if output, err := exec.Command("corallite", "branch", "create", branch).CombinedOutput(); err != nil {
		log.Fatalf("%s%v", output, err)
	}
	other := open("file:" + branch + options)
	defer other.Close()
	run(other, "UPDATE item SET price = 9.9 WHERE name = 'shell'")
	fmt.Println("branch ", value(other, show))
	fmt.Println("now    ", value(db, show))

	// The past: an LSN, a time, -10m, pin:NAME. Read-only.
	before := open("file:" + name + options + "&at=" + lsn)
	defer before.Close()
	fmt.Println("past   ", value(before, show))
}
