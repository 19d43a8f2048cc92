"""Comparison of learning-rate schedules: one model is trained under each, with and without smoothed weights.

Vertex AI NAS's documentation advises a decaying learning rate and averaged weights for rough curves; this stage
measures their effect.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from nasproxy.errors import StageStoppedError
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.stages.schedule_comparison.settings import CompareSchedulesSettings
from nasproxy.stages.schedule_comparison.state import STATE, ScheduleComparisonState, ScheduleCurve
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
    pairs = itertools.product(settings.schedule, settings.smoothing)
    return {
        (schedule, smoothing): ProxyTask(overrides={"trainer.schedule": schedule, "trainer.smoothing": smoothing})
        for schedule, smoothing in pairs
    }


class ScheduleComparisonStage:
    """Trains one model under each schedule and measures the roughness of its curves."""

    name = "schedule_comparison"

    def __init__(
        self,
        tasks: Mapping[Pair, ProxyTask],
        *,
        recipe: Recipe,
        architecture: Architecture,
        seed: int,
        study: StudyStore,
    ) -> None:
        """Configure the stage.

        Args:
            tasks: Result of `list_compared_tasks`.
            recipe: The study's recipe.
            architecture: The architecture to train.
            seed: Seed of all trainings.
            study: The study.
        """
        self._architecture = architecture
        self._study = study
        self._objective = recipe.objective
        self._specs = {pair: TrialSpec(architecture, task, Split.FULL, seed, recipe) for pair, task in tasks.items()}

    @property
    def _total_steps(self) -> dict[str, int]:
        return {spec.key: spec.total_steps for spec in self._specs.values()}

    def load(self) -> ScheduleComparisonState:
        """Read the stored state; make a fresh one if the compared trainings have changed or one of them failed."""
        fresh = ScheduleComparisonState(
            self._architecture,
            tuple(ScheduleCurve(*pair, spec.key) for pair, spec in self._specs.items()),
        )
        stored = self._study.read(STATE, ScheduleComparisonState)
        if stored is None or [curve.key for curve in stored.curves] != [curve.key for curve in fresh.curves]:
            return fresh
        return fresh if any(curve.score is None for curve in stored.curves) else stored

    def save(self, state: ScheduleComparisonState) -> ScheduleComparisonState:
        """Store the state."""
        self._study.write(STATE, state)
        return state

    def specs(self, state: ScheduleComparisonState) -> list[TrialSpec]:
        """List one trial per pair of schedule and smoothing."""
        return list(self._specs.values())

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
            _measure_curve(curve, records[curve.key], self._total_steps[curve.key], self._objective)
            for curve in state.curves
        )
        if all(curve.score is None for curve in curves):
            raise StageStoppedError(
                f"job=compare_schedules needs a model that trains under at least one schedule, and all {len(curves)} "
                f"trainings failed: fix the cause, see trials/{curves[-1].key}/worker.log"
            )
        return Decide(replace(state, curves=curves, is_measured=True), _describe_curves(curves))

    def progress(self, state: ScheduleComparisonState, records: Records) -> Progress:
        """Summarise the steps of all trials."""
        return Progress(
            stage=self.name,
            detail=f"one model under {len(records)} schedules",
            trials_done=sum(records[spec.key].reached(spec.total_steps) for spec in self._specs.values()),
            trials_total=len(records),
            steps_done=sum(record.step for record in records.values()),
            steps_total=sum(spec.total_steps for spec in self._specs.values()),
        )


def _measure_curve(curve: ScheduleCurve, record: TrialRecord, total_steps: int, objective: Objective) -> ScheduleCurve:
    if not record.reached(total_steps):
        return curve
    checks = record.trained_checks
    steps, scores = [check.step for check in checks], [objective.orient(check.score) for check in checks]
    return replace(curve, roughness=roughness(steps, scores), score=record.score)


def _describe_curves(curves: tuple[ScheduleCurve, ...]) -> str:
    summary = "; ".join(f"{curve.name} {_describe_curve(curve)}" for curve in curves)
    return f"roughness (last score): {summary}"


def _describe_curve(curve: ScheduleCurve) -> str:
    if curve.score is None:
        return "failed"
    measured = "undefined" if curve.roughness is None else f"{curve.roughness:.2f}"
    return f"{measured} ({curve.score:.3f})"
