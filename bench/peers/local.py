"""Stock SQLite on a file of this machine: WAL, synchronous=FULL unless said otherwise."""

import os


class Sqlite:
    """What a file and Corallite have in common: the same program on another URI."""

    extension = ""

    def __init__(self, place):
        self.place = place

    def rows(self, mode, db="bench", seconds=2, timeout=120, program="rows", parameters=None, **options):
        args = [self.place.program(program), mode, "--uri", self.uri(db, **(parameters or {})),
                "--extension", self.extension, "--seconds", seconds]
        options.setdefault("warm", self.place.warm_s)
        for name, value in options.items():
            args += ["--" + name.replace("_", "-"), value]
        return self.place.figures(args, timeout + seconds, self.environment())

    def start_rows(self, mode, db="bench", seconds=2, **options):
        """The same without waiting: a process whose output is to be read."""
        import subprocess
        args = [self.place.program("rows"), mode, "--uri", self.uri(db), "--extension", self.extension,
                "--seconds", str(seconds)]
        options.setdefault("warm", self.place.warm_s)
        for name, value in options.items():
            args += ["--" + name.replace("_", "-"), str(value)]
        return self.place.start(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment())

    def insert(self, threads, seconds, **options):
        return self.rows("insert", threads=threads, seconds=seconds, **options)

    def counted(self, db="bench", check=0, after=0):
        found = self.rows("count", db=db, seconds=0, timeout=300, check=check, after=after)
        if check and found["integrity"] != "ok":
            from lib.place import Failure
            raise Failure(f"integrity_check of {db} on {self.name}: {found['integrity']}")
        return found["n"], found["sum"]


class Local(Sqlite):
    name = "local"
    title = "stock SQLite on a local file, WAL, synchronous=FULL: one machine, one copy"

    @staticmethod
    def missing(place):
        return None

    def start(self):
        self.dir = self.place.subdir("local")

    def stop(self):
        pass

    def environment(self):
        return self.place.environment()

    def path(self, db="bench"):
        return os.path.join(self.dir, db + ".db")

    def uri(self, db="bench", **_):
        return "file:" + self.path(db)

    def drop(self, db):
        for end in ("", "-wal", "-shm"):
            if os.path.exists(self.path(db) + end):
                os.unlink(self.path(db) + end)
