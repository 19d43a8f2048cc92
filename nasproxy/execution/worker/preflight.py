"""Preflight: put a trial together without training it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nasproxy.data.loading import Datasets
from nasproxy.errors import ConfigError, forbid_exit
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.targets import check_arguments, load_target
from nasproxy.trials.spec import TrialSpec


def preflight(spec: TrialSpec, datasets: Datasets | None = None) -> tuple[str, ...]:
    """Put together all that a trial needs, without training it.

    A trainer may bring a check of its own: a function at its attribute `check`, with the same arguments, that raises
    what is wrong, and may return sentences on what is right but perhaps not meant.

    Args:
        spec: The trial.
        datasets: As in `TrialContext`, to load each once for many trials.

    Returns:
        The trainer's sentences.

    Raises:
        NasproxyError: Something cannot be found, does not fit its type, or does not fit together.
    """
    import torch

    spec = spec.applied()
    trainer = spec.recipe.trainer
    check_arguments(
        "trainer", {"_target_": trainer.get("_target_"), **get_trainer_arguments(trainer)}, given={"trial": None}
    )
    context = TrialContext(Path(), spec, datasets={} if datasets is None else datasets)
    notes = _checked(load_target("trainer", trainer), context, get_trainer_arguments(trainer))
    if spec.recipe.data.get("loader") is None:
        return notes  # a trainer with data of its own
    data = context.load_data()
    model = context.build_model(data)
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"search_space.model must return a torch.nn.Module, got {type(model).__name__}")
    model.eval()
    with torch.no_grad():
        shape = tuple(model(torch.zeros(1, *data.image_shape)).shape)
    if shape != (1, data.num_classes):
        raise ConfigError(
            f"search_space.model must give scores of shape (images, {data.num_classes}), got (images, "
            f"{', '.join(map(str, shape[1:]))}): build its head with num_classes outputs"
        )
    return notes


def _checked(train: Any, trial: TrialContext, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trainer that knows more of its arguments than their types says of them."""
    check = getattr(train, "check", None)
    with forbid_exit("the trainer's check"):
        said = None if check is None else check(trial=trial, **arguments)
    if said is None or isinstance(said, str):
        return (said,) if said else ()
    if not isinstance(said, Sequence) or not all(isinstance(note, str) for note in said):
        raise ConfigError(
            f"a trainer's check must return sentences or None, got {said!r}: see docs/your_own_trainer.md"
        )
    return tuple(said)
