"""Studies without training: real controllers, and a backend that writes curves of a formula at once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.user_code import LessOfMore
from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import BackendContext, Capabilities
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.integrations.vertex.state_files import VertexStateFiles
from nasproxy.report.page import Page, write_report
from nasproxy.stages import runner
from nasproxy.stages.confirmation.settings import ConfirmSettings
from nasproxy.stages.confirmation.stage import ConfirmationStage
from nasproxy.stages.confirmation.state import ConfirmationState, read_confirmations
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState, find_best_task, read_rules, read_tasks
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.random_selection import RandomSelection, RandomSelectionStage
from nasproxy.stages.references.spread_selection import SpreadSelection, SpreadSelectionStage
from nasproxy.stages.references.state import SelectionState, read_selection
from nasproxy.stages.runner import Runtime
from nasproxy.stages.schedule_comparison.stage import ScheduleComparisonStage
from nasproxy.stages.schedule_comparison.state import ScheduleComparisonState
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.stages.variance.stage import VarianceStage
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.acceptance import Criterion
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.storage.study import RECORD, StudyRecord
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_files import append_check
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing import synthetic
from nasproxy.trials.overrides import flatten
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, Status
from nasproxy.trials.spec import Architecture, Split, TrialSpec, to_canonical_json

TOTAL_STEPS, CHECK_EVERY = 500, 20
RECIPE = synthetic.make_recipe(total_steps=TOTAL_STEPS, check_every_steps=CHECK_EVERY)
HOSTILE = "<script>alert('no memory')</script>\n$x$ \x1b[31m[red]"
MESSAGES = {
    Cause.OOM: HOSTILE,
    Cause.NAN: "the loss is not finite",
    Cause.CRASH: "the trainer has a mistake",
    Cause.LOST: "the machine went away",
}


class InstantBackend:
    """Runs a trial within its submission, writing the files of a worker."""

    capabilities = Capabilities(slots=4)

    def __init__(self, *, context: BackendContext) -> None:
        assert isinstance(context.trials, FolderTrialStore)
        self._store = context.trials
        self._ended: list[Ended] = []

    def submit(self, order: WorkOrder) -> None:
        key = order.key
        folder, spec, record = self._store.folder(key), self._store.spec(key), self._store.read(key)
        request = read_record(folder.request, Request)
        assert request is not None
        assert request.until_step is not None
        cause = spec.architecture.get(_cause_name(spec))
        seconds = record.checks[-1].train_seconds if record.checks else 0.0
        status = Status(State.PAUSED, wall_seconds=record.status.wall_seconds + 0.6)
        until = next(step for step in spec.check_steps if step >= request.until_step)
        for number, step in enumerate(spec.check_steps, 1):
            if record.step < step <= until and status.state is not State.FAILED:
                seconds += CHECK_EVERY * seconds_per_step(spec)
                status = replace(status, wall_seconds=status.wall_seconds + 1.2 * CHECK_EVERY * seconds_per_step(spec))
                if cause and step > 20:
                    status = replace(status, state=State.FAILED, cause=Cause(cause), message=MESSAGES[Cause(cause)])
                else:
                    append_check(folder, step, {"accuracy": score(spec, step)}, seconds, number=number)
        if self._store.read(key).step == spec.total_steps:
            status = replace(status, state=State.DONE)
        write_record(folder.status, status)
        self._ended.append(Ended(key, exit_status=0))

    def poll(self, seconds: float) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, key: str) -> None: ...

    def close(self) -> None: ...


def _cause_name(spec: TrialSpec) -> str:
    if spec.split is Split.FULL:
        return "cause"
    return "proxy_cause" if spec.total_steps == TOTAL_STEPS else "compressed_cause"


def noise(*seeds: Any) -> float:
    digest = [ord(character) for character in to_canonical_json(seeds)]
    return float(np.random.default_rng(digest).normal())


def seconds_per_step(spec: TrialSpec) -> float:
    depth = float(spec.architecture["depth"])
    return 0.02 * (0.25 + 0.75 * spec.proxy_task.width**2) * (0.7 + 0.15 * depth)


def score(spec: TrialSpec, step: int) -> float:
    """Compute a saturating learning curve; ranks converge earlier under proxy tasks that reduce less.

    An architecture's `compressed` is its quality under schedules that are shorter than full training.
    """
    task, progress = spec.proxy_task, step / TOTAL_STEPS
    is_short = spec.total_steps < TOTAL_STEPS
    quality = float(spec.architecture.get("compressed" if is_short else "quality", spec.architecture["quality"]))
    reduced = (1 - task.data_fraction) + 1.2 * (1 - task.width)
    blur = 0.06 * math.exp(-10 * progress) + 0.022 * reduced
    own = blur * noise("model", spec.architecture, task.default_name)
    top = 0.88 + 0.10 * quality - 0.08 * reduced
    schedule = [spec.total_steps] if is_short else []
    chance = noise("seed", spec.seed, spec.architecture, step, spec.split.value, *schedule)
    seed = (0.004 + 0.012 * math.exp(-6 * progress)) * chance
    value = 0.1 + (top - 0.1) * (1 - math.exp(-9 * progress)) + own + seed
    return round(min(0.999, max(0.1, value)) * 360) / 360


def candidates(count: int, causes: Mapping[int, str] | None = None) -> list[Architecture]:
    kernels = ("3", "5", "3x3")
    return [
        {
            "depth": 1 + i % 4,
            "kernel": kernels[i % 3],
            "quality": round((37 * i % 101) / 100, 2),
            **({"cause": causes[i]} if causes and i in causes else {}),
        }
        for i in range(count)
    ]


@dataclass
class Author:
    """Writes a study, stage by stage."""

    folder: FolderStudyStore
    architectures: list[Architecture]

    def begin(self) -> None:
        training = {"total_steps": TOTAL_STEPS, "check_every_steps": CHECK_EVERY}
        settings = {"seed": 0, "training": training, "data": {"loader": {"root": "<b>images</b>"}}}
        self.folder.write(RECORD, StudyRecord(flatten(settings)))

    def measure_variance(self, **settings: Any) -> VarianceState:
        stage = VarianceStage(
            VarianceSettings(**settings),
            recipe=RECIPE,
            candidates=self.architectures,
            seed=0,
            study=self.folder,
        )
        return runner.run_stage(stage, self.runtime)

    def compare_schedules(self, tasks: Mapping[tuple[str, str], ProxyTask], models: int = 1) -> ScheduleComparisonState:
        stage = ScheduleComparisonStage(
            tasks, recipe=RECIPE, architectures=self.architectures[:models], seed=0, study=self.folder
        )
        return runner.run_stage(stage, self.runtime)

    def select_models(self, **settings: Any) -> SelectionState:
        stage = SpreadSelectionStage(
            SpreadSelection(**settings),
            recipe=RECIPE,
            candidates=self.architectures,
            baseline={"depth": 2, "kernel": "<i>own</i>", "quality": 0.7},
            seed=0,
            study=self.folder,
        )
        return runner.run_stage(stage, self.runtime)

    def select_randomly(self) -> SelectionState:
        stage = RandomSelectionStage(
            RandomSelection(),
            recipe=RECIPE,
            candidates=self.architectures,
            baseline=None,
            seed=0,
            study=self.folder,
        )
        return runner.run_stage(stage, self.runtime)

    def candidate_pool(self, maximum: int) -> CandidatePool:
        """Return the candidates that remain after a random selection."""
        drawn_on = RandomSelection().candidates
        full = [TrialSpec(a, ProxyTask(), Split.FULL, 0, RECIPE) for a in self.architectures[drawn_on:]]
        return CandidatePool(full, drawn_on, step=5, maximum=maximum, search_trials=SEARCH_TRIALS, full_seconds=10.0)

    def search(
        self,
        tasks: Mapping[str, ProxyTask],
        target: float = 0.65,
        criterion: Criterion | None = None,
        candidate_pool: CandidatePool | None = None,
        **settings: Any,
    ) -> ProxySearchState:
        state = read_selection(self.folder)
        assert state is not None
        assert state.references is not None
        rule = criterion or FirstCrossing(target=target)
        chosen = {"_target_": f"{type(rule).__module__}.{type(rule).__name__}", **vars(rule)}
        limit = settings.get("train_seconds_limit")
        stage = ProxySearchStage(
            ProxySearchSettings(**settings),
            tasks=tasks,
            criterion=rule,
            confirmations=read_confirmations(self.folder),
            judged_by=to_canonical_json({"criterion": chosen, "trials": SEARCH_TRIALS, "train_seconds_limit": limit}),
            references=state.references,
            candidate_pool=candidate_pool or NO_RESERVE,
            recipe=RECIPE,
            seed=1,
            study=self.folder,
            is_random=not any(iteration.removed for iteration in state.iterations),
        )
        return runner.run_stage(stage, self.runtime)

    def confirm(self, fresh: Mapping[str, Callable[[float], Any]] | None = None, **settings: Any) -> ConfirmationState:
        """Confirm the best proxy task; the choices of additional models are functions of their quality."""
        state = read_selection(self.folder)
        best = find_best_task(read_tasks(self.folder), read_rules(self.folder).judged_by, time_tolerance=0.05)
        assert state is not None
        assert state.references is not None
        assert best is not None
        stage = ConfirmationStage(
            ConfirmSettings(**settings),
            task=best,
            references=state.references,
            fresh=[
                {"depth": 5, "kernel": "3", "quality": q, **{name: make(q) for name, make in (fresh or {}).items()}}
                for q in (3 * place % 10 / 10 for place in range(10))
            ],
            judge=Judge(FirstCrossing(target=0.65), 5, 0.7),
            recipe=RECIPE,
            full_seed=0,
            proxy_seed=1,
            study=self.folder,
        )
        return runner.run_stage(stage, self.runtime)

    @property
    def runtime(self) -> Runtime:
        store = self.folder.trials
        backend = InstantBackend(context=BackendContext(store, self.folder.path))
        return Runtime(store, backend, VertexStateFiles(study=self.folder.path), OrderTemplate(self.folder.path))


SEARCH_TRIALS = 300
NO_RESERVE = CandidatePool([], 0, step=5, maximum=0, search_trials=1, full_seconds=1.0)

NewStudy = Callable[..., Author]
TASKS = {
    "data50": ProxyTask(data_fraction=0.5),
    "width50": ProxyTask(width=0.5),
    "data25_width50": ProxyTask(data_fraction=0.25, width=0.5),
}


@pytest.fixture(scope="session")
def new_study(tmp_path_factory: pytest.TempPathFactory) -> NewStudy:
    """Return a function that creates a study with a number of candidates, some of which fail."""

    def begin(count: int = 30, causes: Mapping[int, str] | None = None) -> Author:
        folder: Path = tmp_path_factory.mktemp("studies") / "made-up"
        author = Author(FolderStudyStore(folder), candidates(count, causes))
        author.begin()
        return author

    return begin


@pytest.fixture(scope="session")
def tasks() -> dict[str, ProxyTask]:
    return TASKS


@pytest.fixture(scope="session")
def grown_study(new_study: NewStudy) -> Author:
    """Write a study with random references, to which models were added while the verdict was inconclusive."""
    author = new_study(40)
    author.measure_variance()
    author.select_randomly()
    proxies = {"width50": ProxyTask(width=0.5), "data50": ProxyTask(data_fraction=0.5)}
    author.search(
        proxies, criterion=LessOfMore({10: 0.93, 15: 0.86, 20: 0.8}), candidate_pool=author.candidate_pool(maximum=20)
    )
    return author


@pytest.fixture(scope="session")
def vertex_study(new_study: NewStudy, tasks: dict[str, ProxyTask]) -> Author:
    """Write a study as Vertex AI NAS runs it: spread, first crossing, sequential proxy search."""
    author = new_study(30)
    author.measure_variance()
    author.select_models()
    author.search(tasks, policy="sequential")
    return author


@pytest.fixture(scope="session")
def grown_page(grown_study: Author) -> Page:
    return write_report(grown_study.folder, time_tolerance=0.05)


@pytest.fixture(scope="session")
def vertex_page(vertex_study: Author) -> Page:
    return write_report(vertex_study.folder, time_tolerance=0.05)


@pytest.fixture(scope="session")
def page(full_study: Author) -> Page:
    return write_report(full_study.folder, time_tolerance=0.05)


@pytest.fixture(scope="session")
def full_study(new_study: NewStudy, tasks: dict[str, ProxyTask]) -> Author:
    """Write a study with all stages done, two failed candidates and an accepted proxy task."""
    author = new_study(30, {4: "oom", 11: "nan"})
    author.measure_variance()
    author.select_models()
    author.search(tasks)
    return author
