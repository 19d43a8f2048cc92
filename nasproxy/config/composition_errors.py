"""Explain Hydra's errors of composition, each in one sentence that says what to write instead."""

import os
import re
import traceback
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from nasproxy.config.missing_packages import find_missing_package
from nasproxy.config.renamed import explain_renamed_key
from nasproxy.config.schema import make_schema
from nasproxy.config.unknown_names import explain_unknown_choice, explain_unknown_key
from nasproxy.config.value_checks import Text
from nasproxy.errors import ConfigError
from nasproxy.spelling import list_names

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Environment variable that makes Hydra raise its errors instead of printing them."""
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
LONGEST = 240
"""Maximum number of characters quoted from a value or an unknown error."""


class Composition:
    """Context manager that turns errors of composing a configuration into a `ConfigError` of one sentence.

    Hydra would print them in several lines and exit. With HYDRA_FULL_ERROR=1 they are not changed.

    Raises:
        ConfigError: The configuration could not be composed, or Hydra cannot write to the folder of the studies.
        MissingExtraError: A choice needs a package that is not installed.
    """

    def __init__(self) -> None:
        self._is_active = False

    def __enter__(self) -> None:
        self._is_active = FULL_ERROR not in os.environ
        if self._is_active:
            os.environ[FULL_ERROR] = "1"

    def end(self) -> None:
        """Restore Hydra's own reporting of errors, and the environment that child processes inherit."""
        if self._is_active:
            os.environ.pop(FULL_ERROR, None)
        self._is_active = False

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        was_active = self._is_active
        self.end()
        if not was_active or not isinstance(error, Exception):
            return
        if isinstance(error, MissingConfigException):
            missing = find_missing_package(str(error.missing_cfg_file))
            if missing is not None:
                raise missing from error
        if isinstance(error, OSError) and error.filename is not None:  # Hydra makes the folder of a sweep itself
            raise ConfigError(
                f"studies_dir must be a folder that can be written to, got {error.filename}: {error.strerror}; choose "
                f"another place with studies_dir=FOLDER"
            ) from error
        if _is_of_composition(error):
            raise ConfigError(explain_error(error)) from error


def _is_of_composition(error: Exception) -> bool:
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    modules = (frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__))
    return "hydra._internal.config_loader_impl" in modules  # wrong files, and wrong values of groups


def explain_error(error: Exception) -> str:
    """Explain in one sentence why a configuration could not be composed.

    Args:
        error: Exception of Hydra or OmegaConf.
    """
    text, source = str(error), error if isinstance(error, OmegaConfBaseException) else error.__context__
    where = re.match(r"In '(.+?)': ", text)
    file = "" if where is None or where[1] == "config" else f"{where[1]}.yaml: "
    return file + _explain(error, text[where.end() if where else 0 :], source)


def _explain(error: Exception, text: str, source: BaseException | None) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return explain_unknown_choice(group, name, list(error.options or _list_choices(group, text)))
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read: write KEY=VALUE, a value with special characters as 'KEY=\"VALUE\"'"
    if text.startswith("Ambiguous value for argument"):
        key, _, values = text.splitlines()[0].split("'", 1)[1].rstrip("'").partition("=")
        takes_list = key.partition(".")[0] == "proxy" or get_origin(_find_hint(key)) is list
        grid = f"write '{key}=[{values}]', or " if takes_list else ""
        return f"{key} must be one value, got {values}: {grid}add -m to run a job for each"
    if text.startswith("Config group override must be") or isinstance(error, TypeError):
        return "a group must be given the name of a choice, or a list of names, got another value: --help lists them"
    if isinstance(source, ConfigKeyError | ConfigAttributeError) and source.full_key:
        return _explain_key(source, text)
    if isinstance(source, ValidationError) and source.full_key:
        return _explain_value(source)
    words = " ".join(f"{text} {source or ''}".split())[:LONGEST] or type(error).__name__
    return words if isinstance(error, HydraException) else f"a file or override is unusable: {words}"


def _list_choices(group: str, text: str) -> list[str]:
    """List the files of a group on the search path that an error of Hydra's ends with."""
    places: list[Any] = [Path(found) for found in re.findall(r"path=file://(.+)", text)]
    places += [resources.files(found) for found in re.findall(r"path=pkg://(nasproxy.*)", text)]
    folders = [place / group for place in places if (place / group).is_dir()]
    return sorted(Path(file.name).stem for folder in folders for file in folder.iterdir() if file.suffix == ".yaml")


def _explain_key(error: OmegaConfBaseException, text: str) -> str:
    path, known = str(error.full_key), [str(key) for key in error.parent_node or () if key != "hydra"]
    overridden = re.match(r"Could not override '(.+?)'", text)
    renamed = explain_renamed_key(overridden[1]) if overridden else None
    if renamed is not None:
        return renamed  # `path` is only the first part, if that part is unknown
    return explain_unknown_key(path, known, make_schema(), is_open=error.object_type is dict)


def _explain_value(error: OmegaConfBaseException) -> str:
    path, got = str(error.full_key), "null" if error.value is None else repr(error.value)
    return f"{path} must be {_describe_hint(_find_hint(path))}, got {got[:LONGEST]}"


def _find_hint(path: str) -> Any:
    """Find the type that the schema requires at a path."""
    hint: Any = make_schema()
    for name in path.partition("[")[0].split("."):
        hint = get_type_hints(hint).get(name, Any) if is_dataclass(hint) else Any
    if "[" in path:
        lists = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is list]
        return get_args(lists[0])[0] if lists else Any
    return hint


def _describe_hint(hint: Any) -> str:
    if hint in (Text, Text | None):
        return "text" if hint == Text else "text or null"
    return " or ".join(map(_describe_kind, get_args(hint) if isinstance(hint, UnionType) else (hint,)))


def _describe_kind(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    if get_origin(kind) is list:
        return "a list in brackets"
    if get_origin(kind) is dict:
        return "a mapping of names to values"
    if is_dataclass(kind):
        return f"a section with {list_names([field.name for field in fields(kind)])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    return WORDS.get(kind, "another kind of value")
