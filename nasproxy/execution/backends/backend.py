"""The protocol of all backends, which run work orders and never read a metric (docs/backends.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nasproxy.execution.attempts import Ended
from nasproxy.execution.work_order import WorkOrder
from nasproxy.storage.trial_stores import TrialStore


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        slots: Orders on one device each that run at once.
        poll_seconds: Seconds between two polls, for a backend whose time is virtual; None for the controller's setting.
        uses_terminal: Whether trials use the terminal of the controller, which then draws nothing on it.
    """

    slots: int
    poll_seconds: float | None = None
    uses_terminal: bool = False


@dataclass(frozen=True)
class BackendContext:
    """What a study passes to its backend.

    Attributes:
        trials: Store of the study's trials.
        study: The study's folder; None for trials in this process's memory.
        device_type: `cpu` or `cuda`.
        preload: Modules of the configured targets, to import before the first trial starts.
    """

    trials: TrialStore
    study: Path | None = None
    device_type: str = "cpu"
    preload: tuple[str, ...] = ()


class Backend(Protocol):
    """Runs work orders on its slots; progress is in the records that workers write.

    Only one thread, the controller's, calls it. An order is known by its key from its submission until `poll` has
    returned its end. The constructor takes the options of the configuration group `backend`, and `context`, as keyword
    arguments.

    Workers read and write the study's folder, and watch the controller's lock, which is a file in it. A backend with
    workers on other machines therefore needs a file system that these share with the controller, at the same path.
    """

    def __init__(self, *, context: BackendContext, **options: Any) -> None: ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        ...

    def submit(self, order: WorkOrder) -> None:
        """Queue an order; does nothing if an order with its key is queued or runs."""
        ...

    def poll(self, seconds: float) -> Sequence[Ended]:
        """Return the orders that ended or were cancelled, each once; if there are none, wait for one.

        Args:
            seconds: Longest time to wait.
        """
        ...

    def cancel(self, key: str) -> None:
        """Remove an order from the queue, or kill its worker with all processes that it started.

        `poll` then returns its end. Work since the last checkpoint is lost. Does nothing if the key is unknown.
        """
        ...

    def close(self) -> None:
        """Cancel all orders, whose ends nobody asks for any more, and release all resources."""
        ...
