"""OmegaConf resolver of the settings that a table of learning curves decides (`experiment=replay`).

`${table:NAME}` is a setting that the table of `backend.table` decides; the functions of `SETTINGS` compute them.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf

from nasproxy.errors import ConfigError, NasproxyError
from nasproxy.execution.backends.replay.backend import ReplayBackend, read_named_table
from nasproxy.execution.backends.replay.curve_table import CurveTable
from nasproxy.execution.backends.replay.replayed_table import CHOICE, ReplayedTable, choose_proxies
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.targets import check_arguments
from nasproxy.trials.proxy_task import NAME_PATTERN


def register_resolver() -> None:
    """Register the resolver `table`."""
    OmegaConf.register_new_resolver("table", _resolve_setting, replace=True)


def read_replayed_table(backend: Mapping[str, Any]) -> ReplayedTable:
    """Read the table of a replay and choose its proxies; a table that has not changed is read once.

    Args:
        backend: Node of the backend.

    Raises:
        NasproxyError: An option is not valid, or the table is not.
    """
    if "table" not in backend:
        raise ConfigError(
            f"experiment=replay needs backend=replay, got {backend.get('_target_')}: remove the choice of a backend"
        )
    metric = str(backend.get("metric", "score"))
    options = {"reference": backend.get("reference"), "proxies": backend.get("proxies")}
    target = f"{ReplayBackend.__module__}.{ReplayBackend.__qualname__}"
    check_arguments("backend", {"_target_": target, "table": backend["table"], **options}, given={"context": None})
    return choose_proxies(read_named_table(backend["table"], metric), **options)


def find_refusal(error: BaseException | None) -> NasproxyError | None:
    """Find the error of a resolver that made OmegaConf raise another one; None if there is none."""
    while error is not None and not isinstance(error, NasproxyError):
        error = error.__cause__ or error.__context__
    return error


def list_architectures(replayed: ReplayedTable) -> list[str]:
    """List the values of the search space's only choice."""
    return list(replayed.architectures)


def list_tasks(replayed: ReplayedTable) -> list[dict[str, Any]]:
    """List the proxies to judge, as `proxy.tasks`."""
    made = {proxy: replayed.make_proxy_task(proxy) for proxy in replayed.proxies}
    return [{"name": proxy, **_plain(task.overrides)} for proxy, task in made.items()]


def _name_study(table: CurveTable) -> str:
    """Return the file's name without its suffix, as a valid name of a study."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", table.name)[:64]
    return name if NAME_PATTERN.fullmatch(name) else "replay"


def _has_seeds(replayed: ReplayedTable, variance: Any) -> bool:
    return bool(replayed.seeds >= variance.min_seeds)


def _count_seeds(replayed: ReplayedTable, variance: Any) -> int:
    """Count the seeds to measure the variance over: those of the table, if they are enough but fewer than usual."""
    usual = VarianceSettings.seeds
    return min(usual, replayed.seeds) if _has_seeds(replayed, variance) else usual


def _list_repeated(replayed: ReplayedTable, variance: Any) -> list[dict[str, str]] | None:
    """List the architectures that were trained with enough seeds; None if all of them were, or none is needed."""
    if not variance.enabled:
        return None
    enough = [name for name in replayed.architectures if replayed.count_seeds(name) >= variance.seeds]
    if not enough:
        raise ConfigError(
            f"variance.seeds must be at most the seeds of a full training in the table, {replayed.seeds}, got "
            f"{variance.seeds}: lower it, or set variance.enabled=false"
        )
    return None if len(enough) == len(replayed.architectures) else [{CHOICE: name} for name in enough]


SETTINGS: Mapping[str, Callable[[ReplayedTable, Any], Any]] = MappingProxyType(
    {
        "study": lambda replayed, _: _name_study(replayed.table),
        "name": lambda replayed, _: replayed.table.name,
        "fingerprint": lambda replayed, _: replayed.table.fingerprint,
        "architectures": lambda replayed, _: list_architectures(replayed),
        "reference": lambda replayed, _: replayed.reference,
        "tasks": lambda replayed, _: list_tasks(replayed),
        "total_steps": lambda replayed, _: replayed.steps[-1],
        "check_at": lambda replayed, _: list(replayed.steps),
        "has_schedules": lambda replayed, _: bool(replayed.schedules),
        "has_seeds": _has_seeds,
        "seeds": _count_seeds,
        "repeated": _list_repeated,
    }
)
"""Functions that compute a setting from the table and the section `variance`."""


def _resolve_setting(name: str, *, _root_: Any) -> Any:
    """Compute the setting `name` from the table that `backend.table` names."""
    if name not in SETTINGS:
        raise ConfigError(f"${{table:NAME}} takes one of {', '.join(SETTINGS)}, got {name!r}: name one of these")
    if "backend" not in _root_:
        return []  # OmegaConf asks, while it merges the file alone, whether the value is null
    backend = OmegaConf.to_container(_root_.backend, resolve=True) if OmegaConf.is_dict(_root_.backend) else {}
    return SETTINGS[name](read_replayed_table(backend), _root_.variance)  # type: ignore[arg-type]


def _plain(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Replace tuples by lists, as in a configuration file."""
    return {path: list(value) if isinstance(value, tuple) else value for path, value in overrides.items()}
