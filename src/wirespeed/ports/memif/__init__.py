"""memif: shared memory with another data plane, both roles."""
