"""Trackers, which receive a study's events: console, CSV files, Weights & Biases."""
