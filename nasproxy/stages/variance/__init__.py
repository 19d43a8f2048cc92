"""Variance: how much chance alone moves a model's score."""
