"""Architectures turned into modules, and the scaling of their widths and depths."""

from nasproxy import torchvision_gap as torchvision_gap  # before timm, which imports torchvision
