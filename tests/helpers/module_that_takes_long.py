"""A module whose import takes longer than a test."""

import time

print("takes long", flush=True)
time.sleep(60)
