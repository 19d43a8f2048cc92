"""Trainers for the config group `trainer`: functions that train one trial and call the hooks."""
