"""control: configuration, and what a router decides outside the packet path. Plain Python; it never stops a worker."""
