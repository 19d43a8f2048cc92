"""Comparison of learning-rate schedules on one model."""
