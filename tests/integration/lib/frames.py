"""Frames of docs/PROTOCOL.md by hand: for a client that does not keep to the rules."""

import os
import random
import socket
import struct

HELLO, HELLO_OK, ERROR, PING, PONG = 1, 2, 3, 4, 5
GET_PAGES = 72
COMPUTE, PAGESERVER, TOOL = 1, 2, 3
# Those that a daemon is asked with, and the largest body that each may have.
REQUESTS = {"pageserver": {64: 4096, 66: 4096, 68: 4096, 70: 4096, 72: 65536, 74: 4096, 76: 4096, 80: 4096, 82: 4096,
                           83: 4096, 84: 4096, 86: 4096, 88: 4096, 90: 4096, 91: 4096},
            "safekeeper": {16: 4096, 18: 4096, 20: 2 << 20, 21: 3 << 20, 23: 4096, 24: 4096, 40: 4096, 42: 65536,
                           44: 4096, 46: 4096}}

_table = []
for _n in range(256):
    _c = _n
    for _ in range(8):
        _c = _c >> 1 ^ (0x82F63B78 if _c & 1 else 0)
    _table.append(_c)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def frame(kind, message=b"", payload=b"", request=7, damage=0):
    head = struct.pack("<IHHQII", len(message) + len(payload), kind, 0, request, 0, len(message))
    crc = crc32c(head + message + payload) ^ damage
    return head[:16] + struct.pack("<I", crc) + head[20:] + message + payload


def announcement(kind, body, message=None):
    """A header alone, of a body that may never come."""
    return struct.pack("<IHHQII", body, kind, 0, 7, 0, body if message is None else message)


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def hello(role, cluster=b""):
    return frame(HELLO, field(1, 2) + field(2, 2) + (field(3, cluster) if cluster else b"") + field(4, role), request=0)


def rubbish(rng):
    """A message that is none, or one whose fields make no sense. It names no database that there is: a sound DROP of
    one would be carried out."""
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(200))
    out = b""
    for _ in range(rng.randrange(8)):
        value = rng.choice([0, 1, 8, 4096, 2**32 - 1, 2**63, 2**64 - 1, rng.randbytes(16), rng.randbytes(rng.randrange(40)),
                            b"shed", b"main", b"../x", b"\xff" * 70])
        out += field(rng.randrange(1, 24), value)
    return out


class Rude:
    """A connection that does what it likes."""

    def __init__(self, address, rcvbuf=None, timeout=20):
        self.socket = socket.socket()
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.buffer = b""

    def close(self):
        self.socket.close()

    def send(self, data):
        """False when the other side has ended the connection."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def _have(self, n):
        while len(self.buffer) < n:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return False
            self.buffer += more
        return True

    def receive(self):
        """(type, body) of the next frame; None when the connection has ended."""
        answer = self.receive_of()
        return answer and (answer[0], answer[2])

    def receive_of(self):
        """(type, request id, body)"""
        if not self._have(24):
            return None
        body, kind, _, request = struct.unpack_from("<IHHQ", self.buffer)
        if not self._have(24 + body):
            return None
        out = self.buffer[24:24 + body]
        self.buffer = self.buffer[24 + body:]
        return kind, request, out

    def greet(self, role=TOOL, cluster=b""):
        """Says Hello; the answer's type."""
        self.send(hello(role, cluster))
        answer = self.receive()
        return answer[0] if answer else None

    def sentence(self):
        """Of the Error that comes next, None when the connection has ended without one."""
        while True:
            answer = self.receive()
            if answer is None or answer[0] == ERROR:
                return answer[1].decode("utf-8", "replace") if answer else None

    def ended(self):
        while self.receive():
            pass
        return True


def seed():
    value = int(os.environ.get("LIMITS_SEED", random.SystemRandom().randrange(2**32)))
    return value, random.Random(value)
