"""timers: the wheel. What is to happen later, a million times over, without a search and without a lock."""
