"""The systems that are measured, a file each. Each class has: `name`; `title`, which states its setup;
`missing(place)`, a sentence or None; start(), stop(); insert(threads, seconds), one row a transaction;
counted(), (rows, sum of k) with None for what it cannot tell."""

from . import corallite, dqlite, etcd, floor, local, postgres

ALL = {c.name: c for c in (floor.Floor, local.Local, corallite.Corallite, postgres.Postgres,
                           dqlite.Dqlite, etcd.Etcd)}
