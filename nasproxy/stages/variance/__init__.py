"""Variance: measures how much a model's score varies between seeds."""
