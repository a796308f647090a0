"""The resolver over the kernel's sockets, asking a real server: dnsmasq."""

import asyncio
import functools
import shutil
import socket
import subprocess
from ipaddress import ip_address

import pytest
from topology import eventually

from wirespeed.stack.dns_answer import NoSuchName
from wirespeed.stack.resolver import Resolver
from wirespeed.stack.resolver_kernel import ask_kernel, stream_kernel

LOOPBACK = ip_address("127.0.0.1")
MANY = [f"192.0.2.{i}" for i in range(1, 250)]


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def port():
    if not shutil.which("dnsmasq"):
        pytest.skip("needs dnsmasq")
    number = free_port()
    child = subprocess.Popen(
        ["dnsmasq", "-k", "-C", "/dev/null", "-p", str(number), "-R", "-h", "-i", "lo", "--bind-interfaces", "-x", "",
         "-u", "root", "--host-record=www.test,192.0.2.1,2001:db8::1,60", "--local=/test/", "--cname=web.test,www.test",
         *(f"--host-record=many.test,{address}" for address in MANY)],
        stderr=subprocess.PIPE,
    )  # fmt: skip

    def answers():
        assert child.poll() is None, child.stderr.read()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", number)) == 0

    try:
        eventually(answers, "dnsmasq answers")
        yield number
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


def test_dnsmasq_answers(port):
    async def ask():
        send, stream = functools.partial(ask_kernel, port=port), functools.partial(stream_kernel, port=port)
        resolver = Resolver(send, (LOOPBACK,), search=("test",), stream=stream, timeout_s=5)
        assert await resolver.addresses("www") == (ip_address("2001:db8::1"), ip_address("192.0.2.1"))
        assert await resolver.resolve("web.test") == (ip_address("192.0.2.1"),)
        assert len(await resolver.resolve("many.test")) == 32  # too long for a datagram: by a stream, and bounded
        with pytest.raises(NoSuchName):
            await resolver.resolve("nobody.test.")
        sent = resolver.stats.sent
        await resolver.addresses("www")
        assert resolver.stats.sent == sent

    asyncio.run(ask())
