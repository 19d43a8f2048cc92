"""Hydra's errors of composing a configuration as errors of ours, and packages that it needs for a choice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException, MissingConfigException

from nasproxy.errors import ConfigError, MissingExtraError, NasproxyError, advise_install

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable that has Hydra raise its errors, and not print them."""

PACKAGES = {
    "hydra/launcher/ray": "hydra-ray-launcher",
    "hydra/launcher/ray_aws": "hydra-ray-launcher",
    "hydra/launcher/rq": "hydra-rq-launcher",
    "hydra/launcher/submitit_local": "hydra-submitit-launcher",
    "hydra/launcher/submitit_slurm": "hydra-submitit-launcher",
    "hydra/sweeper/ax": "hydra-ax-sweeper",
    "hydra/sweeper/nevergrad": "hydra-nevergrad-sweeper",
    "hydra/sweeper/optuna": "hydra-optuna-sweeper",
    "hydra/job_logging/colorlog": "hydra-colorlog",
    "hydra/hydra_logging/colorlog": "hydra-colorlog",
}
"""Packages of Hydra's plugins by the choice that each brings."""


@contextmanager
def raise_hydra_errors() -> Iterator[None]:
    """While it is entered, errors of composing a configuration are raised as errors of ours.

    Raises:
        ConfigError: The configuration could not be composed, or Hydra cannot write to the folder of the studies.
        MissingExtraError: A choice needs a package that is not installed.
    """
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    except MissingConfigException as error:
        raise find_missing_package(str(error.missing_cfg_file)) or _make_error(error) from error
    except CompactHydraException as error:
        raise _make_error(error) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigError(
            f"studies_dir must be a folder that can be written to, got {error.filename}: {error.strerror}; choose "
            f"another place with studies_dir=FOLDER"
        ) from error
    finally:
        print_hydra_errors()


def print_hydra_errors() -> None:
    """Let Hydra print errors again; programs that are started from here are not to inherit the other way."""
    os.environ.pop(FULL_ERROR, None)


def find_missing_package(choice: str) -> NasproxyError | None:
    """Find the package that brings a choice, such as `hydra/launcher/joblib`; None where none is known to.

    Returns:
        The error that says how to install it.
    """
    if choice == "hydra/launcher/joblib":
        install = advise_install("joblib")
    elif choice in PACKAGES:
        install = f"pip install {PACKAGES[choice]}"
    else:
        return None
    group, _, name = choice.rpartition("/")
    return MissingExtraError(f"{group}={name} needs a package that is not installed: {install}")


def _make_error(error: CompactHydraException) -> ConfigError:
    return ConfigError("\n".join(str(each) for each in (error, error.__cause__) if each is not None))
