"""traffic: how much of it may pass, in which order, and who gets it."""
