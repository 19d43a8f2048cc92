"""Architectures turned into modules, and the scaling of their widths and depths."""
