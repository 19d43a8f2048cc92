"""Who watches a study: the console, CSV files, Weights & Biases."""
