"""The curves of the synthetic trainer in virtual time, without processes."""

from pathlib import Path

import numpy as np

from helpers.reported_curves import ComputedCurves
from nasproxy.execution.backends.replay.curve_table import Curve
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.integrations.vertex.state_files import VertexStateFiles
from nasproxy.stages.runner import Runtime
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.testing import synthetic
from nasproxy.trials.records import Cause
from nasproxy.trials.spec import TrialSpec


class SyntheticCurves(ComputedCurves):
    """Computes the curves of `nasproxy.testing.synthetic`, with its faults `oom`, `nan` and `crash`."""

    def __init__(self, store: MemoryTrialStore, slots: int) -> None:
        super().__init__(store, lambda spec: spec.check_steps, slots)

    def _find_curve(self, spec: TrialSpec) -> Curve:
        fault, noise = spec.architecture["fault"], float(spec.applied().recipe.trainer["noise"])
        reported = [step for step in spec.check_steps if fault == "none" or 2 * step < spec.total_steps]
        scores = [synthetic.compute_score(spec, step, step / spec.total_steps, noise) for step in reported]
        per_step = synthetic.compute_step_seconds(spec.architecture, spec.proxy_task.width)
        seconds = np.array(reported) * per_step
        cause = None if fault == "none" else Cause(fault)
        return Curve(np.array(reported), np.array(scores), seconds, float(seconds[-1]), cause)


def make_synthetic_runtime(folder: Path, *, slots: int = 2) -> Runtime:
    """Make a runtime in virtual time, on trials in memory."""
    store = MemoryTrialStore()
    orders = OrderTemplate(folder, max_attempts=1)
    return Runtime(store, SyntheticCurves(store, slots), VertexStateFiles(study=folder), orders, poll_seconds=0.05)
