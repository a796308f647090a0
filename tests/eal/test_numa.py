"""Memory nodes, described and real (against lscpu and the sysfs files themselves)."""

import subprocess

from wirespeed.eal import numa


def test_two_nodes(two_sockets):
    assert numa.nodes(two_sockets) == (
        numa.Node(0, (0, 1, 4, 5), 1_024_000, 614_400, (10, 21)),
        numa.Node(1, (2, 3, 6, 7), 2_048_000, 716_800, (21, 10)),
    )


def test_a_kernel_without_numa_is_one_node(machine):
    root = machine(
        {
            "sys/devices/system/cpu/online": "0-3\n",
            "proc/meminfo": "MemTotal:     100 kB\nMemFree:       40 kB\nHugePages_Free:  7\n",
        }
    )
    assert numa.nodes(root) == (numa.Node(0, (0, 1, 2, 3), 102_400, 40_960, (10,)),)


def test_this_machine_has_the_nodes_lscpu_counts():
    rows = subprocess.run(["lscpu", "-p=CPU,NODE"], capture_output=True, text=True, check=True).stdout
    listed = {int(row.split(",")[1] or 0) for row in rows.splitlines() if not row.startswith("#")}
    assert listed <= {node.index for node in numa.nodes()}
    assert all(node.memory_bytes >= node.free_bytes for node in numa.nodes())
