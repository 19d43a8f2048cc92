"""Studies in virtual time whose trainers report at any steps, whatever was requested."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.execution.backends.replay.curve_table import Curve, CurveTable
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Runtime
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.tracking.events import DecisionTaken, Event, LookTaken
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause
from nasproxy.trials.spec import Architecture, Recipe, TrialSpec

Reports = Callable[[TrialSpec], Sequence[int]]
"""Steps at which a trial reports; the last one is the end of training, or the one before a failure."""

TABLE = CurveTable("computed", "computed", {}, {"full": (1,)})


def report_epochs(steps: int) -> Reports:
    """Report after each epoch of so many steps, and at the end."""
    return lambda spec: [*range(steps, spec.total_steps, steps), spec.total_steps]


def report_by_clock(spec: TrialSpec) -> Sequence[int]:
    """Report at equal times, which are other steps for each model and seed."""
    first = 7 + 2 * (int(spec.architecture["quality"]) % 17) + 40 * spec.seed
    return [*range(first, spec.total_steps, 101), spec.total_steps]


class ComputedCurves(ReplayBackend):
    """Replays computed learning curves in virtual time."""

    def __init__(self, store: MemoryTrialStore, reports: Reports, slots: int = 4) -> None:
        super().__init__(context=BackendContext(store), curves=TABLE, slots=slots)
        self._reports = reports

    def _find_curve(self, spec: TrialSpec) -> Curve:
        """Compute a curve: ranks are random at first and become those of `quality`; width makes a step slower."""
        steps, quality = np.array(self._reports(spec)), float(spec.architecture["quality"])
        settled = np.minimum(1.0, 2 * steps / spec.total_steps)
        noise = np.random.default_rng(int(quality)).random()
        seconds = steps * spec.proxy_task.width * (1 + quality / 100)
        fault = spec.architecture.get("fault")
        cause = None if fault is None else Cause(fault)
        return Curve(steps, settled * quality / 100 + (1 - settled) * noise, seconds, float(seconds[-1]), cause)


class KilledError(Exception):
    """The controller ended at a decision."""


class DecisionTracker(NullTracker):
    """Keeps the looks of a proxy search in their order; may end the controller at a decision."""

    def __init__(self, folder: Path, killed_at: int | None = None) -> None:
        """Track a study; `killed_at` is the number of decisions before the controller ends, None for never."""
        super().__init__(study=folder)
        self._left = killed_at
        self.looks: list[tuple[str, int, int]] = []

    def receive(self, event: Event) -> None:
        """Add new looks: task, step and number of models."""
        if isinstance(event, DecisionTaken):
            if self._left is not None and self._left == 0:
                raise KilledError
            self._left = None if self._left is None else self._left - 1
        elif isinstance(event, LookTaken):
            self.looks.append((event.look.task, event.look.step, event.look.models))


def make_architectures(count: int) -> list[Architecture]:
    """Make architectures of different quality."""
    return [{"quality": (37 * number) % 100} for number in range(count)]


@dataclass
class ComputedStudy:
    """A study of computed curves, with requested checks every `every` steps."""

    folder: Path
    reports: Reports
    total_steps: int = 160
    every: int = 10
    slots: int = 4
    store: MemoryTrialStore = field(default_factory=MemoryTrialStore)

    @property
    def recipe(self) -> Recipe:
        """The study's recipe."""
        return Recipe({}, {"version": 1}, {}, "computed", self.total_steps, self.every)

    def make_runtime(self, tracker: DecisionTracker | None = None) -> Runtime:
        """Make a runtime with a new backend on the study's trials."""
        backend = ComputedCurves(self.store, self.reports, self.slots)
        orders = OrderTemplate(self.folder, max_attempts=1)
        return Runtime(self.store, backend, tracker or DecisionTracker(self.folder), orders, poll_seconds=1.0)

    def make_search(
        self,
        tasks: Mapping[str, ProxyTask],
        *,
        models: Sequence[Architecture] | None = None,
        criterion: Any = None,
        candidate_pool: CandidatePool | None = None,
        **settings: Any,
    ) -> ProxySearchStage:
        """Make the stage of a proxy search."""
        references = [
            Reference(number, model, f"reference{number}", float(model["quality"]), 1.0)
            for number, model in enumerate(models or make_architectures(8))
        ]
        return ProxySearchStage(
            ProxySearchSettings(**settings),
            tasks=tasks,
            criterion=criterion or FirstCrossing(target=0.9),
            judged_by="a test",
            references=references,
            candidate_pool=candidate_pool or CandidatePool([], 0, 5, 0, 1, 1.0),
            recipe=self.recipe,
            seed=1,
            study=FolderStudyStore(self.folder),
        )

    def search(
        self, tasks: Mapping[str, ProxyTask], tracker: DecisionTracker | None = None, **settings: Any
    ) -> ProxySearchState:
        """Run a proxy search."""
        return runner.run_stage(self.make_search(tasks, **settings), self.make_runtime(tracker))
