"""Ask a backend for a preflight or a measurement, and wait for the answer."""

import signal
from collections.abc import Sequence

from nasproxy.errors import ConfigError
from nasproxy.execution.attempts import Ended, describe_end, name_signal
from nasproxy.execution.backends.backend import Backend
from nasproxy.execution.work_order import OrderTemplate, WorkOrder
from nasproxy.storage.answers import Answer, drop_answer, take_answer
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import Architecture, TrialSpec

POLL_SECONDS = 1.0
"""Seconds of one poll; the end of the order ends it."""


class _DiedError(ConfigError):
    """A process ended without an answer."""


def run_preflight(
    backend: Backend,
    orders: OrderTemplate,
    specs: Sequence[TrialSpec],
    *,
    architectures: Sequence[Architecture] = (),
    seconds: float = 0.0,
) -> tuple[str, ...]:
    """Preflight each kind of trials where they would train.

    Args:
        backend: Backend that runs no other order.
        orders: Template of the study's orders.
        specs: One trial of each kind.
        architectures: As in `OrderTemplate.preflight`, like the following.
        seconds: Time limit of programs that train; 0 runs none.

    Returns:
        Notes on settings that are valid, but perhaps not intended.

    Raises:
        ConfigError: A trial cannot be trained as configured.
    """
    return _ask(backend, orders.preflight(specs, architectures=architectures, seconds=seconds)).notes


def measure_models(backend: Backend, orders: OrderTemplate, specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
    """Compute the zero-cost scores of the trials' untrained models.

    Returns:
        Scores in the order of `specs`; None if the backend does not build the model, or it cannot be built.

    Raises:
        ConfigError: The data cannot be loaded.
    """
    try:
        return list(_ask(backend, orders.measure(specs)).scores)
    except _DiedError:  # one model is too large or ends its process: score each alone
        return [None] if len(specs) == 1 else [measure_models(backend, orders, [spec])[0] for spec in specs]


def _ask(backend: Backend, order: WorkOrder) -> Answer:
    """Have a backend run an order and return its answer.

    Raises:
        _DiedError: The process ended without an answer.
        ConfigError: The answer is an error.
    """
    drop_answer(order.study, order.key)  # of a controller that was killed before it read it
    backend.submit(order)
    try:
        ended = _wait(backend, order.key)
    except BaseException:
        backend.cancel(order.key)
        raise
    answer = take_answer(order.study, order.key)
    if answer is None:
        raise _DiedError(f"the {order.kind.value} process must return a result, got {_describe_death(ended)}")
    if answer.error is not None:
        raise ConfigError(answer.error)
    return answer


def _describe_death(ended: Ended) -> str:
    """Describe the end of a process without an answer, and what to do about it."""
    if ended.reason is not None or ended.is_host_lost:
        return f"none, because {describe_end(ended)}"
    if ended.signal is None:
        return f"exit status {ended.exit_status}: remove the exit from the study's code, or fix the error above"
    if ended.signal == signal.SIGKILL:
        return "SIGKILL: free memory for data and model"
    return f"{name_signal(ended.signal)}: remove the call that crashes, which is in the stack above"


def _wait(backend: Backend, key: str) -> Ended:
    while True:
        for ended in backend.poll(POLL_SECONDS):
            if ended.key == key:
                return ended
