"""Invalid and extreme values at every path of the configuration: accepted, or refused in one sentence."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nasproxy.config import schema
from nasproxy.config.builder import StudyBuilder
from nasproxy.config.composition_errors import explain_error
from nasproxy.errors import ConfigError, NasproxyError
from nasproxy.targets import build_target
from nasproxy.testing import curves
from nasproxy.trials.grid import span_grid

CONF = Path(__file__).resolve().parents[2] / "conf"
NUMBERS = [5, -1, 0, 0.5, 10**12, 10**26, 1e26, 1e-300, math.nan, math.inf, -math.inf]
HOSTILE = [None, *NUMBERS, [], {}, "text", "", True, [1, 2]]
SMALL_SPACE = ["search_space.choices.twin=[0,1]"]
CONFIGURATIONS = {
    "debug": (["experiment=debug", *SMALL_SPACE], ""),
    "spread": (["experiment=debug", "selection=spread"], "selection"),
    "first_crossing": (["experiment=debug", "criterion=first_crossing"], "criterion"),
    "csv": (["experiment=debug", "tracking=csv"], "tracking"),
    "digits": (["variance.on_failure=warn"], "data"),
    "schedules": (["job=compare_schedules", "data=none", "data.fingerprint=x"], "compare_schedules"),
    "replay": (["experiment=replay"], "backend"),
    "replayed training": (["experiment=replay"], "training"),
    "replayed variance": (["experiment=replay"], "variance"),
}
"""Overrides, and the section whose values are replaced; an empty text means all sections."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("table") / "curves.csv"
    curves.write_table(path, curves.generate_rows(architectures=12, checks=6, proxies={"half": "steady"}))
    return path


def list_paths(node: Any, path: str = "") -> Iterator[str]:
    """List the paths of all values, sections included."""
    if path:
        yield path
    if isinstance(node, DictConfig):
        for key in map(str, node):
            yield from list_paths(node._get_node(key), f"{path}.{key}" if path else key)


def replace_value(composed: DictConfig, path: str, value: Any) -> DictConfig:
    """Override a value as Hydra does."""
    config = composed.copy()
    try:
        OmegaConf.update(config, path, value, merge=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_error(error)) from error
    return config


def refuses_in_a_sentence(config: Callable[[], DictConfig], folder: Path) -> bool:
    """Return whether a job refuses a configuration; fail if it does so without a sentence."""
    try:
        prepare_job(config(), folder)
    except NasproxyError as error:
        if not 10 < len(str(error)) < 300:
            raise AssertionError(f"not a sentence: {error}") from error
        return True
    return False


def prepare_job(config: DictConfig, folder: Path) -> None:
    """Prepare a job as its controller does before the first trial."""
    read = schema.read_config(config)
    builder = StudyBuilder(read)
    builder.check()
    builder.open_backend(builder.open_study(folder).trials, folder).close()
    build_target("tracking", read.tracking, study=folder).close()


@pytest.mark.gate
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_hostile_value_is_accepted_or_refused_in_a_sentence(name: str, table: Path, tmp_path: Path) -> None:
    schema.register_schema()
    overrides, section = CONFIGURATIONS[name]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", [*overrides, *([f"backend.table={table}"] if "replay" in name else [])])
    prepare_job(composed, tmp_path / "study")
    refused = 0
    for path in filter(lambda path: path.startswith(section), list_paths(composed)):
        for value in HOSTILE:
            try:
                refused += refuses_in_a_sentence(partial(replace_value, composed, path, value), tmp_path / "study")
            except Exception as error:
                raise AssertionError(f"{path}={value!r}") from error
    assert refused > 0


OVERRIDDEN = (
    "training.total_steps",
    "training.check_every_steps",
    "training.check_at",
    "training.micro_batch",
    "training.devices",
    "training.precision",
    "trainer.noise",
    "data.holdout_fraction",
)


@pytest.mark.parametrize("path", ["name", "width", "image_mode", "devices", "compound", "augmentation", *OVERRIDDEN])
def test_a_hostile_value_in_a_proxy_task_is_accepted_or_refused_in_a_sentence(path: str, tmp_path: Path) -> None:
    schema.register_schema()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", ["experiment=debug", "proxy=custom"])
    refused = []
    for value in HOSTILE:
        tasks = [{"name": "a", "data_fraction": 0.5, path: value}]
        if refuses_in_a_sentence(partial(replace_value, composed, "proxy.tasks", tasks), tmp_path / "study"):
            refused.append(value)
    assert refused, "some of these values suit no setting"


@pytest.mark.parametrize("value", [value for value in HOSTILE if value not in (None, [], True)])
def test_tasks_that_a_list_does_not_hold_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be a list of settings|must be a mapping such as|must be a mapping"):
        span_grid({"tasks": value if isinstance(value, list) else [value] if isinstance(value, str) else value})
