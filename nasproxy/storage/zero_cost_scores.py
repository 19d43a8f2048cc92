"""Zero-cost scores: what can be said of a model without training it. Kept with the study, and never measured twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasproxy.storage.files import read_record, write_record
from nasproxy.trials.spec import Architecture, to_canonical_json


@dataclass(frozen=True)
class ZeroCost:
    """Scores of an untrained model; a higher one is to mean a better model.

    Attributes:
        parameters: Numbers that training would change.
        flops: Floating-point operations for one image, 2 a multiply-add; None where they cannot be counted.
        synflow: Synaptic flow; None where the model cannot be scored by it.
    """

    parameters: int
    flops: int | None
    synflow: float | None

    @property
    def size(self) -> int:
        """What a training step should grow with: operations, or parameters where these are not known."""
        return self.parameters if self.flops is None else self.flops


@dataclass(frozen=True)
class ZeroCostScores:
    """Scores by architecture, as canonical JSON; None for a model that could not be scored."""

    scores: Mapping[str, ZeroCost | None] = field(default_factory=dict)

    def of(self, architecture: Architecture) -> ZeroCost | None:
        """The scores of an architecture; None where it has none."""
        return self.scores.get(to_canonical_json(architecture))


def read_scores(path: Path) -> ZeroCostScores:
    """The scores that a study has; none where it has no file of them.

    Raises:
        CorruptFileError: The file cannot be read.
    """
    return read_record(path, ZeroCostScores) or ZeroCostScores()


def add_scores(
    path: Path,
    architectures: Sequence[Architecture],
    measure: Callable[[Sequence[Architecture]], Sequence[ZeroCost | None]],
) -> ZeroCostScores:
    """Score the architectures that have not been scored before, and keep the scores.

    Args:
        path: The study's file of scores.
        architectures: At proxy task `full`.
        measure: Scores models, in their order.

    Raises:
        CorruptFileError: The file cannot be read.
    """
    known = read_scores(path)
    new = {text: each for each in architectures if (text := to_canonical_json(each)) not in known.scores}
    if new:
        measured = dict(zip(new, measure(list(new.values())), strict=True))
        known = ZeroCostScores({**known.scores, **measured})
        write_record(path, known)
    return known
