"""Execution of trials: backends, the worker process, and the leased devices that trials run on."""
