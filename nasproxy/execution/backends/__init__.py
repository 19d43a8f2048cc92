"""Backends, which run trials: one protocol, one module or package per engine."""
