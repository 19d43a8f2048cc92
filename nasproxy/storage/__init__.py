"""Storage of a study: files that survive a kill, leases, the study's folder, and stores of trials."""
