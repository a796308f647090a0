"""host: a queue between a graph and plain Python."""
