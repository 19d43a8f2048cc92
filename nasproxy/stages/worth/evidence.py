"""What strategies are compared on: the curves of the reference models, and what the study has cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.confirmation.state import ConfirmationOutcome, ConfirmationState, read_confirmations
from nasproxy.stages.proxy_search import reopening
from nasproxy.stages.proxy_search.state import TaskState, find_best_task, read_rules, read_tasks
from nasproxy.stages.references.state import Reference, read_references
from nasproxy.statistics.cross_fit import find_weakening, measure_optimism
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.statistics.strategies import FULL_TRAINING, Candidates, Place
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.zero_cost_scores import read_scores
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord

ZERO_COST = ("parameters", "flops", "synflow")


@dataclass(frozen=True, eq=False)
class ReferenceCurves:
    """Scores of the reference models wherever they can be compared.

    Attributes:
        models: The scores, and the cost of each place.
        full_seconds: Mean time of a full training in seconds, of all its devices.
        study_cost: Cost of all trainings of the study, in full trainings.
        proxy_task: Name of the accepted proxy task; None without one.
        proxy: Place of the accepted proxy task, on the schedule of a search where it was confirmed; None without one.
        optimism: Optimism of the accepted task's tau; None without one.
        weakening: Factor of the correlation of the accepted task's scores that takes its optimism away.
        zero_cost: Place of the zero-cost score that ranks the models best; None if none ranks them at all.
    """

    models: Candidates
    full_seconds: float
    study_cost: float
    proxy_task: str | None = None
    proxy: Place | None = None
    optimism: float | None = None
    weakening: float = 1.0
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
        self._objective = objective
        confirmations = read_confirmations(study)
        self._tasks = reopening.apply_confirmations(read_tasks(study), confirmations)
        self._best = find_best_task(self._tasks, read_rules(study).judged_by, time_tolerance=time_tolerance)
        self._confirmation = next((c for c in confirmations if self._best and c.is_of(self._best)), None)
        selected = read_references(study)
        self._selected = selected
        added = self._best.added if self._best else max((t.added for t in self._tasks.values()), key=len, default=())
        self._models: tuple[Reference, ...] = (*selected, *added)
        self._full_seconds = float(np.mean([model.train_seconds for model in self._models]))
        self._scores: dict[Place, Floats] = {}
        self._costs: dict[Place, float] = {}

    def collect(self) -> ReferenceCurves:
        finals = self._objective.orient(np.array([model.score for model in self._models]))
        self._add_full_training()
        for task in self._tasks.values():
            keys = self._match_keys(task)
            if keys is not None:
                self._add_places(task.name, keys)
        proxy, optimism, weakening = self._add_proxy(finals)
        zero_cost = self._add_zero_cost(finals)
        return ReferenceCurves(
            Candidates(self._scores, self._costs, finals),
            self._full_seconds,
            self._measure_study() / self._full_seconds,
            None if self._best is None else self._best.name,
            proxy,
            optimism,
            weakening,
            zero_cost,
        )

    def _add_full_training(self) -> None:
        keys = [model.key for model in self._models]
        self._add_places(FULL_TRAINING, keys)
        last = max((place.step for place in self._scores), default=0)
        for place in list(self._scores):
            if place.step == last:
                del self._scores[place], self._costs[place]
            else:
                self._costs[place] = place.step / last

    def _match_keys(self, task: TaskState) -> list[str] | None:
        """Return the keys of a task's trials in the order of the models; None if it was not judged on all of them."""
        known = {model.key: key for model, key in zip((*self._selected, *task.added), task.keys, strict=False)}
        return [known[model.key] for model in self._models] if all(m.key in known for m in self._models) else None

    def _add_places(self, name: str, keys: Sequence[str]) -> None:
        """Add the scores at all steps that the models have in common; failed models rank last."""
        records = [self._study.trials.read(key) for key in keys]
        devices = self._study.trials.spec(keys[0]).devices
        for step in list_common_steps(records):
            scores = self._score_at(records, step)
            if not np.isnan(scores).any():
                place = Place(name, step)
                self._scores[place] = scores
                self._costs[place] = self._cost_at(records, step, devices)

    def _score_at(self, records: Sequence[TrialRecord], step: int) -> Floats:
        checks = [record.check_at(step) for record in records]
        scores = self._objective.orient(np.array([math.nan if check is None else check.score for check in checks]))
        has_failed = np.array([record.has_failed_by(step) for record in records])
        return np.where(has_failed, -math.inf, scores)

    def _cost_at(self, records: Sequence[TrialRecord], step: int, devices: int) -> float:
        seconds = [check.train_seconds for record in records if (check := record.check_at(step)) is not None]
        return devices * float(np.mean(seconds)) / self._full_seconds

    def _add_proxy(self, finals: Floats) -> tuple[Place | None, float | None, float]:
        """Add the accepted proxy task as a search will train it."""
        best = self._best
        keys = None if best is None else self._match_keys(best)
        if best is None or keys is None or best.final_step is None:
            return None, None, 1.0
        raced = {place.step: s for place, s in self._scores.items() if place.task == best.name}
        looks = [check.step for check in best.checks if check.step <= best.final_step and check.step in raced]
        used, scores = keys, raced.get(best.final_step)
        confirmed = _list_confirmed(self._confirmation, best)
        if confirmed is not None:
            used, scores = (
                confirmed,
                self._score_at([self._study.trials.read(key) for key in confirmed], best.final_step),
            )
        if scores is None or np.isnan(scores).any() or not looks:
            return None, None, 1.0
        place = Place(f"{best.name}, as in a search", best.final_step)
        records = [self._study.trials.read(key) for key in used]
        self._scores[place] = scores
        self._costs[place] = self._cost_at(records, best.final_step, self._study.trials.spec(used[0]).devices)
        optimism, weakening = self._measure_optimism(best, np.stack([raced[step] for step in looks]), scores, finals)
        return place, optimism, weakening

    def _measure_optimism(
        self, best: TaskState, raced: Floats, scores: Floats, finals: Floats
    ) -> tuple[float | None, float]:
        accepted, used = (kendall_tau(_rank_failed(values), finals) for values in (raced[-1], scores))
        if accepted is None or used is None:
            return None, 1.0
        optimism = measure_optimism(_rank_failed(raced), finals, level=accepted.tau)
        return optimism, find_weakening(used.tau, used.tau - optimism)

    def _add_zero_cost(self, finals: Floats) -> Place | None:
        """Add the zero-cost score that ranks the models best."""
        stored = [read_scores(self._study).of(model.architecture) for model in self._models]
        taus: dict[Place, float] = {}
        for name in ZERO_COST:
            values = [None if each is None else getattr(each, name) for each in stored]
            if any(value is None for value in values):
                continue
            scores = np.array(values, dtype=np.float64)
            found = kendall_tau(scores, finals) if scores.size >= 5 else None
            if found is not None and found.tau > 0:
                place = Place(name, 0)
                self._scores[place], self._costs[place], taus[place] = scores, 0.0, found.tau
        best = max(taus, key=lambda place: taus[place], default=None)
        for place in taus.keys() - {best}:
            del self._scores[place], self._costs[place]
        return best

    def _measure_study(self) -> float:
        """Sum the training time of all trials, in seconds of one device."""
        store = self._study.trials
        records = ((store.read_alone(key), store.spec(key).devices) for key in store.keys())
        return sum(record.checks[-1].train_seconds * devices for record, devices in records if record.checks)


def _list_confirmed(confirmation: ConfirmationState | None, best: TaskState) -> list[str] | None:
    """Return the keys of the runs that did not contradict a proxy task; None without such runs."""
    if confirmation is None or confirmation.outcome is not ConfirmationOutcome.STANDS:
        return None
    return list(confirmation.keys) if len(confirmation.keys) == len(best.keys) else None


def _rank_failed(scores: Floats) -> Floats:
    """Give failed models a finite score below all others, so that they tie there."""
    finite = scores[np.isfinite(scores)]
    lowest = float(finite.min()) - 1.0 if finite.size else 0.0
    return np.where(np.isneginf(scores), lowest, scores)
