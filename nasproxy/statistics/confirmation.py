"""Does a verdict survive the compressed training? A test of the pooled evidence, and what it could have noticed."""

from dataclasses import dataclass

from numpy.typing import ArrayLike


@dataclass(frozen=True)
class ConfirmationTest:
    """What the test found.

    Attributes:
        floor: The tau below which the verdict would be wrong.
        tau: Tau of the compressed training over all models, fresh ones included.
        models: How many these were.
        upper_limit: One-sided 95 % upper limit of the true tau.
        is_contradicted: The true tau lies below the floor, at 5 % error.
        noticeable: The true tau that such a test notices four times out of five; None where it would miss any.
    """

    floor: float
    tau: float | None
    models: int
    upper_limit: float | None
    is_contradicted: bool
    noticeable: float | None


def confirm(proxy: ArrayLike, reference: ArrayLike, *, floor: float) -> ConfirmationTest:
    """Interim."""
    raise NotImplementedError
