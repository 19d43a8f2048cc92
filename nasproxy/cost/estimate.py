"""What a study is expected to cost, stage by stage: seconds from counts and speeds, and money from these. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nasproxy.cost.speed import Speeds, Timing
from nasproxy.cost.workload import StageWork, Work


@dataclass(frozen=True)
class Amount:
    """What something costs.

    Attributes:
        trials: Trials that are trained.
        steps: Optimizer steps of all of them.
        slot_seconds: Seconds that slots are busy, added up.
        elapsed_seconds: Seconds until it is done.
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
    """What a stage costs at the least, as is assumed, and at most."""

    low: Amount
    middle: Amount
    high: Amount


@dataclass(frozen=True)
class Assumption:
    """What the middle estimate rests on.

    Attributes:
        task: The proxy task that is taken to be accepted.
        step: At which of its steps; None where none is.
        total_steps: Steps of its whole training.
        added: Reference models that are added until then.
    """

    task: str
    step: int | None
    total_steps: int
    added: int


@dataclass(frozen=True)
class Estimate:
    """What a study is expected to cost.

    Attributes:
        stages: By name, in their order.
        full_steps: Optimizer steps of a full training.
        devices_per_slot: Devices that a busy slot holds: GPUs, or a share of the machine.
        slots_by_devices: Slots that a trial takes up, by the number of its devices; one where it is not told.
        price_per_hour: Price of one device's hour; None for none.
        assumption: What the middle estimate of the proxy search rests on; None without that stage.
        timed: What the timed models took, in full training, from small to large.
        notes: What to know of the timing, in lines.
    """

    stages: Mapping[str, StageEstimate]
    full_steps: int
    devices_per_slot: float
    price_per_hour: float | None = None
    assumption: Assumption | None = None
    timed: tuple[Timing, ...] = ()
    notes: tuple[str, ...] = ()
    slots_by_devices: Mapping[str, float] = field(default_factory=dict)

    def slots_of(self, devices: int) -> float:
        """Slots that a trial on so many devices takes up."""
        return self.slots_by_devices.get(str(devices), 1.0)

    @property
    def total(self) -> StageEstimate:
        """All stages together."""
        stages = self.stages.values()
        return StageEstimate(
            sum((stage.low for stage in stages), NOTHING),
            sum((stage.middle for stage in stages), NOTHING),
            sum((stage.high for stage in stages), NOTHING),
        )

    def device_seconds(self, amount: Amount) -> float:
        """Seconds of devices that trials hold."""
        return amount.slot_seconds * self.devices_per_slot

    def price(self, amount: Amount) -> float | None:
        """What that costs; None without a price."""
        return None if self.price_per_hour is None else self.device_seconds(amount) / 3600 * self.price_per_hour


SlotsOf = Callable[[str | None], float]
"""Slots that a training under a proxy task takes up; None for full training."""


def estimate_stage(course: StageWork, speeds: Speeds, slots: int, slots_of: SlotsOf = lambda _: 1.0) -> StageEstimate:
    """What a stage costs."""
    return StageEstimate(
        *(estimate_amount(works, speeds, slots, slots_of) for works in (course.low, course.middle, course.high))
    )


def estimate_amount(works: Iterable[Work], speeds: Speeds, slots: int, slots_of: SlotsOf = lambda _: 1.0) -> Amount:
    """What trials cost, one kind after the other."""
    return sum((_amount(work, speeds, slots, slots_of(work.task)) for work in works if work.starts), NOTHING)


def _amount(work: Work, speeds: Speeds, slots: int, taken: float) -> Amount:
    timing = speeds.timing(work.models, work.task)
    seconds = timing.seconds(starts=work.starts, steps=work.steps, checks=work.checks)
    # Starts take their turns on the slots; in the last turn some may stay empty.
    turns = math.ceil(work.starts / max(1, int(slots / taken + 1e-3)))
    return Amount(work.trials, work.steps, seconds * taken, seconds / work.starts * turns)
