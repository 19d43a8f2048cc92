"""Arguments of the image classifiers' trainers: the fields of `ClassifierSettings`, checked before training."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch

from nasproxy.data.image_folder import FileSplit
from nasproxy.execution.worker.context import TrialContext
from nasproxy.trainers import optimization
from nasproxy.trainers.images import open_images
from nasproxy.trainers.settings import ClassifierSettings

Trainer = Callable[[TrialContext, ClassifierSettings], None]


def with_settings(train: Trainer) -> Callable[..., None]:
    """Decorate a trainer so that its arguments are the fields of `ClassifierSettings`.

    The trainer receives the settings scaled by the trial's proxy task. The attribute `check` of the decorated function
    takes the same arguments and validates them before training; `runs_as_ranks` makes the worker start one process
    for each device of a trial.
    """

    def make_settings(trial: TrialContext, arguments: Mapping[str, Any]) -> ClassifierSettings:
        settings = ClassifierSettings(**arguments).under(trial.proxy_task, trial.spec.devices)
        settings.check(trial.spec)
        return settings

    @functools.wraps(train)
    def train_with(trial: TrialContext, **arguments: Any) -> None:
        train(trial, make_settings(trial, arguments))

    def check(trial: TrialContext, **arguments: Any) -> list[str]:
        settings, devices = make_settings(trial, arguments), trial.spec.devices
        optimization.make_optimizer(torch.nn.Linear(1, 1), settings)
        if devices > 1 and trial.spec.recipe.data.get("loader") is not None:
            data = trial.load_data()
            for rank in range(devices):  # raises if a rank's part of the images is invalid
                open_images(replace(trial, rank=rank, world_size=devices), data, settings, torch.device("cpu"))
        return _list_warnings(trial, ClassifierSettings(**arguments))

    hints = {"trial": TrialContext, **typing.get_type_hints(ClassifierSettings)}
    parameters = [inspect.Parameter("trial", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=TrialContext)]
    parameters += inspect.signature(ClassifierSettings).parameters.values()
    train_with.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    train_with.__annotations__ = {
        name: hints[name] for name in ("trial", *(f.name for f in fields(ClassifierSettings)))
    }
    train_with.check = check  # type: ignore[attr-defined]
    train_with.runs_as_ranks = True  # type: ignore[attr-defined]
    return train_with


def _list_warnings(trial: TrialContext, settings: ClassifierSettings) -> list[str]:
    """List warnings on settings of the trial's proxy task that have no effect."""
    task, devices = trial.proxy_task, trial.spec.devices
    has_effect = settings.under(task, devices) != settings.under(replace(task, augmentation=1.0), devices)
    if task.augmentation == 1.0 or has_effect or trial.spec.recipe.data.get("loader") is None:
        return []
    if isinstance(trial.load_data(), FileSplit):  # crops of image files are always random
        return []
    return [
        "proxy.augmentation has no effect, since the trainer applies no augmentation with a strength: proxy tasks that "
        "differ only in it are equal; increase trainer.shift_px, erase, mixup or cutmix, or remove proxy.augmentation"
    ]
