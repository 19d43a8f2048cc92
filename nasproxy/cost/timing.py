"""Time a few steps of a few models, in timing trials of the study's own trainer with all slots occupied."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.cost.speed import Timing
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages.retries import RetryPolicy, refuse_setup_failure, retry_nothing
from nasproxy.stages.scheduler import Runtime, Train, TrialScheduler
from nasproxy.storage.locks import FileLock
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.records import TrialPurpose, TrialRecord
from nasproxy.trials.spec import TrialSpec

OpenBackend = Callable[[TrialStore, Path], Backend]
"""Function of a store and its study's folder that opens a backend."""

CYCLES = 6
"""Checks of a timing trial; the time before the first one counts as its start."""
MAX_CYCLE_STEPS = 50
"""Maximum number of steps between two checks; more steps do not make a timing more precise."""
MIN_OBSERVED_CYCLES = 2
"""Observed intervals between checks that are needed to separate them from the start."""
POLL_SECONDS = 0.05
"""Seconds between two polls for new checks."""


@dataclass(frozen=True)
class TimingFailure:
    """A timing trial that failed.

    Attributes:
        spec: The trial.
        reason: Why it failed.
    """

    spec: TrialSpec
    reason: str


def choose_cycle(total_steps: int, *, trials: int, budget_steps: float) -> int:
    """Choose the steps between two checks of timing trials, so that all of them together use a budget of steps.

    Args:
        total_steps: Steps of the shortest training.
        trials: Number of timing trials.
        budget_steps: Steps of all timing trials together.

    >>> choose_cycle(600, trials=6, budget_steps=480), choose_cycle(100_000, trials=6, budget_steps=1e6)
    (13, 50)
    """
    return max(1, min(round(budget_steps / (trials * CYCLES)), total_steps // CYCLES, MAX_CYCLE_STEPS))


def make_timing_trial(spec: TrialSpec, cycle: int) -> TrialSpec:
    """Return the trial with checks every `cycle` steps; its schedule is unchanged, but it will be stopped early."""
    spec = spec.applied()
    return replace(spec, recipe=replace(spec.recipe, check_every_steps=cycle, check_at=None))


def time_trials(
    specs: Sequence[TrialSpec],
    open_backend: OpenBackend,
    orders: OrderTemplate,
    cycle: int,
    retry_policy: RetryPolicy = retry_nothing,
) -> list[Timing | TimingFailure]:
    """Train each trial for `CYCLES` checks, all at the same time, in a temporary folder.

    Args:
        specs: Different trials.
        open_backend: Opens a backend on a store.
        orders: Template of the study's work orders.
        cycle: Steps between two checks.
        retry_policy: Retries for out-of-memory and diverged trials, which are timed instead.

    Returns:
        Timing or failure of each trial, in the order of `specs`.

    Raises:
        SetupFailedError: A trial failed in a way in which a trial of any model would fail.
    """
    trials = [make_timing_trial(spec, cycle) for spec in specs]
    until = {trial.key: min(CYCLES * cycle, trial.total_steps) for trial in trials}
    with _open_runtime(trials, open_backend, orders, retry_policy) as runtime:
        trained = _train(trials, until, runtime)
        records = [runtime.store.read_alone(trained[trial.key]) for trial in trials]
    return [
        divide_time(record) if record.reached(until[trial.key]) else TimingFailure(trial, _describe_failure(record))
        for trial, record in zip(trials, records, strict=True)
    ]


@contextmanager
def _open_runtime(
    trials: Sequence[TrialSpec], open_backend: OpenBackend, orders: OrderTemplate, retry_policy: RetryPolicy
) -> Iterator[Runtime]:
    """Open a store in a temporary folder, and a backend on it, for a block."""
    metric = trials[0].recipe.objective.name if trials else ""
    with tempfile.TemporaryDirectory(prefix="nasproxy-estimate-") as path, ExitStack() as held:
        folder = StudyFolder(Path(path))
        folder.trials.mkdir()
        lock = FileLock(folder.locks / "controller.lock")
        held.enter_context(lock.hold("an estimate"))
        store = FolderTrialStore(folder.trials, metric)
        backend = open_backend(store, folder.path)
        held.callback(backend.close)
        yield Runtime(
            store,
            backend,
            NullTracker(study=folder.path),
            replace(orders, study=folder.path),
            retry_policy,
            lock=lock.path,
            poll_seconds=POLL_SECONDS,
            stop_at_setup_failure=False,
        )


def _train(trials: Sequence[TrialSpec], until: Mapping[str, int], runtime: Runtime) -> dict[str, str]:
    """Train trials up to a step each; return the keys of those that were trained last, which may be retries."""
    scheduler = TrialScheduler(runtime, lambda spec: TrialPurpose("estimate"))
    with scheduler.stop_trials_at_end():
        while True:
            records = scheduler.records(trials)
            for record in records.values():
                refuse_setup_failure(None, record)
            if all(record.has_ended or record.reached(until[key]) for key, record in records.items()):
                return {key: record.trained_as(key) for key, record in records.items()}
            for _ in scheduler.act(Train(until)):
                pass


def divide_time(record: TrialRecord) -> Timing:
    """Divide a trial's time into start, steps and checks.

    Args:
        record: The trial, with at least one check.
    """
    count, first, last = len(record.checks), record.checks[0], record.checks[-1]
    between = None
    if first.reported_at is not None and last.reported_at is not None:
        between = last.reported_at - first.reported_at
    if between and between > 0 and count > MIN_OBSERVED_CYCLES:
        cycles = count - 1
        whole = between / cycles
        trained, steps = (last.train_seconds - first.train_seconds) / cycles, (last.step - first.step) / cycles
    else:  # too few checks, or an unknown time: the start is divided among them
        whole, trained, steps = record.status.wall_seconds / count, last.train_seconds / count, last.step / count
    trained = min(trained, whole)  # a trainer may report more seconds than passed
    start = max(0.0, record.status.wall_seconds - whole * count)
    return Timing(trained / steps, whole - trained, start)


def _describe_failure(record: TrialRecord) -> str:
    status = record.status
    cause = "it did not train" if status.cause is None else status.cause.value
    return cause if status.message is None else f"{cause}: {status.message.strip().splitlines()[0]}"
