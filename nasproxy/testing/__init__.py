"""Contract suites for backends and stores, also for those of other packages, and synthetic trainings."""
