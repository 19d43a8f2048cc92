"""Stored state of the proxy search: the looks at each proxy task and the decisions."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import Verdict
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.statistics.selection_bound import SelectionMargin
from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.proxy_task import ProxyTask

PREFIX = "proxy_search"
"""Prefix of the names of the decisions in a study: the states of its tasks, and the rules."""
JUDGED_PREFIX = "proxy_search/jobs"
"""Prefix of what the jobs of a sweep judged, which the merge decides."""


class StoppingState(str, enum.Enum):
    """Why a proxy task was stopped, with Vertex AI NAS's terms as values."""

    MET_CORRELATION = "Met desired correlation"
    MET_ACCURACY = "Met desired accuracy"
    EXCEEDED_TIME_LIMIT = "Exceeded training time limit"
    EXCEEDED_BEST_TIME = "Exceeded best training time"
    EXCESS_FAILURES = "Excess trial failures"
    RAN_TO_COMPLETION = "Ran till completion"
    CONTRADICTED = "Contradicted by its confirmation"
    """Accepted first, contradicted later; Vertex AI NAS has no confirmation and no such state."""

    @property
    def is_success(self) -> bool:
        """Whether the proxy task was accepted."""
        return self in (StoppingState.MET_CORRELATION, StoppingState.MET_ACCURACY)


@dataclass(frozen=True)
class TaskCheck:
    """Measures of a proxy task at one look.

    Attributes:
        step: Finished optimizer steps.
        models: Number of reference models that it was judged on.
        correlation: Rank correlation with the reference scores; None if undefined.
        needed: Acceptance threshold for tau at this check; None if the criterion has none.
        lower_limit: One-sided lower limit of the true tau; None if the criterion has none.
        median_score: Median score of the models.
        median_train_seconds: Median training time of the models up to this check, in seconds, validation excluded,
            of all devices of a trial together.
        rated_seconds: The same time computed from the speed measured first, on which the race decides.
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
    """Looks and decisions of one proxy task.

    Attributes:
        name: Name of the task.
        number: Index in the grid, counted after the tasks that the study had before.
        proxy_task: The setting.
        judged_by: Rules by which it was judged; under other rules it is judged again, on the same trials.
        keys: Keys of its trials, in the order of its models: selected references, then added ones.
        total_steps: Steps of its whole training.
        added: References that were added to the selected ones because its verdict was inconclusive.
        requested: Number of candidates that it requested as references.
        completed: Number of requested candidates that have been trained fully, or failed.
        checks: Its looks so far.
        verdict: The criterion's last verdict.
        stopping_state: Why it was stopped; None while it is undecided.
        final_step: Step at which it was stopped.
        final_train_seconds: Median training time up to the final step, in seconds, of all devices together.
        beaten_by: Name of the accepted task that it can no longer be cheaper than, if this stopped it; None if it was
            stopped because it can no longer be cheaper than full training.
        saves_nothing: Whether it met the criterion too late to be cheaper than full training, so that it is of no use.
        margin: How far chance can have raised the tau by which it was accepted; None if it was not, or if its reference
            models are not random.
        bound: One-sided 95 % lower confidence bound of the true tau at the final step, which holds after selection;
            None without a margin, or with too few models.
    """

    name: str
    number: int
    proxy_task: ProxyTask
    judged_by: str
    keys: tuple[str, ...]
    total_steps: int
    added: tuple[Reference, ...] = ()
    requested: int = 0
    completed: int = 0
    checks: tuple[TaskCheck, ...] = ()
    verdict: Verdict | None = None
    stopping_state: StoppingState | None = None
    final_step: int | None = None
    final_train_seconds: float | None = None
    beaten_by: str | None = None
    saves_nothing: bool = False
    margin: SelectionMargin | None = None
    bound: float | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether the task was accepted: it met the criterion, and is cheaper than full training."""
        return self.stopping_state is not None and self.stopping_state.is_success and not self.saves_nothing

    @property
    def final_rated_seconds(self) -> float | None:
        """Rated training time up to the final step, in seconds; None without a final step."""
        return next((check.rated_seconds for check in self.checks if check.step == self.final_step), None)


@dataclass(frozen=True)
class ProxySearchState:
    """All proxy tasks of the study by name, sorted by their number."""

    tasks: Mapping[str, TaskState] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskOrigin:
    """How the proxy tasks were given, so that the report can advise what the configuration accepts.

    Attributes:
        kind: `axes` of the group `proxy`, a list of `tasks`, a `generator`, or a `table` of learning curves.
        axes: Values of each axis, by name; empty for the other kinds.
        architectures: Number of architectures in the search space, at most 100,000.
    """

    kind: str = "axes"
    axes: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    architectures: int | None = None


@dataclass(frozen=True)
class Rules:
    """Rules by which proxy tasks were last judged; tasks judged by other rules are not compared with them.

    Attributes:
        judged_by: Criterion and settings as JSON; None if nothing was judged yet.
        policy: Policy of the proxy search, which changes no verdict; None if it is not stored.
        origin: How the proxy tasks were given last; None if it is not stored.
    """

    judged_by: str | None = None
    policy: str | None = None
    origin: TaskOrigin | None = None


def find_best_task(tasks: Mapping[str, TaskState], judged_by: str | None, *, time_tolerance: float) -> TaskState | None:
    """Find the accepted proxy task with the shortest rated training time; the first one within the tolerance.

    Args:
        tasks: Proxy tasks, in the order of the grid.
        judged_by: Rules that the task must have been judged by; None if the study has judged nothing yet.
        time_tolerance: Share by which a later task must be shorter.

    Returns:
        The task, or None if no task was accepted.
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


def read_rules(study: StudyStore, prefix: str = PREFIX) -> Rules:
    """Read the rules by which a study's proxy tasks were last judged."""
    return study.read(f"{prefix}/rules", Rules) or Rules()


TaskCache = dict[str, tuple[str | None, TaskState]]
"""Cached states of proxy tasks by the name of the record, with the version of it that they were read from."""


def read_tasks(study: StudyStore, prefix: str = PREFIX, cache: TaskCache | None = None) -> dict[str, TaskState]:
    """Read the states of all proxy tasks of a study, by name.

    Args:
        study: The study.
        prefix: Prefix of the records.
        cache: Cache of states, so that only changed records are read; is updated.

    Raises:
        CorruptFileError: A record cannot be read.
    """
    cache = {} if cache is None else cache
    tasks: dict[str, TaskState] = {}
    for name in study.list_names(f"{prefix}/tasks"):
        version = study.version(name)
        if name not in cache or cache[name][0] != version:
            task = study.read(name, TaskState)
            if task is None:
                continue
            cache[name] = version, task
        tasks[cache[name][1].name] = cache[name][1]
    return sort_tasks(tasks)


def sort_tasks(tasks: Mapping[str, TaskState]) -> dict[str, TaskState]:
    """Sort tasks by number, as in the grid, so that all readers choose the same task among equally expensive ones."""
    return dict(sorted(tasks.items(), key=lambda item: (item[1].number, item[0])))
