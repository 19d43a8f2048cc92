"""Check that a replay has the settings that its table decides."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nasproxy.config.schema import Accelerator, Config, DataConfig, ProxyConfig
from nasproxy.config.table_resolvers import list_architectures, list_tasks, read_replayed_table
from nasproxy.errors import ConfigError
from nasproxy.execution.backends.replay.replayed_table import CHOICE, ReplayedTable

LONGEST = 60
"""Most characters that an error quotes of a value."""


def check_table_settings(config: Config) -> None:
    """Refuse a replay with another search space, trainer, proxy task, dataset or schedule than its table has.

    Args:
        config: Configuration of a study whose backend replays a table.

    Raises:
        ConfigError: A setting differs from the one that the table decides.
        DataError: The table is invalid.
    """
    replayed = read_replayed_table(config.backend)
    for group, values in _decide_settings(replayed, config.seed).items():
        section = getattr(config, group)
        given = section if isinstance(section, Mapping) else vars(section)
        for name in {**values, **(given if group == "trainer" else {})}:
            if given.get(name) != values.get(name):
                raise ConfigError(
                    f"{group}.{name} cannot be set with experiment=replay, got {_quote(given.get(name))}: the table "
                    f"decides it; remove it, and choose among the table's proxies "
                    f"({', '.join(replayed.table.check_steps)}) with backend.proxies=[...]"
                )


def _decide_settings(replayed: ReplayedTable, seed: int) -> dict[str, Mapping[str, Any]]:
    steps = replayed.steps
    return {
        "proxy": asdict(ProxyConfig(tasks=list_tasks(replayed))),
        "search_space": {"model": {}, "choices": {CHOICE: list_architectures(replayed)}, "baseline": None},
        "trainer": replayed.make_trainer(seed),
        "data": asdict(DataConfig(fingerprint=replayed.table.fingerprint)),
        "training": {
            "total_steps": steps[-1],
            "check_every_steps": steps[-1],
            "check_at": list(steps),
            "accelerator": Accelerator.cpu,
        },
        "variance": {"total_steps": None},
    }


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
