"""Exceptions of nasproxy; each message says what was needed, what was given and what to do."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def describe_error(error: BaseException) -> str:
    """Describe an exception of user code in one line: type, message and the last user line of the traceback."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(Path(frame.filename))]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text


def _is_theirs(file: Path) -> bool:
    """Return whether a file is user code: neither nasproxy, nor an installed package, nor the standard library."""
    ours = Path(__file__).parent
    foreign = [ours, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))]
    return file.is_absolute() and not any(file.is_relative_to(folder) for folder in foreign)


def advise_install(extra: str) -> str:
    """Say how to install an extra of this package, where it is installed and in a clone."""
    return f"pip install 'nasproxy[{extra}]', or in a clone pip install -e '.[{extra}]'"


@contextmanager
def forbid_exit(what: str) -> Iterator[None]:
    """Prevent user code in a block from ending this program: turn its `sys.exit` into a ConfigError.

    Args:
        what: Name of the code, for the error.

    Raises:
        ConfigError: The code raised SystemExit, or another BaseException that is neither an error nor Ctrl-C.
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
    """Base class of errors that a user can act on; shown without a traceback."""


class ConfigError(NasproxyError):
    """The configuration is invalid."""


class SpaceError(NasproxyError):
    """The search space or an architecture is invalid, or the space has too few architectures."""


class DataError(NasproxyError):
    """The dataset is invalid, or differs from the one that the study was created with."""


class CorruptFileError(NasproxyError):
    """A file of the study cannot be read; no file was changed.

    Attributes:
        reason: What is wrong with which file, without what to do about it.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


class CorruptTrialError(CorruptFileError):
    """A file of one trial cannot be read; the trial can be set aside and begun again.

    Attributes:
        key: Key of the trial.
    """

    def __init__(self, message: str, reason: str | None = None, key: str = "") -> None:
        super().__init__(message, reason)
        self.key = key


class StorageFullError(NasproxyError):
    """A file of the study cannot be written because the disk is full; what was there is kept."""


class StorageUnavailableError(NasproxyError):
    """A file of the study cannot be used now, which says nothing about its content; no file was changed."""


class StaleLeaseError(NasproxyError):
    """Another process has taken over what this one was working on; nothing was written."""


class WorkerStartError(NasproxyError):
    """No process can be started to train or to measure in."""


class StudyBusyError(NasproxyError):
    """Another process is working on the study."""


class StudyVersionError(NasproxyError):
    """The study was written by another version of nasproxy."""


class StudyChangedError(NasproxyError):
    """The study was created with a different base configuration."""


class ModelError(NasproxyError):
    """The code of a model cannot build or run one architecture; others may train."""


class ContractError(NasproxyError):
    """A trainer or its program breaks its contract with nasproxy, as it would with any model."""


class StageStoppedError(NasproxyError):
    """A stage ended without the result that later stages require."""


class SetupFailedError(StageStoppedError):
    """A trial failed in a way in which a trial of any model would fail."""


class SweepFailedError(NasproxyError):
    """Jobs of a sweep failed, or a study is left without a decision; the errors were printed when they came."""


class MissingExtraError(NasproxyError):
    """An optional package is not installed."""


class NonFiniteScoreError(NasproxyError):
    """A trial reported a score or loss that is not finite."""


class UntrustedTrialError(NasproxyError):
    """The trial folder given to a worker differs from the submitted trial."""


class TooFewTrialsError(NasproxyError):
    """A statistic requires more trials than it was given."""
