"""Build the objects that a configuration describes, and check them before anything starts."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nasproxy.config.schema import ACTIONS, Config, DataConfig, StorageConfig, TrainingConfig, TrialPlace
from nasproxy.config.table_resolvers import read_replayed_table
from nasproxy.config.table_settings import check_table_settings
from nasproxy.config.value_checks import check_values
from nasproxy.data.loading import load_dataset
from nasproxy.errors import ConfigError, NasproxyError, forbid_exit
from nasproxy.execution.backends.backend import Backend, BackendContext
from nasproxy.execution.backends.replay.replayed_table import ReplayedTable
from nasproxy.execution.host.devices import count_gpus, list_gpus
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.space import SearchSpace
from nasproxy.spelling import find_nearest
from nasproxy.stages.definition import StageDefinition
from nasproxy.stages.proxy_search.state import TaskOrigin
from nasproxy.stages.references.selection import MAX_CANDIDATES, Selection
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.registry import find_stage, list_stages
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.statistics.acceptance import Criterion
from nasproxy.storage.study import RECORD, StudyFolder, StudyRecord, open_study_store
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_stores import MemoryTrialStore, TrialStore
from nasproxy.targets import build_target, check_arguments, list_targets, load_target
from nasproxy.trials import grid
from nasproxy.trials.identity import flatten_identity, list_arguments
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause
from nasproxy.trials.retry import Retry, find_retry
from nasproxy.trials.retry_settings import RetrySettings
from nasproxy.trials.spec import Architecture, Recipe, Split, TrialSpec, to_canonical_json

T = TypeVar("T")

SPARE_SHARE = 1.25
"""Architectures sampled for each reference that may be added, and for each fresh model: one in five may fail."""
LONGEST_RECORDED = 50
"""Most values of a list that a study records as they are."""
MAX_PREFLIGHT_MODELS = 32
"""Models whose parameters the preflight counts, to try the smallest and the largest."""


class StudyBuilder:
    """The objects that a configuration describes, built when first needed and checked before anything starts."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self) -> None:
        """Validate the configuration by building its objects.

        Raises:
            NasproxyError: A value is invalid, or values are inconsistent.
        """
        config = self.config
        self._check_replay()
        for kind in (kind for stage in list_stages() for kind in stage.settings.values()):
            settings: Any = self.settings(kind)
            if hasattr(settings, "check"):
                settings.check()
        self.selection.check()
        config.cost.check()
        config.data.check()
        config.controller.check()
        config.preflight.check()
        config.failures.check(config.trainer)
        self._check_training()
        if config.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {config.seed}")
        _ = (self.space, self.variance_candidates, self.criterion, self.tasks, self.recipe)
        for stage in self.stages:
            stage.check(self)

    @property
    def stages(self) -> list[StageDefinition[Any]]:
        """The stages of the job, in order, without its actions."""
        return [find_stage(name) for name in self.config.job.stages if name not in ACTIONS]

    def settings(self, kind: type[T]) -> T:
        """Return the section of the configuration that has this type."""
        return next(value for value in vars(self.config).values() if isinstance(value, kind))

    @property
    def is_replay(self) -> bool:
        """Whether the backend shows trials from a table and trains nothing."""
        return bool(getattr(load_target("backend", self.config.backend), "is_replay", False))

    @property
    def replayed(self) -> ReplayedTable | None:
        """The table that the study replays; None if it trains."""
        return read_replayed_table(self.config.backend) if self.is_replay else None

    def _check_replay(self) -> None:
        """Refuse a backend that replays without the settings of its table, and trials in memory without such a backend.

        Raises:
            ConfigError: Backend and settings do not belong together.
        """
        is_replay = self.is_replay
        if is_replay and not self._is_in_memory:
            raise ConfigError(
                "backend=replay needs storage.trials=memory and the settings that its table decides, got others: type "
                "experiment=replay backend.table=FILE, without storage.trials"
            )
        if self._is_in_memory and not is_replay:
            raise ConfigError(
                f"storage.trials=memory needs a backend whose trials can be repeated at no cost, as a replay's, got "
                f"{self.config.backend['_target_']}: use storage.trials=folder"
            )
        if is_replay:
            check_table_settings(self.config)

    def _check_training(self) -> None:
        """Refuse trainings that have no steps."""
        training = self.config.training
        for name, steps in (("total_steps", training.total_steps), ("check_every_steps", training.check_every_steps)):
            if steps is not None and steps < 1:
                raise ConfigError(f"training.{name} must be at least 1, got {steps}: give a number of optimizer steps")

    @property
    def seed(self) -> int:
        """Seed of the candidates and of every full training."""
        return self.config.seed

    @property
    def baseline(self) -> Architecture | None:
        """The user's own architecture; None if there is none."""
        return self.space.baseline

    @cached_property
    def space(self) -> SearchSpace:
        """Search space of the study."""
        space = self.config.search_space
        return SearchSpace(space.name, space.choices, space.baseline, tuple(map(str, space.augmentation)))

    @cached_property
    def selection(self) -> Selection:
        """Selection of the reference models."""
        selection: Selection = build_target("selection", self.config.selection, models=self.references.initial)
        return selection

    @cached_property
    def references(self) -> ReferencesSettings:
        """Numbers of reference models; those to begin with where they are to be chosen."""
        least = max(self.config.proxy_search.min_models, self.criterion.min_models)
        return self.config.references.begin(least, self.space.size)

    def with_references(self, initial: int, maximum: int) -> "StudyBuilder":
        """Make the design with chosen numbers of reference models in place of `auto`; preflights stay the same."""
        resolved = StudyBuilder(replace(self.config, references=self.config.references.resolve(initial, maximum)))
        resolved.tasks = self.tasks
        resolved.preflight_options = self.preflight_options
        return resolved

    @cached_property
    def candidates(self) -> list[Architecture]:
        """Random architectures, the same for every stage."""
        return self._sample[: max(self.selection.candidates, self.config.variance.max_tries)]

    @property
    def candidate_pool(self) -> list[Architecture]:
        """Random architectures that may be added to the references, after those that the selection uses."""
        return self._sample[self.selection.candidates : self._drawn_on] if self.selection.is_random else []

    @property
    def fresh(self) -> list[Architecture]:
        """Random architectures that no other stage may use, so that no verdict depends on them."""
        measured = set(map(to_canonical_json, self.variance_candidates))
        return [each for each in self._sample[self._drawn_on :] if to_canonical_json(each) not in measured]

    @property
    def _drawn_on(self) -> int:
        """Number of random architectures that selection, added references and the variance stage may use."""
        added = max(0, int(self.references.max) - self.selection.models)
        return max(self.selection.candidates + math.ceil(SPARE_SHARE * added), self.config.variance.max_tries)

    @cached_property
    def _sample(self) -> list[Architecture]:
        needed = self.selection.models if self.selection.is_random else self.selection.candidates
        wanted = self._drawn_on + math.ceil(SPARE_SHARE * self.config.confirm.fresh_models)
        if wanted > MAX_CANDIDATES:
            raise ConfigError(
                f"a study draws at most {MAX_CANDIDATES} architectures, got {wanted}: lower references.initial, "
                f"references.max, selection.start_models, variance.max_tries or confirm.fresh_models"
            )
        return list(self.space.sample(min(wanted, max(needed, self.space.size)), self.config.seed))

    @cached_property
    def variance_candidates(self) -> list[Architecture]:
        """Architectures to measure variance on, in the order in which they are tried: those of other stages first."""
        chosen = self.config.variance.architectures
        if chosen is None:
            return self.candidates
        allowed = {to_canonical_json(architecture): architecture for architecture in chosen}
        first = [known for known in map(to_canonical_json, self.candidates) if known in allowed]
        names = list(dict.fromkeys([*first, *allowed]))[: self.config.variance.max_tries]
        return [self.space.canonical(allowed[name]) for name in names]

    @cached_property
    def tasks(self) -> dict[str, ProxyTask]:
        """The proxy tasks to judge, by name."""
        settings = asdict(self.config.proxy)
        generator = settings.pop("generator", None)
        if generator is not None:
            settings["tasks"] = _generate(generator)
        return grid.span_grid(settings)

    @property
    def task_origin(self) -> TaskOrigin:
        """How the proxy tasks were given."""
        proxy = self.config.proxy
        kind = (
            "table"
            if self.is_replay
            else "generator"
            if proxy.generator
            else "axes"
            if proxy.tasks is None
            else "tasks"
        )
        given = {name: getattr(proxy, name) for name in grid.AXES if getattr(proxy, name) is not None}
        axes = {name: tuple(each) if isinstance(each, list | tuple) else (each,) for name, each in given.items()}
        return TaskOrigin(kind, axes, min(self.space.size, MAX_CANDIDATES))

    @property
    def comparison_architectures(self) -> list[Architecture]:
        """Architectures to compare schedules on: the user's baseline, if there is one, then the candidates."""
        baseline = [] if self.space.baseline is None else [self.space.baseline]
        return [*baseline, *(each for each in self.candidates if each not in baseline)]

    @property
    def preflight_specs(self) -> list[TrialSpec]:
        """One trial of every kind, for the preflight; their models are replaced by those of `preflight_options`."""
        full = TrialSpec(self.candidates[0], ProxyTask(), Split.FULL, self.seed, self.recipe)
        return [full, *(spec for stage in self.stages for spec in stage.list_kinds(self))]

    @cached_property
    def preflight_options(self) -> dict[str, Any]:
        """Keyword arguments of `run_preflight`."""
        baseline = [] if self.space.baseline is None else [self.space.baseline]
        architectures = [*baseline, *self._sample][:MAX_PREFLIGHT_MODELS]
        return {"architectures": architectures, "seconds": self.config.preflight.seconds}

    def digest_preflight(self, spec: TrialSpec) -> str:
        """Compute the digest of a preflight: of the kind of trials, the models that it chooses among, and its time.

        What was not seen in the time limit is seen with a longer one.
        """
        decisive = to_canonical_json([spec.digest, self.preflight_options])
        return hashlib.sha256(decisive.encode()).hexdigest()

    @cached_property
    def criterion(self) -> Criterion:
        """Criterion that judges the proxy tasks."""
        criterion: Criterion = build_target("criterion", self.config.criterion)
        return criterion

    @cached_property
    def objective(self) -> Objective:
        """The metric that decisions are made on."""
        return Objective(self.config.metric.name, self.config.metric.mode.value)

    @cached_property
    def recipe(self) -> Recipe:
        """Settings that all trials share."""
        config = self.config
        return Recipe(
            model=config.search_space.model,
            trainer=config.trainer,
            data=_plain(asdict(config.data)),
            data_fingerprint=self._fingerprint,
            total_steps=config.training.total_steps,
            check_every_steps=config.training.check_every_steps,
            check_at=None if config.training.check_at is None else tuple(config.training.check_at),
            device_type=self.device_type,
            precision=config.training.precision,
            micro_batch=config.training.micro_batch,
            devices=config.training.devices,
            objective=self.objective,
            identity_exclude=self._identity_exclude,
        )

    @property
    def _identity_exclude(self) -> tuple[str, ...]:
        """Paths of the recipe that the user leaves out of the identity of trials.

        Raises:
            ConfigError: A path is no argument of the trainer, the data loader or the model.
        """
        config = self.config
        nodes = {
            "trainer": config.trainer,
            "data.loader": config.data.loader,
            "search_space.model": config.search_space.model,
        }
        known = {f"{path}.{key}" for path, node in nodes.items() for key in list_arguments(node or {}) if key[0] != "_"}
        for path in map(str, config.identity.exclude):
            if path not in known:
                nearest, example = find_nearest(path, sorted(known)), max(known, default="none")
                raise ConfigError(
                    f"identity.exclude takes arguments of trainer, data.loader and search_space.model, got {path!r}: "
                    + (f"name one, such as {example!r}" if nearest is None else f"did you mean {nearest!r}?")
                )
        return tuple(sorted(path.removeprefix("search_space.") for path in config.identity.exclude))

    @cached_property
    def device_type(self) -> str:
        """Type of device that trains: `cpu` or `cuda`."""
        device = self.config.training.accelerator.value
        return device if device != "auto" else ("cuda" if list_gpus() else "cpu")

    @property
    def _is_in_memory(self) -> bool:
        return self.config.storage.trials is TrialPlace.memory

    def open_study(self, path: Path) -> FolderStudyStore:
        """Open the store of the study in a folder.

        Raises:
            ConfigError: The study keeps its trials elsewhere, or began with another table or metric.
        """
        record = FolderStudyStore(path).read(RECORD, StudyRecord)
        if self._is_in_memory:
            if record is not None:
                self._check_table(path.name, record)
            return open_study_store(path, trials=MemoryTrialStore(), durable=False)  # a replay is soon repeated
        if StudyFolder(path).replayed.exists():
            raise ConfigError(
                f"study {path.name} was replayed from a table, and its trials are not stored: add "
                f"experiment=replay backend.table=FILE"
            )
        return open_study_store(path, metric=(self.objective if record is None else record.objective).name)

    def _check_table(self, name: str, record: StudyRecord) -> None:
        """Refuse to replay a study, also for a job that only reads it, with another table or metric than it has."""
        objective = record.objective
        if record.base.get("data.fingerprint") != self._fingerprint:
            raise ConfigError(
                f"study {name} must be one of the table {self.config.backend.get('table')}, and was begun with other "
                f"data: give its own table, or name the study with study=NAME"
            )
        if objective != self.objective:
            raise ConfigError(
                f"study {name} was begun with metric.name={objective.name} metric.mode={objective.mode}, got "
                f"{self.objective.name} and {self.objective.mode}: set them as they were"
            )

    def open_backend(self, store: TrialStore, study: Path) -> Backend:
        """Build the backend for the trials of a store, in a study's folder."""
        preload = tuple(sorted({target.rpartition(".")[0] for target in self._named_targets} - {""}))
        context = BackendContext(store, study, self.device_type, preload)
        backend: Backend = build_target("backend", self.config.backend, context=context)
        return backend

    def make_order_template(self, study: Path) -> OrderTemplate:
        """Make the template of the study's work orders."""
        trusted = tuple(sorted({target.partition(".")[0] for target in self._named_targets}))
        return OrderTemplate(study, trusted, self.device_type, self.config.failures.max_attempts)

    @property
    def _named_targets(self) -> list[str]:
        """Targets that the trials' configs name."""
        return list_targets([self.recipe.model, self.recipe.trainer, self.recipe.data])

    def retry_policy(self, spec: TrialSpec, causes: Sequence[Cause]) -> Retry | None:
        """Return the retry of a trial that ran out of memory or diverged, if there is one."""
        return find_retry(spec, causes, self.config.failures)

    def devices_per_slot(self, slots: int) -> float:
        """Return the devices of a slot: GPUs, or its share of the machine if trials run on cores."""
        return self._gpus_per_trial if self.device_type == "cuda" else 1 / slots

    def slots_of(self, devices: int) -> float:
        """Return the number of slots that a trial on so many devices occupies, as the backend's pool does."""
        share = self._gpus_per_trial
        return count_gpus(devices, share) / share if self.device_type == "cuda" else devices

    @property
    def _gpus_per_trial(self) -> float:
        return float(self.config.backend.get("gpus_per_trial", 1.0))

    @cached_property
    def base(self) -> dict[str, Any]:
        """All values that must not change while the study lasts, by dotted path."""
        config = self.config
        exclude = config.identity.exclude
        values = {
            "seed": config.seed,
            "search_space": {**asdict(config.search_space), "baseline": self.space.baseline},
            "trainer": config.trainer,
            "metric": asdict(self.objective),
            "data": {**_plain(asdict(config.data)), "fingerprint": self._fingerprint},
            "training": {**_plain(asdict(config.training)), "accelerator": self.device_type},
            "failures": _drop_attempts(config.failures),
            "variance": _drop_action(config.variance),
            "storage": _plain(asdict(config.storage)),
            "selection": {"_target_": config.selection["_target_"], **self.selection.base},
        }
        flat = {path: _digest_long(value) for path, value in flatten_identity(values, exclude).items()}
        return {**flat, **({"identity.exclude": sorted(exclude)} if exclude else {})}

    @property
    def base_defaults(self) -> dict[str, Any]:
        """Defaults of the values of `base`: a study that was created before one of them existed has these."""
        values = {
            "search_space": {"augmentation": self.config.search_space.augmentation},  # says what the choices decide
            "metric": asdict(Objective()),
            "data": _plain(asdict(DataConfig())),
            "training": _plain(asdict(TrainingConfig())),
            "failures": _drop_attempts(RetrySettings()),
            "variance": _drop_action(VarianceSettings()),
            "storage": _plain(asdict(StorageConfig())),
            "selection": self._selection_defaults,
        }
        return flatten_identity(values)

    @property
    def _selection_defaults(self) -> dict[str, Any]:
        """Base of a selection with its default arguments; nothing if it needs others."""
        node, models = {"_target_": self.config.selection["_target_"]}, self.references.initial
        try:
            selection: Selection = build_target("selection", node, models=models)
        except ConfigError:
            return {}
        return selection.base

    @property
    def judged_by(self) -> str:
        """The rules of the proxy search, as canonical JSON."""
        rules = {
            key: value
            for key, value in asdict(self.config.proxy_search).items()
            if key not in ("policy", "rung_growth")
        }
        references, trials = asdict(self.config.references), self.config.search.trials
        contradicted_at = self.config.confirm.alpha
        return to_canonical_json(
            {
                "criterion": self.config.criterion,
                "references": references,
                "trials": trials,
                "contradicted_at": contradicted_at,
                **rules,
            }
        )

    @cached_property
    def _fingerprint(self) -> str:
        data = self.config.data
        if data.loader is not None:
            return load_dataset({"loader": data.loader}).fingerprint
        if data.fingerprint is None:
            raise ConfigError("data needs a loader, or a fingerprint that names the trainer's own data: got neither")
        return data.fingerprint


def _drop_action(settings: VarianceSettings) -> dict[str, Any]:
    """Return the settings of the variance stage that decide its result: not whether to have one, and its use."""
    return {key: value for key, value in asdict(settings).items() if key not in ("enabled", "on_failure")}


def _digest_long(value: Any) -> Any:
    """Replace a long list by its length and digest, which tell whether it has changed."""
    if not isinstance(value, list | tuple) or len(value) <= LONGEST_RECORDED:
        return value
    digest = hashlib.sha256(to_canonical_json(value).encode()).hexdigest()
    return f"{len(value)} values, SHA-256 {digest[:16]}"


def _drop_attempts(settings: RetrySettings) -> dict[str, Any]:
    """Return the settings of failures that decide results: not how often a crashed trial is tried again."""
    return {key: value for key, value in asdict(settings).items() if key != "max_attempts"}


def _generate(generator: Mapping[str, Any]) -> list[Any]:
    """Call the user's function that makes proxy tasks."""
    function = load_target("proxy.generator", generator)
    check_arguments("proxy.generator", generator, given={})
    try:
        with forbid_exit(f"proxy.generator ({generator['_target_']})"):
            made = function(**{key: value for key, value in generator.items() if key != "_target_"})
            tasks = list(made)
        check_values(tasks, "proxy.generator")
        return tasks
    except NasproxyError:
        raise
    except Exception as error:  # the function is the user's code and may raise anything
        raise ConfigError(
            f"proxy.generator must return a list of settings, and {generator['_target_']} failed: "
            f"{type(error).__name__}: {error}"
        ) from error


def _plain(value: Any) -> Any:
    """Replace enumerations by their values."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.value if isinstance(value, Enum) else value
