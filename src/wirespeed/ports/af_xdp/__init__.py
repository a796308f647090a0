"""af_xdp: around the kernel, through XDP sockets on the pool's own cells."""
