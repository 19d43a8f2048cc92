"""State of the proxy search: what each proxy task showed, and what was decided of it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.stages.references.state import Reference
from nasproxy.statistics.acceptance import Verdict
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.storage.files import get_stamp, read_record
from nasproxy.trials.proxy_task import ProxyTask


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
        requested: Candidates of the reserve that it called up for that.
        completed: How many of these have been trained fully, or failed.
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
    requested: int = 0
    completed: int = 0
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


def find_best_task(
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
        version = get_stamp(path)
        if path not in known or known[path][0] != version:
            task = read_record(path, TaskState)
            if task is None:
                continue
            known[path] = version, task
        tasks[known[path][1].name] = known[path][1]
    return sort_tasks(tasks)


def sort_tasks(tasks: Mapping[str, TaskState]) -> dict[str, TaskState]:
    """As the grid has them: of tasks that cost alike the first is taken, by every reader."""
    return dict(sorted(tasks.items(), key=lambda item: (item[1].number, item[0])))
