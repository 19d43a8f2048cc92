"""Zero-cost scores of untrained models, stored with the study and measured once per model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nasproxy.storage.study_stores import StudyStore
from nasproxy.trials.spec import Architecture, to_canonical_json


@dataclass(frozen=True)
class ZeroCost:
    """Scores of an untrained model, higher meant to predict a better model.

    Attributes:
        parameters: Number of trainable parameters.
        flops: Floating-point operations for one image, 2 per multiply-add; None if they cannot be counted.
        synflow: Synaptic flow; None if it cannot be computed for the model.
    """

    parameters: int
    flops: int | None
    synflow: float | None

    @property
    def size(self) -> int:
        """Size that the time of a training step scales with: FLOPs, or parameters if FLOPs are unknown."""
        return self.parameters if self.flops is None else self.flops


@dataclass(frozen=True)
class ZeroCostScores:
    """Scores by architecture as canonical JSON; None for a model that could not be scored."""

    scores: Mapping[str, ZeroCost | None] = field(default_factory=dict)

    def of(self, architecture: Architecture) -> ZeroCost | None:
        """Return the scores of an architecture; None if it has none."""
        return self.scores.get(to_canonical_json(architecture))


NAME = "zero_cost"
"""Name of the record in a study."""


def read_scores(study: StudyStore) -> ZeroCostScores:
    """Read a study's scores; empty if it has none.

    Raises:
        CorruptFileError: The record cannot be read.
    """
    return study.read(NAME, ZeroCostScores) or ZeroCostScores()


def add_scores(
    study: StudyStore,
    architectures: Sequence[Architecture],
    measure: Callable[[Sequence[Architecture]], Sequence[ZeroCost | None]],
) -> ZeroCostScores:
    """Score the architectures that have no scores yet and store the scores.

    Args:
        study: The study.
        architectures: Architectures, scored at proxy task `full`.
        measure: Function that scores models, in order.

    Returns:
        All scores of the study.

    Raises:
        CorruptFileError: The record cannot be read.
    """
    stored = read_scores(study)
    new = {text: each for each in architectures if (text := to_canonical_json(each)) not in stored.scores}
    if new:
        measured = dict(zip(new, measure(list(new.values())), strict=True))
        stored = ZeroCostScores({**stored.scores, **measured})
        study.write(NAME, stored)
    return stored
