"""Trials: specification and identity, proxy tasks and their grid, records, and retries after failures."""
