"""Report a study's results: an HTML page, its figures, and a list of trials. Reads the study only."""
