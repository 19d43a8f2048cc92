"""What strategies are compared on: the curves of the reference models, and what the study has cost."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from nasproxy.errors import CorruptTrialError
from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.confirmation.state import ConfirmationOutcome, read_confirmations
from nasproxy.stages.proxy_search import reopening
from nasproxy.stages.proxy_search.judge import JudgedModels
from nasproxy.stages.proxy_search.state import TaskState, find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import Reference, read_references
from nasproxy.statistics.cross_fit import find_attenuation, measure_optimism
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.strategies import FULL_TRAINING, Candidates, Mask, Place
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import read_intact, read_intact_spec
from nasproxy.storage.zero_cost_scores import read_scores
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec, to_canonical_json

LEAST_MODELS = 8
"""Reference models below which a comparison of strategies says little."""
LEAST_RANKED = 5
"""Reference models below which zero-cost scores are not ranked."""
ZERO_COST_SCORES = ("parameters", "flops", "synflow")


@dataclass(frozen=True, eq=False)
class ReferenceCurves:
    """Scores of the reference models wherever they can be compared.

    Reference models whose training under the accepted proxy task crashed or was lost, or whose files are damaged, are
    left out. That does not depend on their scores, so the others are still a random sample. Models that ran out of
    memory or diverged rank below all others.

    Attributes:
        models: The scores, and the cost of each place.
        full_seconds: Mean time of a full training in seconds, of all its devices.
        study_cost: Cost of all trainings of the study, in full trainings.
        proxy_task: Name of the accepted proxy task; None without one.
        proxy: Place of the accepted proxy task, on the schedule of a search where it was confirmed; None without one,
            and if it cannot be compared.
        proxy_reason: Why the accepted proxy task cannot be compared; empty if it can, and without one.
        left_out: Number of reference models that are left out.
        optimism: Optimism of the accepted task's tau; None if it is not compared.
        attenuation: Factor of the correlation of the accepted task's scores that takes its optimism away.
        zero_cost: Place of the zero-cost score that ranks the models best; None if none ranks them at all.
    """

    models: Candidates
    full_seconds: float
    study_cost: float
    proxy_task: str | None = None
    proxy: Place | None = None
    proxy_reason: str = ""
    left_out: int = 0
    optimism: float | None = None
    attenuation: float = 1.0
    zero_cost: Place | None = None

    @property
    def rung_scores(self) -> Mapping[Place, Floats]:
        """Scores at the places that may become rungs of the ladder."""
        apart = (self.proxy, self.zero_cost)
        return {place: scores for place, scores in self.models.scores.items() if place not in apart}


def collect_curves(study: StudyStore, objective: Objective, *, time_tolerance: float) -> ReferenceCurves:
    """Collect the curves of the reference models: of the accepted proxy task's, or of all that were trained.

    Args:
        study: The study.
        objective: The study's metric.
        time_tolerance: Share by which a task must be cheaper than the best one to replace it.
    """
    return _Collection(study, objective, time_tolerance).collect()


class _Collection:
    def __init__(self, study: StudyStore, objective: Objective, time_tolerance: float) -> None:
        self._study = study
        self._specs: dict[str, TrialSpec | None] = {}
        self._objective = objective
        self._confirmations = read_confirmations(study)
        rules, tasks = read_rules(study), reopening.apply_confirmations(read_tasks(study), self._confirmations)
        self._tasks = {name: task for name, task in tasks.items() if task.judged_by == rules.judged_by}
        self._best = find_best_task(self._tasks, rules.judged_by, time_tolerance=time_tolerance)
        added = self._best.added if self._best else max((t.added for t in self._tasks.values()), key=len, default=())
        every: tuple[Reference, ...] = (*read_references(study), *added)
        self._models = self._trained = tuple(model for model in every if self._is_intact(model.key))
        self._damaged = len(every) - len(self._trained)
        self._proxy_reason = ""
        self._proxy_keys = None if self._best is None else self._choose_runs(self._best)
        self._full_seconds = float(np.mean([model.train_seconds for model in self._models or every]))
        self._scores: dict[Place, Floats] = {}
        self._costs: dict[Place, float] = {}

    def collect(self) -> ReferenceCurves:
        finals = self._objective.orient(np.array([model.score for model in self._models]))
        self._add_full_training()
        for task in self._tasks.values():
            self._add_places(task.name, task.keys)
        proxy, optimism, attenuation = self._add_proxy(finals)
        zero_cost = self._add_zero_cost(finals)
        return ReferenceCurves(
            Candidates(self._scores, self._costs, finals),
            self._full_seconds,
            self._measure_study() / self._full_seconds,
            proxy_task=None if self._best is None else self._best.name,
            proxy=proxy,
            proxy_reason=self._proxy_reason,
            left_out=len(self._trained) - len(self._models) + self._damaged,
            optimism=optimism,
            attenuation=attenuation,
            zero_cost=zero_cost,
        )

    def _choose_runs(self, best: TaskState) -> tuple[str, ...] | None:
        """Choose the trials that the accepted task is compared by, and leave out the models without a score there.

        The confirmation runs have the schedule of a search. If too few models have a score in them, those of the proxy
        search are used; if these are too few as well, the task is not compared, and no model is left out.
        """
        assert best.final_step is not None
        raced = self._has_scores(best.keys, best.final_step)
        for keys in self._list_runs(best):
            has_both = raced & self._has_scores(keys, best.final_step)
            if np.count_nonzero(has_both) >= LEAST_MODELS:
                self._models = tuple(model for model, has in zip(self._trained, has_both, strict=True) if has)
                return keys
        self._proxy_reason = (
            f"{np.count_nonzero(raced)} of {len(self._trained)} reference models have a score under {best.name}, and "
            f"{LEAST_MODELS} are needed"
        )
        return None

    def _list_runs(self, best: TaskState) -> list[tuple[str, ...]]:
        """List the trials that the accepted task can be compared by, in order of preference."""
        of_best = [each for each in self._confirmations if each.is_of(best)]
        return [*(each.keys for each in of_best if each.outcome is ConfirmationOutcome.STANDS), best.keys]

    def _has_scores(self, keys: Sequence[str], step: int) -> Mask:
        return ~np.isnan(self._find_runs(keys).scores_at(step))

    def _find_runs(self, keys: Sequence[str]) -> JudgedModels:
        """Find the models' trials, by their architectures; a model without one has an empty record."""
        specs = {key: spec for key in keys if (spec := self._read_spec(key)) is not None}
        known = {to_canonical_json(spec.architecture): key for key, spec in specs.items()}
        found = [known.get(to_canonical_json(model.architecture)) for model in self._models]
        records = tuple(
            (None if key is None else read_intact(self._study.trials, key)) or TrialRecord() for key in found
        )
        return JudgedModels(self._models, records, self._objective)

    def _is_intact(self, key: str) -> bool:
        return read_intact(self._study.trials, key) is not None and self._read_spec(key) is not None

    def _read_spec(self, key: str) -> TrialSpec | None:
        """Read a trial's specification once; None if it is damaged."""
        if key not in self._specs:
            self._specs[key] = read_intact_spec(self._study.trials, key)
        return self._specs[key]

    def _add_full_training(self) -> None:
        self._add_places(FULL_TRAINING, [model.key for model in self._models])
        last = max((place.step for place in self._scores), default=0)
        for place in list(self._scores):
            if place.step == last:
                del self._scores[place], self._costs[place]
            else:
                self._costs[place] = place.step / last

    def _add_places(self, name: str, keys: Sequence[str]) -> None:
        """Add the scores at all steps at which each model has one."""
        runs = self._find_runs(keys)
        for step in list_common_steps(runs.records):
            scores = runs.scores_at(step)
            if not np.isnan(scores).any():
                self._scores[Place(name, step)] = scores
                self._costs[Place(name, step)] = self._cost_at(runs, step, keys)

    def _cost_at(self, runs: JudgedModels, step: int, keys: Sequence[str]) -> float:
        devices = next((spec.devices for key in keys if (spec := self._read_spec(key)) is not None), 1)
        seconds = [check.train_seconds for record in runs.records if (check := record.check_at(step)) is not None]
        return devices * float(np.mean(seconds)) / self._full_seconds

    def _add_proxy(self, finals: Floats) -> tuple[Place | None, float | None, float]:
        """Add the accepted proxy task as a search will train it; returns its place, optimism and attenuation."""
        best, keys = self._best, self._proxy_keys
        if best is None or best.final_step is None or keys is None:
            return None, None, 1.0
        runs, place = self._find_runs(keys), Place(f"{best.name}, as in a search", best.final_step)
        scores = self._scores[place] = runs.scores_at(best.final_step)
        self._costs[place] = self._cost_at(runs, best.final_step, keys)
        looks = [check.step for check in best.checks if check.step <= best.final_step]
        optimism, attenuation = _measure_optimism(self._find_runs(best.keys).scores_over(looks), scores, finals)
        return place, optimism, attenuation

    def _add_zero_cost(self, finals: Floats) -> Place | None:
        """Add the zero-cost score that ranks the models best."""
        stored = read_scores(self._study)
        known = [stored.of(model.architecture) for model in self._models]
        taus: dict[Place, float] = {}
        for name in ZERO_COST_SCORES if len(known) >= LEAST_RANKED else ():
            values = [None if each is None else getattr(each, name) for each in known]
            if any(value is None for value in values):
                continue
            scores = np.array(values, dtype=np.float64)
            found = kendall_tau(scores, finals)
            if found is not None and found.tau > 0:
                place = Place(name, 0)
                self._scores[place], self._costs[place], taus[place] = scores, 0.0, found.tau
        best = max(taus, key=lambda place: taus[place], default=None)
        for place in taus.keys() - {best}:
            del self._scores[place], self._costs[place]
        return best

    def _measure_study(self) -> float:
        """Sum the training time of all trials, in seconds of one device; what a damaged one has cost is not known."""
        total, store = 0.0, self._study.trials
        for key in store.keys():
            with suppress(CorruptTrialError):
                checks, spec = store.read_alone(key).checks, self._read_spec(key)
                total += checks[-1].train_seconds * spec.devices if checks and spec is not None else 0.0
        return total


def _measure_optimism(raced: Floats, scores: Floats, finals: Floats) -> tuple[float | None, float]:
    """Measure the optimism of an accepted tau, and the attenuation of the scores' correlation that takes it away.

    Args:
        raced: Scores in the proxy search at the looks up to the accepted one, shape (looks, n_models).
        scores: Scores that the task is compared by, shape (n_models,).
        finals: Scores after full training, shape (n_models,).
    """
    accepted, used = (kendall_tau(values, finals) for values in (raced[-1], scores))
    if accepted is None or used is None:
        return None, 1.0
    optimism = measure_optimism(raced, finals, level=accepted.tau)
    return optimism, find_attenuation(used.tau, used.tau - optimism)
