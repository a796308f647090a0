"""tap and tun: interfaces of the host whose other end is here."""
