"""The replay backend: shows the learning curves of a table as trials, in virtual time and without training."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import EXIT_ENDED, Ended
from nasproxy.execution.backends.backend import BackendContext, Capabilities
from nasproxy.execution.backends.replay.curve_table import Curve, CurveTable, read_table
from nasproxy.execution.backends.replay.ledger import Ledger
from nasproxy.execution.backends.replay.replayed_table import CHOICE, ReplayedTable, choose_proxies
from nasproxy.execution.work_order import OrderKind, WorkOrder
from nasproxy.storage.answers import Answer, write_answer
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.objective import Objective, describe_opposite_direction, has_opposite_direction
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Request, State, Status, TrialRecord
from nasproxy.trials.spec import Split, TrialSpec

GENERATION = 0
"""Generation of all records: one process replays them, so that nobody takes over."""
COMMAND = "python run.py experiment=replay backend.table=FILE"
"""The command that replays a table."""


class ReplayBackend:
    """Runs trials by replaying the trainings of a table in virtual time.

    Trials are in memory. Those that the study replayed before are replayed again when the backend is made.

    Attributes:
        is_replay: Whether trials are shown from a table and not trained; read of the class, before a backend is made.
        replayed: The table, and the roles of its proxies.
    """

    is_replay: ClassVar[bool] = True

    def __init__(
        self,
        *,
        context: BackendContext,
        table: str | None = None,
        curves: CurveTable | None = None,
        metric: str = "score",
        reference: str | None = None,
        proxies: list[str] | None = None,
        slots: int | None = None,
    ) -> None:
        """Read the table, choose its proxies, and replay the trials that the study replayed before.

        Args:
            context: The study; its store is one in memory, to which this backend writes the trials.
            table: Path of a CSV or Parquet file of learning curves.
            curves: The table itself, if it has been read.
            metric: Name of the column of the scores; `score` if there is no such column.
            reference: Proxy of full training; None for `full`, or for the table's only proxy.
            proxies: Proxies to judge, in order; None for all but the reference, or for the reference if it is alone.
            slots: Trials that run at once; None for all.

        Raises:
            ConfigError: There is no table, a proxy is not in it, or the trials are not in memory.
            DataError: The table is invalid.
            CorruptFileError: The ledger cannot be read.
        """
        if slots is not None and slots < 1:
            raise ConfigError(f"backend.slots must be at least 1, got {slots}")
        if not isinstance(context.trials, MemoryTrialStore):
            raise ConfigError(
                f"backend=replay needs trials in memory, and the settings that its table decides, got trials in "
                f"folders: run {COMMAND}"
            )
        self.store = context.trials
        curves = read_named_table(table, metric) if curves is None else curves
        self.replayed: ReplayedTable = choose_proxies(curves, reference, proxies)
        self._slots = slots or len(curves.curves)
        self._clock = VirtualClock()
        self._queue: OrderedDict[str, WorkOrder] = OrderedDict()
        self._ended: list[Ended] = []
        self._running: dict[str, _Run] = {}
        self._ledger = None if context.study is None else Ledger(StudyFolder(context.study).replayed)
        self._restore_trials()

    @property
    def capabilities(self) -> Capabilities:
        """Slots in virtual time."""
        return Capabilities(slots=self._slots, poll_seconds=self.replayed.look_seconds)

    def submit(self, order: WorkOrder) -> None:
        """Queue a trial; answer a preflight, and a measurement: a table has no models."""
        if order.kind is OrderKind.PREFLIGHT:
            self._answer(order, self._preflight(order.specs))
        elif order.kind is OrderKind.MEASURE:
            self._answer(order, Answer(scores=(None,) * len(order.specs)))
        elif order.key not in self._running and order.key not in self._queue:
            self._queue[order.key] = order
            self._start_queued()

    def _preflight(self, specs: Sequence[TrialSpec]) -> Answer:
        """Check that the table has the curves of these trials; it has no models and no programs."""
        try:
            for spec in specs:
                self._find_curve(spec)
        except ConfigError as error:
            return Answer(error=str(error))
        return Answer(notes=tuple(self._list_limits(specs[0].recipe.objective)) if specs else ())

    def _answer(self, order: WorkOrder, answer: Answer) -> None:
        write_answer(order.study, order.key, answer)
        self._ended.append(Ended(order.key, exit_status=EXIT_ENDED))

    def poll(self, seconds: float) -> list[Ended]:
        """Advance virtual time by so many seconds, or until no trial is left, and return what ended."""
        ended, self._ended = self._ended, []
        if not ended:
            ended = [Ended(key, exit_status=EXIT_ENDED) for key in self._advance(seconds)]
        return ended

    def _advance(self, seconds: float) -> list[str]:
        deadline = self._clock.now() + seconds
        ended: list[str] = []
        self._update_planned_ends()
        ends = [(run.ends, key) for key, run in self._running.items()]
        heapq.heapify(ends)
        while ends and ends[0][0] <= deadline:
            moment, key = heapq.heappop(ends)
            self._clock.seconds = max(moment, self._clock.now())
            self._end_run(key)
            ended.append(key)
            for started in self._start_queued():
                heapq.heappush(ends, (self._running[started].ends, started))
        if self._running:
            self._clock.seconds = deadline
        for key, run in self._running.items():
            self._write_progress(key, run, run.checks_by(deadline))
        return ended

    def cancel(self, key: str) -> None:
        """Remove the trial from the queue or from its slot; its checks stay."""
        run = self._running.pop(key, None)
        if run is not None or self._queue.pop(key, None) is not None:
            self._ended.append(Ended(key, is_cancelled=True))
        if run is not None:
            seconds = run.train_seconds_by(self._clock.now())
            status = replace(run.status, state=State.PENDING, wall_seconds=seconds)
            self.store.write(key, TrialRecord(status, self.store.read(key).checks), generation=GENERATION)

    def close(self) -> None:
        """Cancel all trials that run or wait."""
        for key in [*self._queue, *self._running]:
            self.cancel(key)
        self._ended.clear()

    def _start_queued(self) -> list[str]:
        """Start queued trials on free slots and return their keys."""
        started = []
        while self._queue and len(self._running) < self._slots:
            key, order = self._queue.popitem(last=False)
            record, curve = self.store.read(key), self._find_curve(self.store.spec(key))
            if record.is_failed:
                self._ended.append(Ended(key, exit_status=EXIT_ENDED))
                continue
            run = _Run(
                curve,
                started_at=self._clock.now(),
                checks_at_start=len(record.checks),
                status=record.status,
                max_attempts=order.max_attempts,
            )
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
            status = status.failed(cause, run.curve.failure, step=step, max_attempts=run.max_attempts)
        record = TrialRecord(status, run.curve.checks[: run.checks])
        self.store.write(key, record, generation=GENERATION)
        if self._ledger is not None:
            spec = self.store.spec(key)
            until = None if run.is_whole else record.step
            self._ledger.add(spec, self.replayed.find_schedule(spec), until, self.store.purposes()[key])

    def _restore_trials(self) -> None:
        """Replay the trials of the ledger, each up to its last step."""
        if self._ledger is None or self._ledger.recipe is None:
            return
        for entry, until in self._ledger.steps.items():
            architecture, proxy, schedule, split, seed = entry
            task = ProxyTask() if proxy is None else self.replayed.make_proxy_task(proxy, schedule)
            spec = TrialSpec({CHOICE: architecture}, task, Split(split), seed, self._ledger.recipe)
            self.store.create(spec, self._ledger.purposes[entry])
            run = _Run(self._find_curve(spec), started_at=0.0, checks_at_start=0, status=Status(), max_attempts=1)
            run.plan_end(Request(until_step=until), 0)
            self._running[spec.key] = run
            self._end_run(spec.key)

    def _list_limits(self, objective: Objective) -> Iterator[str]:
        """List what a study must know about its table."""
        replayed, curves = self.replayed, self.replayed.table.curves.items()
        scores = [curve.scores.tolist() for training, curve in curves if training.proxy == replayed.reference]
        if has_opposite_direction(scores, objective):
            yield describe_opposite_direction(len(scores), objective)
        left_out = len(replayed.table.architectures([replayed.reference])) - len(replayed.architectures)
        if left_out:
            yield f"{left_out} architectures of the table were not trained under every proxy and are left out"
        yield _describe_schedules(replayed.schedules)
        for proxy in dict.fromkeys((replayed.reference, *replayed.proxies)):
            if replayed.table.has_flat_times(proxy):
                yield (
                    f"train_seconds of proxy {proxy!r} hardly rise from check to check: if they are times of each "
                    f"check, use the time since the start of the training"
                )
        if replayed.reference in replayed.proxies and replayed.seeds == 1:
            yield (
                f"proxy {replayed.reference!r} is the reference itself, and the table has one seed of it: each "
                f"training is compared with its own end, which biases tau upwards"
            )

    def _find_curve(self, spec: TrialSpec) -> Curve:
        return self.replayed.find_curve(spec)


def _describe_schedules(schedules: Mapping[str, Sequence[int]]) -> str:
    """Describe for which schedules a table can confirm its proxy tasks."""
    if not schedules:
        return (
            "the table has no trainings on schedules that end where a proxy task was stopped: its winner cannot be "
            "confirmed"
        )
    listed = "; ".join(f"{proxy}: {', '.join(map(str, steps))}" for proxy, steps in schedules.items())
    return f"a proxy task can be confirmed if it is accepted at the end of a schedule that the table has ({listed})"


def read_named_table(path: str | None, metric: str) -> CurveTable:
    """Read the table that `backend.table` names.

    Args:
        path: A `.csv` or `.parquet` file; None if none was named.
        metric: Name of the column of the scores; `score` if there is no such column.

    Raises:
        ConfigError: No table was named.
        DataError: The table is invalid.
    """
    if path is None:
        raise ConfigError(
            f"backend.table must name a table of learning curves, got none: {COMMAND}; docs/replay.md shows how to "
            f"make one"
        )
    return read_table(path, metric)


@dataclass
class _Run:
    """A trial on a slot, with its planned end.

    Attributes:
        curve: The curve that it replays.
        started_at: Virtual time at which it started, in seconds.
        checks_at_start: Number of its checks at the start.
        status: Its status at the start.
        max_attempts: Attempts of a trial that crashed or was lost.
        request: Request from which the end was planned.
        checks: Number of its checks at the end.
        is_whole: Whether it ends with the training's own end or failure, and not by request.
        train_seconds: Training time at the end.
    """

    curve: Curve
    started_at: float
    checks_at_start: int
    status: Status
    max_attempts: int
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
