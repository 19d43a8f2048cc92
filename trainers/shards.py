"""Partition of a trial's images and random numbers over its devices."""

import math

import torch

from nasproxy.errors import ConfigError

VALIDATION_BATCH = 256
"""Largest batch size of validation."""


def slice_shard(count: int, rank: int, world_size: int) -> slice:
    """Return a rank's slice of `count` items; slices are consecutive and differ in size by at most 1.

    >>> [slice_shard(5, rank, 2) for rank in range(2)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(rank * count // world_size, (rank + 1) * count // world_size)


def size_validation_batch(batch_size: int, world_size: int, micro_batch: int | None) -> int:
    """Compute the batch size of validation, at most twice that of a forward pass in training.

    A training step needs at least three times the memory of a forward pass without gradients, so validation does not
    run out of memory if training does not.

    >>> size_validation_batch(1024, 1, None), size_validation_batch(1024, 1, 16), size_validation_batch(64, 4, 100)
    (256, 32, 32)
    """
    share = math.ceil(batch_size / world_size)
    return min(VALIDATION_BATCH, 2 * min(micro_batch or share, share))


def slice_validation(count: int, rank: int, world_size: int) -> slice:
    """Return a rank's slice of the validation images.

    Raises:
        ConfigError: There are fewer images than ranks.
    """
    if count < world_size:
        raise ConfigError(
            f"every device of a trial needs a validation image, got {count} images on {world_size} devices: decrease "
            f"training.devices, or increase data.holdout_fraction"
        )
    return slice_shard(count, rank, world_size)


def seed_generator(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and the device; `torch.manual_seed` seeds all devices and takes 0.12 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
