"""What the controllers have decided, as it is stored; what a report reads."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.statistics.acceptance import Verdict
from nasproxy.statistics.contradiction import Confirmation
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.statistics.variance import SeedDeviation, VarianceVerdict
from nasproxy.storage.files import read_record, stamp
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture


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
        workable: The first candidate that trained, by number.
        architecture: That candidate.
        result: The measurement, once all copies ended.
    """

    workable: int | None = None
    architecture: Architecture | None = None
    result: VarianceResult | None = None


@dataclass(frozen=True)
class Iteration:
    """One round: candidates trained to the same step, and what was decided then.

    Attributes:
        candidates: Numbers of the candidates that took part.
        fraction: Share of the training that they were to reach.
        until_step: The check they were compared at.
        kept: Candidates that go on, once decided.
        removed: Candidates dropped for being like another.
        failed: Candidates that failed.
    """

    candidates: tuple[int, ...]
    fraction: float
    until_step: int
    kept: tuple[int, ...] | None = None
    removed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Reference:
    """A candidate with a full-training score.

    Attributes:
        number: Its place among the candidates.
        architecture: What it is.
        key: Its trial.
        score: That of its last check.
        train_seconds: Of its training, on all devices together.
    """

    number: int
    architecture: Architecture
    key: str
    score: float
    train_seconds: float


@dataclass(frozen=True)
class SelectionState:
    """Decisions so far.

    Attributes:
        architectures: All candidates; a candidate's number is its place here.
        keys: Their trials' keys.
        iterations: The rounds, the last one perhaps undecided.
        references: The reference models, best first, once trained.
        baseline: The user's own architecture among them, if given.
    """

    architectures: tuple[Architecture, ...]
    keys: tuple[str, ...]
    iterations: tuple[Iteration, ...]
    references: tuple[Reference, ...] | None = None
    baseline: Reference | None = None


@dataclass(frozen=True)
class ScheduleCurve:
    """One training of the comparison of schedules.

    Attributes:
        schedule: How the learning rate moved.
        smoothing: How the weights were smoothed.
        key: Its trial.
        smoothness: Of its learning curve, lower is smoother; None where it is undefined, or it failed.
        score: Its last score; None where it failed.
    """

    schedule: str
    smoothing: str
    key: str
    smoothness: float | None = None
    score: float | None = None

    @property
    def name(self) -> str:
        """What tells it from the others, in words."""
        return self.schedule if self.smoothing == "none" else f"{self.schedule}, {self.smoothing}"


@dataclass(frozen=True)
class SchedulesState:
    """What is known of the comparison of schedules.

    Attributes:
        architecture: What was trained.
        curves: The trainings.
        is_measured: Whether all of them have ended.
    """

    architecture: Architecture
    curves: tuple[ScheduleCurve, ...]
    is_measured: bool = False


class StoppingState(str, enum.Enum):
    """Why a proxy task's judgement ended, in the cloud tool's words."""

    MET_CORRELATION = "Met desired correlation"
    MET_ACCURACY = "Met desired accuracy"
    EXCEEDED_TIME_LIMIT = "Exceeded training time limit"
    EXCEEDED_BEST_TIME = "Exceeded best training time"
    EXCESS_FAILURES = "Excess trial failures"
    RAN_TO_COMPLETION = "Ran till completion"
    CONTRADICTED = "Contradicted by its confirmation"
    """Accepted first; the cloud tool, which does not confirm, has no word for it."""

    @property
    def is_success(self) -> bool:
        """Whether the proxy task may be chosen."""
        return self in (StoppingState.MET_CORRELATION, StoppingState.MET_ACCURACY)


@dataclass(frozen=True)
class TaskCheck:
    """What a proxy task showed at one step.

    Attributes:
        step: Finished optimizer steps.
        models: Reference models that it was judged on.
        correlation: Rank correlation with the reference scores; None where undefined.
        needed: The tau that the criterion asked for here; None where it asks for none.
        lower_limit: The criterion's one-sided lower limit of the true tau; None where it has none.
        median_score: Median score of the models.
        median_train_seconds: Median training time of the models up to here, validation excluded, of all devices of a
            trial together.
        rated_seconds: The same by the seconds per step that were measured first: what races are decided on.
    """

    step: int
    models: int
    correlation: RankCorrelation | None
    needed: float | None
    lower_limit: float | None
    median_score: float
    median_train_seconds: float
    rated_seconds: float


@dataclass(frozen=True)
class TaskState:
    """What is known and decided of one proxy task.

    Attributes:
        name: Its name.
        number: Its place in the grid, after those that the study knew already.
        proxy_task: Its setting.
        judged_by: The rules it was judged by; under others it is judged anew, on the same trials.
        keys: Its trials, in the order of its models: the references, then those that were added.
        total_steps: Steps of its whole training.
        added: References that were added to the selected ones while its verdict was undecided.
        asked: Candidates of the reserve that it called up for that.
        settled: How many of these have been trained fully, or failed.
        checks: What it showed so far.
        verdict: The criterion's last word.
        stopping_state: Why its judgement ended; None while it goes on.
        final_step: The step it was stopped at.
        final_train_seconds: Median training time up to there, of all devices together.
        beaten_by: The accepted task that it could no longer be cheaper than, if that ended it.
    """

    name: str
    number: int
    proxy_task: ProxyTask
    judged_by: str
    keys: tuple[str, ...]
    total_steps: int
    added: tuple[Reference, ...] = ()
    asked: int = 0
    settled: int = 0
    checks: tuple[TaskCheck, ...] = ()
    verdict: Verdict | None = None
    stopping_state: StoppingState | None = None
    final_step: int | None = None
    final_train_seconds: float | None = None
    beaten_by: str | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether it may be chosen."""
        return self.stopping_state is not None and self.stopping_state.is_success

    @property
    def final_rated_seconds(self) -> float | None:
        """Training time up to the step it was stopped at, as races count it."""
        return next((check.rated_seconds for check in self.checks if check.step == self.final_step), None)


@dataclass(frozen=True)
class ProxySearchState:
    """All proxy tasks that the study knows, this controller's own in the order of its grid."""

    tasks: Mapping[str, TaskState] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """The rules that proxy tasks were last judged by; a task judged by others is no candidate beside them.

    Attributes:
        judged_by: The rules in words.
        policy: In what order the tasks were judged, which changes no verdict; None where it is not on record.
    """

    judged_by: str
    policy: str | None = None


class Outcome(str, enum.Enum):
    """What a confirmation ended with."""

    STANDS = "stands"
    CONTRADICTED = "contradicted"
    EXCESS_FAILURES = "excess trial failures"


@dataclass(frozen=True)
class FreshModels:
    """Models that no verdict rests on, trained fully and under the confirmed proxy task.

    Attributes:
        wanted: Workable models that were asked for.
        full_keys: Full trainings of the candidates, in the order they are taken in.
        proxy_keys: Their trainings under the proxy task, in the same order.
        is_judged: Whether all that were tried have ended.
        workable: Models that trained fully.
        failed: Trials that failed by cause, full and proxy trainings together.
        result: What they say; None before, and where too few have scores.
    """

    wanted: int
    full_keys: tuple[str, ...]
    proxy_keys: tuple[str, ...]
    is_judged: bool = False
    workable: int = 0
    failed: tuple[tuple[str, int], ...] = ()
    result: Confirmation | None = None


@dataclass(frozen=True)
class ConfirmationState:
    """What is known of the retraining of an accepted proxy task on a schedule that ends where it was stopped.

    Attributes:
        task: The proxy task's name.
        final_step: The step it was stopped at.
        judged_by: The rules it was accepted by, and is confirmed by.
        judged_keys: The trials it was accepted on.
        keys: Their retrainings, in the same order.
        is_begun: Whether anything was decided yet.
        outcome: What became of the verdict; None while the models train.
        result: The judgement; None before, and where too many trials failed.
        fresh: What fresh models say, where they were asked for.
    """

    task: str
    final_step: int
    judged_by: str
    judged_keys: tuple[str, ...]
    keys: tuple[str, ...]
    is_begun: bool = False
    outcome: Outcome | None = None
    result: Confirmation | None = None
    fresh: FreshModels | None = None

    @property
    def is_trained_already(self) -> bool:
        """Whether the verdict rests on trainings to their end, so that none had to be trained again."""
        return self.keys == self.judged_keys

    def is_of(self, task: TaskState) -> bool:
        """Whether it is about this verdict, and no other of the same proxy task."""
        mine = (self.task, self.final_step, self.judged_by, self.judged_keys)
        return mine == (task.name, task.final_step, task.judged_by, task.keys)

    def contradicts(self, task: TaskState) -> bool:
        """Whether this verdict cannot stand."""
        return self.outcome is Outcome.CONTRADICTED and self.is_of(task)


def best_task(
    tasks: Mapping[str, TaskState], judged_by: str | None, *, time_tolerance: float = 0.0
) -> TaskState | None:
    """The accepted proxy task that trains shortest; of those alike within the tolerance, the first.

    Args:
        tasks: Proxy tasks, in the order of the grid.
        judged_by: The rules that count; None where the study has judged nothing yet.
        time_tolerance: Share by which a later task must be shorter.

    Returns:
        The task, or None where none was accepted.
    """
    best: TaskState | None = None
    best_seconds = float("inf")
    for task in tasks.values():
        seconds = task.final_rated_seconds
        if not task.is_accepted or task.judged_by != judged_by or seconds is None:
            continue
        if best is None or seconds < best_seconds * (1 - time_tolerance):
            best, best_seconds = task, seconds
    return best


def read_rules(folder: Path) -> str | None:
    """The rules that a study's proxy tasks were last judged by, from the folder of their states."""
    rules = read_record(folder.parent / "rules.json", Rules)
    return None if rules is None else rules.judged_by


def read_policy(folder: Path) -> str | None:
    """In what order a study's proxy tasks were last judged, from the folder of their states."""
    rules = read_record(folder.parent / "rules.json", Rules)
    return None if rules is None else rules.policy


KnownTasks = dict[Path, tuple[tuple[int, ...], TaskState]]
"""States of proxy tasks by file, with the version of the file that they were read from."""


def read_tasks(folder: Path, known: KnownTasks | None = None) -> dict[str, TaskState]:
    """Every proxy task that a study has a state of, by name.

    Args:
        folder: Where each has its file.
        known: States that were read before, to read only what has changed; what is read is added.

    Raises:
        CorruptFileError: One of them cannot be read.
    """
    known = {} if known is None else known
    tasks: dict[str, TaskState] = {}
    for path in folder.glob("*.json"):
        version = stamp(path)
        if path not in known or known[path][0] != version:
            task = read_record(path, TaskState)
            if task is None:
                continue
            known[path] = version, task
        tasks[known[path][1].name] = known[path][1]
    return in_order(tasks)


def read_confirmations(folder: Path) -> list[ConfirmationState]:
    """Every confirmation of a study, also of verdicts that no longer hold.

    Raises:
        CorruptFileError: One of them cannot be read.
    """
    states = (read_record(path, ConfirmationState) for path in sorted(folder.glob("*.json")))
    return [state for state in states if state is not None]


def in_order(tasks: Mapping[str, TaskState]) -> dict[str, TaskState]:
    """As the grid has them: of tasks that cost alike the first is taken, by every reader."""
    return dict(sorted(tasks.items(), key=lambda item: (item[1].number, item[0])))
