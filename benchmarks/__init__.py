"""Measurements that back the figures in the documents; each prints a table, and its figures as a last JSON line."""

from nasproxy import torchvision_gap as torchvision_gap  # before a benchmark imports torchvision
