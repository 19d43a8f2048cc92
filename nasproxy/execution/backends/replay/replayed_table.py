"""A table of learning curves as a study replays it: which of its proxies is full training, and which are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.execution.backends.replay.curve_table import CurveTable
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import ProxyTask

CHOICE = "architecture"
"""The only choice of a table's search space: the architecture's name in the table."""
REFERENCE = "full"
"""Default name of full training in the table's column `proxy`."""
LOOKS = 20
"""Number of controller polls during a full training; an early stop is late by up to 1/`LOOKS` of it and one check."""


@dataclass(frozen=True, eq=False)
class ReplayedTable:
    """A table of learning curves and the roles of its proxies.

    Attributes:
        table: The trainings.
        reference: The proxy that is full training.
        proxies: The proxies to judge, in order.
    """

    table: CurveTable
    reference: str
    proxies: tuple[str, ...]

    @cached_property
    def architectures(self) -> tuple[str, ...]:
        """Architectures that were trained under the reference and every proxy to judge, in the order of the table."""
        return self.table.architectures([self.reference, *self.proxies])

    @property
    def steps(self) -> tuple[int, ...]:
        """Check steps of a full training."""
        return self.table.check_steps[self.reference]

    @cached_property
    def seeds(self) -> int:
        """Number of seeds of the full training that was repeated most."""
        return max((self.count_seeds(name) for name in self.architectures), default=0)

    @cached_property
    def look_seconds(self) -> float:
        """Virtual seconds between two polls of the running trials."""
        curves = self.table.curves.items()
        return median(curve.end_seconds for training, curve in curves if training.proxy == self.reference) / LOOKS

    def count_seeds(self, architecture: str) -> int:
        """Count the seeds of an architecture's full training."""
        return len(self.table.seeds[architecture, self.reference])

    def make_trainer(self, first_seed: int = 0) -> dict[str, Any]:
        """Make the trainer node of the recipe: the part of a trial's identity besides the table's fingerprint.

        Args:
            first_seed: The study's seed, which stands for the first seed of each training in the table.
        """
        return {"version": 1, "proxy": self.reference, "first_seed": first_seed}

    def make_proxy_task(self, proxy: str) -> ProxyTask:
        """Make the proxy task that replays a proxy of the table."""
        steps = self.table.check_steps[proxy]
        overrides: dict[str, Override] = {
            "trainer.proxy": proxy,
            "training.total_steps": steps[-1],
            "training.check_at": steps,
        }
        return ProxyTask(overrides=overrides)


def choose_proxies(
    table: CurveTable, reference: str | None = None, proxies: Sequence[str] | None = None
) -> ReplayedTable:
    """Choose the roles of a table's proxies.

    Args:
        table: The table.
        reference: Proxy of full training; None for `full`, or for the table's only proxy.
        proxies: Proxies to judge, in order; None for all but the reference, or for the reference if it is alone.

    Raises:
        ConfigError: A proxy is not in the table.
    """
    known = list(table.check_steps)
    full = reference if reference is not None else known[0] if len(known) == 1 else REFERENCE
    if full not in known:
        raise ConfigError(
            f"backend.reference must be one of the table's proxies ({', '.join(known)}), got {full!r}: set it to the "
            f"proxy of full training"
        )
    judged = proxies if proxies is not None else [proxy for proxy in known if proxy != full] or [full]
    unknown = [proxy for proxy in judged if proxy not in known]
    if unknown or not judged:
        raise ConfigError(
            f"backend.proxies must list proxies of the table ({', '.join(known)}), got "
            f"{unknown[0] if unknown else 'none'!r}: choose from these, or use null for all"
        )
    return ReplayedTable(table, full, tuple(judged))
