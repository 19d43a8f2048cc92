"""Benchmarks behind the figures in the documentation; each prints a table and, as its last line, JSON."""

from nasproxy import torchvision_gap as torchvision_gap  # before a benchmark imports torchvision
