"""PostgreSQL: a primary and two streaming standbys."""

import glob
import os

from lib.place import Failure, until
from lib_cluster import free_ports

CONFIG = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = replica
max_wal_senders = 10
fsync = on
synchronous_commit = on
max_wal_size = 4GB
checkpoint_timeout = 30min
"""
STANDBYS = ("s2", "s3")


def binaries():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    return os.path.dirname(found[-1]) if found else None


class Postgres:
    name = "postgres"
    title = ("a primary and two standbys, synchronous_standby_names = 'ANY 1 (s2, s3)', "
             "synchronous_commit = on, fsync = on: a commit is on the disks of two of three")

    def __init__(self, place):
        self.place = place

    @staticmethod
    def missing(place):
        if not binaries():
            return "Debian's postgresql-15 is not installed (tools/deps bench)"
        if not place.has("pg_rows"):
            return "its client could not be built (libpq-dev; the log is bench/peers.log in the build)"
        return None

    def start(self):
        self.bin, self.dir = binaries(), self.place.subdir("postgres")
        self.ports = dict(zip(("p",) + STANDBYS, free_ports(3)))
        self.servers = []
        self.tool("initdb", "-D", f"{self.dir}/p", "-A", "trust", "-U", "bench", "--no-sync")
        self.configure("p", CONFIG)
        self.serve("p")
        for name in STANDBYS:
            self.tool("pg_basebackup", "-d", self.conninfo(), "-D", f"{self.dir}/{name}", "-X", "stream",
                      "-c", "fast", "--no-sync")
            self.configure(name, f"primary_conninfo = '{self.conninfo()} application_name={name}'\n")
            open(f"{self.dir}/{name}/standby.signal", "w").close()
            if self.place.user:
                os.chown(f"{self.dir}/{name}/standby.signal", self.place.user.pw_uid,
                         self.place.user.pw_gid)
            self.serve(name)
        self.psql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s2, s3)'")
        self.psql("SELECT pg_reload_conf()")
        until(lambda: self.psql("SELECT string_agg(sync_state, ',') FROM pg_stat_replication "
                                "WHERE state = 'streaming'") == "quorum,quorum", 20,
              "two standbys in the quorum of PostgreSQL")
        self.rows("make")

    def tool(self, name, *args):
        return self.place.run([os.path.join(self.bin, name), *args], 60)

    def configure(self, name, text):
        with open(f"{self.dir}/{name}/postgresql.conf", "a") as f:
            f.write(text + f"port = {self.ports[name]}\n")

    def serve(self, name):
        log = open(f"{self.dir}/{name}.log", "ab")
        self.servers.append(self.place.start([os.path.join(self.bin, "postgres"), "-D",
                                              f"{self.dir}/{name}"], stdout=log, stderr=log))
        log.close()
        until(lambda: self.ready(name), 30, f"PostgreSQL's {name} answers")

    def ready(self, name):
        try:
            self.tool("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.ports[name]))
            return True
        except Failure:
            return False

    def conninfo(self):
        return f"host=127.0.0.1 port={self.ports['p']} user=bench dbname=postgres"

    def psql(self, sql):
        return self.tool("psql", "-XAtq", "-d", self.conninfo(), "-c", sql).strip()

    def stop(self):
        for server in reversed(self.servers):
            server.send_signal(2)  # fast shutdown
        for server in self.servers:
            server.wait(20)

    def rows(self, mode, seconds=0, **options):
        args = [self.place.program("pg_rows"), mode, "--conninfo", self.conninfo(), "--seconds", seconds,
                "--warm", self.place.warm_s]
        for name, value in options.items():
            args += ["--" + name, value]
        if mode == "make":
            return self.place.run(args, 30)
        return self.place.figures(args, 60 + seconds)

    def insert(self, threads, seconds):
        return self.rows("insert", threads=threads, seconds=seconds)

    def counted(self):
        found = self.rows("count")
        return found["n"], found["sum"]
