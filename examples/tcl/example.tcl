#!/usr/bin/tclsh
# Corallite from Tcl: open, write, branch, look back. apt-get install -y tcl libsqlite3-tcl
#
#   eval "$(corallite env)" && tclsh examples/tcl/example.tcl
package require sqlite3

set name [expr {$argc > 0 ? [lindex $argv 0] : "example-tcl"}]

# Once a process: any connection loads the extension, and its VFS stays for all.
sqlite3 loader :memory:
loader enable_load_extension 1
loader eval {SELECT load_extension($env(CORALLITE_EXTENSION))}

# Open and write. The transaction returns when a majority of the safekeepers has it on disk.
sqlite3 db "file:$name?vfs=corallite" -uri 1
db timeout 5000
db eval {CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)}
db transaction {
    db eval {INSERT OR REPLACE INTO item VALUES('shell', 2.5)}
}

# Where are we? Each commit is a place to come back to.
set lsn [db onecolumn {PRAGMA corallite_lsn}]
db eval {UPDATE item SET price = 3.0 WHERE name = 'shell'}
set show {SELECT name || ' ' || price FROM item}
puts "now     [db onecolumn $show]"

# A branch is a database of its own that begins as this one is, in milliseconds.
set branch "try-[pid]"
exec corallite branch create $name/$branch
sqlite3 other "file:$name/$branch?vfs=corallite" -uri 1
other timeout 5000
other eval {UPDATE item SET price = 9.9 WHERE name = 'shell'}
puts "branch  [other onecolumn $show]"
puts "now     [db onecolumn $show]"

# The past: an LSN, a time, -10m, pin:NAME. Read-only.
sqlite3 before "file:$name?vfs=corallite&at=$lsn" -uri 1
puts "past    [before onecolumn $show]"
