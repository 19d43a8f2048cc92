"""Resumable decision loops: each decides as a pure function of its state and of the trials' records."""
