"""Execution of trials: backends, the worker process, and the devices they share."""
