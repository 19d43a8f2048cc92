"""Stages of a study: resumable decision loops, each a pure function of its state and the trials' records."""
