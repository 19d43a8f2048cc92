"""Time a few steps of a few models, in timing trials of the study's own trainer with all slots occupied."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.cost.speed import Timing
from nasproxy.execution.backends.backend import Backend
from nasproxy.stages.retries import RetryChain, RetryPolicy, refuse_setup_failure, retry_nothing
from nasproxy.storage.locks import FileLock
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.trials.records import Request, TrialRecord
from nasproxy.trials.spec import TrialSpec

CYCLES = 6
"""Checks of a timing trial; the time before the first one counts as its start."""
MAX_CYCLE_STEPS = 50
"""Maximum number of steps between two checks; more steps do not make a timing more precise."""
MIN_OBSERVED_CYCLES = 2
"""Observed intervals between checks that are needed to separate them from the start."""
POLL_SECONDS = 0.02
"""Seconds between two polls for new checks, whose times of writing give the time of a check besides training."""


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
    open_backend: Callable[[TrialStore], Backend],
    cycle: int,
    retry_policy: RetryPolicy = retry_nothing,
) -> list[Timing | TimingFailure]:
    """Train each trial for `CYCLES` checks, all at the same time, in a temporary folder.

    Args:
        specs: Different trials.
        open_backend: Opens a backend on a store.
        cycle: Steps between two checks.
        retry_policy: Retries for out-of-memory and diverged trials, which are timed instead.

    Returns:
        Timing or failure of each trial, in the order of `specs`.

    Raises:
        SetupFailedError: A trial failed in a way in which a trial of any model would fail.
    """
    chains = [RetryChain(make_timing_trial(spec, cycle)) for spec in specs]
    with _open_temporary_store(specs[0].recipe.objective.name if specs else "") as (store, lease):
        backend = open_backend(store)
        try:
            check_times = _run_trials(chains, store, backend, lease, CYCLES * cycle, retry_policy)
        finally:
            backend.close()
        records = [store.read_alone(chain.current.key) for chain in chains]
    return [
        divide_time(record, check_times[chain.current.key])
        if record.reached(min(CYCLES * cycle, chain.current.total_steps))
        else TimingFailure(chain.specs[0], _describe_failure(record))
        for chain, record in zip(chains, records, strict=True)
    ]


CheckTimes = dict[int, float]
"""Time at which a trial's last check was written, by the number of checks."""


@contextmanager
def _open_temporary_store(metric: str) -> Iterator[tuple[FolderTrialStore, FileLock]]:
    with tempfile.TemporaryDirectory(prefix="nasproxy-estimate-") as path:
        folder = StudyFolder(Path(path))
        folder.trials.mkdir()
        lease = FileLock(folder.locks / "controller.lock")
        lease.acquire()
        try:
            yield FolderTrialStore(folder.trials, metric), lease
        finally:
            lease.release()


def _run_trials(
    chains: Sequence[RetryChain],
    store: FolderTrialStore,
    backend: Backend,
    lease: FileLock,
    until: int,
    retry_policy: RetryPolicy,
) -> dict[str, CheckTimes]:
    check_times: dict[str, CheckTimes] = {}

    def begin(spec: TrialSpec) -> None:
        if spec.key not in check_times:
            check_times[spec.key] = {}
            digest = store.create(spec)
            store.request(spec.key, Request(until_step=until, lease=str(lease.path)))
            backend.submit(spec.key, digest)

    for chain in chains:
        begin(chain.current)
    while live := backend.live():
        ended = backend.wait(POLL_SECONDS)
        for key in live | ended:
            _record_newest_check(store, key, check_times[key])
        for chain in chains:
            if chain.current.key in ended:
                chain.follow(store, retry_policy)
                refuse_setup_failure(None, chain.record)
                begin(chain.current)
    return check_times


def _record_newest_check(store: FolderTrialStore, key: str, check_times: CheckTimes) -> None:
    """Record when the newest check was written, unless the file changes while it is read."""
    path = store.folder(key).metrics
    if not path.exists():
        return
    written = path.stat().st_mtime
    checks = len(store.read_alone(key).checks)
    if checks and path.stat().st_mtime == written:
        check_times.setdefault(checks, written)


def divide_time(record: TrialRecord, check_times: CheckTimes) -> Timing:
    """Divide a trial's time into start, steps and checks.

    Args:
        record: The trial, with at least one check.
        check_times: When each number of checks was first seen to be written, in seconds since 1970.
    """
    count, last = len(record.checks), record.checks[-1]
    first = min(check_times, default=count)
    # Checks that follow one another within a tick of the file's clock have the same time.
    if count - first >= MIN_OBSERVED_CYCLES and check_times[count] > check_times[first]:
        before, cycles = record.checks[first - 1], count - first
        whole = (check_times[count] - check_times[first]) / cycles
        trained, steps = (last.train_seconds - before.train_seconds) / cycles, (last.step - before.step) / cycles
    else:  # too fast to observe its checks: the start is divided among them
        whole, trained, steps = record.status.wall_seconds / count, last.train_seconds / count, last.step / count
    trained = min(trained, whole)  # a trainer may report more seconds than passed
    start = max(0.0, record.status.wall_seconds - whole * count)
    return Timing(trained / steps, whole - trained, start)


def _describe_failure(record: TrialRecord) -> str:
    status = record.status
    cause = "it did not train" if status.cause is None else status.cause.value
    return cause if status.message is None else f"{cause}: {status.message.strip().splitlines()[0]}"
