"""Training speed of models: a few are timed, the others interpolated. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from nasproxy.trials.spec import Architecture, to_canonical_json


@dataclass(frozen=True, order=True)
class Timing:
    """Timing of a model's training.

    Attributes:
        step_seconds: Seconds of one optimizer step.
        check_seconds: Seconds of one check: validation and all other work at a check.
        start_seconds: Seconds of one start: process, data, model, a slow first step, and the checkpoint at the end.
    """

    step_seconds: float
    check_seconds: float
    start_seconds: float

    def seconds(self, *, starts: float, steps: float, checks: float) -> float:
        """Compute the seconds of so many starts, steps and checks."""
        return starts * self.start_seconds + steps * self.step_seconds + checks * self.check_seconds


@dataclass(frozen=True)
class Timed:
    """A timed model.

    Attributes:
        size: Size that the time of a step scales with; None if unknown.
        timing: The timing.
    """

    size: float | None
    timing: Timing


@dataclass(frozen=True)
class Speeds:
    """Speeds of all models under all proxy tasks, interpolated between timed ones.

    Attributes:
        models: Models that were timed in full training.
        factors: Seconds per step and per check under each proxy task, relative to the same model in full training.
        sizes: Sizes by architecture as canonical JSON; a missing architecture gets the mean timing.
    """

    models: Sequence[Timed]
    factors: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, float]

    def timing(self, architectures: Sequence[Architecture], task: str | None) -> Timing:
        """Compute the mean timing of architectures under a proxy task; None for full training."""
        step, check = (1.0, 1.0) if task is None else self.factors[task]
        each = [interpolate_timing(self.models, self.sizes.get(to_canonical_json(a))) for a in architectures]
        return Timing(
            step_seconds=step * mean(timing.step_seconds for timing in each),
            check_seconds=check * mean(timing.check_seconds for timing in each),
            start_seconds=mean(timing.start_seconds for timing in each),
        )


def interpolate_timing(models: Sequence[Timed], size: float | None) -> Timing:
    """Interpolate the timing of a model linearly in its size; constant outside the range of timed sizes.

    Start time depends on the machine more than on the model, so its mean is used for all sizes. If a size is unknown,
    means are used for the other times as well.

    Args:
        models: Timed models.
        size: Size of the model; None if unknown.
    """
    start = mean(model.timing.start_seconds for model in models)
    known = sorted((model.size, model.timing) for model in models if model.size is not None)
    if size is None or len(known) < len(models):
        step = mean(model.timing.step_seconds for model in models)
        return Timing(step, mean(model.timing.check_seconds for model in models), start)
    sizes = [known_size for known_size, _ in known]
    step = float(np.interp(size, sizes, [timing.step_seconds for _, timing in known]))
    check = float(np.interp(size, sizes, [timing.check_seconds for _, timing in known]))
    return Timing(step, check, start)
