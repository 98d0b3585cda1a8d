"""dqlite: three nodes, each a process of our own around Debian's library (bench/dqlite_rows.c)."""

from lib.place import until
from lib_cluster import free_ports


class Dqlite:
    name = "dqlite"
    title = "three voters, each Debian's libdqlite in a process of its own, TCP_NODELAY on"

    def __init__(self, place):
        self.place = place

    @staticmethod
    def missing(place):
        return None if place.has("dqlite_rows") else "it could not be built (Debian's libdqlite-dev)"

    def start(self):
        self.ports = free_ports(3)
        self.nodes = []
        directory = self.place.subdir("dqlite")
        for i, port in enumerate(self.ports, 1):
            log = open(f"{self.place.dir}/dqlite-{i}.log", "ab")
            self.nodes.append(self.place.start(
                [self.place.program("dqlite_rows"), "node", "--id", str(i), "--port", str(port),
                 "--dir", self.place.subdir(f"dqlite/{i}")], stdout=log, stderr=log))
            log.close()
        assert directory
        until(self.listens, 10, "three dqlite nodes listen")
        self.place.run([self.place.program("dqlite_rows"), "join", "--ports", self.addresses()], 60)

    def listens(self):
        import socket
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
            return True
        except OSError:
            return False

    def addresses(self):
        return ",".join(map(str, self.ports))

    def stop(self):
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            try:
                node.wait(10)
            except Exception:  # noqa: B902 - it is to end all the same
                node.kill()
                node.wait(10)

    def insert(self, threads, seconds):
        return self.place.figures([self.place.program("dqlite_rows"), "insert", "--ports",
                                   self.addresses(), "--threads", threads, "--seconds", seconds, "--warm",
                                   self.place.warm_s],
                                  90 + seconds)

    def counted(self):
        found = self.place.figures([self.place.program("dqlite_rows"), "count", "--ports",
                                    self.addresses()], 60)
        return found["n"], found["sum"]
