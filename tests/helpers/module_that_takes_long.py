"""A module that is being imported for as long as a test needs it to be."""

import time

print("takes long", flush=True)
time.sleep(60)
