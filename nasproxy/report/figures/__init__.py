"""The report's pictures, in one style: from what a study knows to figures that may go into a paper's appendix."""
