"""stack: where packets end: the host side of IP, one protocol a file."""
