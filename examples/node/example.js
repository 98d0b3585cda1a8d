// Corallite from Node.js: open, write, branch, look back.
//
//   cd examples/node && npm install
//   eval "$(corallite env)" && node example.js
//
// better-sqlite3 brings an SQLite of its own, which does not read URIs. So after the extension has been
// loaded it is told to look at names itself: corallite_default('') makes file:...?vfs=corallite work
// anywhere, corallite_default('*.db') would make every path that matches a database.
const { execFileSync } = require('node:child_process');
const Database = require('better-sqlite3');

const name = process.argv[2] || 'example-node';

// Once a process: any connection loads the extension, and its VFS stays for all.
const loader = new Database(':memory:');
loader.loadExtension(process.env.CORALLITE_EXTENSION);
loader.prepare("SELECT corallite_default('')").get();

// Open and write. COMMIT returns when a majority of the safekeepers has it on disk; better-sqlite3's
// SQLite begins with synchronous=NORMAL (a majority has it in memory), so say which you want.
const open = (uri, options = {}) => {
  const db = new Database(uri, { timeout: 5000, ...options });
  db.pragma('synchronous = FULL');
  return db;
};
const db = open(`file:${name}?vfs=corallite`);
db.exec('CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)');
const put = db.transaction((item, price) => {
  db.prepare('INSERT OR REPLACE INTO item VALUES(?, ?)').run(item, price);
});
put('shell', 2.5);

// Where are we? Each commit is a place to come back to.
const lsn = db.pragma('corallite_lsn', { simple: true });
db.exec("UPDATE item SET price = 3.0 WHERE name = 'shell'");
const show = (of) => of.prepare("SELECT name || ' ' || price FROM item").pluck().get();
console.log('now    ', show(db));

// A branch is a database of its own that begins as this one is, in milliseconds.
const branch = `try-${process.pid}`;
execFileSync('corallite', ['branch', 'create', `${name}/${branch}`]);
const other = open(`file:${name}/${branch}?vfs=corallite`);
other.exec("UPDATE item SET price = 9.9 WHERE name = 'shell'");
console.log('branch ', show(other));
console.log('now    ', show(db));

// The past: an LSN, a time, -10m, pin:NAME. Read-only.
const before = open(`file:${name}?vfs=corallite&at=${lsn}`, { readonly: true });
console.log('past   ', show(before));
