"""Trainers for the config group `trainer`: functions that train one trial and report its checks."""

from nasproxy import torchvision_gap as torchvision_gap  # before timm and Lightning, which import torchvision
