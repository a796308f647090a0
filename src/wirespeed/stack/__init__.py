"""The host side of IP: where packets end and answers begin. One protocol a file."""
