"""References: the models that are trained fully, and how they are selected."""
