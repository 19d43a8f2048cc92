"""Run a job: the stages that a composed configuration lists, on one study."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nasproxy.config.builder import StudyBuilder
from nasproxy.config.schema import ACTIONS, Config, TrialPlace
from nasproxy.cost import dry_run
from nasproxy.cost.estimate import ESTIMATE, Estimate
from nasproxy.errors import ConfigError, SetupFailedError, StageStoppedError, forbid_exit
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.integrations.vertex.state_files import VertexStateFiles
from nasproxy.jobs.sweep import SweepJob
from nasproxy.report import estimate_tables
from nasproxy.report.reference_count import make_count_table
from nasproxy.report.terminal import print_table, show_busy
from nasproxy.stages import runner
from nasproxy.stages.definition import StageDefinition
from nasproxy.stages.proxy_search.definition import PROXY_SEARCH
from nasproxy.stages.references.count_decision import FORECAST, settle_references
from nasproxy.stages.references.state import Reference
from nasproxy.stages.registry import find_stage
from nasproxy.stages.runner import Stage
from nasproxy.storage.locks import FileLock
from nasproxy.storage.study import OpenStudy, StudyFolder, check_study_name, check_study_version, open_study
from nasproxy.storage.study_stores import FolderStudyStore, StudyStore
from nasproxy.storage.trial_files import retry_failed_trials
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.targets import build_target
from nasproxy.tracking.console import Console
from nasproxy.tracking.dispatch import Trackers
from nasproxy.tracking.event_log import EventLog
from nasproxy.tracking.events import Event, JobEnded, JobStarted, Noted, Progress, StageProgressed
from nasproxy.tracking.tracker import Tracker

S = TypeVar("S")


@dataclass(frozen=True)
class JobResult:
    """What a job returns to the program that ran it.

    Attributes:
        study: The study; None for a job without one: a dry run, a description of the search space.
        report: The page, if the job wrote one.
        estimate: The expected cost, if the job was a dry run.
    """

    study: FolderStudyStore | None = None
    report: Path | None = None
    estimate: Estimate | None = None


@forbid_exit("code that the configuration names")
def run_job(config: Config, *, sweep: SweepJob | None = None) -> JobResult:
    """Run the stages of a job in order.

    Args:
        config: Configuration of the study and the job.
        sweep: The job's place in a sweep, whose jobs may share the study; None for a job on its own.

    Raises:
        NasproxyError: The configuration is invalid, or a stage was stopped; finished trials are kept.
    """
    check_study_name(config.study)
    design = StudyBuilder(config)
    is_training = bool(design.stages)
    if is_training:
        design.check()
    if config.dry_run:
        return JobResult(estimate=_print_costs(design, is_sweep=sweep is not None))
    if sweep is not None:
        sweep.begin(design)
    if "describe_space" in config.job.stages:
        _describe_space(design)
    parts = [name for name in design.config.job.stages if name != "describe_space"]
    if sweep is not None:
        parts = sweep.choose_stages(parts)
    if not parts:
        return JobResult()
    root = Path(config.studies_dir).absolute()
    _check_requirements(design, root / config.study)
    with ExitStack() as stack:
        base, defaults = (design.base, design.base_defaults) if is_training else (None, None)
        session = stack.enter_context(
            open_study(root, config.study, base, is_shared=sweep is not None, defaults=defaults)
        )
        stack.enter_context(_handle_sigterm())
        if sweep is not None and sweep.is_merge:
            stack.enter_context(session.hold_stage("sweep_merge"))  # another sweep's merge may decide now
        if is_training:
            give_new_attempts(session, sweep)
        job = Job(design, session, stack, sweep)
        job.restore_trials()
        with job.record(parts) if is_training else nullcontext():
            if is_training:
                job.estimate()
            actions = {"report": job.report, "list_trials": job.list_trials}
            for name in parts:
                if name in actions:
                    actions[name]()
                else:
                    job.run_stage(find_stage(name))
            job.verify()
        return job.result


def give_new_attempts(session: OpenStudy, sweep: SweepJob | None) -> None:
    """Give trials that crashed, were lost or failed for the setup new attempts, once in a sweep.

    Every job of a sweep waits for the first one: it would refuse a failure whose cause has been fixed.
    """
    with session.hold_stage("new_attempts"):
        if sweep is None or sweep.is_first_of(session.folder.path):
            retry_failed_trials(session.folder.trials)


def _check_requirements(design: StudyBuilder, path: Path) -> None:
    """Refuse a stage whose requirements neither the job nor the study has.

    Raises:
        ConfigError: A result is missing.
    """
    check_study_version(StudyFolder(path))
    study = FolderStudyStore(path)
    known: set[str] = set()
    for stage in design.stages:
        missing = [name for name in stage.requires if name not in known and find_stage(name).load(study) is None]
        if missing:
            stages = _add_requirements(design.config.job.stages, study)
            is_designed = all(find_stage(name).is_part_of_design for name in missing)
            advice = "run job=design, or " if is_designed else "use "
            raise ConfigError(
                f"stage {stage.name} needs the result of {' and '.join(missing)}, and study {study.name} has "
                f"none: {advice}job.stages=[{','.join(stages)}]"
            )
        known.add(stage.name)


def _add_requirements(names: Sequence[str], study: StudyStore) -> list[str]:
    """List stages and actions of a job, each stage after those that it requires and the study has no result of."""
    ordered: list[str] = []
    visited: set[str] = set()

    def visit(name: str) -> None:
        if name in visited:
            return
        visited.add(name)
        for required in () if name in ACTIONS else find_stage(name).requires:
            if required in names or find_stage(required).load(study) is None:
                visit(required)
        ordered.append(name)

    for name in names:
        visit(name)
    return ordered


class Job:
    """The stages of a job on an open study.

    Args:
        design: The configured study.
        session: The open study.
        stack: Closes the backend and the tracker of the job, and releases its lock.
        sweep: The job's place in a sweep; None for a job on its own.
    """

    def __init__(
        self, design: StudyBuilder, session: OpenStudy, stack: ExitStack, sweep: SweepJob | None = None
    ) -> None:
        self.design = design
        self._session = session
        self._stack = stack
        self._results: dict[str, Any] = {}
        judges = PROXY_SEARCH.name in design.config.job.stages  # else the sweep has no merge
        self.is_judging = sweep is not None and not sweep.is_merge and judges
        self.is_merge = sweep is not None and sweep.is_merge
        self._report: Path | None = None

    @property
    def result(self) -> JobResult:
        """What the job has to return so far."""
        return JobResult(self.study, self._report)

    @contextmanager
    def record(self, parts: Sequence[str]) -> Iterator[None]:
        """Send the events of the job's start and its end around a block, with the error that ended it early.

        Args:
            parts: The stages and actions that it runs.
        """
        name = self.design.config.job.name
        self._send(JobStarted(name, tuple(parts)))
        try:
            yield
        except BaseException as error:
            self._send(JobEnded(name, str(error) or type(error).__name__))
            raise
        self._send(JobEnded(name))

    def say(self, message: str) -> None:
        """Send a note to the trackers."""
        self._send(Noted(message))

    def restore_trials(self) -> None:
        """Restore the trials that are in memory, which their backend repeats."""
        if self.design.config.storage.trials is TrialPlace.memory:
            _ = self._backend

    def estimate(self) -> None:
        """Store a cost estimate for a new, unshared study."""
        stages = dry_run.list_design_stages()
        if not set(stages) & set(self.design.config.job.stages):
            return  # a schedule comparison alone is not estimated
        is_new = not (self._session.is_shared or self.study.version(ESTIMATE) is not None or self.study.trials.keys())
        if not self.design.config.cost.estimate_first or not is_new or self.design.is_replay:
            return
        self.preflight()
        self._send(StageProgressed(Progress("estimate", "a few steps of a few models")))
        try:
            # Estimates all stages, not only this job's, because the report compares it with the whole study.
            estimate = dry_run.estimate_study(self.design, self._backend, self.study, stages)
        except SetupFailedError:
            raise
        except StageStoppedError as error:
            self.say(f"the cost could not be estimated: {error}")
            return
        self.study.write(ESTIMATE, estimate)
        if estimate.references is not None:
            self.study.write(FORECAST, estimate.references)
        self.say(estimate_tables.write_estimate(estimate))

    def use_references(self, initial: int, maximum: int) -> None:
        """Use chosen numbers of reference models in place of `auto` from now on."""
        self.design = self.design.with_references(initial, maximum)

    def run_stage(self, stage: StageDefinition[Any]) -> None:
        """Run a stage from its stored state on, with the numbers of references that the study has chosen."""
        if stage.has_trials:
            settle_references(self)
        self._results[stage.name] = stage.run(self)

    def verify(self) -> None:
        """Check the results of the job's stages; called last, so that the report is written before.

        Raises:
            StageStoppedError: A result must not be relied on.
        """
        for name, result in self._results.items():
            find_stage(name).verify(result)

    def run(self, stage: Stage[S], *, stop_at_setup_failure: bool = True) -> S:
        """Run the loop of a stage to its end and return its state."""
        return runner.run_stage(stage, replace(self._runtime, stop_at_setup_failure=stop_at_setup_failure))

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Hold a lock of the study during a block; in a sweep the other jobs wait for it."""
        return self._session.hold_stage(name)

    def preflight(self) -> None:
        """Run the preflight of every kind of trials, unless it has passed before."""
        with self.hold("preflight"):
            kinds = {self.design.digest_preflight(spec): spec for spec in self.design.preflight_specs}
            new = {digest: spec for digest, spec in kinds.items() if digest not in self._session.preflighted}
            if new:
                self._send(StageProgressed(Progress("warming up", "one step of each kind of training")))
                specs, options = list(new.values()), self.design.preflight_options
                for note in run_preflight(self._backend, self._orders, specs, **options):
                    self.say(note)
                self._session.add_preflighted(list(new))

    def score_untrained(self, models: Sequence[Reference]) -> None:
        """Compute the zero-cost scores of models that have none."""
        with self.hold("zero_cost"):
            architectures = [model.architecture for model in models]
            dry_run.add_zero_costs(self.design, self._backend, self.study, architectures)

    def report(self) -> None:
        """Write the report page."""
        from nasproxy.report.page import write_report

        tolerance = self.design.config.proxy_search.time_tolerance
        page = write_report(self.study, time_tolerance=tolerance)
        self._send(page.event)
        self._report = page.path

    def list_trials(self) -> None:
        """Print a table of all trials."""
        from nasproxy.report.trial_list import print_trials

        print_trials(self.study)

    def _send(self, event: Event) -> None:
        self._tracker.receive(event)

    @cached_property
    def study(self) -> FolderStudyStore:
        """The study."""
        return self.design.open_study(self._session.folder.path)

    @cached_property
    def _backend(self) -> Backend:
        backend = self.design.open_backend(self.study.trials, self.study.path)
        self._stack.callback(backend.close)
        return backend

    @cached_property
    def _orders(self) -> OrderTemplate:
        return self.design.make_order_template(self.study.path)

    @cached_property
    def _lock(self) -> Path:
        """This controller's own lock file: its trials stop when it ends, even if another controller runs the study."""
        lock = FileLock(self._session.folder.name_controller_lock())
        lock.acquire()
        self._stack.callback(lock.path.unlink, missing_ok=True)
        self._stack.callback(lock.release)
        return lock.path

    @cached_property
    def _tracker(self) -> Tracker:
        config = self.design.config
        chosen: Tracker = build_target("tracking", config.tracking, study=self.study.path)
        # A job that trains nothing needs no backend, which may lack its data or its GPUs here.
        is_inline = bool(self.design.stages) and self._backend.capabilities.uses_terminal
        is_terminal_taken = self._session.is_shared or is_inline
        console = Console(live=False if is_terminal_taken else None)
        selection = self.design.selection
        vertex = VertexStateFiles(
            study=self.study.path,
            time_tolerance=config.proxy_search.time_tolerance,
            final_models=selection.models,
            removed_per_iteration=selection.removed_per_iteration,
        )
        others = {
            "event_log": EventLog(self.study),
            "tracking": chosen,
            "vertex_state_files": vertex,
        }
        tracker = Trackers({"console": console}, others)
        self._stack.callback(tracker.close)
        return tracker

    @cached_property
    def _runtime(self) -> runner.Runtime:
        return runner.Runtime(
            store=self.study.trials,
            backend=self._backend,
            tracker=self._tracker,
            orders=self._orders,
            retry_policy=self.design.retry_policy,
            lock=self._lock,
            poll_seconds=self._backend.capabilities.poll_seconds or self.design.config.controller.poll_seconds,
            grace_seconds=self.design.config.controller.grace_seconds,
        )


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
    if estimate.references is not None:
        given = "the given numbers and those of auto"
        shown = given if estimate.references.is_given else "the chosen numbers and two alternatives"
        print_table(make_count_table(estimate.references), f"Reference models: {shown}")
    for line in (*estimate_tables.write_assumptions(estimate), *estimate_tables.list_advice(estimate, design.space)):
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
