"""The name of a proxy task that was chosen by one file: a task keeps the name that its user typed."""

from dataclasses import asdict, replace

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from nasproxy.config.schema import Config, ProxyConfig
from nasproxy.errors import ConfigError
from nasproxy.trials.grid import span_grid


def keep_typed_name(config: Config, hydra: HydraConf) -> Config:
    """Name the proxy task of a file such as conf/proxy/small.yaml `small`, if that file alone decides it.

    The name that a setting gets otherwise is derived from its values, which is right for grids, for several files and
    for a file whose values were overridden.

    Args:
        config: Composed configuration.
        hydra: Hydra's own part of it, with the typed overrides.
    """
    choice = hydra.runtime.choices.get("proxy")
    setting = {name: value for name, value in asdict(config.proxy).items() if value is not None}
    if not isinstance(choice, str) or {"tasks", "generator"} & set(setting):
        return config
    try:
        names = list(span_grid(setting))
    except ConfigError:
        return config  # a job that trains refuses it
    name = choice.replace("/", "-")
    if len(names) != 1 or names == [name] or not _is_untouched(config.proxy, choice, hydra):
        return config
    return replace(config, proxy=ProxyConfig(tasks=[{"name": name, **_flat(setting)}]))


def _is_untouched(proxy: ProxyConfig, choice: str, hydra: HydraConf) -> bool:
    """Return whether the file gives this setting without any other override, experiment or file."""
    if not GlobalHydra.instance().is_initialized():
        return False
    alone = (
        GlobalHydra.instance()
        .config_loader()
        .load_configuration(hydra.job.config_name, [*hydra.overrides.hydra, f"proxy={choice}"], RunMode.RUN)
    )
    return bool(alone.proxy == asdict(proxy))


def _flat(setting: dict[str, object]) -> dict[str, object]:
    """Replace lists of one value by that value, as a named task requires."""
    return {name: value[0] if isinstance(value, list) else value for name, value in setting.items()}
