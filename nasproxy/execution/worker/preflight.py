"""Preflight: build data, model and trainer arguments of a trial without training it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasproxy.data.loading import Datasets
from nasproxy.errors import ConfigError
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.targets import check_arguments, load_target
from nasproxy.trials.spec import TrialSpec


def preflight(spec: TrialSpec, datasets: Datasets | None = None) -> tuple[str, ...]:
    """Build all parts of a trial and check that they fit together, without training it.

    A trainer may have a check of its own: a function in its attribute `check`, with the same arguments, that raises
    an error for invalid settings, and may return notes on settings that are valid but perhaps not intended.

    Args:
        spec: The trial.
        datasets: Cache as in `TrialContext`, to load each dataset once for many trials.

    Returns:
        Notes of the trainer's check.

    Raises:
        NasproxyError: A part cannot be found, has the wrong type, or does not fit the others.
    """
    import torch

    spec = spec.applied()
    trainer = spec.recipe.trainer
    check_arguments(
        "trainer", {"_target_": trainer.get("_target_"), **get_trainer_arguments(trainer)}, given={"trial": None}
    )
    context = TrialContext(Path(), spec, datasets={} if datasets is None else datasets)
    notes = _call_check(load_target("trainer", trainer), context, get_trainer_arguments(trainer))
    if spec.recipe.data.get("loader") is None:
        return notes  # the trainer brings its own data
    data = context.load_data()
    model = context.build_model(data)
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"search_space.model must return a torch.nn.Module, got {type(model).__name__}")
    model.eval()
    with torch.no_grad():
        shape = tuple(model(torch.zeros(1, *data.image_shape)).shape)
    if shape != (1, data.num_classes):
        raise ConfigError(
            f"search_space.model must return logits of shape (images, {data.num_classes}), got (images, "
            f"{', '.join(map(str, shape[1:]))}): build its head with num_classes outputs"
        )
    return notes


def _call_check(train: Any, trial: TrialContext, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Call the trainer's `check`, if it has one, and return its notes."""
    check = getattr(train, "check", None)
    result = None if check is None else check(trial=trial, **arguments)
    if result is None or isinstance(result, str):
        return (result,) if result else ()
    if not isinstance(result, Sequence) or not all(isinstance(note, str) for note in result):
        raise ConfigError(
            f"a trainer's check must return a list of strings or None, got {result!r}: see docs/your_own_trainer.md"
        )
    return tuple(result)
