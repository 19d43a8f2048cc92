"""Batches of image files, read by loader processes, as functions of (seed, step)."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from nasproxy.data.image_folder import FileSplit, Reading
from nasproxy.data.stream import BatchStream, derive_step_seed
from nasproxy.errors import ConfigError, DataError
from nasproxy.trainers.batch_augmentation import Augmentation, Batch
from nasproxy.trainers.settings import ClassifierSettings
from nasproxy.trainers.shards import seed_generator, size_validation_batch, slice_shard, slice_validation

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's colours in [0, 1], as is usual for such models."""
CENTRE = 0.875
"""Side of the centre crop in validation, as a share of the image's shorter side."""
ASPECT = 4 / 3
"""Largest aspect ratio of a random crop, before it is resized to a square."""
RAND_OPERATIONS, RAND_MAGNITUDE, MAGNITUDES = 2, 9, 31


class ImageFiles:
    """Batches of a trial's image files by step, on its device, normalized and augmented.

    A rank reads only its part of a batch, and augmentations of whole batches, such as mixup, apply to that part.
    Results therefore depend on the number of devices.
    """

    def __init__(
        self,
        split: FileSplit,
        settings: ClassifierSettings,
        *,
        seed: int,
        device: torch.device,
        augmentation: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
        micro_batch: int | None = None,
    ) -> None:
        """Create the batches without reading files.

        Args:
            split: Files of the trial.
            settings: Settings of the trainer.
            seed: Seed of the trial.
            device: Device of the batches.
            augmentation: Strength of random crops and policies; 0 takes the centre.
            rank: Rank of this process, which selects its part of every batch.
            world_size: Number of ranks.
            micro_batch: Images per forward pass in training; None for the rank's whole part of a batch.

        Raises:
            ConfigError: A rank's part cannot be mixed, or has no validation images.
        """
        own = slice_shard(settings.batch_size, rank, world_size)
        if settings.mixes and (own.stop - own.start) % 2:
            raise ConfigError(
                f"mixup and cutmix need an even number of images on every device, got {own.stop - own.start} with "
                f"trainer.batch_size {settings.batch_size} on {world_size} devices: give a multiple of "
                f"{2 * world_size}"
            )
        self._seed = seed
        self._rank = rank if world_size > 1 else None
        self._device = device
        self._num_workers = split.reading.num_workers
        self._train = _TrainBatches(split, settings.batch_size, seed, own, augmentation)
        self._valid = _ValidationBatches(
            split,
            slice_validation(len(split.valid_labels), rank, world_size),
            size_validation_batch(settings.batch_size, world_size, micro_batch),
        )
        self._augment = Augmentation(settings, split.num_classes, device)
        self._mean = 255 * torch.tensor(MEAN, device=device).reshape(3, 1, 1)
        self._deviation = 255 * torch.tensor(DEVIATION, device=device).reshape(3, 1, 1)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield this rank's part of the batches of the steps from `first` to `last` finished steps.

        Each batch seeds the device's generator from (seed, step), so that dropout depends on these only.

        Raises:
            DataError: An image cannot be read.
        """
        for step, batch in zip(range(first, last), self._read(self._train, range(first, last)), strict=True):
            seed = derive_step_seed(self._seed, step)
            if self._rank is not None:
                seed = derive_step_seed(seed, self._rank)  # independent dropout on each rank
            seed_generator(seed, self._device)
            yield self._augment(*batch, seed)

    def validation(self) -> Iterator[Batch]:
        """Return this rank's validation images and labels in batches of fixed order.

        Raises:
            DataError: An image cannot be read.
        """
        return self._read(self._valid, range(self.validation_batches))

    @property
    def validation_batches(self) -> int:
        """Number of batches of `validation`."""
        return len(self._valid)

    def _read(self, batches: "_Batches", numbers: range) -> Iterator[Batch]:
        """Read batches in advance and move them to the device."""
        loader = DataLoader(
            batches,
            sampler=numbers,
            batch_size=None,  # an item is a batch
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
            # A trial's process was forked by a server and cannot be spawned again.
            multiprocessing_context="fork" if self._num_workers else None,
            generator=torch.Generator(),  # otherwise the loader draws its seed from the trial's generator
        )
        for pixels, labels in loader:
            if isinstance(pixels, str):
                raise DataError(pixels)
            images = pixels.to(self._device, non_blocking=True).float()
            yield images.sub_(self._mean).div_(self._deviation), labels.to(self._device, non_blocking=True)


class _Batches(ABC, Dataset[tuple[Tensor | str, Tensor]]):
    """Batches of uint8 images by number; the error message in place of a batch that cannot be read.

    An exception raised in a loader process would reach the trial with its traceback as the message.
    """

    def __getitem__(self, number: int) -> tuple[Tensor | str, Tensor]:
        try:
            return self._load_batch(number)
        except DataError as error:
            return str(error), torch.empty(0)

    @abstractmethod
    def _load_batch(self, number: int) -> Batch: ...


class _TrainBatches(_Batches):
    """A rank's part of the training batches, by step."""

    def __init__(self, split: FileSplit, batch_size: int, seed: int, own: slice, augmentation: float) -> None:
        self._split = split
        self._stream = BatchStream(len(split.train_labels), batch_size, seed)
        self._seed = seed
        self._own = own
        self._transform = make_training_transform(split.reading, augmentation)

    def _load_batch(self, step: int) -> Batch:
        indices = self._stream.indices(step)[self._own]
        seed = derive_step_seed(self._seed, step)
        images = [
            self._load_image(self._split.train_paths[index], derive_step_seed(seed, position))
            for position, index in enumerate(indices, start=self._own.start)
        ]
        return torch.stack(images), torch.from_numpy(self._split.train_labels[indices])

    def _load_image(self, path: bytes, seed: int) -> Tensor:
        image = read_image(self._split.root, path)
        torch.default_generator.manual_seed(seed)  # the only generator that torchvision's transforms use
        changed: Tensor = self._transform(image)
        return changed


class _ValidationBatches(_Batches):
    """A rank's validation batches, by number."""

    def __init__(self, split: FileSplit, own: slice, batch_size: int) -> None:
        self._batch_size = batch_size
        self._root = split.root
        self._paths = split.valid_paths[own]
        self._labels = split.valid_labels[own]
        self._transform = make_validation_transform(split.reading)

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / self._batch_size)

    def _load_batch(self, number: int) -> Batch:
        part = slice(number * self._batch_size, (number + 1) * self._batch_size)
        images = [self._transform(read_image(self._root, path)) for path in self._paths[part]]
        return torch.stack(images), torch.from_numpy(self._labels[part])


def read_image(root: Path, path: bytes) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        DataError: The file cannot be read.
    """
    file = root / os.fsdecode(path)
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} must be a readable image, got {error}: restore or remove it") from error


def make_training_transform(reading: Reading, strength: float) -> v2.Transform:
    """Create the random transform from an image to uint8 pixels, shape (3, side, side).

    The strength s scales the augmentation, 1 being that of `reading`: crops cover at least min_area ** s of the image,
    with an aspect ratio of at most (4 / 3) ** s, RandAugment has s times the magnitude, and TrivialAugment applies s
    operations on average.
    """
    aspect = ASPECT**strength
    area = reading.min_area**strength
    steps: list[Any] = [
        v2.RandomResizedCrop(reading.view_px, scale=(area, 1.0), ratio=(1 / aspect, aspect), antialias=True),
        v2.CenterCrop(reading.image_size_px),
        *_make_policy(reading, strength),
        v2.PILToTensor(),
    ]
    return v2.Compose(steps)


def _make_policy(reading: Reading, strength: float) -> list[v2.Transform]:
    if reading.policy == "rand":
        magnitude = min(MAGNITUDES - 1, round(RAND_MAGNITUDE * strength))
        return [v2.RandAugment(RAND_OPERATIONS, magnitude, MAGNITUDES)] if magnitude else []
    if reading.policy == "trivial":
        whole = [v2.TrivialAugmentWide() for _ in range(int(strength))]
        rest = strength % 1
        return [*whole, v2.RandomApply([v2.TrivialAugmentWide()], rest)] if rest else whole
    return []


def make_validation_transform(reading: Reading) -> v2.Transform:
    """Create the transform from an image to the uint8 pixels of its centre, shape (3, side, side)."""
    shorter_side = round(reading.view_px / CENTRE)
    return v2.Compose([v2.Resize(shorter_side, antialias=True), v2.CenterCrop(reading.image_size_px), v2.PILToTensor()])
