"""The inline backend: each order runs in the controller's process, so that a debugger works in a trainer."""

import time
from collections import OrderedDict

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import EXIT_BUSY, Ended
from nasproxy.execution.backends.backend import BackendContext, Capabilities
from nasproxy.execution.work_order import WorkOrder
from nasproxy.execution.worker.main import run_inline


class InlineBackend:
    """Runs one order at a time in this process, with its terminal.

    A trial's crash is its own, as in a worker; but one that ends the process ends the study, and nothing watches for
    trials that hang. Ctrl-C and the debugger's `quit` end the study as an interruption does. Devices are not leased.
    """

    def __init__(self, *, context: BackendContext) -> None:
        """Check that the study has a folder to train in.

        Raises:
            ConfigError: It has none.
        """
        if context.study is None:
            raise ConfigError("backend=inline trains in the study's folder, got trials in memory: take the folder")
        self._queue: OrderedDict[str, WorkOrder] = OrderedDict()
        self._ended: list[Ended] = []

    @property
    def capabilities(self) -> Capabilities:
        """One slot, on the controller's terminal."""
        return Capabilities(slots=1, uses_terminal=True)

    def submit(self, order: WorkOrder) -> None:
        """Queue an order."""
        self._queue.setdefault(order.key, order)

    def poll(self, seconds: float) -> list[Ended]:
        """Run the next queued order to its end, however long it takes, and return what ended.

        Raises:
            KeyboardInterrupt: The user interrupted the order, or quit the debugger.
        """
        if not self._queue and not self._ended:
            time.sleep(seconds)
        elif not self._ended:
            self._run(*self._queue.popitem(last=False), seconds)
        ended, self._ended = self._ended, []
        return ended

    def _run(self, key: str, order: WorkOrder, seconds: float) -> None:
        try:
            status = run_inline(order)
        except BaseException:
            self._ended.append(Ended(key, is_cancelled=True))
            raise
        if status == EXIT_BUSY:
            time.sleep(seconds)
        self._ended.append(Ended(key, exit_status=status))

    def cancel(self, key: str) -> None:
        """Remove an order from the queue."""
        if self._queue.pop(key, None) is not None:
            self._ended.append(Ended(key, is_cancelled=True))

    def close(self) -> None:
        """Forget the queued orders."""
        self._queue.clear()
        self._ended.clear()
