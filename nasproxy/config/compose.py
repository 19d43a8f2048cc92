"""Compose a configuration in any program: a script, a notebook, another Hydra application."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import open_dict

from nasproxy.config.composition_errors import Composition
from nasproxy.config.schema import Config, read_config, register_schema
from nasproxy.config.typed_task import keep_typed_name
from nasproxy.errors import ConfigError

CONFIG_MODULE = "nasproxy.conf"
VERSION_BASE = "1.3"


def compose_config(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """Compose the configuration that the command composes from these arguments, and extend `sys.path` as it does.

    Args:
        overrides: Overrides in Hydra's grammar, such as `proxy=data50`.
        config_dir: Folder of further configuration files, as for `--config-dir`; None for none.

    Raises:
        ConfigError: An override is invalid, the configuration does not compose, or a required value is missing.
    """
    _check_overrides(overrides)
    searched = [] if config_dir is None else [_make_search_override(config_dir)]
    register_schema()
    with _own_hydra(), Composition():
        composed = compose("config", [*searched, *overrides], return_hydra_config=True)
        hydra_config = composed.hydra
        add_to_path(hydra_config)
        with open_dict(composed):
            del composed["hydra"]
        return keep_typed_name(read_config(composed), hydra_config)


def add_to_path(hydra_config: Any) -> None:
    """Make modules beside the configuration importable in this process and in the processes that it starts.

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
    """Make the override that adds a folder to Hydra's search path."""
    folder = Path(config_dir).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"config_dir must be a folder of configuration files, got {config_dir}: there is no such folder"
        )
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'hydra.searchpath=["file://{quoted}"]'


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Initialize Hydra for this package during a block, and then restore the state of the calling application."""
    before = get_gh_backup()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=VERSION_BASE):
            yield
    finally:
        restore_gh_from_backup(before)
