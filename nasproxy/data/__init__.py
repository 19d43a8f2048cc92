"""Datasets, their splits and nested subsets, and the embedded dataset."""
