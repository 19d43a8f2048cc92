"""The process that trains one trial: its set-up, what its trainer gets, and how it ends."""
