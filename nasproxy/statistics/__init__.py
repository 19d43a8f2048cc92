"""Rank correlation, noise and acceptance of proxy tasks, as pure functions on NumPy and SciPy."""
