"""Vertex AI NAS: names and result files."""
