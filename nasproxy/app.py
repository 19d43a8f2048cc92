"""From a composed configuration to objects, and through the job's steps."""

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nasproxy import proxy, schema
from nasproxy.backends.backend import Backend
from nasproxy.controllers import base, proxy_search, selection, variance
from nasproxy.controllers.states import SelectionState, VarianceState
from nasproxy.devices import visible_gpus
from nasproxy.errors import ConfigError, NasproxyError, StageStoppedError
from nasproxy.proxy import ProxyTask
from nasproxy.schema import Config, Step
from nasproxy.space import SearchSpace
from nasproxy.statistics.acceptance import Criterion
from nasproxy.statistics.ceiling import NoiseCeiling, noise_ceiling
from nasproxy.statistics.spread import cumulative_fractions
from nasproxy.storage import FolderTrialStore, Lease, revive
from nasproxy.study import Study, open_study
from nasproxy.targets import build, check_arguments, load, targets
from nasproxy.tracking.console import Console
from nasproxy.tracking.tracker import Progress, Tracker, Trackers
from nasproxy.trial import Architecture, Recipe, Split, TrialSpec, canonical
from nasproxy.worker import load_dataset

PROXY_SEED_OFFSET = 1
"""Proxy trainings have another seed than the references, so that equal settings do not make equal trainings."""

LOOKING = {Step.report, Step.list_trials}
"""Steps that train nothing: they show a study as it is, whatever else is configured."""


def main(config: DictConfig) -> None:
    """Run a job; an error that the user can act on ends the program with its message alone."""
    is_sweep = HydraConfig.get().mode is RunMode.MULTIRUN
    try:
        run(schema.read(config), is_shared=is_sweep)
    except NasproxyError as error:
        print(f"nasproxy: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("nasproxy: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def run(config: Config, *, is_shared: bool = False) -> None:
    """Take a job's steps in order.

    Args:
        config: The study and what to do with it.
        is_shared: Whether other jobs of one sweep work on the study too.

    Raises:
        NasproxyError: Something was wanted that cannot be had; nothing finished is lost.
    """
    design = Design(config)
    is_work = not set(config.job.steps) <= LOOKING
    if is_work:
        design.check()
    root = Path(config.studies_dir).absolute()
    with ExitStack() as stack:
        begun_with = design.base if is_work else None
        study = stack.enter_context(open_study(root, config.study, begun_with, is_shared=is_shared))
        stack.enter_context(_terminable())
        if is_work:
            revive(study.folder.trials)
        job = Job(design, study, stack)
        for step in config.job.steps:
            getattr(job, step.value)()


class Design:
    """The objects that a configuration describes, built when first needed and checked before anything starts."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self) -> None:
        """Build everything that can be wrong.

        Raises:
            NasproxyError: Something is.
        """
        config = self.config
        config.variance.check()
        config.selection.check()
        config.proxy_search.check()
        training = config.training
        if training.total_steps < 1 or not 1 <= training.check_every_steps <= training.total_steps:
            raise ConfigError(
                f"training needs 1 <= check_every_steps <= total_steps, got check_every_steps "
                f"{training.check_every_steps} and total_steps {training.total_steps}"
            )
        if config.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {config.seed}")
        if config.run.poll_seconds <= 0 or config.run.grace_seconds < 0:
            raise ConfigError(
                f"run needs poll_seconds above 0 and grace_seconds of at least 0, got {config.run.poll_seconds:g} and "
                f"{config.run.grace_seconds:g}"
            )
        is_search = Step.search_proxy_task in config.job.steps
        if is_search and config.selection.final_models < config.proxy_search.min_models:
            raise ConfigError(
                f"selection.final_models must be at least proxy_search.min_models, got {config.selection.final_models} "
                f"and {config.proxy_search.min_models}: too few models to rank"
            )
        chosen = config.selection
        cumulative_fractions(chosen.start_models, chosen.final_models, chosen.remove_per_iteration)
        if config.variance.total_steps is not None:
            replace(self.recipe, total_steps=config.variance.total_steps)
        for task in self.tasks.values():
            self.recipe.under(task)
        _ = (self.space, self.candidates, self.criterion)

    @cached_property
    def space(self) -> SearchSpace:
        """The architectures."""
        space = self.config.search_space
        baseline = None if space.baseline is None else proxy.flatten(space.baseline)
        return SearchSpace(name=space.name, choices=proxy.flatten(space.choices), baseline=baseline)

    @cached_property
    def candidates(self) -> list[Architecture]:
        """Random architectures, the same for every stage."""
        wanted = max(self.config.selection.start_models, self.config.variance.max_tries)
        needed = self.config.selection.start_models
        return list(self.space.sample(min(wanted, max(needed, self.space.size)), self.config.seed))

    @cached_property
    def tasks(self) -> dict[str, ProxyTask]:
        """The proxy tasks to judge, by name."""
        settings = asdict(self.config.proxy)
        generator = settings.pop("generator", None)
        if generator is not None:
            settings["tasks"] = _generate(generator)
        return proxy.grid(settings)

    @cached_property
    def criterion(self) -> Criterion:
        """When a proxy task is good."""
        criterion: Criterion = build("criterion", self.config.criterion)
        return criterion

    @cached_property
    def recipe(self) -> Recipe:
        """What all trials have in common."""
        config = self.config
        return Recipe(
            model=config.search_space.model,
            trainer=config.trainer,
            data=_plain(asdict(config.data)),
            data_fingerprint=self._fingerprint,
            total_steps=config.training.total_steps,
            check_every_steps=config.training.check_every_steps,
            device_type=self.device_type,
            precision=config.training.precision,
        )

    @cached_property
    def device_type(self) -> str:
        """`cpu` or `cuda`."""
        device = self.config.training.device.value
        return device if device != "auto" else ("cuda" if visible_gpus() else "cpu")

    @cached_property
    def base(self) -> dict[str, Any]:
        """All that must stay as it is while the study lasts."""
        config = self.config
        gateless = {key: value for key, value in asdict(config.variance).items() if key != "gate"}
        return {
            "seed": config.seed,
            "search_space": asdict(config.search_space),
            "trainer": config.trainer,
            "data": {**_plain(asdict(config.data)), "fingerprint": self._fingerprint},
            "training": {**_plain(asdict(config.training)), "device": self.device_type},
            "variance": gateless,
            "selection": asdict(config.selection),
        }

    @property
    def judged_by(self) -> str:
        """The rules of the proxy search, in words."""
        rules = {
            key: value
            for key, value in asdict(self.config.proxy_search).items()
            if key not in ("policy", "advance_fraction")
        }
        return canonical({"criterion": self.config.criterion, **rules})

    @cached_property
    def _fingerprint(self) -> str:
        data = self.config.data
        if data.loader is not None:
            return load_dataset({"loader": data.loader}).fingerprint
        if data.fingerprint is None:
            raise ConfigError("data needs a loader, or a fingerprint that names the trainer's own data: got neither")
        return data.fingerprint


class Job:
    """The steps of a job on an open study."""

    def __init__(self, design: Design, study: Study, stack: ExitStack) -> None:
        self.design = design
        self.study = study
        self._stack = stack
        self._variance: VarianceState | None = None
        self._selection: SelectionState | None = None

    def measure_variance(self) -> None:
        """Stage 1."""
        config = self.design.config
        controller = variance.VarianceController(
            config.variance,
            recipe=self.design.recipe,
            candidates=self.design.candidates,
            seed=config.seed,
            folder=self.study.folder.variance,
        )
        with self.study.stage("rehearsal"):
            self._rehearse()
        with self.study.stage(controller.name):
            self._variance = base.run(controller, self._workshop)
        variance.enforce(self._variance, config.variance)

    def select_models(self) -> None:
        """Stage 2."""
        config = self.design.config
        controller = selection.SelectionController(
            config.selection,
            recipe=self.design.recipe,
            candidates=self.design.candidates,
            baseline=self.design.space.baseline,
            seed=config.seed,
            folder=self.study.folder.selection,
        )
        with self.study.stage(controller.name):
            self._selection = base.run(controller, self._workshop)

    def search_proxy_task(self) -> None:
        """Stage 3."""
        config = self.design.config
        assert self._selection is not None
        assert self._selection.references is not None
        self._refuse_unreachable()
        controller = proxy_search.ProxySearchController(
            config.proxy_search,
            tasks=self.design.tasks,
            criterion=self.design.criterion,
            judged_by=self.design.judged_by,
            references=self._selection.references,
            recipe=self.design.recipe,
            seed=config.seed + PROXY_SEED_OFFSET,
            slots=self._backend.slots,
            folder=self.study.folder.proxy_tasks,
        )
        with ExitStack() as held:
            # Named by their settings: two jobs of a sweep that call one setting differently share its trials.
            for digest in sorted(task_digest(task) for task in self.design.tasks.values()):
                held.enter_context(self.study.stage(f"proxy_task_{digest}"))
            base.run(controller, self._workshop)

    def report(self) -> None:
        """Write the page, and say where it is."""
        from nasproxy.report.page import write_report

        page = write_report(self.study.folder, time_tolerance=self.design.config.proxy_search.time_tolerance)
        self._tracker.result(page.tables, page.pictures)
        self._tracker.say(page.verdict)
        self._tracker.say(f"report: {page.path}")

    def list_trials(self) -> None:
        """Print a table of all trials."""
        from nasproxy.report.trials import print_trials

        print_trials(self.study.folder)

    @property
    def ceiling(self) -> NoiseCeiling | None:
        """The tau that seed noise lets a perfect proxy reach."""
        if self._variance is None or self._variance.result is None:
            return None
        if self._selection is None or self._selection.references is None:
            return None
        scores = [reference.score for reference in self._selection.references]
        return noise_ceiling(scores, self._variance.result.deviation)

    def _refuse_unreachable(self) -> None:
        ceiling, target = self.ceiling, self.design.criterion.target
        if ceiling is not None and target > ceiling.high:
            raise StageStoppedError(
                f"criterion.target must lie below what seed noise allows, got {target:g}: even a perfect proxy would "
                f"reach a tau of {ceiling.tau:.2f} (at most {ceiling.high:.2f}) on these reference models; lower the "
                f"target, or make scores less noisy (longer training, more validation images)"
            )

    def _rehearse(self) -> None:
        """Put one trial of every kind together before the first is trained, unless that was done before."""
        first, recipe, seed = self.design.candidates[0], self.design.recipe, self.design.config.seed
        specs = [TrialSpec(first, ProxyTask(), Split.FULL, seed, recipe)]
        if Step.search_proxy_task in self.design.config.job.steps:
            specs += [TrialSpec(first, task, Split.SEARCH, seed, recipe) for task in self.design.tasks.values()]
        new = [spec for spec in specs if spec.digest not in self.study.rehearsed]
        if new:
            self._tracker.progress(Progress("warming up", "loading the trainer, the data and a model"), set())
            self._backend.rehearse(new)
            self.study.add_rehearsed([spec.digest for spec in new])

    @cached_property
    def _backend(self) -> Backend:
        config, recipe = self.design.config, self.design.recipe
        named = targets([recipe.model, recipe.trainer, recipe.data])
        backend: Backend = build(
            "backend",
            config.backend,
            store=FolderTrialStore(self.study.folder.trials),
            device_type=self.design.device_type,
            trusted_modules=sorted({target.partition(".")[0] for target in named}),
            preload=sorted({target.rpartition(".")[0] for target in named} - {""}),
        )
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
        chosen: Tracker = build("tracking", config.tracking, study=self.study.folder.path)
        tracker = Trackers([Console(live=False if self.study.is_shared else None), chosen])
        self._stack.callback(tracker.close)
        return tracker

    @cached_property
    def _workshop(self) -> base.Workshop:
        return base.Workshop(
            store=FolderTrialStore(self.study.folder.trials),
            backend=self._backend,
            tracker=self._tracker,
            lease=self._lease,
            poll_seconds=self.design.config.run.poll_seconds,
            grace_seconds=self.design.config.run.grace_seconds,
        )


def task_digest(task: ProxyTask) -> str:
    """A short name of a proxy task's setting."""
    return hashlib.sha256(canonical(vars(task)).encode()).hexdigest()[:16]


def _generate(generator: Mapping[str, Any]) -> list[Any]:
    """Call the user's function that makes proxy tasks."""
    function = load("proxy.generator", generator)
    check_arguments("proxy.generator", generator, given={})
    try:
        made = function(**{key: value for key, value in generator.items() if key != "_target_"})
        return list(made)
    except NasproxyError:
        raise
    except Exception as error:  # the function is the user's code and may raise anything
        raise ConfigError(
            f"proxy.generator must return a list of settings, and {generator['_target_']} failed: "
            f"{type(error).__name__}: {error}"
        ) from error


def _plain(value: Any) -> Any:
    """Enumerations as their values."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.value if isinstance(value, Enum) else value


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
