"""Machines we do not own, as sysfs trees."""

import pytest


@pytest.fixture
def machine(tmp_path):
    """``machine({"sys/...": "text"})`` writes files under a root and returns it."""

    def lay_out(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return lay_out


@pytest.fixture
def two_sockets(machine):
    """Four cores of two hyper-threads (n, n+4) on two nodes; 2, 3, 6, 7 on node 1; 3 and 7 isolated."""
    files = {
        "sys/devices/system/cpu/online": "0-7\n",
        "sys/devices/system/cpu/isolated": "3,7\n",
        "sys/devices/system/node/online": "0-1\n",
        "sys/devices/system/node/node0/cpulist": "0-1,4-5\n",
        "sys/devices/system/node/node1/cpulist": "2-3,6-7\n",
        "sys/devices/system/node/node0/distance": "10 21\n",
        "sys/devices/system/node/node1/distance": "21 10\n",
        "sys/devices/system/node/node0/meminfo": "Node 0 MemTotal:  1000 kB\nNode 0 MemFree:  600 kB\n",
        "sys/devices/system/node/node1/meminfo": "Node 1 MemTotal:  2000 kB\nNode 1 MemFree:  700 kB\n",
    }
    for core in range(8):
        siblings = f"{core % 4},{core % 4 + 4}\n"
        files[f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"] = siblings
    return machine(files)
