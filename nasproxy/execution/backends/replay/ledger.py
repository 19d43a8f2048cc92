"""Ledger of replayed trials, from which the backend of a resumed study replays them again.

The first line holds the study's recipe, each other line a trial: architecture, proxy (null for full training), split,
seed, the step up to which it was replayed (null if it ended), its purpose, and its schedule if that is compressed. The
jobs of a sweep append to one ledger, so several lines may hold the recipe or one trial: the line with the furthest step
of a trial counts.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from nasproxy.errors import CorruptFileError
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.storage.files import read_lines
from nasproxy.storage.json_records import get_adapter
from nasproxy.storage.shared_lines import SharedLines
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Recipe, Split, TrialSpec

LedgerEntry = tuple[str, str | None, int | None, str, int]
"""Architecture, proxy (None for full training), compressed schedule (None if whole), split and seed of a trial."""


class Ledger:
    """The trials that a study replayed, and the step up to which each was; their curves stay in the table.

    Attributes:
        recipe: Recipe of the trials; None before the first one.
        steps: Last step of each trial; None if it ended.
        purposes: What each trial was created for; None if that is unknown.
    """

    def __init__(self, path: Path) -> None:
        """Read the ledger at `path`, if it exists.

        Raises:
            CorruptFileError: A line is not valid.
        """
        self._lines = SharedLines(path)
        self.recipe: Recipe | None = None
        self.steps: dict[LedgerEntry, int | None] = {}
        self.purposes: dict[LedgerEntry, TrialPurpose | None] = {}
        self._read(read_lines(path))

    def add(self, spec: TrialSpec, schedule: int | None, until: int | None, purpose: TrialPurpose | None) -> None:
        """Append a trial, unless this job or another one of the sweep has replayed it up to this step before.

        Args:
            spec: The trial.
            schedule: Its schedule if that is compressed; None for a whole training.
            until: Its last step; None if it ended.
            purpose: What it was created for.

        Raises:
            CorruptFileError: A line that another job has written is not valid.
        """
        proxy = spec.proxy_task.overrides.get("trainer.proxy")
        named = (str(spec.architecture[CHOICE]), None if proxy is None else str(proxy))
        entry = (*named, schedule, spec.split.value, spec.seed)
        if self._has(entry, until):
            return
        with self._lines.turn() as others:
            self._read(others)
            if self._has(entry, until):
                return
            compressed = [] if schedule is None else [schedule]
            line = [*named, spec.split.value, spec.seed, until, purpose and astuple(purpose), *compressed]
            lines = [json.dumps(line, ensure_ascii=False)]
            if self.recipe is None:
                lines.insert(0, json.dumps({"recipe": get_adapter(Recipe).dump_python(spec.recipe, mode="json")}))
            self._lines.append(lines)
        self.recipe = self.recipe or spec.recipe
        self.steps[entry], self.purposes[entry] = until, purpose

    def _has(self, entry: LedgerEntry, until: int | None) -> bool:
        return entry in self.steps and _rank(self.steps[entry]) >= _rank(until)

    def _read(self, lines: Iterable[str]) -> None:
        # No damaged line is skipped: a writer holds a lock, and removes an incomplete last line before it appends.
        try:
            for line in lines:
                self._read_line(json.loads(line))
            if self.steps and self.recipe is None:
                raise ValueError("it has trials, but no recipe")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise CorruptFileError(
                f"{self._lines.path} cannot be read: {str(error).splitlines()[0]}. Nothing was changed: restore the "
                f"file, or move the study's folder away and run the command again, a replay takes seconds"
            ) from error

    def _read_line(self, line: Any) -> None:
        if isinstance(line, dict):
            self.recipe = get_adapter(Recipe).validate_python(line["recipe"])
            return
        architecture, proxy, split, seed, until, purpose, *compressed = line
        schedule = int(compressed[0]) if compressed else None
        entry = architecture, proxy, schedule, Split(split).value, int(seed)
        until = None if until is None else int(until)
        if not self._has(entry, until):
            self.steps[entry] = until
            self.purposes[entry] = None if purpose is None else TrialPurpose(*purpose)


def _rank(until: int | None) -> float:
    return math.inf if until is None else until
