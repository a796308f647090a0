"""af_packet: packet sockets, beside the kernel."""
