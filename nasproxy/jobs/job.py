"""Takes a job through its steps: from a composed configuration to a study that has been worked on."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from statistics import median

from nasproxy.config.builder import StudyBuilder, digest_task
from nasproxy.config.replay import ReplayBuilder
from nasproxy.config.schema import Config, StageName
from nasproxy.cost import dry_run
from nasproxy.errors import ConfigError, StageStoppedError, forbid_exit
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.integrations.vertex.state_files import VertexStateFiles
from nasproxy.report import estimate_tables
from nasproxy.report.terminal import print_table, show_busy
from nasproxy.stages import runner
from nasproxy.stages.confirmation.stage import ConfirmationStage
from nasproxy.stages.confirmation.state import ConfirmationState, read_confirmations
from nasproxy.stages.proxy_search.judge import Judge
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import TaskState, find_best_task, read_tasks
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.state import Reference, SelectionState
from nasproxy.stages.schedule_comparison.stage import ScheduleComparisonStage, list_compared_tasks
from nasproxy.stages.variance.stage import VarianceStage, check_variance
from nasproxy.stages.variance.state import VarianceState
from nasproxy.statistics.ceiling import NoiseCeiling, compute_noise_ceiling
from nasproxy.storage.files import write_record
from nasproxy.storage.leases import Lease
from nasproxy.storage.study import Study, StudyFolder, check_study_name, check_study_version, open_study
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.targets import build_target, load_target
from nasproxy.tracking.console import Console
from nasproxy.tracking.tracker import Progress, Tracker, Trackers
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec

PROXY_SEED_OFFSET = 1
"""Proxy trainings have another seed than the references, so that equal settings do not make equal trainings."""

LOOKING = {StageName.report, StageName.list_trials, StageName.describe_space}
"""Steps that train nothing: they show a study or its space as it is, whatever else is configured."""


@forbid_exit("code that the configuration names")
def run_job(config: Config, *, is_shared: bool = False) -> None:
    """Take a job's steps in order.

    Args:
        config: The study and what to do with it.
        is_shared: Whether other jobs of one sweep work on the study too.

    Raises:
        NasproxyError: Something was wanted that cannot be had; nothing finished is lost.
    """
    check_study_name(config.study)
    design = _design(config)
    is_work = not set(config.job.stages) <= LOOKING
    if is_work:
        design.check()
    if config.dry_run:
        _print_costs(design, is_sweep=is_shared)
        return
    if StageName.describe_space in config.job.stages:
        _describe_space(design)
    steps = [step for step in design.config.job.stages if step is not StageName.describe_space]
    if not steps:
        return
    root = Path(config.studies_dir).absolute()
    with ExitStack() as stack:
        begun_with = design.base if is_work else None
        study = stack.enter_context(open_study(root, config.study, begun_with, is_shared=is_shared))
        stack.enter_context(_terminable())
        if is_work:
            retry_failed_trials(study.folder.trials)
        job = Job(design, study, stack)
        if is_work:
            job.say_notes(design.notes)
            job.estimate()
        for step in steps:
            getattr(job, step.value)()


class Job:
    """The steps of a job on an open study."""

    def __init__(self, design: StudyBuilder, study: Study, stack: ExitStack) -> None:
        self.design = design
        self.study = study
        self._stack = stack
        self._variance: VarianceState | None = None
        self._selection: SelectionState | None = None

    def say_notes(self, notes: Sequence[str]) -> None:
        """Say what to know before anything starts."""
        for note in notes:
            self._tracker.say(note)

    def estimate(self) -> None:
        """Keep with a new study what it should cost; one that has begun, or is shared by jobs, has no such moment."""
        if not set(dry_run.TRAINING) & set(self.design.config.job.stages):
            return  # a comparison of schedules is no part of what an estimate is kept for
        is_new = not (self.study.is_shared or self.study.folder.estimate.exists() or self._store.keys())
        if self.design.is_replay or not self.design.config.cost.estimate_first or not is_new:
            return
        self._preflight()
        self._tracker.progress(Progress("estimate", "a few steps of a few models"), set())
        try:
            # Of all steps, whichever this job takes: the report holds the whole study against it.
            estimate = dry_run.estimate_study(self.design, self._backend, self.study.folder, dry_run.TRAINING)
        except StageStoppedError as error:
            self._tracker.say(f"no estimate: {error}")
            return
        write_record(self.study.folder.estimate, estimate)
        self._tracker.say(estimate_tables.write_estimate(estimate))

    def measure_variance(self) -> None:
        """Stage 1."""
        config = self.design.config
        stage = VarianceStage(
            config.variance,
            recipe=self.design.recipe,
            candidates=self.design.variance_candidates,
            seed=config.seed,
            folder=self.study.folder.variance,
        )
        with self.study.hold_stage("preflight"):
            self._preflight()
        with self.study.hold_stage(stage.name):
            self._variance = runner.run_stage(stage, self._runtime)
        check_variance(self._variance, config.variance)

    def select_models(self) -> None:
        """Stage 2."""
        config = self.design.config
        stage = self.design.selection.make_stage(
            recipe=self.design.recipe,
            candidates=self.design.candidates,
            baseline=self.design.space.baseline,
            seed=config.seed,
            folder=self.study.folder.selection,
        )
        with self.study.hold_stage(stage.name):
            self._selection = runner.run_stage(stage, self._runtime)
        self._score_untrained(self._selection.references or ())

    def search_proxy_task(self) -> None:
        """Stage 3."""
        config = self.design.config
        assert self._selection is not None
        assert self._selection.references is not None
        self._refuse_unreachable()
        stage = ProxySearchStage(
            config.proxy_search,
            tasks=self.design.tasks,
            criterion=self.design.criterion,
            judged_by=self.design.judged_by,
            references=self._selection.references,
            candidate_pool=self._candidate_pool(self._selection.references),
            recipe=self.design.recipe,
            seed=config.seed + PROXY_SEED_OFFSET,
            folder=self.study.folder.proxy_tasks,
            confirmations=read_confirmations(self.study.folder.confirmation),
        )
        with ExitStack() as held:
            # Named by their settings: two jobs of a sweep that call one setting differently share its trials.
            for digest in sorted(digest_task(task) for task in self.design.tasks.values()):
                held.enter_context(self.study.hold_stage(f"proxy_task_{digest}"))
            state = runner.run_stage(stage, self._runtime)
        self._score_untrained([model for task in state.tasks.values() for model in task.added])

    def confirm(self) -> None:
        """Stage 4: the winner, and while one is contradicted the search and the next winner."""
        if not self.design.config.confirm.enabled:
            return
        while (winner := self._confirmed()) is not None and winner[1].contradicts(winner[0]):
            self.search_proxy_task()

    def compare_schedules(self) -> None:
        """Train one model under each schedule."""
        stage = ScheduleComparisonStage(
            list_compared_tasks(self.design.config.compare_schedules),
            recipe=self.design.recipe,
            architecture=self.design.comparison_architecture,
            seed=self.design.config.seed,
            folder=self.study.folder.schedules,
        )
        with self.study.hold_stage("preflight"):
            self._preflight()
        with self.study.hold_stage(stage.name):
            runner.run_stage(stage, self._runtime)

    def report(self) -> None:
        """Write the page, and say where it is."""
        from nasproxy.report.page import write_report

        tolerance = self.design.config.proxy_search.time_tolerance
        page = write_report(self.study.folder, time_tolerance=tolerance, store=self._store)
        self._tracker.result(page.tables, page.pictures)
        self._tracker.say(page.verdict)
        self._tracker.say(f"report: {page.path}")

    def list_trials(self) -> None:
        """Print a table of all trials."""
        from nasproxy.report.trial_list import print_trials

        print_trials(self.study.folder, self._store)

    @property
    def ceiling(self) -> NoiseCeiling | None:
        """The tau that seed noise lets a perfect proxy reach."""
        if self._variance is None or self._variance.result is None:
            return None
        if self._selection is None or self._selection.references is None:
            return None
        scores = [reference.score for reference in self._selection.references]
        return compute_noise_ceiling(scores, self._variance.result.deviation)

    def _confirmed(self) -> tuple[TaskState, ConfirmationState] | None:
        """The study's best proxy task and what became of it; None without one, or where another job judges it."""
        config, folder = self.design.config, self.study.folder
        assert self._selection is not None
        assert self._selection.references is not None
        with self.study.hold_stage(ConfirmationStage.name):
            tasks, tolerance = read_tasks(folder.proxy_tasks), config.proxy_search.time_tolerance
            best = find_best_task(tasks, self.design.judged_by, time_tolerance=tolerance)
            if best is None or best.name not in self.design.tasks:
                return None
            stage = ConfirmationStage(
                config.confirm,
                task=best,
                references=self._selection.references,
                fresh=self.design.fresh,
                judge=Judge(self.design.criterion, config.proxy_search.min_models, config.proxy_search.min_valid_ratio),
                recipe=self.design.recipe,
                full_seed=config.seed,
                proxy_seed=config.seed + PROXY_SEED_OFFSET,
                folder=folder.confirmation,
            )
            return best, runner.run_stage(stage, self._runtime)

    def _candidate_pool(self, references: Sequence[Reference]) -> CandidatePool:
        config, recipe = self.design.config, self.design.recipe
        return CandidatePool(
            candidates=[TrialSpec(a, ProxyTask(), Split.FULL, config.seed, recipe) for a in self.design.candidate_pool],
            first_number=self.design.selection.candidates,
            step=config.references.step,
            maximum=config.references.max,
            search_trials=config.search.trials,
            full_seconds=median(reference.train_seconds for reference in references),
        )

    def _score_untrained(self, models: Sequence[Reference]) -> None:
        """Give reference models the scores that cost nothing, unless they have them."""
        with self.study.hold_stage("zero_cost"):
            architectures = [model.architecture for model in models]
            dry_run.measure_zero_costs(self.design, self._backend, self.study.folder, architectures)

    def _refuse_unreachable(self) -> None:
        ceiling, target = self.ceiling, self.design.criterion.target
        if ceiling is not None and target > ceiling.high:
            raise StageStoppedError(
                f"criterion.target must lie below what seed noise allows, got {target:g}: even a perfect proxy would "
                f"reach a tau of {ceiling.tau:.2f} (at most {ceiling.high:.2f}) on these reference models; lower the "
                f"target, or make scores less noisy (longer training, more validation images)"
            )

    def _preflight(self) -> None:
        """Put one trial of every kind together before the first is trained, unless that was done before."""
        new = [spec for spec in self.design.preflight_specs if spec.digest not in self.study.preflighted]
        if new:
            self._tracker.progress(Progress("warming up", "loading the trainer, the data and a model"), set())
            self.say_notes(self._backend.preflight(new))
            self.study.add_preflighted([spec.digest for spec in new])

    @cached_property
    def _store(self) -> TrialStore:
        return self.design.open_store(self.study.folder)

    @cached_property
    def _backend(self) -> Backend:
        backend = self.design.open_backend(self._store)
        self._stack.callback(backend.close)
        return backend

    @cached_property
    def _lease(self) -> Path:
        """This controller's own lease: what it leaves behind stops, even if another one takes the study over."""
        lease = Lease(self.study.folder.locks / f"controller-{os.getpid()}-{time.time_ns()}.lock")
        lease.acquire()
        self._stack.callback(lease.path.unlink, missing_ok=True)
        self._stack.callback(lease.release)
        return lease.path

    @cached_property
    def _tracker(self) -> Tracker:
        config = self.design.config
        chosen: Tracker = build_target("tracking", config.tracking, study=self.study.folder.path)
        console = Console(live=False if self.study.is_shared else None)
        selection = self.design.selection
        vertex = VertexStateFiles(
            study=self.study.folder.path,
            time_tolerance=config.proxy_search.time_tolerance,
            final_models=selection.models,
            removed_per_iteration=selection.removed_per_iteration,
        )
        tracker = Trackers([console, chosen, vertex, *self.design.trackers(self.study.folder)])
        self._stack.callback(tracker.close)
        return tracker

    @cached_property
    def _runtime(self) -> runner.Runtime:
        return runner.Runtime(
            store=self._store,
            backend=self._backend,
            tracker=self._tracker,
            retry_policy=self.design.retry_policy,
            lease=self._lease,
            poll_seconds=self.design.poll_seconds,
            grace_seconds=self.design.config.controller.grace_seconds,
        )


def _design(config: Config) -> StudyBuilder:
    """A table of learning curves decides what is trained; without one the configuration does."""
    backend = load_target("backend", config.backend)
    return (ReplayBuilder if backend is ReplayBackend else StudyBuilder)(config)


def _print_costs(design: StudyBuilder, *, is_sweep: bool) -> None:
    """Print what a study would cost; it is not begun."""
    dry_run.check_dry_run(design, is_sweep=is_sweep)
    folder = StudyFolder(Path(design.config.studies_dir) / design.config.study)
    check_study_version(folder)
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        console = Console()
        stack.callback(console.close)
        estimate = dry_run.estimate_dry(design, console)
    print_table(
        estimate_tables.make_forecast(estimate), "What the study would cost: as assumed, and at the least and most"
    )
    for line in estimate_tables.write_assumptions(estimate):
        print(line)
    if folder.record.exists():
        print(f"study {design.config.study} has begun: what it has trained is counted here, and not trained again")


def _describe_space(design: StudyBuilder) -> None:
    """Print the search space, and a few architectures with their sizes; no study is begun."""
    from nasproxy.report.space_description import SampledArchitecture, make_samples, print_space

    space, wanted = design.space, design.config.job.samples
    if wanted < 0:
        raise ConfigError(f"job.samples must be at least 0, got {wanted}: say how many architectures to show")
    print_space(space)
    shown = {} if space.baseline is None else {"baseline": space.baseline}
    for place, architecture in enumerate(space.sample(min(wanted, space.size), design.config.seed)):
        shown[str(place)] = architecture
    scores: list[ZeroCost | None] = [None] * len(shown)
    problem = None
    loader = design.config.data.loader
    if loader is not None and design.config.search_space.model and shown:
        with _terminable(), show_busy("loading the data, building the models"):
            scores, problem = dry_run.score_samples(design, list(shown.values()))
    if shown:
        rows = [
            SampledArchitecture(name, each, known) for (name, each), known in zip(shown.items(), scores, strict=True)
        ]
        print_table(make_samples(rows), f"Architectures of {space.name}")
        if any(scores):
            print(f"sizes are those on the images and classes of {loader['_target_']}: choose others with data=NAME")
    if problem is not None:
        print(f"a model could not be built: {problem}")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite kill end the program as Ctrl-C does; a thread cannot, and need not, catch signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
