"""Local scratch: a folder on this machine's own disk for the temporary files of one attempt at a trial."""

import os
import shutil
import tempfile
from pathlib import Path

from nasproxy.storage.files import digest_bytes, make_private_folder
from nasproxy.storage.trial_folder import TrialFolder


def make_scratch(folder: TrialFolder) -> Path:
    """Return a trial's scratch folder on this machine, creating it if needed.

    Raises:
        ConfigError: Another user has taken its place.
    """
    place = _find_scratch(folder)
    make_private_folder(place.parent, "TMPDIR")
    place.mkdir(exist_ok=True)
    return place


def remove_scratch(folder: TrialFolder) -> None:
    """Remove a trial's scratch folder on this machine, if there is one; called once its worker has ended."""
    shutil.rmtree(_find_scratch(folder), ignore_errors=True)


def _find_scratch(folder: TrialFolder) -> Path:
    return Path(tempfile.gettempdir()) / f"nasproxy-scratch-{os.getuid()}" / digest_bytes(os.fsencode(folder.path))
