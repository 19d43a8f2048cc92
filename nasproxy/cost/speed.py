"""How fast models train: a few are timed, the others lie between them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from nasproxy.trials.spec import Architecture, to_canonical_json


@dataclass(frozen=True, order=True)
class Timing:
    """What a model's training takes.

    Attributes:
        step_seconds: Of one optimizer step.
        check_seconds: Of one validation, with all that a check brings.
        start_seconds: Of a start: the process, the data, the model, a slow first step, the checkpoint at its end.
    """

    step_seconds: float
    check_seconds: float
    start_seconds: float

    def seconds(self, *, starts: float, steps: float, checks: float) -> float:
        """Of so many starts, steps and checks."""
        return starts * self.start_seconds + steps * self.step_seconds + checks * self.check_seconds


@dataclass(frozen=True)
class Timed:
    """A timed model.

    Attributes:
        size: What its steps should grow with; None where that is unknown.
        timing: What it takes.
    """

    size: float | None
    timing: Timing


@dataclass(frozen=True)
class Speeds:
    """Speeds of all models under all settings, from those that were timed.

    Attributes:
        models: Models that were timed in full training.
        factors: Seconds per step and per check under each proxy task, against the same model's in full training.
        sizes: Sizes by architecture, as canonical JSON; those that are missing are taken for average.
    """

    models: Sequence[Timed]
    factors: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, float]

    def timing(self, architectures: Sequence[Architecture], task: str | None) -> Timing:
        """The mean over architectures, under a proxy task; None for full training."""
        step, check = (1.0, 1.0) if task is None else self.factors[task]
        each = [interpolate_timing(self.models, self.sizes.get(to_canonical_json(a))) for a in architectures]
        return Timing(
            step_seconds=step * mean(timing.step_seconds for timing in each),
            check_seconds=check * mean(timing.check_seconds for timing in each),
            start_seconds=mean(timing.start_seconds for timing in each),
        )


def interpolate_timing(models: Sequence[Timed], size: float | None) -> Timing:
    """What a model of a size takes: linear in size between those that were timed, no further than these outside.

    A start hangs on the machine more than on the model, so all share its mean; so does everything where sizes are
    not known.
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
