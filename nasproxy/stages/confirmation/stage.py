"""Confirmation: retrain the winner's models on a schedule that ends at its final step, and judge them there.

The proxy search reads trainings that were stopped before the end of their schedule; a search will train on a schedule
that ends at the final step, which may rank models differently. Optionally, new random models are trained fully and on
this schedule, and judged separately.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nasproxy.errors import TooFewTrialsError
from nasproxy.stages.confirmation.settings import ConfirmSettings
from nasproxy.stages.confirmation.state import STATES, ConfirmationOutcome, ConfirmationState, FreshModels
from nasproxy.stages.confirmation.void import Void, VoidReason, find_absent, find_void
from nasproxy.stages.definition import RecordedTrainings
from nasproxy.stages.proxy_search.judge import Judge, JudgedModels
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.references.selection import make_reference
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Decide, Records, Train
from nasproxy.statistics.contradiction import Confirmation, compare_retraining
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.statistics.score_test import score_lower_limits
from nasproxy.storage.study_stores import StudyStore
from nasproxy.tracking.events import Progress
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import TrialPurpose, TrialRecord
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec


class ConfirmationStage:
    """Confirms one accepted proxy task."""

    name = "confirmation"

    def __init__(
        self,
        settings: ConfirmSettings,
        *,
        task: TaskState,
        references: Sequence[Reference],
        fresh: Sequence[Architecture],
        judge: Judge,
        recipe: Recipe,
        full_seed: int,
        proxy_seed: int,
        study: StudyStore,
        table: RecordedTrainings | None = None,
    ) -> None:
        """Configure the stage.

        Args:
            settings: Settings of the confirmation.
            task: The accepted proxy task.
            references: The selected reference models, in the order of the task's trials.
            fresh: Random architectures that no other stage uses, in the order in which they are trained.
            judge: Judge of the task.
            recipe: The study's recipe.
            full_seed: Seed of full trainings.
            proxy_seed: Seed of the proxy search's trainings and of the confirmation runs.
            study: The study.
            table: The table that the study replays; None if it trains.
        """
        settings.check()
        assert task.final_step is not None
        self._settings = settings
        self._task = task
        self._final_step = task.final_step
        self._judge = judge
        self._objective = recipe.objective
        self._study = study
        self._table = table
        self._name = f"{STATES}/{task.name}_{task.final_step}"
        self._references = (*references, *task.added)
        compressed = compress_schedule(task.proxy_task, recipe, task.final_step)
        self._specs = tuple(
            TrialSpec(model.architecture, compressed, Split.SEARCH, proxy_seed, recipe) for model in self._references
        )
        self._raced = tuple(
            TrialSpec(model.architecture, task.proxy_task, Split.SEARCH, proxy_seed, recipe)
            for model in self._references
        )
        self._fresh_full = tuple(TrialSpec(a, ProxyTask(), Split.FULL, full_seed, recipe) for a in fresh)
        self._fresh_proxy = tuple(TrialSpec(a, compressed, Split.SEARCH, proxy_seed, recipe) for a in fresh)

    def load(self) -> ConfirmationState:
        """Read the stored state if it belongs to this verdict; parts that ended without a result start again."""
        keys = tuple(spec.key for spec in self._specs)
        task = self._task
        new = ConfirmationState(task.name, self._final_step, task.judged_by, task.keys, keys)
        stored = self._study.read(self._name, ConfirmationState)
        if stored is None or not stored.is_of(task) or stored.keys != keys:
            return new
        if stored.outcome is ConfirmationOutcome.VOID:
            return new
        is_complete = stored.fresh is None or self._settings.fresh_models == 0 or self._has_enough_fresh(stored.fresh)
        return stored if is_complete else replace(stored, fresh=None)

    def save(self, state: ConfirmationState) -> ConfirmationState:
        """Store the state."""
        self._study.write(self._name, state)
        return state

    def specs(self, state: ConfirmationState) -> list[TrialSpec]:
        """List confirmation runs and the trials that they repeat; once confirmed, the trials of fresh models."""
        if state.outcome is None:
            return list(self._specs) if state.is_trained_already else [*self._specs, *self._raced]
        return [*self._fresh_full, *self._fresh_proxy] if self._wants_fresh(state) else []

    def purpose(self, spec: TrialSpec) -> TrialPurpose:
        """Return that the trial confirms the task."""
        return TrialPurpose(self.name, self._task.name)

    def next_action(self, state: ConfirmationState, records: Records) -> Train | Decide[ConfirmationState] | None:
        """Retrain all models and judge them, then train and judge fresh ones."""
        if not state.is_begun and (absent := self._find_absent()) is not None:
            return self._void(state, absent)
        if not state.is_begun:
            message = f"{state.task}: training its confirmation runs, {self._final_step:,} steps each"
            return Decide(replace(state, is_begun=True), None if state.is_trained_already else message)
        if state.outcome is None:
            unfinished = self._list_unended(state, records)
            return Train(unfinished, to_end=True) if unfinished else self._judge_runs(state, records)
        return self._next_fresh_action(state, records) if self._wants_fresh(state) else None

    def progress(self, state: ConfirmationState, records: Records) -> Progress:
        """Summarise the steps of the trials of the current part."""
        shown: Sequence[TrialSpec] = self._specs
        if state.outcome is not None:
            shown = self._list_fresh_trials(records) if self._wants_fresh(state) else ()
        specs = {spec.key: spec.total_steps for spec in shown}
        return Progress(
            stage=self.name,
            detail=f"{self._task.name}, fresh models" if specs and state.outcome is not None else self._task.name,
            trials_done=sum(records[key].reached(total) for key, total in specs.items()),
            trials_total=len(specs),
            steps_done=sum(records[key].step for key in specs),
            steps_total=sum(specs.values()),
        )

    @property
    def _stated_tau(self) -> float | None:
        """The target tau of the verdict; None for a task that was accepted for its score."""
        return self._judge.criterion.target if self._task.stopping_state is StoppingState.MET_CORRELATION else None

    def _judge_runs(self, state: ConfirmationState, records: Records) -> Decide[ConfirmationState]:
        models = JudgedModels(self._references, tuple(records[spec.key] for spec in self._specs), self._objective)
        void = None if state.is_trained_already else self._find_void(models, records)
        if void is not None:
            return self._void(state, void)
        last = self._task.checks[-1].correlation if self._task.checks else None
        result = self._compare(models, last)
        outcome = ConfirmationOutcome.CONTRADICTED if result.is_contradicted else ConfirmationOutcome.STANDS
        return Decide(
            replace(state, outcome=outcome, result=result), f"{state.task}: {_describe_outcome(outcome, result)}"
        )

    def _void(self, state: ConfirmationState, void: Void) -> Decide[ConfirmationState]:
        voided = replace(state, is_begun=True, outcome=ConfirmationOutcome.VOID, void=void)
        outcome = "not confirmed" if void.reason is VoidReason.NOT_IN_TABLE else "confirmation void"
        return Decide(voided, f"{state.task}: {outcome}, {void.description}")

    def _find_absent(self) -> Void | None:
        models = JudgedModels(self._references, (TrialRecord(),) * len(self._specs), self._objective)
        return find_absent(self._specs, self._table, step=self._final_step, needed=self._judge.needed(models))

    def _list_unended(self, state: ConfirmationState, records: Records) -> Mapping[str, int]:
        """List the confirmation runs that must still end: whether they crash after their last check matters too."""
        if state.is_trained_already:
            return _list_unfinished(self._specs, records)
        return {spec.key: spec.total_steps for spec in self._specs if not records[spec.key].has_ended}

    def _find_void(self, models: JudgedModels, records: Records) -> Void | None:
        return find_void(
            models.records,
            [records[spec.key] for spec in self._raced],
            step=self._final_step,
            needed=self._judge.needed(models),
            allow_identical=self._settings.allow_identical,
        )

    def _compare(self, models: JudgedModels, truncated: RankCorrelation | None) -> Confirmation:
        return compare_retraining(
            models.scores_at(self._final_step),
            models.reference_scores,
            stated_tau=self._stated_tau,
            alpha=self._settings.alpha,
            truncated=truncated,
        )

    def _has_enough_fresh(self, fresh: FreshModels) -> bool:
        """Return whether the stored fresh models suffice: as many as required now, and with a result if judged."""
        if fresh.is_judged:
            return fresh.wanted >= self._settings.fresh_models and fresh.result is not None
        return fresh == self._start_fresh()

    def _start_fresh(self) -> FreshModels:
        full, proxy = (tuple(spec.key for spec in specs) for specs in (self._fresh_full, self._fresh_proxy))
        return FreshModels(self._settings.fresh_models, full, proxy)

    def _wants_fresh(self, state: ConfirmationState) -> bool:
        is_judged = state.fresh is not None and state.fresh.is_judged
        return state.outcome is ConfirmationOutcome.STANDS and self._settings.fresh_models > 0 and not is_judged

    def _next_fresh_action(self, state: ConfirmationState, records: Records) -> Train | Decide[ConfirmationState]:
        if state.fresh is None:
            message = f"{state.task}: training {self._settings.fresh_models} fresh models fully"
            return Decide(replace(state, fresh=self._start_fresh()), message)
        unfinished = _list_unfinished(self._list_fresh_trials(records), records)
        return Train(unfinished) if unfinished else self._judge_fresh(state, state.fresh, records)

    def _list_fresh_trials(self, records: Records) -> list[TrialSpec]:
        """List full trainings of as many models as required, one more for each that failed; then proxy trainings."""
        full = self._list_fresh_full(records)
        if _list_unfinished(full, records):
            return full
        return [*full, *(proxy for _, proxy in self._list_trainable(records))]

    def _list_fresh_full(self, records: Records) -> list[TrialSpec]:
        specs: list[TrialSpec] = []
        for spec in self._fresh_full:
            if sum(not _has_failed(records[other.key], other) for other in specs) == self._settings.fresh_models:
                break
            specs.append(spec)
        return specs

    def _list_trainable(self, records: Records) -> list[tuple[TrialSpec, TrialSpec]]:
        """List full training and proxy training of each candidate that trained fully."""
        pairs = zip(self._list_fresh_full(records), self._fresh_proxy, strict=False)
        return [(full, proxy) for full, proxy in pairs if records[full.key].reached(full.total_steps)]

    def _judge_fresh(self, state: ConfirmationState, fresh: FreshModels, records: Records) -> Decide[ConfirmationState]:
        trainable = self._list_trainable(records)
        references = tuple(make_reference(number, full, records) for number, (full, _) in enumerate(trainable))
        models = JudgedModels(references, tuple(records[proxy.key] for _, proxy in trainable), self._objective)
        try:
            result = _bound_fresh(self._compare(models, None))
        except TooFewTrialsError:
            result = None
        failed_statuses = [
            records[spec.key].status
            for spec in self._list_fresh_trials(records)
            if _has_failed(records[spec.key], spec)
        ]
        causes = Counter(status.cause.value for status in failed_statuses if status.cause is not None)
        judged = replace(
            fresh, is_judged=True, trainable=len(trainable), failed=tuple(causes.most_common()), result=result
        )
        message = "too few models with scores" if result is None else _describe_tau(result)
        return Decide(replace(state, fresh=judged), f"{state.task}: {len(trainable)} fresh models: {message}")


def compress_schedule(task: ProxyTask, recipe: Recipe, final_step: int) -> ProxyTask:
    """Return the proxy task with a schedule that ends at one of its checks.

    Earlier checks stay, because a training without checks cannot be paused. A task that was accepted at its last step
    is returned unchanged.

    Args:
        task: The proxy task.
        recipe: The study's recipe.
        final_step: Last step of the new schedule.
    """
    whole = recipe.under(task)
    if final_step == whole.total_steps:
        return task
    return replace(task, overrides={**task.overrides, "training.total_steps": final_step})


def _bound_fresh(result: Confirmation) -> Confirmation:
    """Return the result with the ordinary lower limit of its tau: fresh models had no part in any selection."""
    found = result.correlation
    return result if found is None else replace(result, bound=float(score_lower_limits(found.tau, found.n)))


def _has_failed(record: TrialRecord, spec: TrialSpec) -> bool:
    return record.is_failed and not record.reached(spec.total_steps)


def _list_unfinished(specs: Sequence[TrialSpec], records: Records) -> Mapping[str, int]:
    return {
        spec.key: spec.total_steps
        for spec in specs
        if not (records[spec.key].is_failed or records[spec.key].reached(spec.total_steps))
    }


def _describe_outcome(outcome: ConfirmationOutcome, result: Confirmation) -> str:
    verdict = "contradicted" if outcome is ConfirmationOutcome.CONTRADICTED else "confirmed"
    return f"{verdict}, {_describe_tau(result)}"


def _describe_tau(result: Confirmation) -> str:
    if result.correlation is None:
        return "tau is undefined"
    found = f"tau {result.correlation.tau:.2f} on {result.correlation.n} models"
    if result.p_value is None or result.noticeable_tau is None:
        return found
    power = (
        f"the test detects tau <= {result.noticeable_tau:.2f} with 80 % power"
        if result.noticeable_tau > 0
        else "with so few models the test detects no tau above 0 with 80 % power"
    )
    p_value = "p < 0.001" if result.p_value < 0.001 else f"p {result.p_value:.3f}"
    return f"{found}, {p_value} (target {result.stated_tau:g}; {power})"
