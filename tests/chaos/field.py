"""The field: four daemons on one host, clients on two more, and between each of these and each daemon, and between the
pageserver and each safekeeper, a network that can be made bad (tests/integration/lib/proxy.c).

    place       clients of host a       clients of host b       the pageserver (hub)
    daemon      1 2 3 pageserver        1 2 3 pageserver        1 2 3

Every place has a loopback of its own, so one list of addresses, 127.0.0.1 and a port for each daemon, leads each place
through its own proxies. With disks, each daemon has a file system of its own in a file behind a loop device: it can be
filled, and it can lose its power, which is the shutdown ioctl (nothing more is written, what was not synced is
gone), a kill -9 and a new mount.

The mounts lie in a mount namespace of this process: however it ends, they go with it.
"""

import ctypes
import fcntl
import mmap
import os
import shutil
import struct
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration"))

from lib.cluster import BIN, NODES, PAGESERVER, Cluster, Failure, Skip, free_ports, preload_of  # noqa: E402
from lib.proxy import Proxy  # noqa: E402

HUB = "hub"
DAEMONS = NODES + (PAGESERVER,)
FILE_SYSTEM = {1: "ext4", 2: "xfs", 3: "ext4", PAGESERVER: "xfs"}
DISK_BYTES = {1: 2 << 30, 2: 2 << 30, 3: 2 << 30, PAGESERVER: 8 << 30}
GOINGDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32)
NOLOGFLUSH = 2
CLONE_NEWNS = 0x20000

_libc = ctypes.CDLL(None, use_errno=True)


def sh(*words, ok=True):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if ok and done.returncode != 0:
        raise Failure(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


def own_mounts():
    """From here on what this process mounts is seen by it and its children alone."""
    if os.getuid() != 0:
        raise Skip("network namespaces and loop devices need root")
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise Skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    sh("mount", "--make-rprivate", "/")


class Disk:
    """A file system in a file."""

    def __init__(self, directory, name, kind, size):
        self.image, self.path, self.kind = os.path.join(directory, f"{name}.img"), os.path.join(directory, name), kind
        with open(self.image, "wb") as f:
            f.truncate(size)
        quiet = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}[kind]
        sh(*quiet, self.image)
        os.mkdir(self.path)
        self.mount()

    def mount(self):
        done = sh("mount", "-o", "loop", self.image, self.path, ok=False)
        if done.returncode != 0:
            raise Skip(f"no {self.kind} on a loop device: {done.stderr.strip()}")

    def unmount(self):
        for _ in range(100):
            done = sh("umount", self.path, ok=False)
            if done.returncode == 0:
                return
            time.sleep(0.05)
        raise Failure(f"umount {self.path}: {done.stderr.strip()}")

    def lose_power(self):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, GOINGDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(fd)

    def fill(self, leave):
        """Until so many bytes are free."""
        fd = os.open(os.path.join(self.path, "filler"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for _ in range(20):
                s = os.statvfs(self.path)
                more = s.f_bavail * s.f_frsize - leave
                if more < s.f_frsize:
                    return
                try:
                    os.posix_fallocate(fd, os.fstat(fd).st_size, more // s.f_frsize * s.f_frsize)
                except OSError:  # it needs some blocks for itself
                    leave += max(1 << 20, more // 20)
        finally:
            os.close(fd)

    def make_room(self):
        try:
            os.unlink(os.path.join(self.path, "filler"))
        except FileNotFoundError:
            pass


class Clocks:
    """How far the wall clock of each daemon ("1", "pageserver") and of each client ("client-PLACE") is ahead: clock.c.
    A client that takes the place of another has its clock."""

    def __init__(self, directory):
        self.directory, self.at = directory, {}

    def of(self, whose):
        """The file, and its memory."""
        if whose not in self.at:
            path = os.path.join(self.directory, f"clock-{whose}")
            with open(path, "w+b") as f:
                f.write(bytes(8))
                f.flush()
                self.at[whose] = (path, mmap.mmap(f.fileno(), 8))
        return self.at[whose]

    def env(self, whose):
        return {"LD_PRELOAD": preload_of(os.path.join(BIN, "tests", "chaos-clock.so")), "CHAOS_CLOCK": self.of(whose)[0]}

    def jump(self, whose, seconds):
        memory = self.of(whose)[1]
        ahead, = struct.unpack("q", memory[:])
        memory[:] = struct.pack("q", ahead + int(seconds * 1e9))


class Field(Cluster):
    db = "chaos"

    def __init__(self, directory, hub, spokes, disks, clocks=False):
        """spokes: {name: hosts.Host}"""
        super().__init__(directory, start=False, host=hub.address)
        self.clocks = Clocks(directory) if clocks else None
        self.spokes = spokes
        self.disk = {}
        if disks:
            for node in DAEMONS:
                self.disk[node] = Disk(directory, f"disk-{node}", FILE_SYSTEM[node], DISK_BYTES[node])
        self.near = dict(zip(DAEMONS, free_ports(len(DAEMONS))))
        self.link = {}
        for place, host in (*spokes.items(), (HUB, None)):
            for node in DAEMONS if place != HUB else NODES:
                self.link[(place, node)] = Proxy(self.port[node], self.near[node], to=self.host, host=host)
        self.start_everything()

    def data(self, node):
        if node in self.disk:
            return os.path.join(self.disk[node].path, "data")
        return super().data(node)

    def log(self, node):
        return os.path.join(self.dir, f"{node}.log")

    def command(self, node):
        args = super().command(node)
        if node == PAGESERVER:
            at = args.index("--safekeepers") + 1
            args[at] = ",".join(f"{n}=127.0.0.1:{self.near[n]}" for n in NODES)
        if self.clocks:  # env(1) becomes the daemon
            args = ["/usr/bin/env", *(f"{k}={v}" for k, v in self.clocks.env(str(node)).items()), *args]
        return args

    def client_env(self, place):
        more = self.clocks.env(f"client-{place}") if self.clocks else {}
        return self.env(CORALLITE_SERVER=f"127.0.0.1:{self.near[PAGESERVER]}", CORALLITE_LOG="off", CHAOS_DB=self.db,
                        **more)

    def alive(self, node):
        return self.process[node].poll() is None

    def lose_power(self, nodes):
        """All at one moment: first no disk takes anything any more, then the processes are gone."""
        for node in nodes:
            self.disk[node].lose_power()
        for node in nodes:
            self.process[node].kill()
        for node in nodes:
            self.process[node].wait(10)
            self.disk[node].unmount()
            self.disk[node].mount()

    def close(self):
        super().close()
        for proxy in self.link.values():
            proxy.close()
        for disk in self.disk.values():
            disk.unmount()
        shutil.rmtree(self.dir, ignore_errors=True)
