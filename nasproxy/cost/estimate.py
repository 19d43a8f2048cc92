"""Estimate of a study's cost by stage: seconds from counts and speeds, money from seconds. Pure functions."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nasproxy.cost.speed import Speeds, Timing
from nasproxy.stages.references.count_decision import CountDecision
from nasproxy.stages.workload import StageWork, Work

ESTIMATE = "estimate"
"""Name of the `Estimate` in a study."""


@dataclass(frozen=True)
class Amount:
    """Estimated amount of work.

    Attributes:
        trials: Number of trials.
        steps: Optimizer steps of all trials.
        slot_seconds: Sum over slots of the seconds that each is occupied.
        elapsed_seconds: Seconds from start to end.
    """

    trials: int
    steps: int
    slot_seconds: float
    elapsed_seconds: float

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.trials + other.trials,
            self.steps + other.steps,
            self.slot_seconds + other.slot_seconds,
            self.elapsed_seconds + other.elapsed_seconds,
        )


NOTHING = Amount(0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class StageEstimate:
    """Estimated cost of a stage: minimum, under the assumption (`middle`), and maximum."""

    low: Amount
    middle: Amount
    high: Amount


@dataclass(frozen=True)
class Assumption:
    """Assumption of the middle estimate.

    Attributes:
        task: Proxy task that is assumed to be accepted.
        step: Step at which it is accepted; None if no task is accepted.
        total_steps: Steps of its whole training.
        added: Number of reference models added until then.
        trial_seconds: Seconds of one trial of the search under it, up to that step; None if unknown.
    """

    task: str
    step: int | None
    total_steps: int
    added: int
    trial_seconds: float | None = None


@dataclass(frozen=True)
class Estimate:
    """Estimated cost of a study.

    Attributes:
        stages: Estimates by stage, in the order of the stages.
        full_steps: Optimizer steps of a full training.
        devices_per_slot: Devices per slot: GPUs, or a share of the machine.
        price_per_hour: Price of one device for one hour; None if unknown.
        assumption: Assumption of the middle estimate of the proxy search; None without this stage.
        timed: Timings of models in full training, from small to large.
        notes: Notes on the timing, one per line.
        references: How many reference models were chosen for it, from the prior and these costs; in a dry run also
            given numbers beside the chosen ones; else None.
        slots_by_devices: Slots that a trial occupies, by its number of devices (as text); 1 if missing.
    """

    stages: Mapping[str, StageEstimate]
    full_steps: int
    devices_per_slot: float
    price_per_hour: float | None = None
    assumption: Assumption | None = None
    timed: tuple[Timing, ...] = ()
    notes: tuple[str, ...] = ()
    references: CountDecision | None = None
    slots_by_devices: Mapping[str, float] = field(default_factory=dict)

    def slots_of(self, devices: int) -> float:
        """Return the number of slots that a trial on so many devices occupies."""
        return self.slots_by_devices.get(str(devices), 1.0)

    @property
    def total(self) -> StageEstimate:
        """Sum of all stages."""
        stages = self.stages.values()
        return StageEstimate(
            sum((stage.low for stage in stages), NOTHING),
            sum((stage.middle for stage in stages), NOTHING),
            sum((stage.high for stage in stages), NOTHING),
        )

    def device_seconds(self, amount: Amount) -> float:
        """Convert an amount to device seconds."""
        return amount.slot_seconds * self.devices_per_slot

    def price(self, amount: Amount) -> float | None:
        """Compute the price of an amount; None without a price per hour."""
        return None if self.price_per_hour is None else self.device_seconds(amount) / 3600 * self.price_per_hour


SlotsOf = Callable[[str | None], float]
"""Function of a proxy task's name (None for full training) that returns the slots that its trainings occupy."""


def estimate_stage(
    stage_work: StageWork, speeds: Speeds, slots: int, slots_of: SlotsOf = lambda _: 1.0
) -> StageEstimate:
    """Estimate the cost of a stage.

    Args:
        stage_work: Planned work of the stage.
        speeds: Speeds of the models.
        slots: Slots of the backend.
        slots_of: Slots that one training occupies.
    """
    return StageEstimate(
        *(
            estimate_amount(works, speeds, slots, slots_of)
            for works in (stage_work.low, stage_work.middle, stage_work.high)
        )
    )


def estimate_amount(works: Iterable[Work], speeds: Speeds, slots: int, slots_of: SlotsOf = lambda _: 1.0) -> Amount:
    """Estimate the total of several kinds of trials, which run one kind after the other."""
    return sum((_estimate_work(work, speeds, slots, slots_of(work.task)) for work in works if work.starts), NOTHING)


def _estimate_work(work: Work, speeds: Speeds, slots: int, slots_per_trial: float) -> Amount:
    timing = speeds.timing(work.models, work.task)
    seconds = timing.seconds(starts=work.starts, steps=work.steps, checks=work.checks)
    # The starts are divided into rounds that fill the slots; the last round may leave some empty.
    rounds = math.ceil(work.starts / max(1, int(slots / slots_per_trial + 1e-3)))
    return Amount(work.trials, work.steps, seconds * slots_per_trial, seconds / work.starts * rounds)
