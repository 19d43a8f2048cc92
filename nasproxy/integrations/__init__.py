"""Integrations with other systems: their names and file formats."""
