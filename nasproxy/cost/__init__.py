"""Cost of a study: estimated before it starts, from settings and a few timed steps, and accounted for afterwards."""
