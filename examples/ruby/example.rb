#!/usr/bin/ruby
# Corallite from Ruby: open, write, branch, look back. apt-get install -y ruby-sqlite3
#
#   eval "$(corallite env)" && ruby examples/ruby/example.rb
require 'sqlite3'

name = ARGV[0] || 'example-ruby'

# Once a process: any connection loads the extension, and its VFS stays for all.
loader = SQLite3::Database.new(':memory:')
loader.enable_load_extension(true)
loader.load_extension(ENV.fetch('CORALLITE_EXTENSION'))

def open_uri(uri)
  modes = SQLite3::Constants::Open
  db = SQLite3::Database.new(uri, flags: modes::READWRITE | modes::CREATE | modes::URI)
  db.busy_timeout = 5000
  db
end

# Open and write. The block is a transaction; leaving it returns when a majority of the safekeepers has
# it on disk.
db = open_uri("file:#{name}?vfs=corallite")
db.execute('CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)')
db.transaction { db.execute('INSERT OR REPLACE INTO item VALUES(?, ?)', ['shell', 2.5]) }

# Where are we? Each commit is a place to come back to.
lsn = db.get_first_value('PRAGMA corallite_lsn')
db.execute("UPDATE item SET price = 3.0 WHERE name = 'shell'")
show = "SELECT name || ' ' || price FROM item"
puts "now     #{db.get_first_value(show)}"

# A branch is a database of its own that begins as this one is, in milliseconds.
branch = "try-#{Process.pid}"
system('corallite', 'branch', 'create', "#{name}/#{branch}", out: File::NULL, exception: true)
other = open_uri("file:#{name}/#{branch}?vfs=corallite")
other.execute("UPDATE item SET price = 9.9 WHERE name = 'shell'")
puts "branch  #{other.get_first_value(show)}"
puts "now     #{db.get_first_value(show)}"

# The past: an LSN, a time, -10m, pin:NAME. Read-only.
before = open_uri("file:#{name}?vfs=corallite&at=#{lsn}")
puts "past    #{before.get_first_value(show)}"
