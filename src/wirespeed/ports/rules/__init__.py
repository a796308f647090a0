"""rules: what a port does with packets before a graph sees them."""
