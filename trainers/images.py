"""A trial's images as its trainer takes them: batches by step, and the validation images."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch

from nasproxy.data.dataset import ImageSplit
from nasproxy.data.image_folder import FileSplit
from nasproxy.execution.worker.context import TrialContext
from nasproxy.trainers.batch_augmentation import Batch
from nasproxy.trainers.image_arrays import ImageArrays
from nasproxy.trainers.image_files import ImageFiles
from nasproxy.trainers.settings import ClassifierSettings


class Images(Protocol):
    """What a trainer needs of a dataset: this rank's part of it, on this rank's device."""

    @property
    def validation_batches(self) -> int:
        """How many batches `validation` gives."""
        ...

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps after `first` finished ones, up to the step that is then the `last` finished.

        Each begins the device's random numbers anew from (seed, step), so that dropout too depends on nothing else.
        """
        ...

    def validation(self) -> Iterator[Batch]:
        """All validation images and labels, in batches of one order."""
        ...


def open_images(
    trial: TrialContext, data: ImageSplit | FileSplit, settings: ClassifierSettings, device: torch.device
) -> Images:
    """The images of a trial, from memory or from files."""
    part: dict[str, Any] = {
        "seed": trial.seed,
        "device": device,
        "rank": trial.rank,
        "world_size": trial.world_size,
        "micro_batch": trial.spec.recipe.micro_batch,
    }
    if isinstance(data, FileSplit):
        return ImageFiles(data, settings, augmentation=trial.proxy_task.augmentation, **part)
    return ImageArrays(data, settings, **part)
