"""Corallite: three safekeepers and a pageserver, as `corallite up` starts them."""

import json
import os

from lib_cluster import Cluster

from .local import Sqlite


class Corallite(Sqlite):
    name = "corallite"
    title = ("three safekeepers, a pageserver, the extension in stock SQLite; synchronous=FULL: a majority "
             "has synced; defaults otherwise")

    def __init__(self, place):
        super().__init__(place)
        self.extension = place.program("corallite")

    @staticmethod
    def missing(place):
        return None

    def start(self, name="corallite"):
        self.dir = self.place.subdir(name)
        self.cluster = Cluster(self.dir, place=self.place)

    def stop(self):
        self.cluster.close()

    def environment(self):
        return self.place.environment(CORALLITE_SERVER=self.cluster.server(), CORALLITE_LOG="off")

    def uri(self, db="bench", **parameters):
        return f"file:{db}?vfs=corallite" + "".join(f"&{k}={v}" for k, v in parameters.items())

    def command(self, *args, seconds=120):
        """The corallite command; what it printed."""
        return self.place.run([self.place.program("corallite"), *args], seconds, self.environment())

    def json(self, *args):
        return json.loads(self.command(*args, "--json"))

    def drop(self, db):
        self.command("db", "drop", db, "--yes")

    def resident_mib(self, node):
        """Memory of a daemon without files that it has mapped (the kernel takes those back)."""
        with open(f"/proc/{self.cluster.pid(node)}/status") as f:
            for text in f:
                if text.startswith("RssAnon:"):
                    return int(text.split()[1]) / 1024
        return None

    def store_bytes(self):
        path = os.path.join(self.cluster.data("pageserver"), "pages", "data.mdb")
        return os.stat(path).st_blocks * 512
