"""The machine: what it has, what it lets us do, and how to take it.

One concept a file; import the file you need (nothing is re-exported, so that asking for the
cores of a machine does not calibrate its clock):

- ``cores``       which cores there are, which to use, pinning a thread to one
- ``numa``        memory nodes and how far they are from each other
- ``hugepages``   shared memory from huge pages, with an honest fall-back
- ``mapping``     memory at an address: map, align, unmap, prefer a node
- ``clock``       the time-stamp counter as a clock: cycles, nanoseconds
- ``cpu``         model, SIMD flags, caches, hypervisor, frequency governor
- ``perf``        hardware counters of one thread: cycles, instructions, misses
- ``privileges``  capabilities and the locked-memory limit
- ``nics``        network interfaces, their queues, their PCI address and node
- ``kernel``      which kernel features answer: AF_PACKET, TUN, AF_XDP, io_uring, BPF
- ``sysfs``       the one-value files of /sys and /proc all of these read

Nothing here touches a packet. Linux only; x86-64 and aarch64.
"""
