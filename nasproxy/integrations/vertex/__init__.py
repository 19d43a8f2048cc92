"""Vertex AI NAS: its names, hooks and result files."""
