"""Batches of images in memory, as functions of (seed, step)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nasproxy.data.dataset import ImageSplit
from nasproxy.data.stream import BatchStream, derive_step_seed
from nasproxy.trainers.batch_augmentation import Augmentation, Batch
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trainers.shards import seed_generator, size_validation_batch, slice_shard, slice_validation

DEVICE_SHARE = 0.25
"""Largest share of a GPU's free memory for images; other trials may train on the same GPU."""


class ImageArrays:
    """Batches of images in memory; images are stored on the device if they fit."""

    def __init__(
        self,
        split: ImageSplit,
        settings: ClassifierSettings,
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
        self._shard = slice_shard(settings.batch_size, rank, world_size) if world_size > 1 else None
        self._stream = BatchStream(len(split.train_labels), settings.batch_size, seed)
        self._augment = Augmentation(settings, split.num_classes, device)
        home = device if _fits_on_device(split, device) else torch.device("cpu")
        self._valid_batch = size_validation_batch(settings.batch_size, world_size, micro_batch)
        scoring = slice_validation(len(split.valid_labels), rank, world_size)
        self._train = tuple(torch.from_numpy(part).to(home) for part in (split.train_images, split.train_labels))
        self._valid = tuple(
            torch.from_numpy(part[scoring]).to(home) for part in (split.valid_images, split.valid_labels)
        )

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` to `last` finished steps."""
        return map(self.batch, range(first, last))

    def batch(self, step: int) -> Batch:
        """Return the augmented images and labels of the step after `step` finished steps.

        Batches are drawn and augmented as a whole before they are split, so that they do not depend on the number of
        devices.
        """
        seed = derive_step_seed(self._seed, step)
        seed_generator(seed, self._device)
        images, labels = _select_batch(self._train, torch.from_numpy(self._stream.indices(step)), self._device)
        images, labels = self._augment(images, labels, seed)
        if self._shard is None:
            return images, labels
        seed_generator(derive_step_seed(seed, self._rank), self._device)  # independent dropout on each rank
        return images[self._shard], labels[self._shard]

    def validation(self) -> Iterator[Batch]:
        """Yield this rank's validation images and labels in batches of fixed order."""
        for images, labels in zip(*(torch.split(part, self._valid_batch) for part in self._valid), strict=True):
            yield images.to(self._device), labels.to(self._device)

    @property
    def validation_batches(self) -> int:
        """Number of batches of `validation`."""
        return math.ceil(len(self._valid[1]) / self._valid_batch)


def _select_batch(parts: tuple[Tensor, ...], indices: Tensor, device: torch.device) -> Batch:
    home = parts[0].device
    indices = indices.to(home, non_blocking=True)
    images, labels = (part.index_select(0, indices).to(device, non_blocking=True) for part in parts)
    return images, labels


def _fits_on_device(split: ImageSplit, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return bool(split.train_images.nbytes + split.valid_images.nbytes <= DEVICE_SHARE * free)
