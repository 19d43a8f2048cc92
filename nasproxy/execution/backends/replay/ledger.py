"""Ledger of replayed trials, from which the backend of a resumed study replays them again.

The first line holds the study's recipe, each other line a trial: architecture, proxy (null for full training), split,
seed, and the step up to which it was replayed (null if it ended). The last line of a trial counts.
"""

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

from nasproxy.errors import CorruptFileError
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.storage.files import append_line, get_adapter, read_lines
from nasproxy.trials.records import TrialPurpose
from nasproxy.trials.spec import Recipe, Split, TrialSpec

LedgerEntry = tuple[str, str | None, str, int]
"""Architecture, proxy (None for full training), split and seed of a trial."""


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
        self._path = path
        self.recipe: Recipe | None = None
        self.steps: dict[LedgerEntry, int | None] = {}
        self.purposes: dict[LedgerEntry, TrialPurpose | None] = {}
        try:
            for line in map(json.loads, read_lines(path)):
                self._read_line(line)
            if self.steps and self.recipe is None:
                raise ValueError("it has trials, but no recipe")
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptFileError(
                f"{path} cannot be read: {str(error).splitlines()[0]}. Nothing was changed: restore the file, or move "
                f"the study's folder away and run the command again, a replay takes seconds"
            ) from error

    def add(self, spec: TrialSpec, until: int | None, purpose: TrialPurpose | None) -> None:
        """Append a trial, unless it was last replayed up to the same step.

        Args:
            spec: The trial.
            until: Its last step; None if it ended.
            purpose: What it was created for.
        """
        proxy = spec.proxy_task.overrides.get("trainer.proxy")
        entry = (str(spec.architecture[CHOICE]), None if proxy is None else str(proxy), spec.split.value, spec.seed)
        if entry in self.steps and self.steps[entry] == until:
            return
        self.steps[entry], self.purposes[entry] = until, purpose
        line = json.dumps([*entry, until, purpose and astuple(purpose)], ensure_ascii=False)
        if self.recipe is None:
            self.recipe = spec.recipe
            line = json.dumps({"recipe": get_adapter(Recipe).dump_python(spec.recipe, mode="json")}) + "\n" + line
        append_line(self._path, line)

    def _read_line(self, line: Any) -> None:
        if isinstance(line, dict):
            self.recipe = get_adapter(Recipe).validate_python(line["recipe"])
            return
        architecture, proxy, split, seed, until, purpose = line
        entry = architecture, proxy, Split(split).value, int(seed)
        self.steps[entry] = None if until is None else int(until)
        self.purposes[entry] = None if purpose is None else TrialPurpose(*purpose)
