"""Run a job: the stages that a composed configuration lists, on one study."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

from nasproxy.config.builder import StudyBuilder, digest_task
from nasproxy.config.replay import ReplayBuilder
from nasproxy.config.schema import Config, StageName
from nasproxy.cost import dry_run
from nasproxy.cost.estimate import Estimate
from nasproxy.errors import ConfigError, SetupFailedError, StageStoppedError, forbid_exit
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
from nasproxy.storage.files import read_record, write_record
from nasproxy.storage.leases import Lease
from nasproxy.storage.study import Study, StudyFolder, check_study_name, check_study_version, open_study
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.targets import build_target, load_target
from nasproxy.tracking.console import Console
from nasproxy.tracking.dispatch import Trackers
from nasproxy.tracking.event_log import EventLog
from nasproxy.tracking.events import Event, JobEnded, JobStarted, Noted, Progress, StageProgressed
from nasproxy.tracking.tracker import Tracker
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Split, TrialSpec

PROXY_SEED_OFFSET = 1
"""Offset of the seed of proxy trainings from that of the references, so that equal settings give different trials."""

READ_ONLY_STAGES = {StageName.report, StageName.list_trials, StageName.describe_space}
"""Stages that train nothing: they show an existing study or the search space, with any other configuration."""


@dataclass(frozen=True)
class JobResult:
    """What a job returns to the program that ran it.

    Attributes:
        folder: The study's folder; None for a job without a study: a dry run, a description of the search space.
        store: The study's trials; None without a study.
        report: The page, if the job wrote one.
        estimate: The expected cost, if the job was a dry run.
    """

    folder: StudyFolder | None = None
    store: TrialStore | None = None
    report: Path | None = None
    estimate: Estimate | None = None


@forbid_exit("code that the configuration names")
def run_job(config: Config, *, is_shared: bool = False) -> JobResult:
    """Run the stages of a job in order.

    Args:
        config: Configuration of the study and the job.
        is_shared: Whether other jobs of a sweep work on the same study.

    Raises:
        NasproxyError: The configuration is invalid, or a stage was stopped; finished trials are kept.
    """
    check_study_name(config.study)
    design = _make_builder(config)
    is_training = not set(config.job.stages) <= READ_ONLY_STAGES
    if is_training:
        design.check()
    if config.dry_run:
        return JobResult(estimate=_print_costs(design, is_sweep=is_shared))
    if StageName.describe_space in config.job.stages:
        _describe_space(design)
    steps = [step for step in design.config.job.stages if step is not StageName.describe_space]
    if not steps:
        return JobResult()
    root = Path(config.studies_dir).absolute()
    with ExitStack() as stack:
        base, defaults = (design.base, design.base_defaults) if is_training else (None, None)
        study = stack.enter_context(open_study(root, config.study, base, is_shared=is_shared, defaults=defaults))
        stack.enter_context(_handle_sigterm())
        if is_training:
            retry_failed_trials(study.folder.trials)
        job = Job(design, study, stack)
        with job.record() if is_training else nullcontext():
            if is_training:
                job.say_notes(design.notes)
                job.estimate()
            for step in steps:
                getattr(job, step.value)()
            job.check_confirmation()
        return job.result


class Job:
    """The stages of a job on an open study.

    Args:
        design: The configured study.
        study: The open study.
        stack: Closes the backend, tracker and lease of the job.
    """

    def __init__(self, design: StudyBuilder, study: Study, stack: ExitStack) -> None:
        self.design = design
        self.study = study
        self._stack = stack
        self._variance: VarianceState | None = None
        self._selection: SelectionState | None = None
        self._confirmation: ConfirmationState | None = None
        self._report: Path | None = None

    @property
    def result(self) -> JobResult:
        """What the job has to return so far."""
        return JobResult(self.study.folder, self._store, self._report)

    @contextmanager
    def record(self) -> Iterator[None]:
        """Send the events of the job's start and its end around a block, with the error that ended it early."""
        name = self.design.config.job.name
        self._send(JobStarted(name, tuple(stage.value for stage in self.design.config.job.stages)))
        try:
            yield
        except BaseException as error:
            self._send(JobEnded(name, str(error) or type(error).__name__))
            raise
        self._send(JobEnded(name))

    def say_notes(self, notes: Sequence[str]) -> None:
        """Send notes to the trackers."""
        for note in notes:
            self._send(Noted(note))

    def estimate(self) -> None:
        """Store a cost estimate for a new, unshared study."""
        if not set(dry_run.TRAINING) & set(self.design.config.job.stages):
            return  # a schedule comparison alone is not estimated
        is_new = not (self.study.is_shared or self.study.folder.estimate.exists() or self._store.keys())
        if self.design.is_replay or not self.design.config.cost.estimate_first or not is_new:
            return
        self._run_preflight()
        self._send(StageProgressed(Progress("estimate", "a few steps of a few models")))
        try:
            # Estimates all stages, not only this job's, because the report compares it with the whole study.
            estimate = dry_run.estimate_study(self.design, self._backend, self.study.folder, dry_run.TRAINING)
        except SetupFailedError:
            raise
        except StageStoppedError as error:
            self._send(Noted(f"the cost could not be estimated: {error}"))
            return
        write_record(self.study.folder.estimate, estimate)
        self._send(Noted(estimate_tables.write_estimate(estimate)))

    def measure_variance(self) -> None:
        """Run stage 1: measure the variance over seeds."""
        config = self.design.config
        stage = VarianceStage(
            config.variance,
            recipe=self.design.recipe,
            candidates=self.design.variance_candidates,
            seed=config.seed,
            folder=self.study.folder.variance,
            model_scores=self._read_reference_scores(),
        )
        with self.study.hold_stage("preflight"):
            self._run_preflight()
        with self.study.hold_stage(stage.name):
            self._variance = runner.run_stage(stage, self._runtime)
        check_variance(self._variance, config.variance)

    def select_models(self) -> None:
        """Run stage 2: select and train the reference models."""
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
        """Run stage 3: search a proxy task."""
        config = self.design.config
        assert self._selection is not None
        assert self._selection.references is not None
        self._refuse_unreachable_target()
        stage = ProxySearchStage(
            config.proxy_search,
            tasks=self.design.tasks,
            criterion=self.design.criterion,
            judged_by=self.design.judged_by,
            references=self._selection.references,
            candidate_pool=self._make_candidate_pool(self._selection.references),
            recipe=self.design.recipe,
            seed=config.seed + PROXY_SEED_OFFSET,
            folder=self.study.folder.proxy_tasks,
            confirmations=read_confirmations(self.study.folder.confirmation),
        )
        with ExitStack() as held:
            # Leases are named by the settings, because jobs of a sweep share trials of equal settings under any name.
            for digest in sorted(digest_task(task) for task in self.design.tasks.values()):
                held.enter_context(self.study.hold_stage(f"proxy_task_{digest}"))
            state = runner.run_stage(stage, self._runtime)
        self._score_untrained([model for task in state.tasks.values() for model in task.added])

    def confirm(self) -> None:
        """Run stage 4: confirm the winner; while it is contradicted, search again and confirm the next winner."""
        if not self.design.config.confirm.enabled:
            return
        while (winner := self._confirm_winner()) is not None and winner[1].contradicts(winner[0]):
            self.search_proxy_task()
        self._confirmation = None if winner is None else winner[1]

    def check_confirmation(self) -> None:
        """Check that this job's confirmation is not void; called last, so that the report is written before.

        Raises:
            StageStoppedError: It is void.
        """
        state = self._confirmation
        if state is not None and state.void is not None:
            raise StageStoppedError(
                f"the confirmation of {state.task} needs runs that test its verdict, and is void: "
                f"{state.void.description}. {state.void.advice}"
            )

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
            self._run_preflight()
        with self.study.hold_stage(stage.name):
            runner.run_stage(stage, self._runtime)

    def report(self) -> None:
        """Write the report page."""
        from nasproxy.report.page import write_report

        tolerance = self.design.config.proxy_search.time_tolerance
        page = write_report(self.study.folder, time_tolerance=tolerance, store=self._store)
        self._send(page.event)
        self._report = page.path

    def list_trials(self) -> None:
        """Print a table of all trials."""
        from nasproxy.report.trial_list import print_trials

        print_trials(self.study.folder, self._store)

    @property
    def ceiling(self) -> NoiseCeiling | None:
        """Noise ceiling: the tau that seed noise allows a perfect proxy; None before variance and references exist."""
        if self._variance is None or self._variance.result is None:
            return None
        if self._selection is None or self._selection.references is None:
            return None
        scores = [reference.score for reference in self._selection.references]
        return compute_noise_ceiling(scores, self._variance.result.deviation)

    def _read_reference_scores(self) -> list[float]:
        """Read the full-training scores of the reference models that the study has so far."""
        selection = read_record(self.study.folder.selection / "state.json", SelectionState)
        return [] if selection is None else [reference.score for reference in selection.references or ()]

    def _confirm_winner(self) -> tuple[TaskState, ConfirmationState] | None:
        """Confirm the study's best proxy task; None if there is none, or if another job judges it."""
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
            return best, runner.run_stage(stage, replace(self._runtime, stop_at_setup_failure=False))

    def _make_candidate_pool(self, references: Sequence[Reference]) -> CandidatePool:
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
        """Compute the zero-cost scores of reference models that have none."""
        with self.study.hold_stage("zero_cost"):
            architectures = [model.architecture for model in models]
            dry_run.add_zero_costs(self.design, self._backend, self.study.folder, architectures)

    def _refuse_unreachable_target(self) -> None:
        ceiling, target = self.ceiling, self.design.criterion.target
        if ceiling is not None and target > ceiling.high:
            raise StageStoppedError(
                f"criterion.target must not exceed the noise ceiling, got {target:g}: with this seed noise a perfect "
                f"proxy reaches tau {ceiling.tau:.2f} (at most {ceiling.high:.2f}) on these reference models; lower "
                f"the target, or make scores less noisy (longer training, more validation images)"
            )

    def _run_preflight(self) -> None:
        """Run the preflight of every kind of trials, unless it has passed before."""
        kinds = {self.design.digest_preflight(spec): spec for spec in self.design.preflight_specs}
        new = {digest: spec for digest, spec in kinds.items() if digest not in self.study.preflighted}
        if new:
            self._send(StageProgressed(Progress("warming up", "one step of each kind of training")))
            self.say_notes(self._backend.preflight(list(new.values()), **self.design.preflight_options))
            self.study.add_preflighted(list(new))

    def _send(self, event: Event) -> None:
        self._tracker.receive(event)

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
        """This controller's own lease: its trials stop when it ends, even if another controller runs the study."""
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
        others = {"event_log": EventLog(self.study.folder.events), "tracking": chosen, "vertex_state_files": vertex}
        tracker = Trackers([console, *self.design.trackers(self.study.folder)], others)
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


def _make_builder(config: Config) -> StudyBuilder:
    """Make the builder of the study: a replay takes its trials from the table, others from the configuration."""
    backend = load_target("backend", config.backend)
    return (ReplayBuilder if backend is ReplayBackend else StudyBuilder)(config)


def _print_costs(design: StudyBuilder, *, is_sweep: bool) -> Estimate:
    """Print the estimated cost of a study, and return it, without creating the study."""
    dry_run.check_dry_run(design, is_sweep=is_sweep)
    folder = StudyFolder(Path(design.config.studies_dir) / design.config.study)
    check_study_version(folder)
    with ExitStack() as stack:
        stack.enter_context(_handle_sigterm())
        console = Console()
        stack.callback(console.close)
        estimate = dry_run.estimate_dry(design, console)
    print_table(estimate_tables.make_forecast(estimate), "Estimated cost of the study: expected (minimum to maximum)")
    for line in estimate_tables.write_assumptions(estimate):
        print(line)
    if folder.record.exists():
        print(f"study {design.config.study} exists: its finished trials are counted here, but not trained again")
    return estimate


def _describe_space(design: StudyBuilder) -> None:
    """Print the search space and a few architectures with their sizes, without creating a study."""
    from nasproxy.report.space_description import SampledArchitecture, make_samples, print_space

    space, wanted = design.space, design.config.job.samples
    if wanted < 0:
        raise ConfigError(f"job.samples must be at least 0, got {wanted}: set the number of architectures to show")
    print_space(space)
    shown = {} if space.baseline is None else {"baseline": space.baseline}
    for place, architecture in enumerate(space.sample(min(wanted, space.size), design.config.seed)):
        shown[str(place)] = architecture
    scores: list[ZeroCost | None] = [None] * len(shown)
    problem = None
    loader = design.config.data.loader
    if loader is not None and design.config.search_space.model and shown:
        with _handle_sigterm(), show_busy("loading the data, building the models"):
            scores, problem = dry_run.score_samples(design, list(shown.values()))
    if shown:
        rows = [
            SampledArchitecture(name, each, known) for (name, each), known in zip(shown.items(), scores, strict=True)
        ]
        print_table(make_samples(rows), f"Architectures of {space.name}")
        if any(scores):
            print(f"sizes are for the images and classes of {loader['_target_']}: use data=NAME for another dataset")
    if problem is not None:
        print(f"a model could not be built: {problem}")


@contextmanager
def _handle_sigterm() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C during a block; in other threads, which cannot handle signals, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
