"""apps: what people build with the kit, a page each, and each an example."""
