"""engine: who runs the loops. Workers, their memory, starting, stopping, and the report at the end."""
