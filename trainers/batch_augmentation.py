"""Random augmentation of training batches on the device; all generators are seeded at each step."""

import random

import numpy as np
import torch
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

from nasproxy.trainers.settings import ClassifierSettings

Batch = tuple[Tensor, Tensor]
"""Images, shape (n, channels, height, width), and labels: classes, shape (n,), or probabilities, (n, classes)."""


class Augmentation:
    """Applies the augmentations of the settings to a batch: shift, flip, erase, mixup and cutmix."""

    def __init__(self, settings: ClassifierSettings, num_classes: int, device: torch.device) -> None:
        self._flip = settings.flip
        self._shift_px = settings.shift_px
        self._erase = RandomErasing(settings.erase, device=device) if settings.erase else None
        # The loss applies label smoothing, with or without mixing.
        self._mix = (
            Mixup(settings.mixup, settings.cutmix, label_smoothing=0.0, num_classes=num_classes)
            if settings.mixes
            else None
        )

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> Batch:
        """Augment a whole batch, possibly in place; torch's generators must have been seeded by the caller."""
        if self._erase is not None:
            random.seed(seed)
        if self._mix is not None:
            np.random.seed(seed % (1 << 32))
        if self._shift_px:
            images = shift_images(images, self._shift_px)
        if self._flip:
            images = flip_images(images)
        if self._erase is not None:
            images = self._erase(images)
        return (images, labels) if self._mix is None else self._mix(images, labels)


def shift_images(images: Tensor, shift_px: int) -> Tensor:
    """Shift each image by up to `shift_px` pixels along both axes, at random, edges filled with 0.

    Args:
        images: Shape (n, channels, height, width).
        shift_px: Largest shift.

    Returns:
        Same shape.
    """
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (shift_px,) * 4)
    corner = torch.randint(0, 2 * shift_px + 1, (2, count, 1), device=images.device)
    rows = corner[0] + torch.arange(height, device=images.device)
    columns = corner[1] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip_images(images: Tensor) -> Tensor:
    """Mirror each image, left to right, with probability 1/2."""
    is_mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(is_mirrored, images.flip(3), images)
