"""Everything that nasproxy raises on purpose: each message says what was needed, what came and what to do."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def describe_error(error: BaseException) -> str:
    """An error of somebody else's code in a line: its kind, what it says, and the line of theirs that led to it."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(Path(frame.filename))]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text


def _is_theirs(file: Path) -> bool:
    """Whether a file belongs neither to an installed package, nor to Python, nor to this package."""
    ours = Path(__file__).parent
    foreign = [ours, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))]
    return file.is_absolute() and not any(file.is_relative_to(folder) for folder in foreign)


def advise_install(extra: str) -> str:
    """Say how to install an extra of this package, where it is installed and in a clone."""
    return f"pip install 'nasproxy[{extra}]', or in a clone pip install -e '.[{extra}]'"


@contextmanager
def forbid_exit(what: str) -> Iterator[None]:
    """Let somebody else's code raise errors, but not end this program: `sys.exit` in it becomes an error of ours.

    Args:
        what: The name of that code, for the error.

    Raises:
        ConfigError: It raised SystemExit, or another BaseException that is neither an error nor Ctrl-C.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigError(
            f"{what} must not end the program, and raised {describe_error(error)}: let it return or raise an error"
        ) from error


class NasproxyError(Exception):
    """Base of all errors that a user can act on; shown without a traceback."""


class ConfigError(NasproxyError):
    """The configuration cannot be carried out."""


class SpaceError(NasproxyError):
    """The search space is unusable, or cannot give what was asked of it."""


class DataError(NasproxyError):
    """The dataset is unusable, or is not the one the study was begun with."""


class CorruptFileError(NasproxyError):
    """A file of the study cannot be read; nothing was changed."""


class WorkerStartError(NasproxyError):
    """No process can be started to train or to measure in."""


class StudyBusyError(NasproxyError):
    """Another process works on the study."""


class StudyVersionError(NasproxyError):
    """The study was written by another version of nasproxy."""


class StudyChangedError(NasproxyError):
    """The study was begun with another base configuration."""


class StageStoppedError(NasproxyError):
    """A stage ended without the result that later stages need."""


class MissingExtraError(NasproxyError):
    """An optional package is needed."""


class NonFiniteScoreError(NasproxyError):
    """A trial reported a score that is not a finite number."""


class UntrustedTrialError(NasproxyError):
    """A worker was pointed at a trial folder that is not what was submitted."""


class TooFewTrialsError(NasproxyError):
    """A statistic was asked for on fewer trials than it needs."""
