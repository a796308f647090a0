"""generator: packets of flows that are written down before the first one leaves."""
