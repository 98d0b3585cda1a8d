"""A bad network: the chaos proxy (proxy.c has its commands) between a client and a port."""

import os
import re
import subprocess

from .cluster import BIN, Failure, popen


class Proxy:
    """with Proxy(port) as p: connect to p.port; p.do("stall in"); p.do("resume").

    It listens on loopback of this host, or of `host` (hosts.Host), and goes on to `to`."""

    def __init__(self, to_port, port=0, to="127.0.0.1", host=None):
        program = os.path.join(BIN, "tests", "chaos-proxy")
        self.process = popen([program, "--listen", str(port), "--to", f"{to}:{to_port}"], host=host,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        match = re.fullmatch(r"listening (\d+)\n", self.process.stdout.readline())
        if not match:
            raise Failure(f"the proxy in front of port {to_port} did not start")
        self.port = int(match.group(1))

    def do(self, command):
        """Gives a command; returns when it is in force, with the line that answers it."""
        self.process.stdin.write(command + "\n")
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise Failure(f"the proxy answers '{command}' with '{answer}'")
        return answer

    def stats(self):
        """{"in": bytes, "out": bytes, "lost": bytes, "connections": now, "total": ever}"""
        return {k: int(v) for k, v in (f.split("=") for f in self.do("stats").split())}

    def close(self):
        self.process.stdin.close()  # its end
        self.process.wait(5)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
