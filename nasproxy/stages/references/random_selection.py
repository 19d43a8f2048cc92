"""Random selection of reference models: the first trainable candidates of a random sample, all trained fully.

Verdicts should be based on random models: models selected for their spread are easier to rank than those of a search.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from nasproxy.errors import ConfigError
from nasproxy.stages.common_steps import probe_common_steps
from nasproxy.stages.references.selection import (
    BASELINE,
    check_failure_ratio,
    check_failures,
    describe_references,
    make_reference,
    sort_best_first,
)
from nasproxy.stages.references.state import STATE, Iteration, SelectionState
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Progress
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec


@dataclass
class RandomSelection:
    """Settings of the random selection.

    Attributes:
        models: Number of reference models.
        max_failure_ratio: Share of the candidates that may fail before the stage stops, in [0, 1].
    """

    models: int = 10
    max_failure_ratio: float = 0.2

    is_random: ClassVar[bool] = True

    @property
    def candidates(self) -> int:
        """Number of candidates, if as many fail as allowed."""
        return self.models + math.ceil(self.models * self.max_failure_ratio / max(1 - self.max_failure_ratio, 0.01))

    @property
    def removed_per_iteration(self) -> int:
        """Candidates removed in each iteration."""
        return 0

    @property
    def rounds(self) -> tuple[tuple[int, float], ...]:
        """One round, in which all models are trained fully."""
        return ((self.models, 1.0),)

    @property
    def base(self) -> dict[str, Any]:
        """Settings that must not change during a study; `models` may be raised."""
        return {key: value for key, value in asdict(self).items() if key != "models"}

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.models < 2:
            raise ConfigError(f"references.initial must be at least 2, got {self.models}: one model has no rank")
        check_failure_ratio(self.max_failure_ratio)

    def make_stage(self, **context: Any) -> "RandomSelectionStage":
        """Make the stage; `context` are the keyword arguments of `RandomSelectionStage`."""
        return RandomSelectionStage(self, **context)


class RandomSelectionStage:
    """Trains random candidates fully until there are enough reference models."""

    name = "references"

    def __init__(
        self,
        settings: RandomSelection,
        *,
        recipe: Recipe,
        candidates: Sequence[Architecture],
        baseline: Architecture | None,
        seed: int,
        study: StudyStore,
    ) -> None:
        """Configure the stage.

        Args:
            settings: Settings of the selection.
            recipe: The study's recipe.
            candidates: Random architectures, used in order; those beyond the first `models` replace failed ones.
            baseline: The user's own architecture, trained fully for comparison; None if there is none.
            seed: Seed of all trainings.
            study: The study.
        """
        settings.check()
        self._settings = settings
        self._recipe = recipe
        self._candidates = tuple(candidates[: settings.candidates])
        self._baseline = None if baseline is None else TrialSpec(baseline, ProxyTask(), Split.FULL, seed, recipe)
        self._seed = seed
        self._study = study
        self._specs = tuple(self._make_spec(candidate) for candidate in self._candidates)

    def load(self) -> SelectionState:
        """Read the stored state; make a fresh one if there is none, or if more models are required now."""
        stored = self._study.read(STATE, SelectionState)
        keys = tuple(spec.key for spec in self._specs)
        if stored is not None and len(stored.references or ()) >= self._settings.models:
            return stored
        numbers = tuple(range(min(self._settings.models, len(self._candidates))))
        return SelectionState(self._candidates, keys, (Iteration(numbers, 1.0, self._recipe.total_steps),))

    def save(self, state: SelectionState) -> SelectionState:
        """Store the state."""
        self._study.write(STATE, state)
        return state

    def specs(self, state: SelectionState) -> list[TrialSpec]:
        """List the current candidates and the baseline."""
        tried = [self._specs[number] for number in state.iterations[-1].candidates if number < len(self._specs)]
        return tried if self._baseline is None else [*tried, self._baseline]

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return that the trial is one of this stage."""
        return TrialPurpose(self.name)

    def next_action(self, state: SelectionState, records: Records) -> Train | Decide[SelectionState] | None:
        """Train as many candidates as required, and another one for each that failed."""
        if state.references is not None:
            return None
        tried = state.iterations[-1].candidates
        failed = tuple(number for number in tried if records[state.keys[number]].is_failed)
        wanted = min(self._settings.models + len(failed), len(self._candidates))
        if len(tried) < wanted:
            more = replace(state.iterations[-1], candidates=tuple(range(wanted)))
            return Decide(replace(state, iterations=(more,)))
        check_failures(state, records, self._settings.max_failure_ratio)
        waiting = {
            spec.key: spec.total_steps
            for spec in self.specs(state)
            if not (records[spec.key].is_failed or records[spec.key].reached(spec.total_steps))
        }
        if waiting:
            probed = probe_common_steps(
                {spec.key: records[spec.key] for spec in self.specs(state)}, self._recipe.total_steps
            )
            return Train(waiting, awaited=probed or None)
        finished = self._finish(state, records)
        return Decide(finished, describe_references(finished, records))

    def progress(self, state: SelectionState, records: Records) -> Progress:
        """Summarise the steps of the current candidates."""
        total = self._recipe.total_steps
        return Progress(
            stage=self.name,
            detail=f"{len(state.iterations[-1].candidates)} random models, fully",
            trials_done=sum(record.reached(total) for record in records.values()),
            trials_total=len(records),
            steps_done=sum(record.step for record in records.values()),
            steps_total=len(records) * total,
        )

    def _make_spec(self, architecture: Architecture) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed, self._recipe)

    def _finish(self, state: SelectionState, records: Records) -> SelectionState:
        iteration = state.iterations[-1]
        kept = tuple(n for n in iteration.candidates if records[state.keys[n]].reached(iteration.until_step))
        failed = tuple(n for n in iteration.candidates if n not in kept)
        references = [make_reference(number, self._specs[number], records) for number in kept]
        baseline = None
        if self._baseline is not None and records[self._baseline.key].reached(iteration.until_step):
            baseline = make_reference(BASELINE, self._baseline, records)
        decided = replace(iteration, kept=kept, failed=failed)
        best_first = sort_best_first(references, self._recipe.objective)
        return replace(state, iterations=(decided,), references=best_first, baseline=baseline)
