"""Composing a configuration in a program of any kind: a script, a notebook, another Hydra application."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import open_dict

from nasproxy.config.schema import Config, read_config, register_schema
from nasproxy.errors import ConfigError

CONFIG_MODULE = "nasproxy.conf"
VERSION_BASE = "1.3"


def compose_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """Compose what the command composes from the same arguments, and add the same folders to `sys.path`.

    Args:
        overrides: Overrides in Hydra's grammar, such as `proxy=data50`.
        config_dir: Folder of further configuration files, as `--config-dir` names it; None for none.

    Raises:
        ConfigError: They are no overrides, do not compose, or leave out a value that must be given.
    """
    _check_overrides(overrides)
    searched = [] if config_dir is None else [_make_search_override(config_dir)]
    register_schema()
    with _own_hydra():
        try:
            config = compose("config", [*searched, *overrides], return_hydra_config=True)
        except HydraException as error:
            raise ConfigError(describe_composition_error(error)) from None
    add_to_path(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return read_config(config)


def describe_composition_error(error: HydraException) -> str:
    """Say in a line why a configuration does not compose: what Hydra was doing, and the cause that it names."""
    texts = [str(each).splitlines()[0] for each in (error, error.__cause__) if str(each or "")]
    return ": ".join(dict.fromkeys(text.rstrip(".") for text in texts)) or type(error).__name__


def add_to_path(hydra_config: Any) -> None:
    """Let modules beside the configuration be imported here, and in every process that is started from here.

    Args:
        hydra_config: Hydra's own part of a composed configuration. It names the working directory and the folders of
            configuration files, whose parents come first on `sys.path`.
    """
    sources = [source for source in hydra_config.runtime.config_sources if source.schema == "file"]
    folders = [Path(hydra_config.runtime.cwd), *(Path(source.path).absolute().parent for source in sources)]
    new = [str(folder) for folder in folders]
    sys.path[:] = [*dict.fromkeys(new), *(path for path in sys.path if path not in new)]


def _check_overrides(overrides: Sequence[str]) -> None:
    if isinstance(overrides, str) or not all(isinstance(override, str) for override in overrides):
        raise ConfigError(
            f'overrides must be a list of strings, got {overrides!r}: give one string each, ["proxy=data50", "seed=1"]'
        )
    flags = [override for override in overrides if override.startswith("-")]
    if flags:
        raise ConfigError(
            f"overrides must be NAME=VALUE, got {flags[0]!r}, a flag of the command: config_dir=FOLDER replaces "
            f"--config-dir, and only the command runs a sweep (-m)"
        )


def _make_search_override(config_dir: str | Path) -> str:
    """The override that has Hydra search a folder."""
    folder = Path(config_dir).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"config_dir must be a folder of configuration files, got {config_dir}: there is no such folder"
        )
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'hydra.searchpath=["file://{quoted}"]'


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialize Hydra for this package; a Hydra application that calls it gets its own back."""
    before = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
            yield
    finally:
        restore_gh_from_backup(before)
