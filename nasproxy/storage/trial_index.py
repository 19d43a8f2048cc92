"""The index of a study's trials, which spares listing their folders, and the news of which records have changed."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from nasproxy.errors import NasproxyError
from nasproxy.storage.files import append_shared_line, create_file, get_size, list_folders, read_from
from nasproxy.storage.json_records import get_adapter
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trials.records import TrialPurpose


@dataclass(frozen=True)
class _Entry:
    key: str
    purpose: TrialPurpose | None = None


class TrialIndex:
    """Keys of all trials and what each was created for: a file with a line for each, of which only new ones are read.

    Args:
        root: Folder of the trials.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "index.jsonl"
        self._offset = 0
        self._purposes: dict[str, TrialPurpose | None] = {}
        self._listed: dict[str, TrialPurpose | None] = {}

    def add(self, key: str, purpose: TrialPurpose | None) -> None:
        """Add a trial, unless it is there; processes that add it at once leave two lines, of which the first counts.

        The trials that a damaged or lost index lacks are added with it; the first purpose that is given for them
        counts.
        """
        if self._purposes.get(key) is not None:
            return
        self.read()
        if key in self._purposes and (purpose is None or self._purposes[key] is not None):
            return
        missing = {**self._listed, key: purpose}
        entries = [_Entry(name, missing[name]) for name in missing if name == key or name not in self._purposes]
        append_shared_line(self._path, "\n".join(get_adapter(_Entry).dump_json(entry).decode() for entry in entries))
        self._purposes |= {entry.key: entry.purpose for entry in entries}

    def read(self) -> dict[str, TrialPurpose | None]:
        """Return what each trial was created for, by key; None where that is unknown.

        The first call compares the index with the names of the folders, because a loss of power may have taken its last
        lines; so does the first call after a line was found damaged.

        Raises:
            CorruptFileError: There is no regular file in place of the index.
        """
        if get_size(self._path) < self._offset:  # it was lost while this process ran
            self._listed, self._purposes, self._offset = {**self._listed, **self._purposes}, {}, 0
        content = read_from(self._path, self._offset)
        content = content[: content.rfind(b"\n") + 1]
        is_whole, self._offset = self._offset > 0, self._offset + len(content)
        for line in content.split(b"\n")[:-1]:
            try:
                entry = get_adapter(_Entry).validate_json(line)
                if self._purposes.get(entry.key) is None:
                    self._purposes[entry.key] = entry.purpose
            except ValidationError:
                is_whole = False
        if not is_whole:
            listed = {**dict.fromkeys(list_folders(self._root)), **self._listed}
            self._listed = {key: listed[key] for key in listed if self._is_missing(key)}
        return {**self._listed, **self._purposes} if self._listed else self._purposes

    def _is_missing(self, key: str) -> bool:
        return key not in self._purposes and TrialFolder(self._root / key).config.exists()


class TrialNews:
    """Keys of trials whose record has changed: a file that writers append to and readers read from where they were.

    Args:
        root: Folder of the trials.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "news"
        self._offset: int | None = None

    def open(self) -> None:
        """Create the file; without it, nothing is added to it."""
        create_file(self._path)

    def read_new(self) -> set[str]:
        """Return the keys that were added since the last call; none at the first one, which marks the end."""
        if self._offset is None:
            self._offset = get_size(self._path)
            return set()
        if get_size(self._path) < self._offset:  # it was replaced: what it holds may be new
            self._offset = 0
        content = read_from(self._path, self._offset)
        content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        return {line.decode("ascii", "replace") for line in content.split(b"\n") if line}


def add_news(folder: TrialFolder) -> None:
    """Tell the readers of a trial's record that it has changed; if that fails they see it when the attempt ends."""
    with suppress(NasproxyError, FileNotFoundError):  # what changed is written, which must not be undone
        append_shared_line(folder.path.parent / "news", folder.path.name, create=False)
