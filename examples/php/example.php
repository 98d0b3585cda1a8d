<?php
// Corallite from PHP: open, write, branch, look back. apt-get install -y php-cli php-sqlite3
//
//   eval "$(corallite env)"
//   php -d sqlite3.extension_dir="$(dirname "$CORALLITE_EXTENSION")" examples/php/example.php
//
// PHP loads SQLite extensions from that directory only. (On a web server it is a line of php.ini.)
// The class SQLite3 takes every name for a path; corallite_default('') makes URIs work all the same.
$name = $argv[1] ?? 'example-php';

// Once a process: any connection loads the extension, and its VFS stays for all.
$loader = new SQLite3(':memory:');
$loader->enableExceptions(true);
$loader->loadExtension('corallite.so');
$loader->querySingle("SELECT corallite_default('')");

function open(string $uri, int $flags = SQLITE3_OPEN_READWRITE | SQLITE3_OPEN_CREATE): SQLite3
{
    $db = new SQLite3($uri, $flags);
    $db->enableExceptions(true);
    $db->busyTimeout(5000);
    return $db;
}

// Open and write. COMMIT returns when a majority of the safekeepers has it on disk.
$db = open("file:$name?vfs=corallite");
$db->exec('CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)');
$db->exec('BEGIN IMMEDIATE');
$put = $db->prepare('INSERT OR REPLACE INTO item VALUES(?, ?)');
$put->bindValue(1, 'shell');
$put->bindValue(2, 2.5);
$put->execute();
$db->exec('COMMIT');

// Where are we? Each commit is a place to come back to.
$lsn = $db->querySingle('PRAGMA corallite_lsn');
$db->exec("UPDATE item SET price = 3.0 WHERE name = 'shell'");
$show = "SELECT name || ' ' || price FROM item";
echo 'now     ', $db->querySingle($show), "\n";

// A branch is a database of its own that begins as this one is, in milliseconds.
$branch = 'try-' . getmypid();
exec('corallite branch create ' . escapeshellarg("$name/$branch"), $output, $status);
if ($status !== 0) {
    exit(1);
}
$other = open("file:$name/$branch?vfs=corallite");
$other->exec("UPDATE item SET price = 9.9 WHERE name = 'shell'");
echo 'branch  ', $other->querySingle($show), "\n";
// PDO reads URIs by itself, once the extension has been loaded as above.
$pdo = new PDO("sqlite:file:$name?vfs=corallite");
echo 'now     ', $pdo->query($show)->fetchColumn(), "\n";

// The past: an LSN, a time, -10m, pin:NAME. Read-only.
$before = open("file:$name?vfs=corallite&at=$lsn", SQLITE3_OPEN_READONLY);
echo 'past    ', $before->querySingle($show), "\n";
