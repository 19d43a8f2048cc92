"""Datasets: what they are, their splits and nested subsets, and the embedded one."""
