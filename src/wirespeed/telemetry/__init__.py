"""telemetry: reading what the workers count, without stopping or slowing them."""
