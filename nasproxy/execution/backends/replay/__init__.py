"""Replay of trainings whose learning curves stand in a table."""
