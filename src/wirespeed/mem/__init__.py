"""mem: where packets live. Regions of shared memory, cells, descriptors, and the pool that owns them."""
