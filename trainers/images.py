"""A trial's images as its trainer takes them: batches by step, and the validation images."""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from nasproxy.data.dataset import ImageSplit
from nasproxy.data.image_folder import FileSplit
from nasproxy.data.stream import BatchStream, step_seed
from nasproxy.errors import ConfigError
from nasproxy.worker import TrialContext
from trainers.augmentation import Augmentation, Batch
from trainers.settings import Settings

VALIDATION_BATCH = 256
"""Images that pass through the model at once in validation, where training holds half as many or more."""
DEVICE_SHARE = 0.25
"""Share of a GPU's free memory that images may take; other trials may train beside this one."""


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


def open_images(trial: TrialContext, data: ImageSplit | FileSplit, settings: Settings, device: torch.device) -> Images:
    """The images of a trial, from memory or from files."""
    part: dict[str, Any] = {
        "seed": trial.seed,
        "device": device,
        "rank": trial.rank,
        "world_size": trial.world_size,
        "micro_batch": trial.spec.recipe.micro_batch,
    }
    if isinstance(data, FileSplit):
        from trainers.image_files import ImageFiles  # which shares this module's shards

        return ImageFiles(data, settings, augmentation=trial.proxy_task.augmentation, **part)
    return ImageArrays(data, settings, **part)


class ImageArrays:
    """Images in memory, on the device where they fit."""

    def __init__(
        self,
        split: ImageSplit,
        settings: Settings,
        *,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        micro_batch: int | None = None,
    ) -> None:
        self._device = device
        self._seed = seed
        self._rank = rank
        self._own = shard(settings.batch_size, rank, world_size) if world_size > 1 else None
        self._stream = BatchStream(len(split.train_labels), settings.batch_size, seed)
        self._augment = Augmentation(settings, split.num_classes, device)
        home = device if _fits(split, device) else torch.device("cpu")
        self._valid_batch = validation_batch(settings.batch_size, world_size, micro_batch)
        scoring = validation_shard(len(split.valid_labels), rank, world_size)
        self._train = tuple(torch.from_numpy(part).to(home) for part in (split.train_images, split.train_labels))
        self._valid = tuple(
            torch.from_numpy(part[scoring]).to(home) for part in (split.valid_images, split.valid_labels)
        )

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps after `first` finished ones, up to `last`."""
        return map(self.batch, range(first, last))

    def batch(self, step: int) -> Batch:
        """Images and labels of the step that follows `step` finished ones, augmented.

        Whole batches are drawn and augmented, then cut: a training on several devices sees what one on one device does.
        """
        seed = step_seed(self._seed, step)
        seed_generator(seed, self._device)
        images, labels = _select(self._train, torch.from_numpy(self._stream.indices(step)), self._device)
        images, labels = self._augment(images, labels, seed)
        if self._own is None:
            return images, labels
        seed_generator(step_seed(seed, self._rank), self._device)  # no two ranks drop out the same
        return images[self._own], labels[self._own]

    def validation(self) -> Iterator[Batch]:
        """All validation images and labels of this rank, in batches of one order."""
        for images, labels in zip(*(torch.split(part, self._valid_batch) for part in self._valid), strict=True):
            yield images.to(self._device), labels.to(self._device)

    @property
    def validation_batches(self) -> int:
        """How many batches `validation` gives."""
        return math.ceil(len(self._valid[1]) / self._valid_batch)


def shard(count: int, rank: int, world_size: int) -> slice:
    """A rank's part of so many things: parts follow each other, and differ by one at most.

    >>> [shard(5, rank, 2) for rank in range(2)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(rank * count // world_size, (rank + 1) * count // world_size)


def validation_batch(batch_size: int, world_size: int, micro_batch: int | None) -> int:
    """Images that pass through the model at once in validation: at most twice as many as in training.

    A training step needs three times the memory of a forward pass without gradients, or more: so validation never
    runs out of memory where training does not.

    >>> validation_batch(1024, 1, None), validation_batch(1024, 1, 16), validation_batch(64, 4, 100)
    (256, 32, 32)
    """
    share = math.ceil(batch_size / world_size)
    return min(VALIDATION_BATCH, 2 * min(micro_batch or share, share))


def validation_shard(count: int, rank: int, world_size: int) -> slice:
    """A rank's part of the validation images.

    Raises:
        ConfigError: There are fewer images than ranks.
    """
    if count < world_size:
        raise ConfigError(
            f"every device of a trial needs a validation image, got {count} images on {world_size} devices: lower "
            f"training.devices, or raise data.holdout_fraction"
        )
    return shard(count, rank, world_size)


def seed_generator(seed: int, device: torch.device) -> None:
    """Begin the device's random numbers anew; `torch.manual_seed` does it for all devices in 0.12 ms a call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _select(parts: tuple[Tensor, ...], indices: Tensor, device: torch.device) -> Batch:
    home = parts[0].device
    indices = indices.to(home, non_blocking=True)
    images, labels = (part.index_select(0, indices).to(device, non_blocking=True) for part in parts)
    return images, labels


def _fits(split: ImageSplit, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return bool(split.train_images.nbytes + split.valid_images.nbytes <= DEVICE_SHARE * free)
