"""Proxy search: judges which proxy tasks rank the reference models as full training does."""
