"""Criteria to compare the default with; no study can choose them."""
