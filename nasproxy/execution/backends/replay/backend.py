"""The replay backend: shows the learning curves of a table as trials, in virtual time and without training."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.execution.backends.replay.curve_table import Curve, CurveTable, TableTraining, read_table
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Request, State, Status, TrialRecord
from nasproxy.trials.spec import Architecture, Split, TrialSpec

CHOICE = "architecture"
"""The only choice of a table's search space: the architecture's name in the table."""
REFERENCE = "full"
"""Default name of full training in the table's column `proxy`."""
GENERATION = 0
"""Generation of all records: one process replays them, so that nobody takes over."""
LOOKS = 20
"""Number of controller polls during a full training; an early stop is late by up to 1/`LOOKS` of it and one check."""


class ReplayBackend:
    """Runs trials by replaying the trainings of a table in virtual time."""

    def __init__(
        self,
        store: MemoryTrialStore,
        *,
        table: str | None = None,
        curves: CurveTable | None = None,
        metric: str = "score",
        reference: str | None = None,
        proxies: list[str] | None = None,
        slots: int | None = None,
        max_attempts: int = 1,
        seed: int = 0,
    ) -> None:
        """Read the table and choose its proxies.

        Args:
            store: Store of the trials.
            table: Path of a CSV or Parquet file of learning curves.
            curves: The table itself, if it has been read.
            metric: Name of the column of the scores; `score` if there is no such column.
            reference: Proxy of full training; None for `full`, or for the table's only proxy.
            proxies: Proxies to judge, in order; None for all but the reference, or for the reference if it is alone.
            slots: Trials that run at once; None for all.
            max_attempts: Attempts of a trial that crashed or was lost; in a replay all attempts end the same way.
            seed: The study's seed, which is mapped to the first seed of each training in the table.

        Raises:
            ConfigError: There is no table, or a proxy is not in it.
            DataError: The table is invalid.
        """
        if curves is None:
            curves = self._read_table(table, metric)
        if slots is not None and slots < 1:
            raise ConfigError(f"backend.slots must be at least 1, got {slots}")
        self.store = store
        self.table = curves
        self.reference = self._choose_reference(reference)
        self.proxies = self._choose_proxies(proxies)
        self._slots = slots or len(self.table.curves)
        self._max_attempts = max_attempts
        self._seed = seed
        self._clock = VirtualClock()
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, _Run] = {}

    @staticmethod
    def _read_table(table: str | None, metric: str) -> CurveTable:
        if table is None:
            raise ConfigError(
                "backend.table must name a table of learning curves, got none: python run.py backend=replay "
                "backend.table=FILE; docs/replay.md shows how to make one"
            )
        return read_table(table, metric)

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return self._slots

    @cached_property
    def look_seconds(self) -> float:
        """Virtual seconds between two polls of the running trials."""
        curves = self.table.curves.items()
        return median(curve.end_seconds for training, curve in curves if training.proxy == self.reference) / LOOKS

    @property
    def trainer(self) -> dict[str, Any]:
        """Trainer node of the recipe: the part of a trial's identity besides the table's fingerprint."""
        return {"version": 1, "proxy": self.reference, "first_seed": self._seed}

    def proxy_task(self, proxy: str) -> ProxyTask:
        """Return a proxy of the table as a proxy task."""
        steps = self.table.check_steps[proxy]
        overrides: dict[str, Override] = {
            "trainer.proxy": proxy,
            "training.total_steps": steps[-1],
            "training.check_at": steps,
        }
        return ProxyTask(overrides=overrides)

    def preflight(
        self, specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture] = (), seconds: float = 0.0
    ) -> tuple[str, ...]:
        """Check that the table has the curves of these trials; it has no models and no programs.

        Raises:
            ConfigError: A curve is missing, or its steps differ from the trial's.
        """
        for spec in specs:
            self._find_curve(spec)
        return ()

    def zero_costs(self, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
        """Return None for each trial, because a table has no models."""
        return [None for _ in specs]

    def submit(self, key: str, digest: str) -> None:
        """Queue the trial; does nothing if it runs, waits or has failed."""
        if key not in self._running and not self.store.read(key).is_failed:
            self._queue[key] = None
            self._start_queued()

    def live(self) -> set[str]:
        """Return the keys of the trials that run or wait for a slot."""
        return {*self._queue, *self._running}

    def running(self) -> set[str]:
        """Return the keys of the trials that run."""
        return set(self._running)

    def wait(self, seconds: float) -> set[str]:
        """Advance virtual time by so many seconds, or until no trial is left, and return the keys that ended."""
        deadline = self._clock.now() + seconds
        ended: set[str] = set()
        self._update_planned_ends()
        ends = [(run.ends, key) for key, run in self._running.items()]
        heapq.heapify(ends)
        while ends and ends[0][0] <= deadline:
            moment, key = heapq.heappop(ends)
            self._clock.seconds = max(moment, self._clock.now())
            self._end_run(key)
            ended.add(key)
            for started in self._start_queued():
                heapq.heappush(ends, (self._running[started].ends, started))
        if self._running:
            self._clock.seconds = deadline
        for key, run in self._running.items():
            self._write_progress(key, run, run.checks_by(deadline))
        return ended

    def cancel(self, key: str) -> None:
        """Remove the trial from the queue or from its slot; its checks stay."""
        self._queue.pop(key, None)
        run = self._running.pop(key, None)
        if run is not None:
            seconds = run.train_seconds_by(self._clock.now())
            status = replace(run.status, state=State.PENDING, wall_seconds=seconds)
            self.store.write(key, TrialRecord(status, self.store.read(key).checks), generation=GENERATION)

    def close(self) -> None:
        """Cancel all trials that run or wait."""
        for key in self.live():
            self.cancel(key)

    def _start_queued(self) -> list[str]:
        """Start queued trials on free slots and return their keys."""
        started = []
        while self._queue and len(self._running) < self._slots:
            key, _ = self._queue.popitem(last=False)
            record, curve = self.store.read(key), self._find_curve(self.store.spec(key))
            run = _Run(curve, started_at=self._clock.now(), checks_at_start=len(record.checks), status=record.status)
            run.plan_end(self.store.get_request(key), run.checks_at_start)
            self._running[key] = run
            self._write_progress(key, run, run.checks_at_start)
            started.append(key)
        return started

    def _update_planned_ends(self) -> None:
        """Update the planned end of running trials whose request has changed."""
        for key, run in self._running.items():
            request = self.store.get_request(key)
            if request is not run.request:
                # A trainer reads the request after each check, so it finishes the current one first.
                run.plan_end(request, run.checks_by(self._clock.now()) + 1)

    def _write_progress(self, key: str, run: "_Run", checks: int) -> None:
        record = self.store.read(key)
        if len(record.checks) != checks or record.status.state is not State.RUNNING:
            status = replace(run.status, state=State.RUNNING)
            self.store.write(key, TrialRecord(status, run.curve.checks[:checks]), generation=GENERATION)

    def _end_run(self, key: str) -> None:
        run = self._running.pop(key)
        status, cause = replace(run.status, wall_seconds=run.train_seconds), run.curve.cause
        if not run.is_whole:
            status = replace(status, state=State.PAUSED)
        elif cause is None:
            status = replace(status, state=State.DONE)
        else:
            checks = run.curve.checks
            step = checks[-1].step if checks else 0
            status = status.failed(cause, "failed according to the table", step=step, max_attempts=self._max_attempts)
        self.store.write(key, TrialRecord(status, run.curve.checks[: run.checks]), generation=GENERATION)

    def _find_curve(self, spec: TrialSpec) -> Curve:
        """Return the curve of a trial.

        Raises:
            ConfigError: The table lacks the curve, or has it with other steps.
        """
        recipe, architecture = spec.recipe.under(spec.proxy_task), str(spec.architecture[CHOICE])
        proxy = str(recipe.trainer["proxy"])
        steps = self.table.check_steps[proxy]
        if spec.check_steps != steps:
            raise ConfigError(
                f"a replay needs trainings of {steps[-1]} steps with {len(steps)} checks, as in the table under proxy "
                f"{proxy!r}, got {spec.total_steps} steps with {len(spec.check_steps)}: do not change the schedule"
            )
        seeds, number = self.table.seeds.get((architecture, proxy), ()), spec.seed - self._seed
        if spec.split is Split.SEARCH:
            number = min(number, len(seeds) - 1)
        if not 0 <= number < len(seeds):
            raise ConfigError(
                f"a replay needs {number + 1} seeds of architecture {architecture!r} under proxy {proxy!r}, and the "
                f"table has {len(seeds)}: use fewer seeds, or add them to the table"
            )
        return self.table.curves[TableTraining(architecture, proxy, seeds[number])]

    def _choose_reference(self, wanted: str | None) -> str:
        known = list(self.table.check_steps)
        reference = wanted if wanted is not None else known[0] if len(known) == 1 else REFERENCE
        if reference not in known:
            raise ConfigError(
                f"backend.reference must be one of the table's proxies ({', '.join(known)}), got {reference!r}: set it "
                f"to the proxy of full training"
            )
        return reference

    def _choose_proxies(self, wanted: list[str] | None) -> tuple[str, ...]:
        known = list(self.table.check_steps)
        others = [proxy for proxy in known if proxy != self.reference]
        proxies = wanted if wanted is not None else others or [self.reference]
        unknown = [proxy for proxy in proxies if proxy not in known]
        if unknown or not proxies:
            raise ConfigError(
                f"backend.proxies must list proxies of the table ({', '.join(known)}), got "
                f"{unknown[0] if unknown else 'none'!r}: choose from these, or use null for all"
            )
        return tuple(proxies)


@dataclass
class _Run:
    """A trial on a slot, with its planned end.

    Attributes:
        curve: The curve that it replays.
        started_at: Virtual time at which it started, in seconds.
        checks_at_start: Number of its checks at the start.
        status: Its status at the start.
        request: Request from which the end was planned.
        checks: Number of its checks at the end.
        is_whole: Whether it ends with the training's own end or failure, and not by request.
        train_seconds: Training time at the end.
    """

    curve: Curve
    started_at: float
    checks_at_start: int
    status: Status
    request: Request | None = None
    checks: int = 0
    is_whole: bool = False
    train_seconds: float = 0.0

    @property
    def ends(self) -> float:
        """Virtual time of its end, in seconds."""
        return self.started_at + max(0.0, self.train_seconds - self._get_train_seconds(self.checks_at_start))

    def plan_end(self, request: Request, earliest: int) -> None:
        """Plan the end from a request.

        Args:
            request: The current request.
            earliest: Number of checks before which it cannot stop.
        """
        curve, stop = self.curve, float(earliest if request.stop else math.inf)
        if request.until_step is not None:
            stop = min(stop, 1 + int(np.searchsorted(curve.steps, request.until_step)))
        stop, last = max(stop, earliest), len(curve.steps)
        self.request = request
        self.is_whole = stop > last or (stop == last and curve.cause is None)
        self.checks = last if self.is_whole else int(stop)
        self.train_seconds = curve.end_seconds if self.is_whole else self._get_train_seconds(self.checks)

    def train_seconds_by(self, moment: float) -> float:
        """Compute the training time at a virtual time, in seconds."""
        return self._get_train_seconds(self.checks_at_start) + moment - self.started_at

    def checks_by(self, moment: float) -> int:
        """Count the checks made until a virtual time."""
        seconds = self.train_seconds_by(moment)
        return max(self.checks_at_start, int(np.searchsorted(self.curve.train_seconds, seconds, side="right")))

    def _get_train_seconds(self, checks: int) -> float:
        """Return the training time at so many checks."""
        return float(self.curve.train_seconds[checks - 1]) if checks else 0.0
