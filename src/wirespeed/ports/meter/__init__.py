"""meter: what became of the packets that a generator stamped."""
