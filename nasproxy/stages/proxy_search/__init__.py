"""Proxy search: which proxy task ranks the references as full training does."""
