"""The bad network itself: a tool that does not do what it says would make other tests worth nothing."""

import socket
import threading
import time
from contextlib import contextmanager

from lib.cluster import SLOWER, Failure, check, until
from lib.proxy import Proxy
from lib.registry import test


@contextmanager
def echo():
    """A server that sends back what it gets; yields its port and the sockets that it has taken."""
    taken = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(s):
        try:
            while data := s.recv(65536):
                s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            s.close()

    def accept():
        try:
            while True:
                s, _ = listener.accept()
                taken.append(s)
                threading.Thread(target=serve, args=(s,), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], taken
    finally:
        listener.close()


def connect(proxy):
    s = socket.create_connection(("127.0.0.1", proxy.port), 5)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def ask(s, data=b"hello", seconds=5.0):
    """What comes back; None when nothing does."""
    s.settimeout(seconds)
    try:
        s.sendall(data)
        got = b""
        while len(got) < len(data):
            more = s.recv(65536)
            if not more:
                break
            got += more
        return got
    except TimeoutError:
        return None


def is_reset(s):
    s.settimeout(5)
    try:
        return s.recv(1) is None
    except ConnectionResetError:
        return True


@test("the bad network hands on every byte, both ways, and the end, when told nothing", 30)
def proxy_is_transparent(_):
    with echo() as (port, _), Proxy(port) as p:
        big = bytes(range(256)) * 40000
        s = connect(p)
        sender = threading.Thread(target=lambda: (s.sendall(big), s.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b""
        while data := s.recv(1 << 20):
            got += data
        sender.join()
        check(got == big, f"{len(got)} of {len(big)} bytes came back, or other ones")
        until(lambda: p.stats()["connections"] == 0, 5, "the connection is over")
        stats = p.stats()
        check(stats["in"] == stats["out"] == len(big) and stats["total"] == 1, f"{stats}")


@test("the bad network delays, stalls and resumes without losing a byte", 30)
def proxy_delays_and_stalls(_):
    with echo() as (port, _), Proxy(port) as p:
        s = connect(p)
        check(ask(s) == b"hello", "an echo")
        p.do("delay 150 out")
        began = time.monotonic()
        check(ask(s) == b"hello", "an echo, late")
        took = time.monotonic() - began
        check(0.14 < took < 2 * SLOWER, f"a delay of 150 ms took {took:.3f} s")
        p.do("delay 0")
        for way in ("in", "out", ""):
            p.do(f"stall {way}")
            check(ask(s, b"one", 0.2) is None, f"nothing comes while stalled {way}")
            p.do("resume")
            s.settimeout(5)
            check(s.recv(100) == b"one", f"it comes after the stall {way}")
        check(p.stats()["lost"] == 0, "nothing was lost")


@test("the bad network's jitter delays by up to what was asked, not always the same, and in order", 30)
def proxy_jitters(_):
    with echo() as (port, _), Proxy(port) as p:
        s = connect(p)
        check(ask(s) == b"hello", "an echo")
        p.do("jitter 120 in")
        took = []
        for _ in range(12):
            began = time.monotonic()
            check(ask(s) == b"hello", "an echo, late")
            took.append(time.monotonic() - began)
        check(max(took) < 1 * SLOWER and max(took) - min(took) > 0.02, f"twelve echoes took {took}")
        for i in range(50):
            s.sendall(b"%02d" % i)
            time.sleep(0.002)
        got = b""
        while len(got) < 100:
            got += s.recv(1000)
        check(got == b"".join(b"%02d" % i for i in range(50)), f"out of order: {got}")
        p.do("resume")
        began = time.monotonic()
        check(ask(s) == b"hello" and time.monotonic() - began < 0.1 * SLOWER, "an echo at once")


@test("the bad network cuts one way or both, and resets what lost bytes", 30)
def proxy_cuts(_):
    with echo() as (port, _), Proxy(port) as p:
        for way in ("in", "out", ""):
            s, idle = connect(p), connect(p)
            check(ask(s) == ask(idle) == b"hello", "echoes")
            before = p.stats()["in"]
            p.do(f"cut {way}")
            check(ask(s, b"gone", 0.2) is None, f"nothing comes through a cut {way}")
            arrived = p.stats()["in"] - before
            check(arrived == (4 if way == "out" else 0), f"{arrived} bytes arrived, cut {way}")
            p.do("resume")
            check(is_reset(s), "a connection that lost bytes is reset")
            check(ask(idle) == b"hello", "one that lost none goes on")


@test("the bad network resets, refuses, corrupts, and leaves connections half open", 30)
def proxy_breaks(_):
    with echo() as (port, taken), Proxy(port) as p:
        s = connect(p)
        check(ask(s) == b"hello", "an echo")
        p.do("reset")
        check(is_reset(s), "reset")

        p.do("refuse")
        try:
            connect(p)
            raise Failure("a connection was taken while connections are refused")
        except ConnectionRefusedError:
            pass
        p.do("resume")
        s = connect(p)
        p.do("corrupt out")
        got = ask(s)
        check(got != b"hello" and len(got) == 5 and ask(s) == b"hello", f"one bit, once: {got}")

        n = len(taken)
        p.do("halfopen")
        until(lambda: taken[n - 1].fileno() == -1, 5, "the target has lost its end")
        check(ask(s, b"anybody?", 0.2) is None, "the other end hears nothing")
        check(ask(connect(p)) == b"hello", "new connections work")
        p.do("resume")
        check(is_reset(s), "and is told at last")
