"""Rank correlation, noise and acceptance of proxy tasks: numbers in, numbers out; NumPy and SciPy only."""
