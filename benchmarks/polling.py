"""The cost of polling running trials: processor time of the controller, by running trials and by their news.

A synthetic host, a process of its own, writes checks of the trials as workers do, at a fixed rate. The controller's
scheduler polls as in a study. The last line is JSON:

    python -m benchmarks.polling --trials 200 2000 --news 20 200 --seconds 20
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasproxy.execution.attempts import Ended
from nasproxy.execution.backends.backend import Capabilities
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.stages.scheduler import Runtime, Train, TrialScheduler
from nasproxy.storage.trial_files import append_check, write_status
from nasproxy.storage.trial_index import add_news
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.testing import synthetic
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import State, Status, TrialPurpose
from nasproxy.trials.spec import Split, TrialSpec

POLL_SECONDS = 0.25
"""As `controller.poll_seconds`."""
TOTAL_STEPS = 100_000


class WaitingBackend:
    """Backend whose orders never end; it measures the processor time of this process between its polls.

    Attributes:
        share: Share of one core that the process used, once `seconds` have passed since the first poll.
    """

    def __init__(self, seconds: float) -> None:
        self.share: float | None = None
        self._seconds = seconds
        self._began: tuple[float, float] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(slots=1_000_000)

    def submit(self, order: WorkOrder) -> None:
        """Do nothing: the synthetic host writes checks of all trials."""

    def poll(self, seconds: float) -> Sequence[Ended]:
        now = (time.process_time(), time.monotonic())
        self._began = self._began or now
        cpu, elapsed = (after - before for after, before in zip(now, self._began, strict=True))
        if elapsed > self._seconds:
            self.share = cpu / elapsed
            raise _OverError
        time.sleep(seconds)
        return []

    def cancel(self, key: str) -> None:
        """Do nothing: no order has a process."""

    def close(self) -> None:
        """Do nothing: no order has a process."""


class _OverError(Exception):
    """The time of the measurement is over."""


def write_news(root: Path, keys: Sequence[str], per_second: float, ready: Event) -> None:
    """Write checks of the trials in turn, at a rate, until the process is ended."""
    folders = [FolderTrialStore(root).folder(key) for key in keys]
    for folder in folders:
        write_status(folder, Status(State.RUNNING, threads=1), generation=1)
    ready.set()
    began, count = time.monotonic(), 0
    while True:
        folder, step = folders[count % len(folders)], count // len(folders) + 1
        append_check(folder, step, {"accuracy": 0.5}, float(step), number=step)
        add_news(folder)
        count += 1
        time.sleep(max(0.0, began + count / per_second - time.monotonic()))


def measure(trials: int, per_second: float, seconds: float) -> float:
    """Measure the share of one core that the controller uses while it polls.

    Args:
        trials: Running trials.
        per_second: Checks of all trials together, per second.
        seconds: Length of the measurement.
    """
    recipe = synthetic.make_recipe(total_steps=TOTAL_STEPS, check_every_steps=10)
    specs = [TrialSpec({"quality": 50, "fault": "none"}, ProxyTask(), Split.FULL, n, recipe) for n in range(trials)]
    with tempfile.TemporaryDirectory(prefix="nasproxy-polling-") as path:
        store = FolderTrialStore(Path(path) / "trials")
        for spec in specs:
            store.create(spec)
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        keys = [spec.key for spec in specs]
        host = context.Process(target=write_news, args=(store.root, keys, per_second, ready), daemon=True)
        host.start()
        ready.wait()
        try:
            return _poll(store, specs, Path(path), seconds)
        finally:
            host.kill()
            host.join()


def _poll(store: FolderTrialStore, specs: Sequence[TrialSpec], study: Path, seconds: float) -> float:
    backend = WaitingBackend(seconds)
    runtime = Runtime(store, backend, NullTracker(study=study), OrderTemplate(study), poll_seconds=POLL_SECONDS)
    scheduler = TrialScheduler(runtime, lambda spec: TrialPurpose("polling"))
    scheduler.records(specs)
    with suppress(_OverError):
        for _ in scheduler.act(Train({spec.key: TOTAL_STEPS for spec in specs})):
            scheduler.records(specs)  # as a stage does to show its progress
    assert backend.share is not None
    return backend.share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--news", type=float, nargs="+", default=[20.0, 200.0], help="checks of all trials, per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    rows = [
        {"trials": trials, "news_per_second": news, "core_share": measure(trials, news, arguments.seconds)}
        for trials in arguments.trials
        for news in arguments.news
    ]
    table = Table("running trials", "news per second", "share of a core")
    for row in rows:
        table.add_row(str(row["trials"]), f"{row['news_per_second']:g}", f"{row['core_share']:.1%}")
    Console().print(table)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
