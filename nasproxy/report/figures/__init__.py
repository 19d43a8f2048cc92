"""Figures of the report, drawn from a study's results in one style, suitable for a paper's appendix."""
