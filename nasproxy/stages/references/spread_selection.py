"""Spread selection: train many candidates briefly, remove those with the closest scores, train the rest fully.

This is the model selection of Vertex AI NAS, except that trainings are continued and not started again.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.stages.common_steps import find_settled_step, list_common_steps, probe_common_steps
from nasproxy.stages.references.selection import (
    BASELINE,
    MAX_CANDIDATES,
    check_failure_ratio,
    check_failures,
    describe_references,
    make_reference,
    sort_best_first,
)
from nasproxy.stages.references.state import STATE, Iteration, SelectionState
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.statistics.spread import cumulative_fractions, pool_sizes, removal_count, remove_closest
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Progress
from nasproxy.trials.check_steps import find_requested_step
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec


@dataclass
class SpreadSelection:
    """Settings of the spread selection.

    Attributes:
        start_models: Number of random candidates.
        models: Number of reference models.
        remove_per_iteration: Candidates removed in each iteration.
        max_failure_ratio: Share of the candidates that may fail before the stage stops, in [0, 1].
    """

    start_models: int = 30
    models: int = 10
    remove_per_iteration: int = 5
    max_failure_ratio: float = 0.2

    is_random: ClassVar[bool] = False

    @property
    def candidates(self) -> int:
        """Number of candidates."""
        return self.start_models

    @property
    def removed_per_iteration(self) -> int:
        """Candidates removed in each iteration."""
        return self.remove_per_iteration

    @property
    def rounds(self) -> tuple[tuple[int, float], ...]:
        """Rounds of the selection, each with fewer models and a larger fraction of training."""
        plan = (self.start_models, self.models, self.remove_per_iteration)
        return tuple(zip(pool_sizes(*plan), cumulative_fractions(*plan), strict=True))

    @property
    def base(self) -> dict[str, Any]:
        """Settings that must not change during a study."""
        return asdict(self)

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        if self.start_models > MAX_CANDIDATES:
            raise ConfigError(f"selection.start_models must be at most {MAX_CANDIDATES}, got {self.start_models}")
        if not 2 <= self.models <= self.start_models:
            raise ConfigError(
                f"selection needs 2 <= references.initial <= selection.start_models, got {self.models} and "
                f"start_models {self.start_models}"
            )
        if self.remove_per_iteration < 1:
            raise ConfigError(f"selection.remove_per_iteration must be at least 1, got {self.remove_per_iteration}")
        check_failure_ratio(self.max_failure_ratio)
        cumulative_fractions(self.start_models, self.models, self.remove_per_iteration)

    def make_stage(self, **context: Any) -> "SpreadSelectionStage":
        """Make the stage; `context` are the keyword arguments of `SpreadSelectionStage`."""
        return SpreadSelectionStage(self, **context)


class SpreadSelectionStage:
    """Selects reference models with a large spread of scores and trains them fully."""

    name = "references"

    def __init__(
        self,
        settings: SpreadSelection,
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
            candidates: At least `start_models` random architectures.
            baseline: The user's own architecture, trained fully for comparison; None if there is none.
            seed: Seed of all trainings.
            study: The study.
        """
        settings.check()
        self._settings = settings
        self._recipe = recipe
        self._candidates = tuple(candidates[: settings.start_models])
        self._seed = seed
        self._baseline = None if baseline is None else self._make_spec(baseline)
        self._study = study

    def load(self) -> SelectionState:
        """Read the stored state, or make a fresh one."""
        stored = self._study.read(STATE, SelectionState)
        if stored is not None:
            return stored
        numbers = tuple(range(len(self._candidates)))
        keys = tuple(self._make_spec(candidate).key for candidate in self._candidates)
        return SelectionState(self._candidates, keys, (self._make_iteration(numbers, spent=0.0),))

    def save(self, state: SelectionState) -> SelectionState:
        """Store the state."""
        self._study.write(STATE, state)
        return state

    def specs(self, state: SelectionState) -> list[TrialSpec]:
        """List the candidates of the current iteration and, in the last one, the baseline."""
        iteration = state.iterations[-1]
        specs = [self._make_spec(state.architectures[number]) for number in iteration.candidates]
        if iteration.fraction == 1.0 and self._baseline is not None:
            specs.append(self._baseline)
        return specs

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return that the trial is one of this stage."""
        return TrialPurpose(self.name)

    def next_action(self, state: SelectionState, records: Records) -> Train | Decide[SelectionState] | None:
        """Train this iteration's candidates, then remove those with the closest scores; train the last ones fully."""
        if state.references is not None:
            return None
        iteration = state.iterations[-1]
        specs = self.specs(state)
        waiting = {
            spec.key: iteration.until_step
            for spec in specs
            if not (records[spec.key].is_failed or records[spec.key].reached(iteration.until_step))
        }
        check_failures(state, records, self._settings.max_failure_ratio)
        if waiting:
            # Rounds before the last are probed by `_plan_further_steps`, once their candidates have no common step.
            is_whole = iteration.fraction == 1.0
            trained = {spec.key: records[spec.key] for spec in specs}
            probed = probe_common_steps(trained, self._recipe.total_steps) if is_whole else {}
            return Train(waiting, awaited=probed or None)
        if iteration.fraction == 1.0:
            finished = self._finish(state, records)
            return Decide(finished, describe_references(finished, records))
        valid = {spec.key: records[spec.key] for spec in specs if not records[spec.key].is_failed}
        common = next(list_common_steps(tuple(valid.values()), iteration.until_step - 1), None)
        if valid and common is None:
            return Train(self._plan_further_steps(valid))
        return self._remove_closest(state, records, iteration.until_step if common is None else common)

    def progress(self, state: SelectionState, records: Records) -> Progress:
        """Summarise the steps of this and the following iterations."""
        iteration = state.iterations[-1]
        final = min(self._settings.models, len(iteration.candidates))
        to_come = 0 if iteration.fraction == 1.0 else final * (self._recipe.total_steps - iteration.until_step)
        return Progress(
            stage=self.name,
            detail=f"{len(iteration.candidates)} models to {iteration.fraction:.1%} of training",
            trials_done=sum(record.reached(iteration.until_step) for record in records.values()),
            trials_total=len(records),
            steps_done=sum(min(record.step, iteration.until_step) for record in records.values()),
            steps_total=len(records) * iteration.until_step + to_come,
        )

    def _make_spec(self, architecture: Architecture) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed, self._recipe)

    def _make_iteration(self, numbers: tuple[int, ...], spent: float) -> Iteration:
        if len(numbers) <= self._settings.models:
            return Iteration(numbers, 1.0, self._recipe.total_steps)
        fraction = min(1.0, spent + 1 / len(numbers))
        wanted = math.ceil(fraction * self._recipe.total_steps - 1e-9)
        return Iteration(numbers, fraction, find_requested_step(self._check_steps, wanted - 1))

    @property
    def _check_steps(self) -> tuple[int, ...]:
        return self._make_spec(self._candidates[0]).check_steps

    def _plan_further_steps(self, valid: Records) -> dict[str, int]:
        """Return how far to train candidates that have passed the wanted step and have no common step after it."""
        probed = probe_common_steps(valid, self._recipe.total_steps)
        until = find_requested_step(self._check_steps, find_settled_step(tuple(valid.values())))
        return probed or {key: until for key, record in valid.items() if not record.reached(until)}

    def _remove_closest(self, state: SelectionState, records: Records, step: int) -> Decide[SelectionState]:
        """Remove the candidates with the closest scores at a step that all of them have reported."""
        iteration = state.iterations[-1]
        failed = tuple(n for n in iteration.candidates if records[state.keys[n]].is_failed)
        valid = [n for n in iteration.candidates if n not in failed]
        checks = [records[state.keys[n]].check_at(step) for n in valid]
        scores = [check.score for check in checks if check is not None]
        orient = self._recipe.objective.orient
        count = removal_count(
            len(valid),
            len(failed),
            per_iteration=self._settings.remove_per_iteration,
            final=self._settings.models,
        )
        removed = tuple(valid[i] for i in remove_closest(orient(np.array(scores)), None, count))
        kept = tuple(n for n in valid if n not in removed)
        decided = replace(iteration, until_step=step, kept=kept, removed=removed, failed=failed)
        following = self._make_iteration(kept, spent=iteration.fraction)
        message = f"{len(kept)} of {len(iteration.candidates)} models kept after step {step}"
        return Decide(replace(state, iterations=(*state.iterations[:-1], decided, following)), message)

    def _finish(self, state: SelectionState, records: Records) -> SelectionState:
        iteration = state.iterations[-1]
        kept = tuple(n for n in iteration.candidates if records[state.keys[n]].reached(iteration.until_step))
        failed = tuple(n for n in iteration.candidates if n not in kept)
        references = [make_reference(n, self._make_spec(state.architectures[n]), records) for n in kept]
        baseline = None
        if self._baseline is not None and records[self._baseline.key].reached(iteration.until_step):
            baseline = make_reference(BASELINE, self._baseline, records)
        decided = replace(iteration, kept=kept, failed=failed)
        best_first = sort_best_first(references, self._recipe.objective)
        return replace(state, iterations=(*state.iterations[:-1], decided), references=best_first, baseline=baseline)
