"""A trainer's module whose import takes longer than a test in the worker server, and no time elsewhere."""

import sys
import time

from nasproxy.testing.synthetic import train as train

if sys.argv[0] == "-c":  # so Python starts the server
    print("takes long", flush=True)
    time.sleep(600)
