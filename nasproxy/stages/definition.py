"""What the program must know of a stage, and what a stage gets from the job that runs it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from nasproxy.stages.proxy_search.expected_acceptance import ExpectedAcceptance
from nasproxy.stages.proxy_search.state import TaskOrigin
from nasproxy.stages.proxy_search.workload import RaceWork
from nasproxy.stages.references.selection import Selection
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Stage
from nasproxy.stages.section import StageSection
from nasproxy.stages.workload import StageWork
from nasproxy.statistics.acceptance import Criterion
from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, Recipe, TrialSpec

if TYPE_CHECKING:
    from nasproxy.stages.study_results import StudyResults

S = TypeVar("S")
R = TypeVar("R")
T = TypeVar("T")


class RecordedTrainings(Protocol):
    """The trainings of a table that a study replays."""

    def has_training(self, spec: TrialSpec) -> bool:
        """Return whether the table has the training of a trial, if that has a compressed schedule."""
        ...

    def list_schedules(self, spec: TrialSpec) -> Sequence[int]:
        """List the compressed schedules that the table has under the proxy task of a trial, in steps."""
        ...


class Design(Protocol):
    """A configured study: the objects that stages are made from."""

    @property
    def seed(self) -> int:
        """Seed of the candidates and of every full training."""
        ...

    @property
    def recipe(self) -> Recipe:
        """Settings that all trials share."""
        ...

    @property
    def baseline(self) -> Architecture | None:
        """The user's own architecture; None if there is none."""
        ...

    @property
    def candidates(self) -> Sequence[Architecture]:
        """Random architectures, the same for every stage."""
        ...

    @property
    def candidate_pool(self) -> Sequence[Architecture]:
        """Random architectures that may be added to the references."""
        ...

    @property
    def fresh(self) -> Sequence[Architecture]:
        """Random architectures that no verdict depends on."""
        ...

    @property
    def variance_candidates(self) -> Sequence[Architecture]:
        """Architectures to measure variance on, in the order in which they are tried."""
        ...

    @property
    def comparison_architectures(self) -> Sequence[Architecture]:
        """Architectures to compare schedules on: the user's baseline, if there is one, then the candidates."""
        ...

    @property
    def selection(self) -> Selection:
        """Selection of the reference models."""
        ...

    @property
    def tasks(self) -> Mapping[str, ProxyTask]:
        """The proxy tasks to judge, by name."""
        ...

    @property
    def task_origin(self) -> TaskOrigin:
        """How the proxy tasks were given."""
        ...

    @property
    def criterion(self) -> Criterion:
        """Criterion that judges the proxy tasks."""
        ...

    @property
    def references(self) -> ReferencesSettings:
        """Numbers of reference models; those to begin with where they are to be chosen."""
        ...

    @property
    def judged_by(self) -> str:
        """The rules of the proxy search, as canonical JSON."""
        ...

    @property
    def replayed(self) -> RecordedTrainings | None:
        """The table that the study replays; None if it trains."""
        ...

    def settings(self, kind: type[T]) -> T:
        """Return the section of the configuration that has this type."""
        ...


class StageContext(Protocol):
    """What a running stage gets from its job."""

    @property
    def design(self) -> Design:
        """The configured study."""
        ...

    @property
    def study(self) -> StudyStore:
        """The study."""
        ...

    @property
    def is_judging(self) -> bool:
        """Whether this is a job of a sweep, whose decisions on proxy tasks the sweep's merge takes anew."""
        ...

    @property
    def is_merge(self) -> bool:
        """Whether this job takes the decisions of a sweep."""
        ...

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of the study during a block; in a sweep the other jobs wait for it."""
        ...

    def run(self, stage: Stage[S], *, stop_at_setup_failure: bool = True) -> S:
        """Run the loop of a stage to its end and return its state."""
        ...

    def preflight(self) -> None:
        """Run the preflight of every kind of trials, unless it has passed before."""
        ...

    def use_references(self, initial: int, maximum: int) -> None:
        """Use chosen numbers of reference models in place of `auto` from now on."""
        ...

    def say(self, message: str) -> None:
        """Send a note to the trackers."""
        ...

    def score_untrained(self, models: Sequence[Reference]) -> None:
        """Compute the zero-cost scores of models that have none."""
        ...


class Forecast(Protocol):
    """What the planned work of a stage is counted from."""

    @property
    def design(self) -> Design:
        """The configured study."""
        ...

    @property
    def stages(self) -> Collection[str]:
        """Names of the stages that are estimated together."""
        ...

    @property
    def race(self) -> RaceWork:
        """Proxy tasks with their estimated speeds, and the models that they are judged on."""
        ...

    @property
    def expected(self) -> ExpectedAcceptance:
        """Expected end of the proxy search."""
        ...


def refuse_nothing(design: Design) -> None:
    """Accept any configuration."""


def verify_nothing(result: Any) -> None:
    """Accept any result."""


def list_no_trials(design: Design) -> Sequence[TrialSpec]:
    """Return no trials: the stage trains no kind of its own."""
    return ()


def report_nothing(result: Any, results: "StudyResults") -> StageSection | None:
    """Return None: the report has no section of the stage."""
    return None


def list_no_decisions(result: Any) -> Iterable[Mapping[str, Any]]:
    """Return no rows: the stage decides nothing that a frame of decisions shows."""
    return ()


def plan_nothing(forecast: Forecast) -> StageWork | None:
    """Return None: the cost of the stage is not estimated."""
    return None


@dataclass(frozen=True)
class StageDefinition(Generic[R]):
    """A stage: `nasproxy.stages.registry.register` makes it available to jobs.

    Attributes:
        name: Name in `job.stages`; letters, digits and underscores.
        run: Runs the stage, from its stored state on, and returns its result.
        load: Reads the stage's result from a study; None if there is none yet.
        requires: Names of the stages whose results it needs; a job runs or loads them, or is refused.
        settings: Dataclasses of the sections of the configuration that it adds, by the section's name. Each has
            default values, and may have a method `check` that raises `ConfigError`.
        check: Refuses a configuration with which the stage cannot run, before anything starts.
        list_kinds: Lists one trial of each kind that the stage trains, for the preflight.
        plan: Counts the planned work, for the cost estimate; None if there is nothing to train.
        verify: Called with the result once the job has written its report; raises `StageStoppedError` if the result
            must not be relied on.
        report: Makes the report's section of the stage from its result and all results of the study; None for none.
        list_decisions: Lists rows for `study.decisions`, from the stage's result; each has the keys of that frame.
        is_part_of_design: Whether every study has this stage, so that a new study estimates its cost.
    """

    name: str
    run: Callable[[StageContext], R]
    load: Callable[[StudyStore], R | None]
    requires: tuple[str, ...] = ()
    settings: Mapping[str, type] = field(default_factory=dict)
    check: Callable[[Design], None] = refuse_nothing
    list_kinds: Callable[[Design], Sequence[TrialSpec]] = list_no_trials
    plan: Callable[[Forecast], StageWork | None] = plan_nothing
    verify: Callable[[R], None] = verify_nothing
    report: Callable[[R, "StudyResults"], StageSection | None] = report_nothing
    list_decisions: Callable[[R], Iterable[Mapping[str, Any]]] = list_no_decisions
    is_part_of_design: bool = False

    @property
    def label(self) -> str:
        """Name for readers, in the report and in estimates."""
        return self.name.replace("_", " ")

    @property
    def has_trials(self) -> bool:
        """Whether the stage trains anything."""
        return self.plan is not plan_nothing or self.list_kinds is not list_no_trials

    @property
    def shows_result(self) -> bool:
        """Whether the stage brings its own part of the report or its own decisions, made from its result."""
        return self.report is not report_nothing or self.list_decisions is not list_no_decisions
