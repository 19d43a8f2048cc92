"""All results of a study, read from its folder into one object; results of stages that have not run are missing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasproxy.errors import CorruptTrialError, TooFewTrialsError
from nasproxy.stages.common_steps import list_common_steps
from nasproxy.stages.confirmation.state import ConfirmationState, find_confirmation, read_confirmations
from nasproxy.stages.headline import Headline, find_headline
from nasproxy.stages.noise_ceiling import find_noise_ceiling
from nasproxy.stages.proxy_search import reopening
from nasproxy.stages.proxy_search.rules import read_criterion_setting, read_settings
from nasproxy.stages.proxy_search.settings import SearchSettings
from nasproxy.stages.proxy_search.state import (
    TaskCheck,
    TaskOrigin,
    TaskState,
    find_best_task,
    read_rules,
    read_tasks,
)
from nasproxy.stages.references.baseline import find_baseline_comparison
from nasproxy.stages.references.count_decision import CountDecision, read_decision
from nasproxy.stages.references.state import Reference, SelectionState, read_selection
from nasproxy.stages.registry import list_stages
from nasproxy.stages.schedule_comparison.state import ScheduleComparisonState, read_comparison
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.state import VarianceResult, VarianceState, read_variance
from nasproxy.stages.worth.state import LadderState, WorthState, read_ladder, read_worth
from nasproxy.statistics.baseline_comparison import BaselineComparison
from nasproxy.statistics.ceiling import NoiseCeiling, RangeCheck, check_range
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.range_sampling import RangeSampling, measure_sampling
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau, rank_failed_last
from nasproxy.statistics.variance import compute_noise_ratio
from nasproxy.statistics.worst_case import TauBounds, worst_case_tau
from nasproxy.storage.study import RECORD, StudyRecord
from nasproxy.storage.study_stores import StudyStore
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.storage.zero_cost_scores import ZeroCostScores, read_scores
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Status, TrialPurpose, TrialRecord
from nasproxy.trials.spec import TrialSpec, to_canonical_json

T = TypeVar("T")


UNKNOWN_PURPOSE = "unknown"


class Purpose(str, Enum):
    """Purposes of trials that this package's stages create, as readers see them; other stages have others."""

    VARIANCE = "variance"
    SELECTION = "references"
    ADDED_REFERENCES = "added references"
    PROXY_SEARCH = "proxy search"
    CONFIRMATION = "confirmation"
    SCHEDULES = "schedule comparison"


@dataclass(frozen=True)
class Trial:
    """A trial and its purpose.

    Attributes:
        spec: Specification of the trial.
        record: Its record, merged with those of its retries.
        alone: Its own record.
        purpose: What it was created for, as readers see it; a trial that several stages share counts only there.
        task: Name of the proxy task that it was created for; None if it was created for none.
    """

    spec: TrialSpec
    record: TrialRecord
    alone: TrialRecord
    purpose: str
    task: str | None = None


@dataclass(frozen=True, eq=False)
class ModelScores:
    """Scores of a proxy task's models at one step, each of shape (n_models,), in the order of its trials.

    Attributes:
        proxy: Scores under the proxy task; NaN if missing.
        reference: Full-training scores; NaN if missing.
        has_failed: Whether the model ran out of memory or diverged before the step; it ranks last.
        objective: The study's metric and its direction.
    """

    proxy: Floats
    reference: Floats
    has_failed: NDArray[np.bool_]
    objective: Objective = field(default_factory=Objective)

    @classmethod
    def none(cls) -> "ModelScores":
        """Make an empty instance, without models."""
        return cls(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))

    @property
    def ranked(self) -> Floats:
        """Proxy scores, shape (n_models,), higher is better, with the failed models below all others."""
        return rank_failed_last(self.objective.orient(self.proxy), self.has_failed)

    @property
    def ranked_reference(self) -> Floats:
        """Full-training scores, shape (n_models,), higher is better."""
        return self.objective.orient(self.reference)

    def measure(self, statistic: Callable[[Floats, Floats], T | None]) -> T | None:
        """Compute a statistic of proxy and full-training scores; None if undefined, or with too few models."""
        try:
            return statistic(self.ranked, self.ranked_reference)
        except TooFewTrialsError:
            return None


@dataclass(frozen=True)
class StudyResults:
    """All results of a study.

    Attributes:
        name: The study's name.
        base: Base configuration of the study, by dotted path; empty if unknown.
        variance: State of the variance measurement; None before it.
        selection: State of the selection of reference models; None before it.
        reference_count: How many reference models were chosen, and why; None if the numbers were given.
        tasks: States of the proxy tasks, by name.
        trials: All trials, by key.
        time_tolerance: Share by which a task must be cheaper than the best one to replace it.
        judged_by: Rules by which proxy tasks were last judged; None before.
        policy: Policy of the proxy search, `race` or `sequential`; None if it is not stored.
        origin: How the proxy tasks were given; None if it is not stored.
        confirmations: Confirmations of accepted proxy tasks.
        zero_cost: Zero-cost scores of the models.
        schedules: The schedule comparison; None before it is measured.
        ladder: The certified ladder, or why there is none; None before it is designed.
        worth: The comparison of strategies for the search; None before it is made.
        stage_results: Result of each stage that brings its own part of the report or its own decisions, by the stage's
            name; None for one without a result. The stages of this package have the attributes above.
        damaged: What is wrong with the files of each damaged trial, by key. It counts as pending, and begins again when
            the study goes on; one whose specification is damaged is not among `trials`.
    """

    name: str
    base: Mapping[str, Any]
    variance: VarianceState | None
    selection: SelectionState | None
    tasks: Mapping[str, TaskState]
    trials: Mapping[str, Trial]
    time_tolerance: float
    judged_by: str | None
    policy: str | None = None
    origin: TaskOrigin | None = None
    reference_count: CountDecision | None = None
    confirmations: Sequence[ConfirmationState] = ()
    zero_cost: ZeroCostScores = field(default_factory=ZeroCostScores)
    schedules: ScheduleComparisonState | None = None
    ladder: LadderState | None = None
    worth: WorthState | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)
    stage_results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> VarianceResult | None:
        """Result of the variance measurement; None before it."""
        return None if self.variance is None else self.variance.result

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the score over seeds, in units of the score; None before it is measured."""
        return None if self.measured is None else self.measured.deviation.sd

    @property
    def references(self) -> tuple[Reference, ...]:
        """The reference models, best first; empty before they are trained."""
        return () if self.selection is None else self.selection.references or ()

    @property
    def added(self) -> tuple[Reference, ...]:
        """References that were added for inconclusive verdicts of any proxy task."""
        return tuple({model.key: model for task in self.tasks.values() for model in task.added}.values())

    @property
    def is_replayed(self) -> bool:
        """Whether the trainings come from a table of learning curves: only those can be repeated from memory."""
        return bool(self.base.get("storage.trials") == "memory")

    @property
    def is_spread(self) -> bool:
        """Whether the reference models were selected for their spread."""
        return self.selection is not None and any(iteration.removed for iteration in self.selection.iterations)

    @property
    def search_trials(self) -> int:
        """Number of models of the search: that for which strategies were compared last, or that of the proxy search."""
        return self.decided_trials if self.worth is None else self.worth.trials

    @property
    def decided_trials(self) -> int:
        """Number of models of the search that decided whether reference models were added."""
        trials = read_settings(self.judged_by).get("trials")
        return trials if isinstance(trials, int) else SearchSettings().trials

    @property
    def time_limit(self) -> float | None:
        """Training time of a model at which a proxy task is stopped, in seconds; None for no limit."""
        limit = read_settings(self.judged_by).get("train_seconds_limit")
        return float(limit) if isinstance(limit, int | float) else None

    @cached_property
    def best(self) -> TaskState | None:
        """The accepted proxy task with the shortest training; None if no task is accepted."""
        return find_best_task(self.tasks, self.judged_by, time_tolerance=self.time_tolerance)

    @cached_property
    def objective(self) -> Objective:
        """The metric that decisions were made on."""
        return read_objective(self.base)

    @property
    def metric_label(self) -> str:
        """Name of the metric, with its direction where lower is better."""
        return self.objective.name if self.objective.mode == "max" else f"{self.objective.name} (lower is better)"

    @cached_property
    def full_steps(self) -> int | None:
        """Optimizer steps of a full training; None if unknown."""
        if "training.total_steps" in self.base:
            return int(self.base["training.total_steps"])
        keys = (reference.key for reference in self.references)
        return next((self.trials[key].spec.total_steps for key in keys if key in self.trials), None)

    @cached_property
    def ceiling(self) -> NoiseCeiling | None:
        """Noise ceiling: the tau that seed noise allows a perfect proxy; None before variance and references exist."""
        return find_noise_ceiling(self.variance, self.selection)

    @cached_property
    def noise_ratio(self) -> float | None:
        """SD over seeds divided by that between reference models; None before both are measured."""
        if self.measured is None or self.base.get("variance.total_steps") not in (None, self.full_steps):
            return None
        return compute_noise_ratio(self.measured.final_scores, [reference.score for reference in self.references])

    @property
    def max_noise_ratio(self) -> float:
        """Limit of the noise ratio."""
        return float(self.base.get("variance.max_noise_ratio", VarianceSettings.max_noise_ratio))

    @property
    def has_low_noise(self) -> bool:
        """Whether the variance measurement, compared with the reference models too, is within its limits."""
        is_good = self.measured is None or self.measured.verdict.is_good
        return is_good and (self.noise_ratio is None or self.noise_ratio <= self.max_noise_ratio)

    @cached_property
    def range(self) -> RangeCheck | None:
        """Comparison of the range of all reference scores with seed noise; None before both are measured."""
        if self.seed_sd is None or not self.references:
            return None
        return check_range([model.score for model in (*self.references, *self.added)], self.seed_sd)

    @cached_property
    def sampling(self) -> RangeSampling | None:
        """How all reference scores cover their range; None for fewer than 5, or if all are equal."""
        try:
            scores = [self.objective.orient(model.score) for model in (*self.references, *self.added)]
            return measure_sampling(scores, self.seed_sd)
        except TooFewTrialsError:
            return None

    @cached_property
    def baseline_comparison(self) -> BaselineComparison | None:
        """Comparison of all reference models with the baseline model; None before both are trained."""
        return find_baseline_comparison(self.selection, self.variance, self.objective, added=self.added)

    def confirmation_of(self, task: TaskState) -> ConfirmationState | None:
        """Return the confirmation of a proxy task's current verdict; None if there is none."""
        return find_confirmation(self.confirmations, task)

    @cached_property
    def headline(self) -> Headline | None:
        """Tau, bound and grade of the chosen proxy task; None if none is chosen."""
        return None if self.best is None else find_headline(self.best, self.confirmation_of(self.best))

    def scores_at(self, task: TaskState, step: int) -> ModelScores:
        """Return proxy and full-training scores of a proxy task's models at a step."""
        records = [self.trials[key].record if key in self.trials else TrialRecord() for key in task.keys]
        checks = [record.check_at(step) for record in records]
        scores = np.array([math.nan if check is None else check.score for check in checks])
        has_failed = np.array([record.has_failed_by(step) for record in records])
        return ModelScores(scores, self._reference_scores(task), has_failed, self.objective)

    def lost_bounds(self, task: TaskState, step: int) -> TauBounds | None:
        """Compute the range of tau that is possible for any scores of models without one; None if all have scores."""
        scores = self.scores_at(task, step)
        if not (np.isnan(scores.ranked) | np.isnan(scores.reference)).any():
            return None
        return scores.measure(worst_case_tau)

    def full_training_curve(self) -> Iterator[tuple[int, float, RankCorrelation]]:
        """Compute how well each common check of full training ranks the references as the last check does.

        Optimistically biased, because each training is compared with its own end: same seed, same images.

        Yields:
            Step, median training time in seconds (of all devices) and tau with the final scores.
        """
        trained = [reference for reference in self.references if reference.key in self.trials]
        records = [self.trials[reference.key].record for reference in trained]
        final = [reference.score for reference in trained]
        devices = self.trials[trained[0].key].spec.devices if trained else 1
        for step in list_common_steps(records):
            checks = [record.check_at(step) for record in records]
            scores = [math.nan if c is None else c.score for c in checks]
            try:
                correlation = kendall_tau(scores, final)
            except TooFewTrialsError:
                continue
            if correlation is not None:
                seconds = devices * float(np.median([c.train_seconds for c in checks if c]))
                yield step, seconds, correlation

    def _reference_scores(self, task: TaskState) -> Floats:
        scores = {to_canonical_json(model.architecture): model.score for model in (*self.references, *task.added)}
        architectures = [self.trials[key].spec.architecture if key in self.trials else {} for key in task.keys]
        return np.array([scores.get(to_canonical_json(architecture), math.nan) for architecture in architectures])


def read_results(study: StudyStore, *, time_tolerance: float) -> StudyResults:
    """Read all results of a study; changes no file.

    Args:
        study: The study.
        time_tolerance: Share by which a proxy task must be cheaper than the best one to replace it.

    Raises:
        CorruptFileError: A file of the study cannot be read.
    """
    record = study.read(RECORD, StudyRecord)
    base = {} if record is None else record.base
    variance, selection = read_variance(study), read_selection(study)
    confirmations = read_confirmations(study)
    rules = read_rules(study)
    tasks = reopening.apply_confirmations(read_tasks(study), confirmations)
    schedules = read_comparison(study)
    trials, damaged = _read_trials(study.trials)
    return StudyResults(
        name=study.name,
        base=base,
        variance=variance,
        selection=selection,
        tasks=tasks,
        trials=trials,
        time_tolerance=time_tolerance,
        judged_by=rules.judged_by,
        policy=rules.policy,
        origin=rules.origin,
        reference_count=read_decision(study),
        confirmations=confirmations,
        zero_cost=read_scores(study),
        schedules=schedules if schedules is not None and schedules.is_measured else None,
        ladder=read_ladder(study),
        worth=read_worth(study),
        stage_results={stage.name: stage.load(study) for stage in list_stages() if stage.shows_result},
        damaged=damaged,
    )


def read_objective(base: Mapping[str, Any]) -> Objective:
    """Read the metric of a study, and its direction, from its base configuration."""
    return StudyRecord(base).objective


def find_decisive_check(task: TaskState) -> TaskCheck | None:
    """Find the look at which a proxy task was stopped, or its last one so far; None before the first."""
    last = task.checks[-1] if task.checks else None
    return next((check for check in task.checks if check.step == task.final_step), last)


def read_criterion(task: TaskState) -> Mapping[str, Any]:
    """Read the settings of the criterion by which a proxy task was judged; empty if they are not stored."""
    settings = read_settings(task.judged_by).get("criterion")
    return settings if isinstance(settings, dict) else {}


def read_target(task: TaskState) -> float | None:
    """Read the target tau of a proxy task; None if it is not stored."""
    return read_criterion_setting(task.judged_by, "target")


def describe_purpose(purpose: TrialPurpose | None) -> str:
    """Describe for readers what a trial was created for."""
    if purpose is None:
        return UNKNOWN_PURPOSE
    is_added = purpose.stage == "proxy_search" and purpose.task is None
    return Purpose.ADDED_REFERENCES.value if is_added else purpose.stage.replace("_", " ")


def rank_purpose(purpose: str) -> tuple[int, str]:
    """Return the place of a purpose in the order of the stages, to sort by; unknown ones come last, by name."""
    order = [each.value for each in Purpose]
    return (order.index(purpose) if purpose in order else len(order), purpose)


def _read_trials(store: TrialStore) -> tuple[dict[str, Trial], dict[str, str]]:
    """Read all trials, and what is wrong with those that are damaged, by key."""
    alone, specs, damaged = {}, {}, {}
    purposes = store.purposes()
    for key in sorted(purposes):
        try:
            specs[key] = store.spec(key)
            alone[key] = store.read_alone(key)
        except CorruptTrialError as error:
            damaged[key] = error.reason
            alone[key] = TrialRecord(Status(message=error.reason))
    # A retry has the purpose of its original trial: of several originals, the one with the most retries.
    by_length = sorted(alone.items(), key=lambda item: len(item[1].retries))
    originals = {retry.key: key for key, record in by_length for retry in record.retries}
    trials = {}
    for key, spec in specs.items():
        purpose = purposes.get(originals.get(key, key))
        task = None if purpose is None else purpose.task
        is_readable = damaged.keys().isdisjoint((key, *(retry.key for retry in alone[key].retries)))
        trials[key] = Trial(
            spec, store.read(key) if is_readable else alone[key], alone[key], describe_purpose(purpose), task
        )
    return trials, damaged
