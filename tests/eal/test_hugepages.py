"""Shared memory: the same bytes through a second mapping, a fork and the descriptor; truth against smaps."""

import errno
import os
import re
from pathlib import Path

import pytest

from wirespeed.eal import hugepages, mapping
from wirespeed.errors import ArenaError

MIB = 1 << 20


def free_2m():
    return next((page.free for page in hugepages.page_sizes() if page.size == 2 * MIB), 0)


def smaps(address, field):
    """Kilobytes of a field of the mapping that starts at ``address``, as the kernel tells it."""
    text = Path("/proc/self/smaps").read_text()
    block = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    mine = next(part for part in block if part.startswith(f"{address:x}-"))
    return int(re.search(rf"^{field}:\s+(\d+)", mine, re.MULTILINE)[1])


@pytest.fixture
def normal():
    with hugepages.map_shared(5000, "ws-test", prefer=()) as memory:
        yield memory


def test_page_sizes_are_those_of_sysfs():
    listed = {int(p.name[10:-2]) << 10 for p in Path("/sys/kernel/mm/hugepages").glob("hugepages-*")}
    assert {page.size for page in hugepages.page_sizes()} == listed


def test_page_sizes_of_another_machine(machine):
    base = "sys/kernel/mm/hugepages/hugepages-2048kB/"
    gib = "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/"
    root = machine(
        {base + "nr_hugepages": "8", base + "free_hugepages": "5", base + "resv_hugepages": "2"}
        | {gib + "nr_hugepages": "4", gib + "free_hugepages": "1"}
    )
    assert hugepages.page_sizes(root) == (hugepages.PageSize(2 * MIB, 8, 3),)
    assert hugepages.page_sizes(root, node=1) == (hugepages.PageSize(1024 * MIB, 4, 1),)
    assert hugepages.page_sizes(root, node=1)[0].name == "1G"


def test_shmem_policy(machine):
    base = "sys/kernel/mm/transparent_hugepage/"
    root = machine({base + "shmem_enabled": "always within_size advise [never] deny force"})
    assert hugepages.shmem_policy(root) == "never"
    machine({base + "hugepages-2048kB/shmem_enabled": "always [inherit] within_size advise never"})
    assert hugepages.shmem_policy(root) == "never"
    machine({base + "hugepages-2048kB/shmem_enabled": "always inherit within_size [advise] never"})
    assert hugepages.shmem_policy(root) == "advise"


def test_normal_memory_is_zeros_in_whole_pages(normal):
    assert (normal.kind, normal.size, normal.page_size, normal.why_not) == ("normal", 8192, 4096, "")
    assert normal.address % 4096 == 0
    assert bytes(normal.view()) == bytes(8192)


def test_the_descriptor_reads_what_the_memory_holds(normal):
    normal.view()[4090:4100] = b"wire" + b"speed\0"
    assert os.pread(normal.fd, 10, 4090) == b"wirespeed\0"


def test_a_second_mapping_is_the_same_memory(normal):
    with hugepages.map_existing(normal.fd) as other:
        other.view()[7] = 0xA5
        assert (other.size, normal.view()[7]) == (8192, 0xA5)
        assert other.address != normal.address


def test_a_child_process_writes_into_it(normal):
    child = os.fork()
    if child == 0:
        normal.view()[0] = 42
        os._exit(0)
    os.waitpid(child, 0)
    assert normal.view()[0] == 42


def test_nobody_can_resize_it(normal):
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(normal.fd, size)


def test_close_unmaps_once(normal):
    address = normal.address
    normal.close()
    normal.close()
    assert (normal.fd, normal.address) == (-1, 0)
    assert not re.search(rf"^{address:x}-", Path("/proc/self/maps").read_text(), re.MULTILINE)
    with pytest.raises(ArenaError, match="closed"):
        normal.view()


@pytest.mark.skipif(free_2m() < 4, reason="needs four free 2 MiB pages: sysctl -w vm.nr_hugepages=4")
def test_reserved_huge_pages_are_taken_and_given_back():
    with hugepages.map_shared(3 * MIB, "ws-test", prefer=("1G", "2M"), node=0) as memory:
        assert (memory.kind, memory.size, memory.page_size, memory.why_not) == (
            "hugetlb",
            4 * MIB,
            2 * MIB,
            "",
        )
        assert memory.address % (2 * MIB) == 0
        assert smaps(memory.address, "KernelPageSize") == 2048
        assert smaps(memory.address, "Shared_Hugetlb") + smaps(memory.address, "Private_Hugetlb") == 4096
        with hugepages.map_existing(memory.fd) as other:
            other.view()[-1] = 9
            assert (other.kind, other.page_size, memory.view()[-1]) == ("hugetlb", 2 * MIB, 9)


def test_more_than_is_reserved_falls_back_and_says_why():
    pool = next((page for page in hugepages.page_sizes() if page.size == 1 << 30), None)
    if pool is None or pool.free:
        pytest.skip("wants a machine that knows 1 GiB pages and has none free")
    with pytest.raises(OSError, match="Cannot allocate memory") as caught:
        hugepages._map_hugetlb(1 << 30, "ws-test", 1 << 30, None)
    assert caught.value.errno == errno.ENOMEM
    told = hugepages._why_not(caught.value, 1 << 30, 1 << 30)
    more = pool.total + 1
    assert told == (
        f"1G: 1 pages needed, 0 of {pool.total} free "
        f"(echo {more} > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)"
    )


def test_a_page_size_the_machine_lacks_falls_back():
    with hugepages.map_shared(4096, "ws-test", prefer=("64K",)) as memory:
        assert (memory.kind, memory.size) == ("normal", 4096)
        assert memory.why_not == "64K: this CPU or kernel has no such huge pages"


def test_transparent_pages_are_reported_as_smaps_has_them():
    with hugepages.map_shared(5 * MIB, "ws-test", prefer=("64K",)) as memory:
        assert memory.size == 6 * MIB
        assert memory.address % (2 * MIB) == 0
        assert bytes(memory.view()) == bytes(6 * MIB)
        whole = smaps(memory.address, "ShmemPmdMapped") == 6 * 1024
        assert memory.kind == ("thp" if whole else "normal")
        assert memory.page_size == (2 * MIB if whole else 4096)
        assert ("transparent: " in memory.why_not) == (not whole)


def test_a_kernel_that_refuses_is_not_believed(monkeypatch):
    monkeypatch.setattr(mapping, "advise", lambda *_: False)
    monkeypatch.setattr(mapping, "huge_bytes", lambda _: 0)
    with hugepages.map_shared(2 * MIB, "ws-test", prefer=("64K",)) as memory:
        assert (memory.kind, memory.page_size) == ("normal", 4096)
        assert "transparent: 0 B of 2 MiB became huge" in memory.why_not


def test_unpopulated_memory_takes_nothing():
    with hugepages.map_shared(64 * MIB, "ws-test", prefer=(), populate=False) as memory:
        assert os.fstat(memory.fd).st_blocks == 0
    with hugepages.map_shared(MIB, "ws-test", prefer=()) as memory:
        assert os.fstat(memory.fd).st_blocks * 512 == MIB


def test_failure_leaves_no_descriptor_and_no_mapping():
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(ArenaError, match=r"cannot map 1024 TiB for 'ws-lost'.*ask for less"):
        hugepages.map_shared(1 << 50, "ws-lost")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert "memfd:ws-lost" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("wrong", ["", "2", "M", "3M", "2X", "-2M", "0M", "²M"])
def test_wrong_page_size_names_are_refused(wrong):
    with pytest.raises(ArenaError, match="is not one: use a power of two"):
        hugepages.map_shared(4096, "ws-test", prefer=(wrong,))


@pytest.mark.parametrize("size", [0, -1])
def test_no_size_is_refused(size):
    with pytest.raises(ArenaError, match="ask for at least 1"):
        hugepages.map_shared(size, "ws-test")


def test_a_foreign_descriptor_is_refused():
    read, write = os.pipe()
    try:
        with pytest.raises(ArenaError, match=rf"cannot map descriptor {read}"):
            hugepages.map_existing(read)
    finally:
        os.close(read)
        os.close(write)
