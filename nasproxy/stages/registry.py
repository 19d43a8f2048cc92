"""Registry of the stages that a job may have."""

from collections.abc import Collection
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.spelling import find_nearest, list_names
from nasproxy.stages.confirmation.definition import CONFIRMATION
from nasproxy.stages.definition import StageDefinition
from nasproxy.stages.proxy_search.definition import PROXY_SEARCH
from nasproxy.stages.references.definition import REFERENCES
from nasproxy.stages.schedule_comparison.definition import SCHEDULE_COMPARISON
from nasproxy.stages.variance.definition import VARIANCE
from nasproxy.stages.worth.definition import WORTH

_STAGES: dict[str, StageDefinition[Any]] = {
    stage.name: stage for stage in (VARIANCE, REFERENCES, PROXY_SEARCH, CONFIRMATION, WORTH, SCHEDULE_COMPARISON)
}


def register(stage: StageDefinition[Any]) -> None:
    """Make a stage available to jobs, before a configuration is composed; replaces one of the same name.

    Raises:
        ConfigError: The name is not one that a configuration can hold.
    """
    if not stage.name.isidentifier():
        raise ConfigError(f"a stage's name must be letters, digits and underscores, got {stage.name!r}: rename it")
    _STAGES[stage.name] = stage


def unregister(name: str) -> None:
    """Remove a stage; does nothing if there is none of this name."""
    _STAGES.pop(name, None)


def list_stages() -> tuple[StageDefinition[Any], ...]:
    """List all stages, in the order in which they were registered."""
    return tuple(_STAGES.values())


def find_stage(name: str, others: Collection[str] = ()) -> StageDefinition[Any]:
    """Find a stage by its name.

    Args:
        name: The name.
        others: Further names that are valid in its place, for the message.

    Raises:
        ConfigError: There is no such stage.
    """
    if name not in _STAGES:
        known = [*_STAGES, *others]
        nearest = find_nearest(name, known)
        raise ConfigError(
            f"job.stages must list stages, got {name!r}: "
            + (f"choose among {list_names(known)}" if nearest is None else f"did you mean {nearest!r}?")
        )
    return _STAGES[name]
