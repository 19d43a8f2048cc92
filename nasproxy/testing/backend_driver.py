"""Drive a backend in a test as a controller does: submit trials, count their attempts, read their records."""

import time

from nasproxy.execution.attempts import Ended, settle
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.storage.trial_stores import TrialStore
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec


class BackendDriver:
    """Drives a backend on a store.

    Attributes:
        live: Keys of the trials that were submitted and have not ended.
    """

    def __init__(self, backend: Backend, store: TrialStore, orders: OrderTemplate) -> None:
        """Drive a backend.

        Args:
            backend: The backend.
            store: Store of its trials.
            orders: Template of the orders.
        """
        self.backend = backend
        self.store = store
        self.orders = orders
        self.live: set[str] = set()
        self._submitted: dict[str, int] = {}

    def submit(self, *specs: TrialSpec) -> None:
        """Create trials and submit the orders to train them."""
        for spec in specs:
            self.submit_order(self.orders.train(spec, self.store.create(spec)))

    def submit_order(self, order: WorkOrder) -> None:
        """Submit an order to train a trial that exists."""
        self.live.add(order.key)
        self._submitted[order.key] = self.store.read_alone(order.key).status.generation
        self.backend.submit(order)

    def poll(self, seconds: float) -> list[Ended]:
        """Poll once, settle the trials that ended, and return their ends."""
        ended = list(self.backend.poll(seconds))
        for end in ended:
            assert end.key in self.live, f"{end} was not submitted, or its end was returned before"
            self.live.discard(end.key)
            settle(self.store, end, max_attempts=self.orders.max_attempts, submitted=self._submitted[end.key])
        return ended

    def poll_until_checked(self, spec: TrialSpec, step: int = 1, seconds: float = 60.0) -> None:
        """Poll until a trial has a check at or after a step."""
        deadline = time.monotonic() + seconds
        while self.store.read(spec.key).step < step:
            assert time.monotonic() < deadline, f"trial {spec.key} has no such check: {self.store.read(spec.key)}"
            self.poll(0.02)

    def run(self, *specs: TrialSpec, seconds: float = 120.0) -> TrialRecord:
        """Submit trials, wait until they have ended, and return the record of the last one."""
        self.submit(*specs)
        self.finish(seconds)
        return self.store.read(specs[-1].key)

    def finish(self, seconds: float = 120.0) -> None:
        """Wait until all trials have ended."""
        deadline = time.monotonic() + seconds
        while self.live:
            assert time.monotonic() < deadline, f"{len(self.live)} trials have not ended"
            self.poll(0.1)
