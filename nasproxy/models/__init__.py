"""Builders that turn architectures into modules, and the scaling of width and depth."""

from nasproxy import torchvision_gap as torchvision_gap  # before timm, which imports torchvision
