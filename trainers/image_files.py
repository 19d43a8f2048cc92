"""Image files as batches: read and augmented by processes of their own, each batch a function of (seed, step) alone."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from nasproxy.data.image_folder import FileSplit, Reading
from nasproxy.data.stream import BatchStream, step_seed
from nasproxy.errors import DataError

Batch = tuple[Tensor, Tensor]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of colours in [0, 1]: what models of such images are used to."""
CENTRE = 0.875
"""Side of the centre that validation looks at, against the image's shorter side."""
ASPECT = 4 / 3
"""Largest ratio of a random view's sides, before it is brought to a square."""
RAND_OPERATIONS, RAND_MAGNITUDE, MAGNITUDES = 2, 9, 31
VALIDATION_BATCH = 256


class ImageFiles:
    """A trial's image files: batches by step, on its device, normalised.

    Attributes:
        validation_batches: How many batches `validation` gives.
    """

    def __init__(
        self,
        split: FileSplit,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        augmentation: float = 1.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Name the batches; nothing is read yet.

        Args:
            split: The files.
            batch_size: Images of one optimizer step, over all ranks.
            seed: The trial's.
            device: Where batches go.
            augmentation: Strength, 1 for what the split says; 0 cuts out the centre.
            rank: Which part of every batch is this process's.
            world_size: Parts; they are contiguous, and as equal as can be.
        """
        self._device = device
        self._num_workers = split.reading.num_workers
        self._train = _TrainBatches(split, batch_size, seed, augmentation, rank, world_size)
        self._valid = _ValidationBatches(split, rank, world_size)
        self._seed = seed
        self._mean = 255 * torch.tensor(MEAN, device=device).reshape(3, 1, 1)
        self._deviation = 255 * torch.tensor(DEVIATION, device=device).reshape(3, 1, 1)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Images, shape (n, 3, side, side), and labels of the steps that follow `first`, ..., `last` - 1 finished ones.

        The device's random numbers begin anew from (seed, step) before each, so that dropout too depends on nothing
        else.

        Raises:
            DataError: An image cannot be read.
        """
        for step, batch in zip(range(first, last), self._read(self._train, range(first, last)), strict=True):
            seed_generator(step_seed(self._seed, step), self._device)
            yield batch

    def validation(self) -> Iterator[Batch]:
        """All validation images and labels, in batches of one order."""
        return self._read(self._valid, range(self.validation_batches))

    @property
    def validation_batches(self) -> int:
        """How many batches `validation` gives."""
        return len(self._valid)

    def _read(self, batches: "_Batches", numbers: range) -> Iterator[Batch]:
        """Read batches ahead of their use, and bring them to the device."""
        is_cuda = self._device.type == "cuda"
        loader = DataLoader(
            batches,
            sampler=numbers,
            batch_size=None,  # an item is a batch
            num_workers=self._num_workers,
            pin_memory=is_cuda,
            # A trial's process was forked by a server, and does not know how to import itself anew.
            multiprocessing_context="fork" if self._num_workers else None,
            generator=torch.Generator(),  # its seed is drawn from the trial's own random numbers otherwise
        )
        for pixels, labels in loader:
            if isinstance(pixels, str):
                raise DataError(pixels)
            images = pixels.to(self._device, non_blocking=True).float()
            yield images.sub_(self._mean).div_(self._deviation), labels.to(self._device, non_blocking=True)


class _Batches(Dataset[tuple[Tensor | str, Tensor]]):
    """Batches by number, as bytes; in place of one that cannot be read, why not.

    An error that a worker raises reaches its trial with a traceback for a message.
    """

    def __getitem__(self, number: int) -> tuple[Tensor | str, Tensor]:
        try:
            return self._batch(number)
        except DataError as error:
            return str(error), torch.empty(0)

    def _batch(self, number: int) -> Batch:
        raise NotImplementedError


class _TrainBatches(_Batches):
    """Batches by step."""

    def __init__(
        self, split: FileSplit, batch_size: int, seed: int, augmentation: float, rank: int, world_size: int
    ) -> None:
        self._split = split
        self._stream = BatchStream(len(split.train_labels), batch_size, seed)
        self._seed = seed
        self._transform = training_transform(split.reading, augmentation)
        self._positions = shard(batch_size, rank, world_size)

    def _batch(self, step: int) -> Batch:
        indices = self._stream.indices(step)[self._positions.start : self._positions.stop]
        seed = step_seed(self._seed, step)
        images = [
            self._image(self._split.train_paths[index], step_seed(seed, position))
            for position, index in zip(self._positions, indices, strict=True)
        ]
        return torch.stack(images), torch.from_numpy(self._split.train_labels[indices])

    def _image(self, path: bytes, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)  # all that torchvision's transforms draw from
        image: Tensor = self._transform(read_image(self._split.root, path))
        return image


class _ValidationBatches(_Batches):
    """Validation batches by number."""

    def __init__(self, split: FileSplit, rank: int, world_size: int) -> None:
        mine = shard(len(split.valid_labels), rank, world_size)
        self._root = split.root
        self._paths = split.valid_paths[mine.start : mine.stop]
        self._labels = split.valid_labels[mine.start : mine.stop]
        self._transform = validation_transform(split.reading)

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / VALIDATION_BATCH)

    def _batch(self, number: int) -> Batch:
        part = slice(number * VALIDATION_BATCH, (number + 1) * VALIDATION_BATCH)
        images = [self._transform(read_image(self._root, path)) for path in self._paths[part]]
        return torch.stack(images), torch.from_numpy(self._labels[part])


def shard(size: int, rank: int, world_size: int) -> range:
    """Positions of a rank's contiguous part: the parts differ by 1 at most, and make up the whole.

    >>> [shard(5, rank, 2) for rank in range(2)]
    [range(0, 2), range(2, 5)]
    """
    return range(size * rank // world_size, size * (rank + 1) // world_size)


def read_image(root: Path, path: bytes) -> Image.Image:
    """Decode an image as RGB.

    Raises:
        DataError: It cannot be read.
    """
    file = root / os.fsdecode(path)
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} must be an image that can be read, got {error}: restore or remove it") from error


def training_transform(reading: Reading, strength: float) -> v2.Transform:
    """From an image to bytes, shape (3, side, side), at random.

    Strength s scales what is random, 1 leaving it as `reading` says: a view shows min_area ** s of the image at least,
    its sides are as 3:4 to the power of s at most; mirroring and erasing are s times as likely (mirroring no more
    than at strength 1), RandAugment is s times as strong, and TrivialAugment changes s things instead of one.
    """
    aspect = ASPECT**strength
    steps: list[Any] = [
        v2.RandomResizedCrop(
            reading.view_px, scale=(reading.min_area**strength, 1.0), ratio=(1 / aspect, aspect), antialias=True
        ),
        v2.CenterCrop(reading.image_size_px),
        v2.RandomHorizontalFlip(reading.flip * min(1.0, strength)),
        *_policy(reading, strength),
        v2.PILToTensor(),
    ]
    if reading.erase:
        mean = [round(255 * colour) for colour in MEAN]
        steps.append(v2.RandomErasing(min(1.0, reading.erase * strength), value=mean))
    return v2.Compose(steps)


def _policy(reading: Reading, strength: float) -> list[v2.Transform]:
    if reading.policy == "rand":
        magnitude = min(MAGNITUDES - 1, round(RAND_MAGNITUDE * strength))
        return [v2.RandAugment(RAND_OPERATIONS, magnitude, MAGNITUDES)] if magnitude else []
    if reading.policy == "trivial":
        whole = [v2.TrivialAugmentWide() for _ in range(int(strength))]
        rest = strength % 1
        return [*whole, v2.RandomApply([v2.TrivialAugmentWide()], rest)] if rest else whole
    return []


def validation_transform(reading: Reading) -> v2.Transform:
    """From an image to the bytes of its centre, shape (3, side, side)."""
    shorter_side = round(reading.view_px / CENTRE)
    return v2.Compose([v2.Resize(shorter_side, antialias=True), v2.CenterCrop(reading.image_size_px), v2.PILToTensor()])


def seed_generator(seed: int, device: torch.device) -> None:
    """Begin the device's random numbers anew."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
