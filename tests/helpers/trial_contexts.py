"""Trials as a trainer sees them, in a folder of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nasproxy.execution.worker.context import TrialContext
from nasproxy.testing.synthetic import make_recipe
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec


def make_trial(folder: Path, total_steps: int, objective: Objective | None = None, **context: Any) -> TrialContext:
    """Make a trial of so many steps whose folder is `folder`."""
    recipe = replace(make_recipe(total_steps=total_steps), objective=objective or Objective())
    folder.mkdir(parents=True, exist_ok=True)
    return TrialContext(folder, TrialSpec({"quality": 1}, ProxyTask(), Split.FULL, 0, recipe), **context)
