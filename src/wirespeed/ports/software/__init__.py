"""What a port's device does not do, done in software."""
