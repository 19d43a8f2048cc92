"""Measurements that back the figures in the documents; each prints a table, and its figures as a last JSON line."""
