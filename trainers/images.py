"""The protocol of a trial's images, from memory or from files: training batches by step and validation batches."""

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
    """Training and validation batches of one rank, on its device."""

    @property
    def validation_batches(self) -> int:
        """Number of batches of `validation`."""
        ...

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` to `last` finished steps.

        Each batch seeds the device's generator from (seed, step), so that dropout depends on these only.
        """
        ...

    def validation(self) -> Iterator[Batch]:
        """Yield the validation images and labels in batches of fixed order."""
        ...


def open_images(
    trial: TrialContext, data: ImageSplit | FileSplit, settings: ClassifierSettings, device: torch.device
) -> Images:
    """Open the images of a trial, from memory or from files."""
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
