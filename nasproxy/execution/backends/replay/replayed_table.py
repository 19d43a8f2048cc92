"""A table of learning curves as a study replays it: which of its proxies is full training, and which are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from nasproxy.errors import ConfigError
from nasproxy.execution.backends.replay.curve_table import Curve, CurveTable, TableTraining
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause
from nasproxy.trials.spec import Split, TrialSpec

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

    def make_proxy_task(self, proxy: str, schedule: int | None = None) -> ProxyTask:
        """Make the proxy task that replays a proxy of the table.

        Args:
            proxy: Name of the proxy.
            schedule: Steps of a compressed schedule; None for whole trainings.
        """
        steps = self.table.check_steps[proxy]
        overrides: dict[str, Override] = {
            "trainer.proxy": proxy,
            "training.total_steps": schedule or steps[-1],
            "training.check_at": steps,
        }
        return ProxyTask(overrides=overrides)

    @cached_property
    def schedules(self) -> Mapping[str, tuple[int, ...]]:
        """Compressed schedules of each judged proxy that has any, increasing: those on which it can be confirmed."""
        return {proxy: self.table.schedules[proxy] for proxy in self.proxies if proxy in self.table.schedules}

    def find_curve(self, spec: TrialSpec) -> Curve:
        """Return the curve of a trial; that of a lost training if the table lacks it on the trial's schedule.

        Raises:
            ConfigError: The table lacks the whole training, or has it with other steps.
        """
        proxy = self._name_proxy(spec)
        if self._is_compressed(spec, proxy):
            return self._find_compressed(spec, proxy)
        return self._find_whole(spec, proxy)

    def has_training(self, spec: TrialSpec) -> bool:
        """Return whether the table has the training of a trial, if that has a compressed schedule."""
        proxy, name = self._name_proxy(spec), str(spec.architecture[CHOICE])
        return not self._is_compressed(spec, proxy) or bool(self.table.find_compressed(name, proxy, spec.total_steps))

    def find_schedule(self, spec: TrialSpec) -> int | None:
        """Return the compressed schedule of a trial; None if its training is whole."""
        return spec.total_steps if self._is_compressed(spec, self._name_proxy(spec)) else None

    def list_schedules(self, spec: TrialSpec) -> Sequence[int]:
        """List the compressed schedules that the table has under the proxy of a trial."""
        return self.table.schedules.get(self._name_proxy(spec), ())

    def _name_proxy(self, spec: TrialSpec) -> str:
        return str(spec.recipe.under(spec.proxy_task).trainer["proxy"])

    def _is_compressed(self, spec: TrialSpec, proxy: str) -> bool:
        return spec.total_steps < self.table.check_steps[proxy][-1]

    def _find_compressed(self, spec: TrialSpec, proxy: str) -> Curve:
        """Return the curve on a compressed schedule: of the seed that the trial has, or of the last one."""
        name, schedule = str(spec.architecture[CHOICE]), spec.total_steps
        curves = self.table.find_compressed(name, proxy, schedule)
        if not curves:
            absent = TableTraining(name, proxy, spec.seed, schedule)
            none = np.zeros(0)
            return Curve(none.astype(np.int64), none, none, 0.0, Cause.LOST, failure=f"the table has no {absent}")
        return curves[min(self._number_seed(spec), len(curves) - 1)]

    def _find_whole(self, spec: TrialSpec, proxy: str) -> Curve:
        name, steps = str(spec.architecture[CHOICE]), self.table.check_steps[proxy]
        if spec.check_steps != steps:
            raise ConfigError(
                f"a replay needs trainings of {steps[-1]} steps with {len(steps)} checks, as in the table under proxy "
                f"{proxy!r}, got {spec.total_steps} steps with {len(spec.check_steps)}: do not change the schedule"
            )
        seeds, number = self.table.seeds.get((name, proxy), ()), self._number_seed(spec)
        if spec.split is Split.SEARCH:
            number = min(number, len(seeds) - 1)
        if not 0 <= number < len(seeds):
            raise ConfigError(
                f"a replay needs {number + 1} seeds of architecture {name!r} under proxy {proxy!r}, and the "
                f"table has {len(seeds)}: use fewer seeds, or add them to the table"
            )
        return self.table.curves[TableTraining(name, proxy, seeds[number])]

    def _number_seed(self, spec: TrialSpec) -> int:
        return spec.seed - int(spec.recipe.trainer["first_seed"])


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
