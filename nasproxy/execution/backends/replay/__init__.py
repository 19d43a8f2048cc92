"""Replay of trainings from a table of learning curves."""
