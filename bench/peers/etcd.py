"""etcd: three members. No database, but a replicated log in wide use: a reference for the log alone."""

import json
import shutil
import urllib.request

from lib.place import until
from lib_cluster import free_ports


class Etcd:
    name = "etcd"
    title = "three members, one key a row, put through the JSON gateway of the first member"

    def __init__(self, place):
        self.place = place

    @staticmethod
    def missing(place):
        return None if shutil.which("etcd") else "Debian's etcd-server is not installed (tools/deps bench)"

    def start(self):
        ports = free_ports(6)
        self.clients, peers = ports[:3], ports[3:]
        directory = self.place.subdir("etcd")
        members = ",".join(f"n{i}=http://127.0.0.1:{p}" for i, p in enumerate(peers, 1))
        self.nodes = []
        for i, (client, peer) in enumerate(zip(self.clients, peers), 1):
            log = open(f"{directory}/{i}.log", "ab")
            self.nodes.append(self.place.start(
                [shutil.which("etcd"), "--name", f"n{i}", "--data-dir", f"{directory}/n{i}",
                 "--listen-client-urls", f"http://127.0.0.1:{client}",
                 "--advertise-client-urls", f"http://127.0.0.1:{client}",
                 "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                 "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
                 "--initial-cluster", members, "--initial-cluster-state", "new", "--logger", "zap",
                 "--log-level", "error"], stdout=log, stderr=log))
            log.close()
        until(lambda: all(self.healthy(p) for p in self.clients), 30, "three members of etcd are healthy")

    @staticmethod
    def healthy(port):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return json.load(answer)["health"] == "true"
        except (OSError, ValueError):
            return False

    def stop(self):
        for node in self.nodes:
            node.terminate()
        for node in self.nodes:
            node.wait(20)

    def insert(self, threads, seconds):
        return self.place.figures([self.place.program("etcd_rows"), "insert", "--port", self.clients[0],
                                   "--threads", threads, "--seconds", seconds, "--warm",
                                   self.place.warm_s], 60 + seconds)

    def counted(self):
        found = self.place.figures([self.place.program("etcd_rows"), "count", "--port", self.clients[1]],
                                   60)
        return found["n"], None
