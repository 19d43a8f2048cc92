"""Run the work order in a file, in a fresh process: `python -m nasproxy.execution.worker ORDER.json`."""

import sys
from pathlib import Path

from nasproxy.execution.work_order import read_order
from nasproxy.execution.worker.main import run_order

if __name__ == "__main__":
    from nasproxy import torchvision_gap as torchvision_gap  # before a trainer imports torchvision

    run_order(read_order(Path(sys.argv[1])))
