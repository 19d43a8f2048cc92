"""The worker process: set-up, the trial context of a trainer, preflight and measurements."""
