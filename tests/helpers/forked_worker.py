"""A worker that is forked from this process, with the members of `subprocess.Popen` that a backend needs."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasproxy.execution.work_order import read_order
from nasproxy.execution.worker.main import run_order


class ForkedWorker:
    """Runs the order of `python -m nasproxy.execution.worker ORDER.json` in a fork, which starts no interpreter.

    Args:
        command: The command.
        options: Options of `Popen`: a fork has no standard input and leads a new session in any case.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        *_, module, order = command
        assert module == "nasproxy.execution.worker"
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(Path(order))

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def _run(self, order: Path) -> None:
        try:
            os.setsid()
            run_order(read_order(order))
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
