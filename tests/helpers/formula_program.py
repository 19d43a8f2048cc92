"""A program for `trainer=command`: reports scores from a formula, on a schedule that may ignore its total of steps."""

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Report a score at each check; models rank in reverse before step 40, so that a search goes on until then."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quality", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--total_steps", type=int, required=True)
    parser.add_argument("--check_steps", required=True)
    parser.add_argument("--schedule_steps", type=int, help="length of the schedule; the total if not given")
    parser.add_argument("--fails_at", type=int, help="total of steps with which the program fails ...")
    parser.add_argument("--unless", type=Path, help="... unless this file exists")
    given = parser.parse_args()
    for step in map(int, given.check_steps.split(",")):
        rank = given.quality if step >= 40 else -given.quality
        progress = step / (given.schedule_steps or given.total_steps)
        score = rank / 100 + progress * (1 + given.seed / 1000 + given.quality / 10_000)
        print(json.dumps({"step": step, "accuracy": score, "train_seconds": 0.01 * step}), flush=True)
        if given.fails_at == given.total_steps and not given.unless.exists():
            sys.exit("the program is broken")


if __name__ == "__main__":
    main()
