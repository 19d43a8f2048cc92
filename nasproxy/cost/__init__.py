"""What a study will cost: counted from its settings, timed on a few steps, told before it starts."""
