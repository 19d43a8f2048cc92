"""Comparison of learning-rate schedules: a few models are trained under each, with and without smoothed weights.

Vertex AI NAS's documentation advises a decaying learning rate and averaged weights; this stage measures what they do to
the final score, and to score and ranks if training ends earlier.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from nasproxy.errors import StageStoppedError
from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.stages.schedule_comparison.settings import LEAST_RANKED, CompareSchedulesSettings
from nasproxy.stages.schedule_comparison.state import STATE, ScheduleComparisonState, ScheduleCurve
from nasproxy.statistics.late_change import largest_late_change, lowest_late_tau
from nasproxy.statistics.variance import roughness
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Progress
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose, TrialRecord
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec

Pair = tuple[str, str]
"""Names of a schedule and a weight smoothing."""


def list_compared_tasks(settings: CompareSchedulesSettings) -> dict[Pair, ProxyTask]:
    """List the proxy tasks of full training under each schedule with each smoothing."""
    return {
        (schedule, smoothing): ProxyTask(
            overrides={
                "trainer.schedule": schedule,
                "trainer.smoothing": smoothing,
                **({"trainer.smoothing_start_fraction": settings.swa_start_fraction} if smoothing == "swa" else {}),
            }
        )
        for schedule, smoothing in itertools.product(settings.schedule, settings.smoothing)
    }


class ScheduleComparisonStage:
    """Trains models under each schedule, and measures their scores and how much these change at the end."""

    name = "schedule_comparison"

    def __init__(
        self,
        tasks: Mapping[Pair, ProxyTask],
        *,
        recipe: Recipe,
        architectures: Sequence[Architecture],
        seed: int,
        study: StudyStore,
    ) -> None:
        """Configure the stage.

        Args:
            tasks: Result of `list_compared_tasks`.
            recipe: The study's recipe.
            architectures: The architectures to train.
            seed: Seed of all trainings.
            study: The study.
        """
        self._architecture = architectures[0]
        self._study = study
        self._objective = recipe.objective
        self._specs = {
            pair: [TrialSpec(architecture, task, Split.FULL, seed, recipe) for architecture in architectures]
            for pair, task in tasks.items()
        }

    @property
    def _every_spec(self) -> list[TrialSpec]:
        return list(itertools.chain.from_iterable(self._specs.values()))

    @property
    def _total_steps(self) -> dict[str, int]:
        return {spec.key: spec.total_steps for spec in self._every_spec}

    def load(self) -> ScheduleComparisonState:
        """Read the stored state; make a fresh one if the compared trainings have changed or one of them failed."""
        fresh = ScheduleComparisonState(
            self._architecture,
            tuple(
                ScheduleCurve(*pair, specs[0].key, further_keys=tuple(spec.key for spec in specs[1:]))
                for pair, specs in self._specs.items()
            ),
        )
        stored = self._study.read(STATE, ScheduleComparisonState)
        if stored is None or [curve.keys for curve in stored.curves] != [curve.keys for curve in fresh.curves]:
            return fresh
        return stored if all(curve.is_measured for curve in stored.curves) else fresh

    def save(self, state: ScheduleComparisonState) -> ScheduleComparisonState:
        """Store the state."""
        self._study.write(STATE, state)
        return state

    def specs(self, state: ScheduleComparisonState) -> list[TrialSpec]:
        """List one trial per model and pair of schedule and smoothing."""
        return self._every_spec

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return that the trial is one of this stage."""
        return TrialPurpose(self.name)

    def next_action(
        self, state: ScheduleComparisonState, records: Records
    ) -> Train | Decide[ScheduleComparisonState] | None:
        """Train all trials to the end, then measure their curves."""
        if state.is_measured:
            return None
        unfinished = {
            key: step
            for key, step in self._total_steps.items()
            if not (records[key].is_failed or records[key].reached(step))
        }
        if unfinished:
            return Train(unfinished)
        curves = tuple(
            _measure_curve(curve, [records[key] for key in curve.keys], self._total_steps[curve.key], self._objective)
            for curve in state.curves
        )
        if not any(curve.is_measured for curve in curves):
            raise StageStoppedError(
                f"job=compare_schedules needs a model that trains under at least one schedule, and all {len(curves)} "
                f"trainings failed: fix the cause, see trials/{curves[-1].key}/worker.log"
            )
        return Decide(replace(state, curves=curves, is_measured=True), self._describe(curves))

    def progress(self, state: ScheduleComparisonState, records: Records) -> Progress:
        """Summarise the steps of all trials."""
        models = len(records) // len(self._specs)
        return Progress(
            stage=self.name,
            detail=f"{'one model' if models == 1 else f'{models} models'} under {len(self._specs)} schedules",
            trials_done=sum(records[spec.key].reached(spec.total_steps) for spec in self._every_spec),
            trials_total=len(records),
            steps_done=sum(record.step for record in records.values()),
            steps_total=sum(self._total_steps.values()),
        )

    def _describe(self, curves: Sequence[ScheduleCurve]) -> str:
        summary = "; ".join(f"{curve.name} {_describe_curve(curve)}" for curve in sort_curves(curves, self._objective))
        ranks = ", lowest tau with the final ranks" if any(curve.late_tau is not None for curve in curves) else ""
        return f"final score (its largest change over the last quarter of training{ranks}): {summary}"


def sort_curves(curves: Sequence[ScheduleCurve], objective: Objective) -> list[ScheduleCurve]:
    """Sort compared schedules by their final score, the best first; failed ones come last."""
    return sorted(curves, key=lambda curve: math.inf if curve.score is None else -objective.orient(curve.score))


def _measure_curve(
    curve: ScheduleCurve, records: Sequence[TrialRecord], total_steps: int, objective: Objective
) -> ScheduleCurve:
    trained = [record for record in records if record.reached(total_steps)]
    if not trained:
        return curve
    checks = [record.trained_checks for record in trained]
    curves = [([check.step for check in each], [objective.orient(check.score) for check in each]) for each in checks]
    return replace(
        curve,
        roughness=_average([roughness(*each) for each in curves]),
        score=_average([record.score for record in trained]),
        late_change=_average([largest_late_change(*each) for each in curves]),
        late_tau=_measure_ranks(trained, objective),
    )


def _measure_ranks(records: Sequence[TrialRecord], objective: Objective) -> float | None:
    steps = [step for step in list_common_steps(records) if step > 0]
    if len(records) < LEAST_RANKED or len(steps) < 2:
        return None
    checks = [[record.check_at(step) for record in records] for step in steps]
    scores = [[math.nan if check is None else check.score for check in row] for row in checks]
    found = lowest_late_tau(steps, objective.orient(np.array(scores)))
    return None if found is None else found.tau


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _describe_curve(curve: ScheduleCurve) -> str:
    if curve.score is None or curve.late_change is None:
        return "failed"
    ranks = "" if curve.late_tau is None else f", tau {curve.late_tau:.2f}"
    return f"{curve.score:.3f} ({curve.late_change:.3f}{ranks})"
