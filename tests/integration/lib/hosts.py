"""Hosts of a test: network namespaces joined by a pair of virtual interfaces.

    with hosts.two() as (here, there): ...
    with hosts.star(2) as (hub, *others): ...     each of the others reaches the hub, not one another

The calling process moves into `here` for good (each test has a process of its own); processes are
started on the other with popen(..., host=there). Needs root and iproute2. What was made is removed at
the end, and by the next call if a killed test could not.
"""

import contextlib
import ctypes
import os
import subprocess

from lib.cluster import Failure, Skip

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PREFIX = "corallite-"


class Host:
    def __init__(self, name, address):
        self.name, self.address = name, address

    def enter(self):
        """Moves the calling process here."""
        fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if _libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)


def ip(*words, ok=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20)
    if ok and done.returncode != 0:
        raise Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _remove_abandoned():
    """Namespaces of tests whose process is gone: PREFIX, pid, letter."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0] if line.split() else ""
        pid = name[len(PREFIX):].split("-")[0] if name.startswith(PREFIX) else ""
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            ip("netns", "del", name, ok=False)


def _subnet():
    """Of this process, where nothing of ours is from before."""
    if os.getuid() != 0:
        raise Skip("network namespaces need root")
    _remove_abandoned()
    pid = os.getpid()
    return f"10.{97 + pid // 250 % 100}.{pid % 250}"


@contextlib.contextmanager
def two():
    subnet, pid = _subnet(), os.getpid()
    pair = [Host(f"{PREFIX}{pid}-{letter}", f"{subnet}.{n}") for n, letter in ((1, "a"), (2, "b"))]
    try:
        for host in pair:
            ip("netns", "add", host.name)
            ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", pair[0].name, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns",
           pair[1].name)
        for host in pair:
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "v0")
            ip("-n", host.name, "link", "set", "v0", "up")
        pair[0].enter()
        yield pair
    finally:
        for host in pair:
            ip("netns", "del", host.name, ok=False)


@contextlib.contextmanager
def star(spokes):
    """The hub's address is the same from everywhere: it is one of its loopback."""
    subnet, pid = _subnet(), os.getpid()
    hub = Host(f"{PREFIX}{pid}-hub", f"{subnet}.1")
    around = [Host(f"{PREFIX}{pid}-{n}", f"{subnet}.{4 * n + 2}") for n in range(1, spokes + 1)]
    try:
        for host in (hub, *around):
            ip("netns", "add", host.name)
            ip("-n", host.name, "link", "set", "lo", "up")
        ip("-n", hub.name, "addr", "add", f"{hub.address}/32", "dev", "lo")
        for n, host in enumerate(around, 1):
            ip("-n", hub.name, "link", "add", f"v{n}", "type", "veth", "peer", "name", "v0", "netns",
               host.name)
            ip("-n", hub.name, "addr", "add", f"{subnet}.{4 * n + 1}/30", "dev", f"v{n}")
            ip("-n", hub.name, "link", "set", f"v{n}", "up")
            ip("-n", host.name, "addr", "add", f"{host.address}/30", "dev", "v0")
            ip("-n", host.name, "link", "set", "v0", "up")
            ip("-n", host.name, "route", "add", f"{hub.address}/32", "via", f"{subnet}.{4 * n + 1}")
        hub.enter()
        yield [hub, *around]
    finally:
        for host in (hub, *around):
            ip("netns", "del", host.name, ok=False)
