"""Variance measurement: one workable model, trained several times with other seeds.

The cloud tool's first tool: hunt a model that trains at all, train it five times on the user's schedule, and judge
how much its final scores vary and how smooth its curves are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.controllers.base import Decide, Records, Train
from nasproxy.controllers.vertex_files import write_variance_and_smoothness
from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.proxy import ProxyTask
from nasproxy.statistics.variance import SeedDeviation, VarianceVerdict, judge_variance, seed_deviation
from nasproxy.storage import read_record, write_record
from nasproxy.tracking.tracker import Progress
from nasproxy.trial import Architecture, Recipe, Split, State, TrialSpec

GATES = ("stop", "warn")


@dataclass
class VarianceSettings:
    """How to measure variance.

    Attributes:
        copies: Trainings of the workable model, a seed each.
        min_copies: Copies that must end well for a verdict.
        max_tries: Candidates to try for a workable model.
        workable_fraction: Share of the training after which a candidate counts as workable.
        total_steps: The short schedule to measure on; None for the schedule of full training.
        max_variation: Largest coefficient of variation that passes.
        max_smoothness: Largest mean smoothness that passes.
        gate: What a failed verdict does: `stop` the study, or `warn`.
    """

    copies: int = 5
    min_copies: int = 3
    max_tries: int = 10
    workable_fraction: float = 0.01
    total_steps: int | None = None
    max_variation: float = 0.4
    max_smoothness: float = 10.0
    gate: str = "stop"

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 2 <= self.min_copies <= self.copies:
            raise ConfigError(
                f"variance needs 2 <= min_copies <= copies, got min_copies {self.min_copies} and copies "
                f"{self.copies}: one copy has no variance"
            )
        if not 0 < self.workable_fraction <= 1:
            raise ConfigError(f"variance.workable_fraction must lie in (0, 1], got {self.workable_fraction:g}")
        if self.max_tries < 1:
            raise ConfigError(f"variance.max_tries must be at least 1, got {self.max_tries}")
        if self.gate not in GATES:
            raise ConfigError(f"variance.gate must be one of {GATES}, got {self.gate!r}")


@dataclass(frozen=True)
class VarianceResult:
    """What was measured.

    Attributes:
        keys: Trials that ended well.
        final_scores: Their last scores, in the same order.
        deviation: Standard deviation over seeds, with interval.
        verdict: The judgement.
    """

    keys: tuple[str, ...]
    final_scores: tuple[float, ...]
    deviation: SeedDeviation
    verdict: VarianceVerdict


@dataclass(frozen=True)
class VarianceState:
    """Decisions so far.

    Attributes:
        unworkable: Candidates that failed, by number.
        workable: The first candidate that trained, by number.
        architecture: That candidate.
        result: The measurement, once all copies ended.
    """

    unworkable: tuple[int, ...] = ()
    workable: int | None = None
    architecture: Architecture | None = None
    result: VarianceResult | None = None


class VarianceController:
    """Measures how much chance alone moves a model's score."""

    name = "variance"

    def __init__(
        self,
        settings: VarianceSettings,
        *,
        recipe: Recipe,
        candidates: Sequence[Architecture],
        seed: int,
        folder: Path,
    ) -> None:
        """Say what to measure.

        Args:
            settings: How.
            recipe: The study's trainings.
            candidates: Architectures to try for a workable one, in order.
            seed: Seed of the first copy; the others follow on.
            folder: Where the state lives.
        """
        settings.check()
        self._settings = settings
        self._recipe = replace(recipe, total_steps=settings.total_steps or recipe.total_steps)
        self._candidates = tuple(candidates[: settings.max_tries])
        self._seed = seed
        self._folder = folder

    def load(self) -> VarianceState:
        """The state as stored, or a fresh one."""
        return read_record(self._folder / "state.json", VarianceState) or VarianceState()

    def save(self, state: VarianceState) -> VarianceState:
        """Store the state, and the cloud tool's file beside it."""
        write_record(self._folder / "state.json", state)
        if state.result is not None:
            write_variance_and_smoothness(self._folder / "variance_and_smoothness.json", state.result.verdict)
        return state

    def specs(self, state: VarianceState) -> list[TrialSpec]:
        """The candidate on trial, or the copies of the workable one."""
        if state.workable is None:
            tried = len(state.unworkable)
            return [self._spec(self._candidates[tried], 0)] if tried < len(self._candidates) else []
        return [self._spec(self._candidates[state.workable], copy) for copy in range(self._settings.copies)]

    def next_action(self, state: VarianceState, records: Records) -> Train | Decide[VarianceState] | None:
        """Hunt a workable model, train its copies, judge them."""
        if state.result is not None:
            return None
        if state.workable is None:
            return self._hunt(state, records)
        specs = self.specs(state)
        if all(records[spec.key].status.state in (State.DONE, State.FAILED) for spec in specs):
            result = self._judge(specs, records)
            return Decide(replace(state, result=result), " ".join(result.verdict.advice))
        return Train({spec.key: spec.total_steps for spec in specs})

    def progress(self, state: VarianceState, records: Records) -> Progress:
        """Steps of all copies."""
        copies, total = self._settings.copies, self._recipe.total_steps
        return Progress(
            stage=self.name,
            detail="looking for a workable model" if state.workable is None else f"{copies} seeds of one model",
            trials_done=sum(record.reached(total) for record in records.values()),
            trials_total=copies,
            steps_done=sum(record.step for record in records.values()),
            steps_total=copies * total,
        )

    def _spec(self, architecture: Architecture, copy: int) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed + copy, self._recipe)

    def _hunt(self, state: VarianceState, records: Records) -> Train | Decide[VarianceState]:
        tried = len(state.unworkable)
        if tried == len(self._candidates):
            raise StageStoppedError(
                f"variance needs a model that trains for {self._settings.workable_fraction:.0%} of its steps, and "
                f"{tried} candidates failed: look into the newest trials' worker.log, and mend the trainer, the data "
                f"or the search space"
            )
        (spec,) = self.specs(state)
        until = max(1, round(self._settings.workable_fraction * spec.total_steps))
        record = records[spec.key]
        if record.is_failed:
            words = f"candidate {tried + 1} does not train ({record.status.cause}): {record.status.message}"
            return Decide(replace(state, unworkable=(*state.unworkable, tried)), words)
        if record.reached(until):
            return Decide(replace(state, workable=tried, architecture=spec.architecture))
        return Train({spec.key: until})

    def _judge(self, specs: Sequence[TrialSpec], records: Records) -> VarianceResult:
        ended = [spec.key for spec in specs if records[spec.key].status.state is State.DONE]
        if len(ended) < self._settings.min_copies:
            raise StageStoppedError(
                f"variance needs {self._settings.min_copies} seeds that train to the end, and {len(ended)} of "
                f"{len(specs)} did: look into their worker.log, and mend the trainer"
            )
        curves = [
            ([check.step for check in records[key].checks], [check.score for check in records[key].checks])
            for key in ended
        ]
        final_scores = tuple(records[key].checks[-1].score for key in ended)
        verdict = judge_variance(
            curves, max_variation=self._settings.max_variation, max_smoothness=self._settings.max_smoothness
        )
        return VarianceResult(tuple(ended), final_scores, seed_deviation(final_scores), verdict)


def enforce(state: VarianceState, settings: VarianceSettings) -> None:
    """Stop the study on a verdict that its gate does not let pass.

    Raises:
        StageStoppedError: The training is too noisy to rank models by.
    """
    if state.result is not None and not state.result.verdict.is_good and settings.gate == "stop":
        raise StageStoppedError(
            "variance stopped the study: " + " ".join(state.result.verdict.advice) + " Or go on at your own risk "
            "with variance.gate=warn"
        )
