"""Times a few steps of a few models: throwaway trials of the study's own trainer, with all slots busy."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nasproxy.cost.speed import Timing
from nasproxy.execution.backends.backend import Backend
from nasproxy.stages.retries import RetryChain, RetryPolicy, retry_nothing
from nasproxy.storage.leases import Lease
from nasproxy.storage.study import StudyFolder
from nasproxy.storage.trial_stores import FolderTrialStore, TrialStore
from nasproxy.trials.records import Request, TrialRecord
from nasproxy.trials.spec import TrialSpec

CYCLES = 6
"""Checks of a throwaway trial; what comes before the first is taken for its start."""
LONGEST_CYCLE = 50
"""Steps: more tell nothing new."""
SEEN_CYCLES = 2
"""Cycles that must have been seen to tell them from the start."""
POLL_SECONDS = 0.02
"""Between two looks at what has been checked: when a check was written tells what it cost beside its training."""


@dataclass(frozen=True)
class TimingFailure:
    """A throwaway trial that gave no time."""

    spec: TrialSpec
    reason: str


def choose_cycle(total_steps: int, *, trials: int, budget_steps: float) -> int:
    """Steps between two checks of throwaway trials, so that all of them take so many steps together.

    >>> cycle_steps(600, trials=6, budget_steps=480), cycle_steps(100_000, trials=6, budget_steps=1e6)
    (13, 50)
    """
    return max(1, min(round(budget_steps / (trials * CYCLES)), total_steps // CYCLES, LONGEST_CYCLE))


def make_throwaway(spec: TrialSpec, cycle: int) -> TrialSpec:
    """The trial checked every so many steps; its schedule stays, for it is left after a few of them."""
    spec = spec.applied()
    return replace(spec, recipe=replace(spec.recipe, check_every_steps=cycle, check_at=None))


def time_trials(
    specs: Sequence[TrialSpec],
    open_backend: Callable[[TrialStore], Backend],
    cycle: int,
    retry_policy: RetryPolicy = retry_nothing,
) -> list[Timing | TimingFailure]:
    """Train each trial for a few cycles, all side by side, in a folder that is gone afterwards.

    Args:
        specs: Different trials.
        open_backend: Opens what runs them.
        cycle: Steps between two checks.
        retry_policy: What stands in for a trial that fails by its own fault, and is timed in its place.

    Returns:
        What each took, in the order of `specs`.
    """
    lines = [RetryChain(make_throwaway(spec, cycle)) for spec in specs]
    with _open_temporary_store() as (store, lease):
        backend = open_backend(store)
        try:
            seen = _run(lines, store, backend, lease, CYCLES * cycle, retry_policy)
        finally:
            backend.close()
        records = [store.read_alone(line.current.key) for line in lines]
    return [
        _timing(record, seen[line.current.key], cycle)
        if record.reached(min(CYCLES * cycle, line.current.total_steps))
        else TimingFailure(line.specs[0], _reason(record))
        for line, record in zip(lines, records, strict=True)
    ]


Seen = dict[int, float]
"""When a trial's check was written, by how many there were then."""


@contextmanager
def _open_temporary_store() -> Iterator[tuple[FolderTrialStore, Lease]]:
    with tempfile.TemporaryDirectory(prefix="nasproxy-estimate-") as path:
        folder = StudyFolder(Path(path))
        folder.trials.mkdir()
        lease = Lease(folder.locks / "controller.lock")
        lease.acquire()
        try:
            yield FolderTrialStore(folder.trials), lease
        finally:
            lease.release()


def _run(
    lines: Sequence[RetryChain],
    store: FolderTrialStore,
    backend: Backend,
    lease: Lease,
    until: int,
    retry_policy: RetryPolicy,
) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}

    def begin(spec: TrialSpec) -> None:
        if spec.key not in seen:
            seen[spec.key] = {}
            digest = store.create(spec)
            store.request(spec.key, Request(until_step=until, lease=str(lease.path)))
            backend.submit(spec.key, digest)

    for line in lines:
        begin(line.current)
    while live := backend.live():
        ended = backend.wait(POLL_SECONDS)
        for key in live | ended:
            _look(store, key, seen[key])
        for line in lines:
            if line.current.key in ended:
                line.follow(store, retry_policy)
                begin(line.current)
    return seen


def _look(store: FolderTrialStore, key: str, seen: Seen) -> None:
    """Note when the newest check was written, unless another one is written just now."""
    path = store.folder(key).metrics
    if not path.exists():
        return
    written = path.stat().st_mtime
    checks = len(store.read_alone(key).checks)
    if path.stat().st_mtime == written:
        seen.setdefault(checks, written)


def _timing(record: TrialRecord, seen: Seen, cycle: int) -> Timing:
    """Split what a trial took into starts, steps and checks."""
    count, trained = len(record.checks), record.checks[-1].train_seconds
    first = min(seen, default=count)
    if count - first >= SEEN_CYCLES:
        whole = (seen[count] - seen[first]) / (count - first)
        step = (trained - record.checks[first - 1].train_seconds) / (count - first)
    else:  # too fast to be seen at work: its start is spread over its checks
        whole, step = record.status.wall_seconds / count, trained / count
    step = min(step, whole)  # a trainer may report seconds that it made up
    start = max(0.0, record.status.wall_seconds - whole * count)
    return Timing(step / cycle, whole - step, start)


def _reason(record: TrialRecord) -> str:
    status = record.status
    cause = "it did not train" if status.cause is None else status.cause.value
    return cause if status.message is None else f"{cause}: {status.message.strip().splitlines()[0]}"
