"""Storage of a study: atomic files, leases, the study's folder, and stores of trials."""
