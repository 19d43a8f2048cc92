"""A study on a table of learning curves: the settings that the table decides, and the trials replayed before."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from nasproxy.config.builder import StudyBuilder
from nasproxy.config.schema import Accelerator, Config, DataConfig, ProxyConfig, SearchSpaceConfig, StageName
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.backend import Backend, BackendContext
from nasproxy.execution.backends.replay.backend import CHOICE, ReplayBackend
from nasproxy.execution.backends.replay.ledger import Ledger, read_ledger
from nasproxy.space import SearchSpace
from nasproxy.storage.files import read_record
from nasproxy.storage.study import StudyFolder, StudyRecord
from nasproxy.storage.trial_stores import MemoryTrialStore, TrialStore
from nasproxy.targets import build_target
from nasproxy.tracking.tracker import Tracker
from nasproxy.trials.objective import describe_opposite_direction, has_opposite_direction
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Request
from nasproxy.trials.spec import Architecture, Split, TrialSpec


class ReplayBuilder(StudyBuilder):
    """The objects of a configuration whose search space, schedule and proxy tasks come from a table."""

    is_replay: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        """Read the table.

        Raises:
            NasproxyError: The table is invalid, or the configuration sets what the table decides.
        """
        self._replay: ReplayBackend = build_target(
            "backend",
            config.backend,
            context=BackendContext(MemoryTrialStore()),
            metric=config.metric.name,
            seed=config.seed,
        )
        super().__init__(_fitted(config, self._replay))
        self._wanted = config

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the limits of a study on this table."""
        return tuple(self._notes())

    @cached_property
    def space(self) -> SearchSpace:
        """The architectures that were trained under every proxy task of the study."""
        return SearchSpace(self.config.search_space.name, {CHOICE: self._architectures})

    @cached_property
    def variance_candidates(self) -> list[Architecture]:
        """Architectures with enough seeds, those of the other stages first."""
        first = [str(candidate[CHOICE]) for candidate in self.candidates]
        enough = [name for name in dict.fromkeys([*first, *self._architectures]) if self._has_copies(name)]
        return [{CHOICE: name} for name in enough[: self.config.variance.max_tries]]

    @cached_property
    def base(self) -> dict[str, Any]:
        """All values that must not change while the study lasts; the table by its fingerprint."""
        name = self.config.search_space.name
        values = {path: value for path, value in super().base.items() if not path.startswith("search_space.")}
        return {
            **values,
            "search_space.name": name,
            "search_space.architectures": len(self._architectures),
            "replay.reference_seeds": _most_seeds(self._replay, self._architectures),
        }

    def open_store(self, folder: StudyFolder) -> TrialStore:
        """Replay the trials that the study replayed before, and return their store.

        Raises:
            ConfigError: The study was created with other data.
        """
        record = read_record(folder.record, StudyRecord)
        begun_with = None if record is None else record.base.get("data.fingerprint")
        if begun_with != self._replay.table.fingerprint:
            raise ConfigError(
                f"study {folder.path.name} must be one of the table {self._wanted.backend['table']}, and was begun "
                f"with other data: give its own table, or name the study with study=NAME"
            )
        objective = self._find_objective(folder)
        if objective != self.objective:
            raise ConfigError(
                f"study {folder.path.name} was begun with metric.name={objective.name} metric.mode={objective.mode}, "
                f"got {self.objective.name} and {self.objective.mode}: set them as they were"
            )
        store, orders = self._replay.store, self.make_order_template(folder.path)
        for spec, until in self._replayed(folder):
            store.request(spec.key, Request(until_step=until))
            self._replay.submit(orders.train(spec, store.create(spec)))
        self._replay.poll(math.inf)
        return store

    def open_backend(self, store: TrialStore, study: Path) -> Backend:
        """Return the backend that replays the trials."""
        assert store is self._replay.store
        return self._replay

    def trackers(self, folder: StudyFolder) -> list[Tracker]:
        """Return the tracker that records which trials were replayed."""
        return [Ledger(folder.replayed)]

    @cached_property
    def _architectures(self) -> tuple[str, ...]:
        return _trained(self._replay)

    def _has_copies(self, name: str) -> bool:
        seeds = self._replay.table.seeds[name, self._replay.reference]
        return len(seeds) >= self.config.variance.seeds

    def _replayed(self, folder: StudyFolder) -> Iterator[tuple[TrialSpec, int | None]]:
        for trial, until in read_ledger(folder.replayed).items():
            architecture, proxy, split, seed = trial
            task = ProxyTask() if proxy is None else self._replay.proxy_task(proxy)
            yield TrialSpec({CHOICE: architecture}, task, Split(split), seed, self.recipe), until

    def _notes(self) -> Iterator[str]:
        replay, wanted = self._replay, self._wanted
        curves = [
            curve.scores.tolist()
            for training, curve in replay.table.curves.items()
            if training.proxy == replay.reference
        ]
        if has_opposite_direction(curves, self.objective):
            yield describe_opposite_direction(len(curves), self.objective)
        left_out = len(replay.table.architectures([replay.reference])) - len(self._architectures)
        if left_out:
            yield f"{left_out} architectures of the table were not trained under every proxy and are left out"
        if set(wanted.job.stages) - set(self.config.job.stages) >= {StageName.measure_variance}:
            yield (
                f"the table has {_most_seeds(replay, self._architectures)} of {wanted.variance.min_seeds} seeds of a "
                f"training: seed noise cannot be measured, and the noise ceiling stays unknown"
            )
        if StageName.confirm in wanted.job.stages and wanted.confirm.enabled:
            yield (
                "the table has no trainings on schedules that end where a proxy task was stopped: its winner cannot be "
                "confirmed"
            )
        if replay.reference in replay.proxies and _most_seeds(replay, self._architectures) == 1:
            yield (
                f"proxy {replay.reference!r} is the reference itself, and the table has one seed of it: each training "
                f"is compared with its own end, which biases tau upwards"
            )


def _fitted(config: Config, replay: ReplayBackend) -> Config:
    """Return the configuration with the settings that the table decides.

    Raises:
        ConfigError: The configuration sets one of them.
    """
    _refuse_choices(config, replay)
    steps = replay.table.check_steps[replay.reference]
    training = replace(
        config.training,
        total_steps=steps[-1],
        check_every_steps=steps[-1],
        check_at=list(steps),
        accelerator=Accelerator.cpu,
    )
    seeds = _most_seeds(replay, _trained(replay))
    variance = config.variance
    kept: list[StageName] = [step for step in config.job.stages if step is not StageName.confirm]
    if seeds >= variance.min_seeds:
        variance = replace(variance, seeds=min(variance.seeds, seeds))
    else:
        kept = [step for step in kept if step is not StageName.measure_variance]
    return replace(
        config,
        search_space=SearchSpaceConfig(name=replay.table.name, model={}, choices={}),
        trainer=replay.trainer,
        data=DataConfig(fingerprint=replay.table.fingerprint),
        training=training,
        proxy=ProxyConfig(tasks=[{"name": p, **replay.proxy_task(p).overrides} for p in replay.proxies]),
        variance=variance,
        job=replace(config.job, stages=kept),
    )


def _refuse_choices(config: Config, replay: ReplayBackend) -> None:
    chosen: dict[str, Mapping[str, Any]] = {
        "proxy": vars(config.proxy),
        "search_space": {"choices": config.search_space.choices, "baseline": config.search_space.baseline},
        "trainer": config.trainer,
        "data": {"loader": config.data.loader},
        "variance": {"total_steps": config.variance.total_steps},
        "training": {"check_at": config.training.check_at},
    }
    for group, values in chosen.items():
        name = next((name for name, value in values.items() if value not in (None, {})), None)
        if name is not None:
            raise ConfigError(
                f"{group}.{name} cannot be set with backend=replay, got {values[name]!r}: choose "
                f"among the table's proxies ({', '.join(replay.table.check_steps)}) with backend.proxies=[...]"
            )


def _trained(replay: ReplayBackend) -> tuple[str, ...]:
    """List the architectures that were trained under the reference and every proxy of the study."""
    return replay.table.architectures([replay.reference, *replay.proxies])


def _most_seeds(replay: ReplayBackend, architectures: tuple[str, ...]) -> int:
    """Count the seeds of the full training that was repeated most."""
    return max((len(replay.table.seeds[name, replay.reference]) for name in architectures), default=0)
