#!/usr/bin/perl
# Corallite from Perl: open, write, branch, look back. apt-get install -y libdbd-sqlite3-perl
#
#   eval "$(corallite env)" && perl examples/perl/example.pl
use strict;
use warnings;
use DBI;

my $name = $ARGV[0] // 'example-perl';
my %options = (RaiseError => 1, PrintError => 0, AutoCommit => 1);

# Once a process: any connection loads the extension, and its VFS stays for all.
my $loader = DBI->connect('dbi:SQLite:dbname=:memory:', '', '', \%options);
$loader->sqlite_enable_load_extension(1);
$loader->sqlite_load_extension($ENV{CORALLITE_EXTENSION});

# Open and write. commit returns when a majority of the safekeepers has it on disk.
my $db = DBI->connect("dbi:SQLite:uri=file:$name?vfs=corallite", '', '', \%options);
$db->do('CREATE TABLE IF NOT EXISTS item(name TEXT PRIMARY KEY, price REAL)');
$db->begin_work;
$db->do('INSERT OR REPLACE INTO item VALUES(?, ?)', undef, 'shell', 2.5);
$db->commit;

# Where are we? Each commit is a place to come back to.
my ($lsn) = $db->selectrow_array('PRAGMA corallite_lsn');
$db->do("UPDATE item SET price = 3.0 WHERE name = 'shell'");
my $show = "SELECT name || ' ' || price FROM item";
print 'now     ', $db->selectrow_array($show), "\n";

# A branch is a database of its own that begins as this one is, in milliseconds.
my $branch = "try-$$";
qx(corallite branch create $name/$branch);
die "the branch could not be made\n" if $?;
my $other = DBI->connect("dbi:SQLite:uri=file:$name/$branch?vfs=corallite", '', '', \%options);
$other->do("UPDATE item SET price = 9.9 WHERE name = 'shell'");
print 'branch  ', $other->selectrow_array($show), "\n";
print 'now     ', $db->selectrow_array($show), "\n";

# The past: an LSN, a time, -10m, pin:NAME. Read-only.
my $before = DBI->connect("dbi:SQLite:uri=file:$name?vfs=corallite&at=$lsn", '', '', \%options);
print 'past    ', $before->selectrow_array($show), "\n";
$_->disconnect for $before, $other, $db;
