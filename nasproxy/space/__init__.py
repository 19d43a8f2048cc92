"""Search spaces: a small language of choices, the architectures that it spans, and what can be done with them."""

from nasproxy.space.space import SearchSpace

__all__ = ["SearchSpace"]
