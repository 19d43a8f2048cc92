"""What runs trials: one protocol, one module for each engine."""
