"""Batches and random seeds as functions of (seed, step), so that a training can resume at any step."""

import numpy as np
import numpy.typing as npt

from nasproxy.errors import DataError

ORDER_STREAM = 1
"""Keeps the shuffles independent of other random numbers with the same seed."""
MASK = (1 << 64) - 1


class BatchStream:
    """The batches of one training, with random access by step.

    Each epoch is a new shuffle. Batches are consecutive slices of the concatenated epochs, so a batch can span the end
    of one epoch and the start of the next, or several epochs if there are fewer images than the batch size. The
    current shuffle is cached: consecutive steps cost one slice.
    """

    def __init__(self, n_images: int, batch_size: int, seed: int) -> None:
        """Create the stream.

        Args:
            n_images: Number of images to draw from.
            batch_size: Images of a batch.
            seed: Seed of the shuffles, at least 0.

        Raises:
            DataError: A number is out of range.
        """
        for name, value, least in (("n_images", n_images, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise DataError(f"a stream of batches needs {name} of at least {least}, got {value}: increase it")
        self.n_images = n_images
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> npt.NDArray[np.int64]:
        """Return the images of the batch after `step` finished steps.

        Returns:
            Indices, shape (batch_size,).
        """
        first = step * self.batch_size
        epoch, offset = divmod(first, self.n_images)
        if offset + self.batch_size <= self.n_images:
            return self._shuffle(epoch)[offset : offset + self.batch_size]
        last = (first + self.batch_size - 1) // self.n_images
        epochs = np.concatenate([self._shuffle(number) for number in range(epoch, last + 1)])
        return epochs[offset : offset + self.batch_size]

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            generator = np.random.default_rng((self.seed, ORDER_STREAM, epoch))
            self._epoch, self._order = epoch, generator.permutation(self.n_images).astype(np.int64, copy=False)
        return self._order


def derive_step_seed(seed: int, step: int) -> int:
    """Derive the seed of one step's random numbers, such as augmentation and dropout.

    Args:
        seed: Seed of the trial.
        step: Finished steps.

    Returns:
        An integer in [0, 2**63); its bits are well mixed, since some generators use the lowest 32 bits only.

    Source: SplitMix64 (Steele, Lea and Flood, 2014), applied to the seed and then to the step.
    """
    return _mix(_mix(seed) ^ step) >> 1


def _mix(number: int) -> int:
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)
