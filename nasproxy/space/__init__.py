"""Search spaces: a small language of choices, and counting, sampling, mutation and validation of architectures."""

from nasproxy.space.space import SearchSpace

__all__ = ["SearchSpace"]
