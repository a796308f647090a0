"""Debian's memcached on loopback UDP, and a client of few lines: PyPI has none that speaks UDP."""

import os
import shutil
import socket
import subprocess
import time

import pytest

DEADLINE_S = 20


class UdpClient:
    """One request at a time; answers are put together by their frames (doc/protocol.txt, "UDP protocol")."""

    def __init__(self, address, port):
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.connect((address, port))
        self.number = 0

    def send(self, text):
        self.number = (self.number + 1) & 0xFFFF
        self.socket.send(self.number.to_bytes(2, "big") + bytes.fromhex("0000 0001 0000") + text)
        return self.number.to_bytes(2, "big")

    def receive(self, timeout_s):
        self.socket.settimeout(timeout_s)
        return self.socket.recv(65536)

    def ask(self, text, timeout_s=DEADLINE_S):
        """The answer to a request that has one."""
        number, parts, end_s = self.send(text), {}, time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            got = self.receive(max(end_s - time.monotonic(), 0.001))
            if got[:2] == number:
                parts[int.from_bytes(got[2:4], "big")] = got[8:]
                if len(parts) == int.from_bytes(got[4:6], "big"):
                    return b"".join(parts[i] for i in range(len(parts)))
        raise TimeoutError(text[:60])

    def all_of(self, text):
        """All that comes for a request, which may be nothing: until a second request is answered."""
        number, last = self.send(text), self.send(b"version\r\n")
        found, got = [], self.receive(DEADLINE_S)
        while got[:2] != last:
            assert got[:2] == number, got
            found.append(got[8:])
            got = self.receive(DEADLINE_S)
        return b"".join(found)

    def close(self):
        self.socket.close()


class Memcached:
    """The peer."""

    def __init__(self, *options):
        program = shutil.which("memcached")
        assert program, "apt-get install memcached"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.child = subprocess.Popen(
            [program, "-U", str(self.port), "-p", "0", "-u", "nobody", "-l", "127.0.0.1", "-t", "1", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        )  # fmt: skip
        self.client = UdpClient("127.0.0.1", self.port)
        end_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                if self.client.ask(b"version\r\n", 0.1).startswith(b"VERSION"):
                    break
            except (TimeoutError, ConnectionRefusedError):
                assert time.monotonic() < end_s and self.child.poll() is None

    def close(self):
        self.client.close()
        self.child.terminate()
        self.child.wait()


@pytest.fixture(scope="module")
def memcached():
    # Its thread that keeps the order of use holds items for a while: an incr then makes another, without the padding.
    made = Memcached("-m", "64", "-o", "no_lru_maintainer,no_lru_crawler")
    yield made
    made.close()
