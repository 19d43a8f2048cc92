"""Typed schema of the configuration: an unknown key or a wrong type is refused at composition."""

from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nasproxy.config.cost_settings import CostSettings
from nasproxy.config.renamed import RENAMED_STAGES
from nasproxy.config.table_resolvers import find_refusal, register_resolver
from nasproxy.config.value_checks import Text, check_keys, check_values
from nasproxy.errors import ConfigError
from nasproxy.stages.confirmation.settings import ConfirmSettings
from nasproxy.stages.proxy_search.settings import ProxySearchSettings, SearchSettings
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.registry import find_stage, list_stages
from nasproxy.stages.schedule_comparison.settings import CompareSchedulesSettings
from nasproxy.stages.variance.settings import VarianceSettings
from nasproxy.trials.retry_settings import RetrySettings

CHECKED_BY_SPACE = ("search_space.choices", "search_space.baseline")
"""Paths at which both numbers and text are valid; the search space checks them."""


DAY_SECONDS = 86_400.0


ACTIONS = ("report", "list_trials", "describe_space")
"""Parts of a job that are no stages: they show a study or the search space, and train nothing."""


class Mode(Enum):
    """Which values of the metric are better."""

    max = "max"
    min = "min"


class Balance(Enum):
    """Balance of the classes in a part of the training images."""

    proportional = "proportional"
    equal = "equal"


class TrialPlace(Enum):
    """Where the records of trials are kept."""

    folder = "folder"
    memory = "memory"


class Accelerator(Enum):
    """The type of device that trains."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass
class JobConfig:
    """Stages and actions of a job, in order; `samples` is the number of architectures that `describe_space` shows."""

    name: Text = MISSING
    stages: list[Text] = MISSING
    samples: int = 5


@dataclass
class SearchSpaceConfig:
    """Search space, and the function that builds a module from an architecture.

    `augmentation` lists the paths of choices, or groups of them, that decide augmentation.
    """

    name: Text = MISSING
    model: dict[str, Any] = MISSING
    choices: dict[str, Any] = MISSING
    baseline: Any = None
    augmentation: list[Text] = field(default_factory=list)


@dataclass
class ProxyConfig:
    """Dimensions of the proxy tasks, each a value or a list of values (an axis); or tasks instead of a grid.

    Typed loosely, since a structured configuration cannot say "number or list": `nasproxy.trials.grid.span_grid`
    checks the values.
    """

    data_fraction: Any = None
    width: Any = None
    depth: Any = None
    image_size: Any = None
    image_mode: Any = None
    compound: Any = None
    augmentation: Any = None
    regularisation: Any = None
    batch_size: Any = None
    devices: Any = None
    tasks: Any = None
    generator: Any = None


@dataclass
class DataConfig:
    """The dataset and its splits; without a loader the trainer loads its own data, named by a fingerprint."""

    loader: Any = None
    holdout_fraction: float = 0.1
    order_seed: int = 0
    balance: Balance = Balance.proportional
    fingerprint: Text | None = None

    def check(self) -> None:
        """Refuse splits that are impossible.

        Raises:
            ConfigError: A number is out of range.
        """
        if not 0 < self.holdout_fraction < 1:
            raise ConfigError(f"data.holdout_fraction must lie in (0, 1), got {self.holdout_fraction:g}: give 0.1")
        if self.order_seed < 0:
            raise ConfigError(f"data.order_seed must be at least 0, got {self.order_seed}")


@dataclass
class TrainingConfig:
    """Length, checks, precision and devices of a full training."""

    total_steps: int = MISSING
    check_every_steps: int | None = MISSING
    check_at: list[int] | None = None
    precision: Text = "32-true"
    micro_batch: int | None = None
    devices: int = 1
    accelerator: Accelerator = Accelerator.auto


@dataclass
class MetricConfig:
    """The metric that decisions are made on."""

    name: Text = MISSING
    mode: Mode = MISSING


@dataclass
class StorageConfig:
    """Where a study keeps its trials: a folder each, or memory, for trials that can be repeated at no cost."""

    trials: TrialPlace = TrialPlace.folder


@dataclass
class IdentityConfig:
    """What is left out of the identity of trials, beside what a trainer, a loader or a model declares."""

    exclude: list[Text] = field(default_factory=list)


@dataclass
class ControllerConfig:
    """Settings of the controller's loop."""

    poll_seconds: float = 0.25
    grace_seconds: float = 10.0

    def check(self) -> None:
        """Refuse waiting times that are out of range.

        Raises:
            ConfigError: One is negative, or longer than a day.
        """
        if not (0 < self.poll_seconds <= DAY_SECONDS and 0 <= self.grace_seconds <= DAY_SECONDS):
            raise ConfigError(
                f"controller needs poll_seconds above 0 and grace_seconds of at least 0, both a day at most, got "
                f"{self.poll_seconds:g} and {self.grace_seconds:g}"
            )


@dataclass
class PreflightConfig:
    """Settings of the preflight; `seconds` limits the runs of a program, all kinds of trials together."""

    seconds: float = 60.0

    def check(self) -> None:
        """Refuse a time limit that is out of range.

        Raises:
            ConfigError: It is negative, or longer than a day.
        """
        if not 0 <= self.seconds <= DAY_SECONDS:
            raise ConfigError(
                f"preflight.seconds must lie in [0, {DAY_SECONDS:.0f}], got {self.seconds:g}: give the seconds that a "
                f"program may run before the study, or 0 to run none"
            )


@dataclass
class Config:
    """A study, and the job to run on it."""

    study: Text = MISSING
    studies_dir: Text = MISSING
    seed: int = 0
    dry_run: bool = False
    job: JobConfig = field(default_factory=JobConfig)
    search_space: SearchSpaceConfig = field(default_factory=SearchSpaceConfig)
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    metric: MetricConfig = field(default_factory=MetricConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    variance: VarianceSettings = field(default_factory=VarianceSettings)
    selection: dict[str, Any] = field(default_factory=dict)
    failures: RetrySettings = field(default_factory=RetrySettings)
    references: ReferencesSettings = field(default_factory=ReferencesSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    proxy_search: ProxySearchSettings = field(default_factory=ProxySearchSettings)
    confirm: ConfirmSettings = field(default_factory=ConfirmSettings)
    criterion: dict[str, Any] = field(default_factory=dict)
    backend: dict[str, Any] = field(default_factory=dict)
    tracking: dict[str, Any] = field(default_factory=dict)
    compare_schedules: CompareSchedulesSettings = field(default_factory=CompareSchedulesSettings)
    cost: CostSettings = field(default_factory=CostSettings)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)


def register_schema() -> None:
    """Register the schema with Hydra as `schema`, and the resolver of settings that a table decides."""
    register_resolver()
    ConfigStore.instance().store(name="schema", node=make_schema())


def make_schema() -> type[Config]:
    """Return the schema, with the sections of stages that were registered beside those of this package."""
    known = {field.name for field in fields(Config)}
    sections = {name: kind for stage in list_stages() for name, kind in stage.settings.items() if name not in known}
    if not sections:
        return Config
    return make_dataclass(
        Config.__name__, [(name, kind, field(default_factory=kind)) for name, kind in sections.items()], bases=(Config,)
    )


def read_config(config: Any) -> Config:
    """Turn a composed configuration into plain objects.

    Raises:
        ConfigError: A required value is missing, a key is unknown, or a number or text is invalid.
    """
    check_keys(config)
    try:
        result = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} must be given: add {error.full_key}=VALUE") from None
    except OmegaConfBaseException as error:
        refusal = find_refusal(error)
        if refusal is not None:
            raise refusal from None
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(result, Config)
    check_values(result, exempt=CHECKED_BY_SPACE)
    if not result.job.stages:
        raise ConfigError("job.stages must hold at least one stage, got none: choose a job, such as job=design")
    for name in result.job.stages:
        _check_stage(name)
    return result


def _check_stage(name: object) -> None:
    """Refuse a name that is neither a stage nor an action.

    Raises:
        ConfigError: There is no such stage.
    """
    if not isinstance(name, str):
        raise ConfigError(f"job.stages must list names of stages, got {name!r}: take job.stages=[references] for one")
    if name in RENAMED_STAGES:
        raise ConfigError(f"the stage {name} is named {RENAMED_STAGES[name]} now: list that in job.stages")
    if name not in ACTIONS:
        find_stage(name, ACTIONS)
