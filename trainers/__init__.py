"""Trainers that a configuration can name: whatever trains one trial and calls the hooks."""
