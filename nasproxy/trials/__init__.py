"""Trials: what one is, the proxy task it trains under, what it did, and what is retried after a failure."""
