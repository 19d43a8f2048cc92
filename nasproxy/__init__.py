"""Find the cheap training setting that ranks neural architectures the way full training would."""

__version__ = "0.1.0"
