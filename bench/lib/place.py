"""Where everything runs: one directory on a disk, one unprivileged user, one set of processors, the
same for every system and for the clients. Nothing outlives the driver."""

import ctypes
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRODUCTS = ("corallite", "corallite-pageserver", "corallite-safekeeper", "corallite.so")
MEMORY_ONLY = ("tmpfs", "ramfs")


class Failure(Exception):
    """Why a measurement does not count."""


class Missing(Failure):
    """What a measurement needs is not here: it is named, and nothing is wrong."""


class Place:
    def __init__(self, parent, cpus, build, warm_s):
        self.warm_s = warm_s  # of each load, before its time counts
        self.cpus = sorted(cpus)
        self.user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        # Those of the driver are found by its children in their own address space.
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.dir = tempfile.mkdtemp(prefix="corallite-bench-", dir=parent)
        kind = file_system(self.dir)
        if kind in MEMORY_ONLY:
            os.rmdir(self.dir)
            raise Failure(f"{parent} is a {kind}: syncing costs nothing there, so no figure would mean "
                          "anything; name a directory on a disk with --dir")
        os.chmod(self.dir, 0o755)
        self.bin = self.subdir("bin")
        for name in PRODUCTS:
            shutil.copy(os.path.join(build, name), self.bin)
        programs = [os.path.join(build, "bench", n) for n in os.listdir(os.path.join(build, "bench"))]
        for path in programs + [os.path.join(build, "sqlite", "speedtest1")]:
            if os.access(path, os.X_OK) and os.path.isfile(path):
                shutil.copy(path, self.bin)

    def program(self, name):
        return os.path.join(self.bin, name)

    def has(self, name):
        return os.path.exists(self.program(name))

    def subdir(self, name):
        """A new directory of the unprivileged user's."""
        path = os.path.join(self.dir, name)
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path, 0o755)
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def enter(self):
        """In a child, before its program: the processors and the user."""
        os.sched_setaffinity(0, self.cpus)
        if self.user:
            os.setgroups([])
            os.setgid(self.user.pw_gid)
            os.setuid(self.user.pw_uid)

    def environment(self, **more):
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": self.dir, "LC_ALL": "C.UTF-8",
               "TMPDIR": self.dir}
        env.update(more)
        return env

    def start(self, args, **kwargs):
        """A process that ends with the driver (tests/integration/lib/cluster.py)."""
        from lib_cluster import popen
        kwargs.setdefault("env", self.environment())
        return popen(args, host=self, cwd=self.dir, stdin=subprocess.DEVNULL, **kwargs)

    def run(self, args, seconds, env=None):
        """A whole program; what it printed. Fails with its own words."""
        process = self.start([str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env=env or self.environment())
        return finish(process, args[0], seconds)

    def figures(self, args, seconds, env=None):
        """A program of bench/: the object that it printed."""
        return json.loads(self.run(args, seconds, env).strip().splitlines()[-1])

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def finish(process, name, seconds):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise Failure(f"{os.path.basename(name)} did not end within {seconds} s: {err[-300:]}") from None
    if process.returncode != 0:
        raise Failure(f"{os.path.basename(name)} ended with {process.returncode}: {err.strip()[-400:]}")
    return out


def file_system(path):
    """The type of the file system that a path lies on."""
    best, kind = "", "unknown"
    with open("/proc/self/mounts") as f:
        for text in f:
            _, mount, this = text.split()[:3]
            if os.path.realpath(path).startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
                best, kind = mount, this
    return kind


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def same(what, have, want):
    """A result that is checked before its time counts."""
    if have != want:
        raise Failure(f"{what}: there is {have}, there should be {want}")


def sources():
    """The commit that was measured, where git knows it."""
    try:
        return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True,
                              text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(cpus, directory):
    """What the figures were taken on, in words."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for text in f:
            if text.startswith("model name"):
                model = text.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) // 1024
    release = os.uname().release
    return {"processor": model, "processors": os.cpu_count(), "used": sorted(cpus), "memory_mib": memory,
            "kernel": release, "sources": sources(), "file_system": file_system(directory),
            "load": round(os.getloadavg()[0], 2),
            "python": ".".join(map(str, sys.version_info[:3]))}
