"""Answers to preflights and measurements, written by the process that ran the order and read by the controller."""

from dataclasses import dataclass
from pathlib import Path

from nasproxy.storage.files import remove_file
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.storage.zero_cost_scores import ZeroCost


@dataclass(frozen=True)
class Answer:
    """What a preflight or a measurement found.

    Attributes:
        notes: Notes of a preflight on settings that are valid, but perhaps not intended.
        scores: Zero-cost scores of the models, in their order; None for a model that has none.
        error: Why a trial cannot be trained as configured, or the data not be loaded; None if all is well.
    """

    notes: tuple[str, ...] = ()
    scores: tuple[ZeroCost | None, ...] = ()
    error: str | None = None


def find_answer(study: Path, key: str) -> Path:
    """Return the path of the answer to an order."""
    return study / "answers" / f"{key}.json"


def write_answer(study: Path, key: str, answer: Answer) -> None:
    """Write the answer to an order, atomically."""
    write_record(find_answer(study, key), answer)


def take_answer(study: Path, key: str) -> Answer | None:
    """Read and remove the answer to an order; None if there is none.

    Raises:
        CorruptFileError: It cannot be read, and is kept: the order is repeated by the next command, which drops it.
        StorageUnavailableError: It cannot be read now, and is kept.
    """
    answer = read_record(find_answer(study, key), Answer)
    drop_answer(study, key)
    return answer


def drop_answer(study: Path, key: str) -> None:
    """Remove the answer to an order, if there is one."""
    remove_file(find_answer(study, key))
