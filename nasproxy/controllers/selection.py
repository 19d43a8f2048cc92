"""Selection of the reference models: many candidates trained a little, the most alike dropped, the rest trained fully.

The cloud tool's second tool, with trainings that continue where they paused instead of beginning anew.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nasproxy.controllers.base import Decide, Records, Train
from nasproxy.controllers.settings import SelectionSettings
from nasproxy.controllers.states import Iteration, Reference, SelectionState
from nasproxy.controllers.vertex_files import write_model_selection_state
from nasproxy.errors import StageStoppedError
from nasproxy.proxy import ProxyTask
from nasproxy.statistics.spread import removal_count, remove_closest
from nasproxy.storage import read_record, write_record
from nasproxy.tracking.tracker import Progress
from nasproxy.trial import Architecture, Recipe, Split, TrialSpec

BASELINE = -1
"""The baseline model's number: it is no candidate."""


class SelectionController:
    """Selects reference models for their spread, and trains them fully."""

    name = "selection"

    def __init__(
        self,
        settings: SelectionSettings,
        *,
        recipe: Recipe,
        candidates: Sequence[Architecture],
        baseline: Architecture | None,
        seed: int,
        folder: Path,
    ) -> None:
        """Say what to select from.

        Args:
            settings: How.
            recipe: The study's trainings.
            candidates: At least `start_models` random architectures.
            baseline: The user's own architecture, trained fully beside the references.
            seed: Seed of every training.
            folder: Where the state lives.
        """
        settings.check()
        self._settings = settings
        self._recipe = recipe
        self._candidates = tuple(candidates[: settings.start_models])
        self._seed = seed
        self._baseline = None if baseline is None else self._spec(baseline)
        self._folder = folder

    def load(self) -> SelectionState:
        """The state as stored, or a fresh one."""
        stored = read_record(self._folder / "state.json", SelectionState)
        if stored is not None:
            return stored
        numbers = tuple(range(len(self._candidates)))
        keys = tuple(self._spec(candidate).key for candidate in self._candidates)
        return SelectionState(self._candidates, keys, (self._iteration(numbers, spent=0.0),))

    def save(self, state: SelectionState) -> SelectionState:
        """Store the state, and the cloud tool's file beside it."""
        write_record(self._folder / "state.json", state)
        write_model_selection_state(self._folder / "MODEL_SELECTION_STATE.json", state, self._settings)
        return state

    def specs(self, state: SelectionState) -> list[TrialSpec]:
        """The candidates of the present iteration, and the baseline in the last."""
        iteration = state.iterations[-1]
        specs = [self._spec(state.architectures[number]) for number in iteration.candidates]
        if iteration.fraction == 1.0 and self._baseline is not None:
            specs.append(self._baseline)
        return specs

    def next_action(self, state: SelectionState, records: Records) -> Train | Decide[SelectionState] | None:
        """Train the candidates of this iteration, then drop the most alike; train the last ones to the end."""
        if state.references is not None:
            return None
        iteration = state.iterations[-1]
        specs = self.specs(state)
        waiting = {
            spec.key: iteration.until_step
            for spec in specs
            if not (records[spec.key].is_failed or records[spec.key].reached(iteration.until_step))
        }
        self._refuse_excess_failures(state, records)
        if waiting:
            return Train(waiting)
        if iteration.fraction == 1.0:
            finished = self._finish(state, records)
            return Decide(finished, _outcome(finished, records))
        return self._drop_alike(state, records)

    def progress(self, state: SelectionState, records: Records) -> Progress:
        """Steps of this and the coming iterations."""
        iteration = state.iterations[-1]
        final = min(self._settings.final_models, len(iteration.candidates))
        to_come = 0 if iteration.fraction == 1.0 else final * (self._recipe.total_steps - iteration.until_step)
        return Progress(
            stage=self.name,
            detail=f"{len(iteration.candidates)} models to {iteration.fraction:.1%} of training",
            trials_done=sum(record.reached(iteration.until_step) for record in records.values()),
            trials_total=len(records),
            steps_done=sum(min(record.step, iteration.until_step) for record in records.values()),
            steps_total=len(records) * iteration.until_step + to_come,
        )

    def _spec(self, architecture: Architecture) -> TrialSpec:
        return TrialSpec(architecture, ProxyTask(), Split.FULL, self._seed, self._recipe)

    def _iteration(self, numbers: tuple[int, ...], spent: float) -> Iteration:
        if len(numbers) <= self._settings.final_models:
            return Iteration(numbers, 1.0, self._recipe.total_steps)
        fraction = min(1.0, spent + 1 / len(numbers))
        wanted = math.ceil(fraction * self._recipe.total_steps - 1e-9)
        steps = self._spec(self._candidates[0]).check_steps
        return Iteration(numbers, fraction, next(step for step in steps if step >= wanted))

    def _drop_alike(self, state: SelectionState, records: Records) -> Decide[SelectionState]:
        iteration = state.iterations[-1]
        failed = tuple(n for n in iteration.candidates if records[state.keys[n]].is_failed)
        valid = [n for n in iteration.candidates if n not in failed]
        scores = [_score_at(records, state.keys[n], iteration.until_step) for n in valid]
        count = removal_count(
            len(valid),
            len(failed),
            per_iteration=self._settings.remove_per_iteration,
            final=self._settings.final_models,
        )
        removed = tuple(valid[i] for i in remove_closest(np.array(scores), None, count))
        kept = tuple(n for n in valid if n not in removed)
        decided = replace(iteration, kept=kept, removed=removed, failed=failed)
        following = self._iteration(kept, spent=iteration.fraction)
        message = f"{len(kept)} of {len(iteration.candidates)} models kept after step {iteration.until_step}"
        return Decide(replace(state, iterations=(*state.iterations[:-1], decided, following)), message)

    def _finish(self, state: SelectionState, records: Records) -> SelectionState:
        iteration = state.iterations[-1]
        kept = tuple(n for n in iteration.candidates if records[state.keys[n]].reached(iteration.until_step))
        failed = tuple(n for n in iteration.candidates if n not in kept)
        references = [self._reference(n, state.architectures[n], state.keys[n], records) for n in kept]
        baseline = None
        if self._baseline is not None and records[self._baseline.key].reached(iteration.until_step):
            baseline = self._reference(BASELINE, self._baseline.architecture, self._baseline.key, records)
        decided = replace(iteration, kept=kept, failed=failed)
        best_first = tuple(sorted(references, key=lambda reference: -reference.score))
        return replace(state, iterations=(*state.iterations[:-1], decided), references=best_first, baseline=baseline)

    def _reference(self, number: int, architecture: Architecture, key: str, records: Records) -> Reference:
        last = records[key].checks[-1]
        return Reference(number, architecture, key, last.score, last.train_seconds)

    def _refuse_excess_failures(self, state: SelectionState, records: Records) -> None:
        earlier = {number for iteration in state.iterations for number in iteration.failed}
        now = {n for n in state.iterations[-1].candidates if records[state.keys[n]].is_failed}
        failed = len(earlier | now)
        if failed <= self._settings.max_failure_ratio * len(state.architectures):
            return
        causes = Counter(cause.value for n in sorted(now) if (cause := records[state.keys[n]].status.cause))
        diagnosis = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
        raise StageStoppedError(
            f"selection allows {self._settings.max_failure_ratio:.0%} of {len(state.architectures)} candidates to "
            f"fail, and {failed} did ({diagnosis}; {ADVICE[causes.most_common(1)[0][0]]}): mend the cause, "
            f"or raise selection.max_failure_ratio"
        )


def _outcome(state: SelectionState, records: Records) -> str:
    failed = state.iterations[-1].failed
    causes = Counter(cause.value for n in failed if (cause := records[state.keys[n]].status.cause))
    words = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
    lost = f"; {len(failed)} of the last {len(state.iterations[-1].candidates)} failed ({words})" if failed else ""
    return f"{len(state.references or ())} reference models are trained{lost}"


ADVICE = {
    "oom": "take smaller batches or drop the largest choices of the search space",
    "nan": "lower the learning rate, warm up, or clip gradients",
    "crash": "read the newest worker.log: the model or the trainer raises",
    "lost": "workers died from outside: look for a memory limit or a full disk",
}


def _score_at(records: Records, key: str, step: int) -> float:
    check = records[key].check_at(step)
    if check is None:  # pragma: no cover - the trainers' contract, which every trial is held to
        raise StageStoppedError(
            f"trial {key} has checks beyond step {step} but none at it: its trainer must "
            f"validate at the steps it is given"
        )
    return check.score
